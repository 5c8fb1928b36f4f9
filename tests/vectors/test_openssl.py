"""The openssl program as the other party, both ways."""

import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.errors import SignatureInvalid
from gateway.protocol import (
    ReceivedRequest,
    ReceivedResponse,
    attach_signature,
    decrypt,
    draft_request,
    encrypt,
    read_encryption,
    sign,
    signature_base,
    unwrap,
    verify_request,
    verify_response,
)
from tests import peer

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="there is no openssl program")

BODIES = [
    pytest.param(b"{}", id="short"),
    pytest.param('{"title":"香港迪士尼"}\r\n'.encode(), id="Chinese and CR LF"),
    pytest.param(b'{"a":"%2B+ /=&?\\u0000"}', id="signs"),
    pytest.param(b'{"a":"' + b"x" * 5000 + b'"}', id="long"),
    pytest.param(b'{"a":"12345678"}', id="one block"),
]


def openssl(*arguments, text=b"", check=True):
    """Run the program, with `text` on standard input."""
    return subprocess.run(
        [OPENSSL, *map(str, arguments)],
        input=text,
        capture_output=True,
        check=check,
        timeout=30,
    )


@pytest.fixture(scope="module")
def pem(tmp_path_factory, partner_key, platform_key):
    """The keys as files: partner.pem, platform.pem and their .pub."""
    folder = tmp_path_factory.mktemp("pem")
    for name, key in (("partner", partner_key), ("platform", platform_key)):
        (folder / f"{name}.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        (folder / f"{name}.pub").write_bytes(
            key.public_key().public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            )
        )
    return folder


@pytest.mark.parametrize("body", BODIES)
def test_openssl_verifies_what_we_sign(body, pem, partner_key, tmp_path):
    draft = draft_request(
        target=peer.TARGET, client_id=peer.CLIENT_ID, time=peer.TIME, body=body
    )
    file = tmp_path / "signature"
    file.write_bytes(sign(partner_key, signature_base(draft)))
    base = peer.signature_base(time=peer.TIME, body=body)
    verify = ("dgst", "-sha256", "-verify", pem / "partner.pub", "-signature", file)
    assert openssl(*verify, text=base).stdout.strip() == b"Verified OK"
    assert openssl(*verify, text=base + b"\n", check=False).returncode != 0


@pytest.mark.parametrize("body", BODIES)
def test_we_verify_what_openssl_signs(body, pem, platform_public):
    base = peer.signature_base(time=peer.TIME, body=body)
    signature = openssl(
        "dgst", "-sha256", "-sign", pem / "platform.pem", text=base
    ).stdout
    headers = [
        ("Client-Id", peer.CLIENT_ID),
        ("Response-Time", peer.TIME),
        ("Signature", peer.signature_header(signature)),
    ]

    def verify(received_body):
        return verify_response(
            ReceivedResponse(200, headers, received_body),
            request=peer.sent_request(),
            keys=[platform_public],
            freshness=peer.FRESH,
        )

    assert verify(body).body == body
    with pytest.raises(SignatureInvalid):
        verify(body + b"\n")


@pytest.mark.parametrize("digest", ["sha1", "sha384", "sha512"])
def test_we_refuse_what_openssl_signs_over_another_hash(digest, pem, partner_public):
    base = peer.signature_base(time=peer.TIME, body=b"{}")
    signature = openssl(
        "dgst", f"-{digest}", "-sign", pem / "partner.pem", text=base
    ).stdout
    headers = [
        ("Client-Id", peer.CLIENT_ID),
        ("Request-Time", peer.TIME),
        ("Signature", peer.signature_header(signature)),
    ]
    with pytest.raises(SignatureInvalid):
        verify_request(
            ReceivedRequest("POST", peer.TARGET, headers, b"{}"), keys=[partner_public]
        )


@pytest.mark.parametrize("body", BODIES)
def test_openssl_decrypts_what_we_encrypt(body, pem, platform_public):
    draft = encrypt(
        peer.sent_request(body=body).draft, peer.CONTENT_KEY, platform_public
    )
    signed = attach_signature(draft, bytes(256), key_version="1")
    content_key = openssl(
        "pkeyutl",
        *("-decrypt", "-inkey", pem / "platform.pem"),
        *("-pkeyopt", "rsa_padding_mode:pkcs1"),
        text=signed.draft.encryption.wrapped_key,
    ).stdout
    assert content_key == peer.CONTENT_KEY
    plaintext = openssl(
        *("enc", "-d", "-aes-256-ecb", "-K", content_key.hex(), "-base64", "-A"),
        text=signed.body,
    ).stdout
    assert plaintext == body


@pytest.mark.parametrize("bits", [128, 192, 256])
@pytest.mark.parametrize("columns", [["-A"], []], ids=["one line", "64 columns"])
@pytest.mark.parametrize("body", BODIES)
def test_we_decrypt_what_openssl_encrypts(
    *, body, columns, bits, pem, partner_key, platform_key, platform_public
):
    content_key = bytes(range(bits // 8))
    sealed = openssl(
        *("enc", f"-aes-{bits}-ecb", "-K", content_key.hex(), "-base64", *columns),
        text=body,
    ).stdout
    wrapped = openssl(
        "pkeyutl",
        *("-encrypt", "-pubin", "-inkey", pem / "partner.pub"),
        *("-pkeyopt", "rsa_padding_mode:pkcs1"),
        text=content_key,
    ).stdout
    message = verify_response(
        peer.answer(platform_key, sealed, encrypt=peer.encrypt_header(wrapped)),
        request=peer.sent_encrypted_request(platform_public),
        keys=[platform_public],
        freshness=peer.FRESH,
    )
    unwrapped = unwrap(partner_key, read_encryption(message).wrapped_key)
    assert unwrapped == content_key
    assert decrypt(message, unwrapped) == body
