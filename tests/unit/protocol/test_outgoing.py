"""Our side: draft, sign, attach."""

import pytest

from gateway.protocol import (
    Direction,
    PublicKey,
    attach_signature,
    draft_request,
    draft_response,
    encrypt,
    sign,
    signature_base,
    verify_request,
)
from gateway.protocol.outgoing import check_client_id, check_target
from tests import peer


def draft(**changes):
    parts = {
        "target": peer.TARGET,
        "client_id": peer.CLIENT_ID,
        "time": peer.TIME,
        "body": peer.REQUEST_BODY,
    }
    return draft_request(**(parts | changes))


def test_a_request_is_a_post_of_the_plain_body():
    request = draft()
    assert request.direction is Direction.REQUEST
    assert request.method == "POST"
    assert request.target == peer.TARGET
    assert request.body == peer.REQUEST_BODY
    assert request.content_type == "application/json; charset=UTF-8"
    assert request.encryption is None


def test_the_base_of_a_draft_is_the_one_the_rule_has():
    assert signature_base(draft()) == peer.signature_base(
        time=peer.TIME, body=peer.REQUEST_BODY
    )


def test_the_base_of_an_encrypted_draft_has_the_ciphertext(platform_public):
    request = encrypt(draft(), peer.CONTENT_KEY, platform_public)
    assert signature_base(request) == peer.signature_base(
        time=peer.TIME, body=peer.seal(peer.REQUEST_BODY)
    )


def test_a_signed_request_has_each_header_once_in_the_documented_order():
    signed = attach_signature(draft(), b"\xfb\xef", key_version="2")
    assert list(signed.headers) == [
        ("Client-Id", "4Q5Y8W0WSG45P907917"),
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Request-Time", "2026-11-23T14:00:00+08:00"),
        ("Signature", "algorithm=RSA256,keyVersion=2,signature=%2B%2B8%3D"),
    ]
    assert signed.target == peer.TARGET
    assert signed.body == peer.REQUEST_BODY


def test_a_signed_request_without_a_key_version_sends_none():
    signed = attach_signature(draft(), b"\xfb\xef", key_version=None)
    assert dict(signed.headers)["Signature"] == (
        "algorithm=RSA256,signature=%2B%2B8%3D"
    )


def test_an_encrypted_request_has_the_encrypt_header_too(platform_key):
    recipient = PublicKey("7", platform_key.public_key())
    request = encrypt(draft(), peer.CONTENT_KEY, recipient, content_type="text/plain")
    signed = attach_signature(request, bytes(256), key_version="1")
    names = [name for name, _ in signed.headers]
    assert names == [
        "Client-Id",
        "Content-Type",
        "Request-Time",
        "Signature",
        "Encrypt",
    ]
    headers = dict(signed.headers)
    assert headers["Content-Type"] == "text/plain"
    assert headers["Encrypt"].startswith("algorithm=RSA_AES,keyVersion=7,symmetricKey=")
    assert signed.body == peer.seal(peer.REQUEST_BODY)


def test_a_response_is_signed_over_the_requests_method_and_target(
    partner_key, partner_public, platform_key
):
    call = peer.call(partner_key, target="/a/b?c=d", client_id="OTHER-ID", method="PUT")
    request = verify_request(call, keys=[partner_public])
    answer = draft_response(request, time="2026-11-23T06:00:01Z", body=peer.SUCCESS)
    assert signature_base(answer) == (
        b"PUT /a/b?c=d\nOTHER-ID.2026-11-23T06:00:01Z." + peer.SUCCESS
    )
    signature = sign(platform_key, signature_base(answer))
    signed = attach_signature(answer, signature, key_version="1")
    assert list(signed.headers) == [
        ("Client-Id", "OTHER-ID"),
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Response-Time", "2026-11-23T06:00:01Z"),
        ("Signature", peer.signature_header(signature)),
    ]


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a",
        "/api/open/alipay/v1/content/synchronize",
        "/a/",
        "/a//b",
        "/a?b=c&d",
        "/a??b=/c?d",
        "/a%2Fb%20c?d=%E9%A6%99",
        "/a%2fb",
        "/-._~!$&'()*+,;=:@",
        "/a:80/b@c",
    ],
)
def test_a_path_with_an_optional_query_is_a_target(target):
    assert check_target(target) == target
    assert draft(target=target).target == target


@pytest.mark.parametrize(
    "target",
    [
        "",
        "a",
        "*",
        "?a=b",
        "/a?",
        "//evil.example/a",
        "https://evil.example/a",
        "evil.example:443",
        "/a#b",
        "/a b",
        "/a\tb",
        "/a\n",
        "/a\r\nX: y",
        "/a\x00",
        "/a\\b",
        "/a%",
        "/a%2",
        "/a%2G",
        "/a?b=%zz",
        '/a"b',
        "/a<b>",
        "/a[b]",
        "/a{b}",
        "/a|b",
        "/a^b",
        "/香港",
        "/caf\u00e9",
        "/\uff0f",
        "/a\u2028",
        "/a\udcff",
        " /a",
        "/a ",
    ],
)
def test_anything_else_is_no_target(target):
    with pytest.raises(ValueError, match="a target is a path"):
        check_target(target)
    with pytest.raises(ValueError, match="a target is a path"):
        draft(target=target)


@pytest.mark.parametrize(
    "client_id",
    ["4Q5Y8W0WSG45P907917", "SANDBOX_5X.0", "!#%&()*+,-./:;<=>?@[]^_{|}~", "x" * 128],
)
def test_visible_ascii_is_a_client_id(client_id):
    assert check_client_id(client_id) == client_id
    assert draft(client_id=client_id).client_id == client_id


@pytest.mark.parametrize(
    "client_id",
    [
        *("", " ", "a b", "a ", " a", "a\n", "a\r\nX: y", "a\x00", "a\x7f"),
        *('"4Q5Y"', "'4Q5Y'", "`4Q5Y`", "$CLIENT_ID", "${CLIENT_ID}", "4Q5Y$"),
        *("x" * 129, "\u00e9", "\uff11", "a\u200b", "\udcff"),
    ],
)
def test_anything_else_is_no_client_id(client_id):
    with pytest.raises(ValueError, match="a Client-Id is"):
        check_client_id(client_id)
    with pytest.raises(ValueError, match="a Client-Id is"):
        draft(client_id=client_id)


@pytest.mark.parametrize("time", ["", "a b", "a\r\nX: y", "2026\u00a0", "x" * 65])
def test_a_time_that_would_break_a_header_is_not_drafted(time):
    with pytest.raises(ValueError, match="time header"):
        draft_request(target="/a", client_id="C", time=time, body=b"{}")


@pytest.mark.parametrize("version", ["", "a,b", "x" * 65])
def test_a_label_that_would_break_a_header_is_not_attached(version):
    draft = draft_request(target="/a", client_id="C", time="t", body=b"{}")
    with pytest.raises(ValueError, match="key version"):
        attach_signature(draft, bytes(256), key_version=version)
