"""The signature base, and RSA256 over it."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from gateway.protocol import sign
from gateway.protocol.signature import base_of, matches
from tests import peer

BASE = peer.signature_base(time=peer.TIME, body=peer.REQUEST_BODY)


def test_the_base_is_the_method_target_client_id_time_and_body():
    base = base_of(
        "POST",
        "/api/open/alipay/v1/content/synchronize",
        "4Q5Y8W0WSG45P907917",
        "2024-05-22T06:42:21+05:30",
        b'{"requestId":"1"}',
    )
    assert base == (
        b"POST /api/open/alipay/v1/content/synchronize\n"
        b'4Q5Y8W0WSG45P907917.2024-05-22T06:42:21+05:30.{"requestId":"1"}'
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}\n", id="a newline last"),
        pytest.param(b"\r\n{}\r\n", id="CR LF"),
        pytest.param(b" { } ", id="spaces"),
        pytest.param("香港".encode(), id="Chinese"),
        pytest.param("香港".encode("big5"), id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param("e\u0301 \u00e9".encode(), id="two forms of one letter"),
    ],
)
def test_the_body_is_signed_byte_for_byte(body):
    assert base_of("POST", "/a", "C", "T", body) == b"POST /a\nC.T." + body


@pytest.mark.parametrize("target", ["/a?b=c", "/a?b=%2F%20+", "/a%2Fb", "/a?", "/A//b"])
def test_the_target_is_signed_as_it_stands(target):
    assert base_of("POST", target, "C", "T", b"") == f"POST {target}\nC.T.".encode()


@pytest.mark.parametrize("time", ["1685599933871", "2024-05-22T06:42:21.5Z", "?"])
def test_the_time_is_signed_as_it_stands(time):
    assert base_of("POST", "/a", "C", time, b"x") == f"POST /a\nC.{time}.x".encode()


def test_signing_gives_what_cryptography_gives(partner_key):
    expected = partner_key.sign(BASE, padding.PKCS1v15(), hashes.SHA256())
    assert sign(partner_key, BASE) == expected


def test_the_key_that_signed_matches(platform_key, platform_public):
    assert matches(platform_public, peer.rsa256(platform_key, BASE), BASE)


def test_another_key_does_not_match(other_key, platform_public):
    assert not matches(platform_public, peer.rsa256(other_key, BASE), BASE)


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(BASE + b"\n", id="a newline more"),
        pytest.param(BASE[:-1], id="a byte less"),
        pytest.param(BASE.replace(b"\n", b"\r\n"), id="CR LF"),
        pytest.param(BASE.replace(b"POST ", b"POST  "), id="a space more"),
        pytest.param(BASE.replace(b"POST", b"post"), id="a method in lower case"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_other_bytes_do_not_match(base, platform_key, platform_public):
    assert not matches(platform_public, peer.rsa256(platform_key, BASE), base)


@pytest.mark.parametrize(
    "algorithm",
    [hashes.SHA1(), hashes.SHA224(), hashes.SHA384(), hashes.SHA512(), hashes.MD5()],
    ids=lambda algorithm: algorithm.name,
)
def test_no_other_hash_is_accepted(algorithm, platform_key, platform_public):
    signature = peer.rsa256(platform_key, BASE, algorithm)
    assert not matches(platform_public, signature, BASE)


def test_pss_is_not_accepted(platform_key, platform_public):
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    signature = platform_key.sign(BASE, pss, hashes.SHA256())
    assert not matches(platform_public, signature, BASE)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda signature: b"", id="nothing"),
        pytest.param(lambda signature: signature[:-1], id="cut at the end"),
        pytest.param(lambda signature: signature[1:], id="cut at the start"),
        pytest.param(lambda signature: signature[:8], id="eight bytes"),
        pytest.param(lambda signature: signature + b"\x00", id="a nought more"),
        pytest.param(lambda signature: b"\x00" + signature, id="a nought before"),
        pytest.param(lambda signature: signature * 2, id="twice"),
        pytest.param(lambda signature: signature[::-1], id="reversed"),
        pytest.param(lambda signature: bytes(256), id="noughts"),
        pytest.param(lambda signature: b"\xff" * 256, id="larger than the modulus"),
    ],
)
def test_a_partial_or_padded_signature_does_not_match(
    change, platform_key, platform_public
):
    signature = change(peer.rsa256(platform_key, BASE))
    assert not matches(platform_public, signature, BASE)


def test_a_signature_plus_the_modulus_does_not_match(platform_key, platform_public):
    """The same number modulo n: one message would have two signatures."""
    modulus = platform_public.rsa.public_numbers().n
    for count in range(1000):
        base = BASE + b"%d" % count
        number = int.from_bytes(peer.rsa256(platform_key, base)) + modulus
        if number < 1 << 2048:  # true of some: the modulus is over half of 2**2048
            break
    assert not matches(platform_public, number.to_bytes(256), base)
