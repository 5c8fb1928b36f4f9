"""AlipayHK in memory, read and written with cryptography of the tests' own."""

import base64
import json
from dataclasses import replace
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from gateway.simulator.calls import CALLS
from tests import peer

VALID = {
    "requestId": "0123456789abcdef0123456789abcdef",
    "contentId": "C001",
    "contentType": "SKU",
    "contentStatus": 1,
    "contentInfo": '{"title":"香港"}',
}
OTHER_CALLS = [path for path in CALLS if path != peer.TARGET]


def body_with(**members):
    return json.dumps(VALID | members).encode()


def body_without(name):
    return json.dumps({key: VALID[key] for key in VALID if key != name}).encode()


def sealed_call(partner_key, platform_key, body, version="1", **options):
    """Make an encrypted request."""
    header = peer.encrypt_header(peer.wrap(platform_key.public_key()), version)
    return peer.call(partner_key, peer.seal(body), encrypt=header, **options)


def result_of(response, envelope="resultInfo"):
    info = json.loads(response.body)[envelope]
    return info["resultCode"], info["resultStatus"]


def message_of(response, envelope="resultInfo"):
    return json.loads(response.body)[envelope]["resultMessage"]


def header_of(response, name):
    values = [value for key, value in response.headers if key == name]
    assert len(values) == 1, name
    return values[0]


def field_of(response, header, name):
    """Read one value of a Signature or Encrypt header, by hand."""
    pairs = dict(pair.split("=", 1) for pair in header_of(response, header).split(","))
    return base64.b64decode(unquote(pairs[name]), validate=True)


def check_signature(response, key, target=peer.TARGET):
    """Verify an answer without the gateway's code. Raises if it does not hold."""
    base = peer.signature_base(
        target=target,
        client_id=header_of(response, "Client-Id"),
        time=header_of(response, "Response-Time"),
        body=response.body,
    )
    signature = field_of(response, "Signature", "signature")
    key.verify(signature, base, padding.PKCS1v15(), hashes.SHA256())


def is_unsigned_refusal(response):
    names = {name for name, _ in response.headers}
    return (
        response.status == 200
        and names == {"Content-Type", "Tracer-Id"}
        and result_of(response)[1] == "F"
    )


def test_a_plain_request_gets_a_signed_success(alipayhk, partner_key, platform_key):
    response = alipayhk.respond(peer.call(partner_key, body_with()))

    check_signature(response, platform_key.public_key())
    assert response.status == 200
    assert json.loads(response.body) == {
        "resultInfo": {
            "resultCode": "SUCCESS",
            "resultStatus": "S",
            "resultMessage": "Success",
        }
    }


def test_an_answer_has_the_headers_of_the_seed(alipayhk, partner_key):
    response = alipayhk.respond(peer.call(partner_key, body_with()))

    assert [name for name, _ in response.headers] == [
        "Client-Id",
        "Content-Type",
        "Response-Time",
        "Signature",
        "Tracer-Id",
    ]
    assert header_of(response, "Client-Id") == peer.CLIENT_ID
    assert header_of(response, "Content-Type") == "application/json; charset=UTF-8"
    assert header_of(response, "Response-Time") == peer.TIME
    assert header_of(response, "Signature").startswith(
        "algorithm=RSA256,keyVersion=1,signature="
    )


def test_an_encrypted_request_gets_an_answer_encrypted_with_a_fresh_key(
    alipayhk, partner_key, platform_key
):
    responses = [
        alipayhk.respond(sealed_call(partner_key, platform_key, body_with()))
        for _ in range(2)
    ]

    content_keys = []
    for response in responses:
        check_signature(response, platform_key.public_key())
        wrapped = field_of(response, "Encrypt", "symmetricKey")
        content_keys.append(partner_key.decrypt(wrapped, padding.PKCS1v15()))
        plain = json.loads(peer.unseal(response.body, content_keys[-1]))
        assert plain["resultInfo"]["resultCode"] == "SUCCESS"
    assert len({peer.CONTENT_KEY, *content_keys}) == 3


def test_a_key_version_of_encrypt_may_be_left_out(alipayhk, partner_key, platform_key):
    request = sealed_call(partner_key, platform_key, body_with(), version=None)

    assert not is_unsigned_refusal(alipayhk.respond(request))


def test_an_answer_is_encrypted_to_the_version_that_signed_the_request(
    alipayhk, other_key, partner_key, platform_key
):
    alipayhk.registry.register(peer.CLIENT_ID, "2", other_key.public_key())

    for key, version in ((partner_key, "1"), (other_key, "2")):
        request = sealed_call(key, platform_key, body_with(), version="1")
        headers = peer.with_header(
            request.headers,
            "Signature",
            dict(request.headers)["Signature"].replace(
                "keyVersion=1", f"keyVersion={version}"
            ),
        )
        response = alipayhk.respond(replace(request, headers=headers))
        assert f"keyVersion={version}" in header_of(response, "Encrypt")
        wrapped = field_of(response, "Encrypt", "symmetricKey")
        content_key = key.decrypt(wrapped, padding.PKCS1v15())
        assert b"SUCCESS" in peer.unseal(response.body, content_key)


def test_after_a_rotation_it_signs_with_the_new_key_and_opens_with_the_old(
    alipayhk, other_key, partner_key, platform_key
):
    alipayhk.registry.rotate("2", other_key)

    response = alipayhk.respond(sealed_call(partner_key, platform_key, body_with()))

    assert "keyVersion=2" in header_of(response, "Signature")
    check_signature(response, other_key.public_key())


@pytest.mark.parametrize("name", ["Client-Id", "Request-Time", "Signature"])
@pytest.mark.parametrize("values", [(), ("",), ("a", "b")])
def test_a_missing_empty_or_repeated_header_is_refused(
    alipayhk, partner_key, name, values
):
    request = peer.call(partner_key, body_with())
    headers = peer.with_header(request.headers, name, *values)

    response = alipayhk.respond(replace(request, headers=headers))

    assert is_unsigned_refusal(response)
    assert name in message_of(response)


def refused_code(alipayhk, request):
    response = alipayhk.respond(request)
    assert is_unsigned_refusal(response)
    return result_of(response)[0]


def test_an_unknown_client_is_refused(alipayhk, partner_key):
    request = peer.call(partner_key, body_with(), client_id="2188000000000000")

    assert refused_code(alipayhk, request) == "INVALID_CLIENT"


def test_a_signature_of_another_key_is_refused(alipayhk, other_key):
    request = peer.call(other_key, body_with())

    assert refused_code(alipayhk, request) == "INVALID_SIGNATURE"


def test_a_body_that_changed_after_it_was_signed_is_refused(alipayhk, partner_key):
    request = peer.call(partner_key, body_with())
    changed = replace(request, body=request.body + b"\n")

    assert refused_code(alipayhk, changed) == "INVALID_SIGNATURE"


def test_a_query_string_is_part_of_what_is_signed(alipayhk, partner_key):
    request = peer.call(partner_key, body_with())
    changed = replace(request, target=f"{request.target}?a=b")

    assert refused_code(alipayhk, changed) == "INVALID_SIGNATURE"


def test_a_target_in_absolute_form_is_read_as_the_path_that_is_signed(
    alipayhk, partner_key, platform_key
):
    request = peer.call(partner_key, body_with())
    absolute = f"https://open.alipay.hk{request.target}"

    response = alipayhk.respond(replace(request, target=absolute))

    check_signature(response, platform_key.public_key())
    assert alipayhk.records[-1].target == absolute


def test_a_scheme_that_only_unicode_takes_for_https_is_none(alipayhk, partner_key):
    request = peer.call(partner_key, body_with())
    target = f"http\u017f://open.alipay.hk{request.target}"

    alipayhk.respond(replace(request, target=target))

    assert not alipayhk.records[-1].signed


def test_an_unknown_version_of_a_signature_is_refused(alipayhk, partner_key):
    request = peer.call(partner_key, body_with(), version="7")

    assert refused_code(alipayhk, request) == "KEY_NOT_FOUND"


def test_an_unknown_version_of_encrypt_is_refused(alipayhk, partner_key, platform_key):
    request = sealed_call(partner_key, platform_key, body_with(), version="7")

    assert refused_code(alipayhk, request) == "KEY_NOT_FOUND"


def test_a_content_key_for_someone_else_is_refused(alipayhk, partner_key, other_key):
    request = sealed_call(partner_key, other_key, body_with())

    assert refused_code(alipayhk, request) == "PARAM_ILLEGAL"


def test_a_method_other_than_post_is_refused(alipayhk, partner_key):
    request = peer.call(partner_key, b"", method="GET")

    assert refused_code(alipayhk, request) == "METHOD_NOT_SUPPORTED"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (body_without("requestId"), "requestId is missing"),
        (body_with(requestId=""), "requestId must be a string"),
        (body_with(requestId=1), "requestId must be a string"),
        (body_with(requestId="x" * 33), "requestId is longer than 32"),
        (body_without("contentId"), "contentId is missing"),
        (body_with(contentId=None), "contentId must be a string"),
        (body_without("contentType"), "contentType is missing"),
        (body_with(contentType="CARD"), "contentType must be SKU"),
        (body_without("contentStatus"), "contentStatus must be the JSON number"),
        (body_with(contentStatus="1"), "contentStatus must be the JSON number"),
        (body_with(contentStatus=True), "contentStatus must be the JSON number"),
        (body_with(contentStatus=2), "contentStatus must be the JSON number"),
        (body_with(contentStatus=[]), "contentStatus must be the JSON number"),
        (body_with(contentInfo={"title": "x"}), "contentInfo must be a string"),
        (b"[]", "not an object"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (
            b'{"request":{"head":{},"body":{}},"signature":"x"}',
            "legacy form",
        ),
    ],
)
def test_a_wrong_parameter_is_a_signed_param_illegal_that_names_it(
    alipayhk, partner_key, platform_key, body, problem
):
    response = alipayhk.respond(peer.call(partner_key, body))

    check_signature(response, platform_key.public_key())
    assert result_of(response) == ("PARAM_ILLEGAL", "F")
    assert problem in message_of(response)


def test_every_wrong_parameter_is_named(alipayhk, partner_key):
    message = message_of(alipayhk.respond(peer.call(partner_key, b"{}")))

    for name in ("requestId", "contentId", "contentType", "contentStatus"):
        assert name in message


@pytest.mark.parametrize(
    "body",
    [
        body_without("contentInfo"),
        body_with(contentStatus=0),
        body_with(more={"members": []}),
        json.dumps(VALID)
        .replace('"contentStatus": 1', '"contentStatus": 1.0')
        .encode(),
    ],
)
def test_what_the_seed_allows_succeeds(alipayhk, partner_key, body):
    response = alipayhk.respond(peer.call(partner_key, body))

    assert result_of(response) == ("SUCCESS", "S")


@pytest.mark.parametrize("path", OTHER_CALLS)
def test_the_other_calls_take_any_object_and_answer_in_result(
    alipayhk, partner_key, platform_key, path
):
    response = alipayhk.respond(peer.call(partner_key, b"{}", target=path))

    check_signature(response, platform_key.public_key(), target=path)
    assert result_of(response, "result") == ("SUCCESS", "S")


def test_an_unknown_path_is_a_signed_failure(alipayhk, partner_key, platform_key):
    response = alipayhk.respond(peer.call(partner_key, b"{}", target="/nowhere"))

    check_signature(response, platform_key.public_key(), target="/nowhere")
    assert result_of(response, "result") == ("INVALID_API", "F")


def test_the_same_request_has_the_same_result_with_a_new_time_and_signature(
    alipayhk, partner_key, platform_key, clock
):
    request = peer.call(partner_key, body_with())

    first = alipayhk.respond(request)
    clock.advance(seconds=1)
    second = alipayhk.respond(request)

    check_signature(second, platform_key.public_key())
    assert first.body == second.body
    for name in ("Response-Time", "Signature", "Tracer-Id"):
        assert header_of(first, name) != header_of(second, name)
    assert [record.repeated for record in alipayhk.records] == [False, True]


def test_a_request_id_used_for_another_body_is_refused(alipayhk, partner_key):
    alipayhk.respond(peer.call(partner_key, body_with()))

    response = alipayhk.respond(peer.call(partner_key, body_with(contentId="C002")))

    assert result_of(response) == ("PARAM_ILLEGAL", "F")
    assert "requestId was used before" in message_of(response)


def test_a_request_id_is_remembered_for_each_path_alone(alipayhk, partner_key):
    alipayhk.respond(peer.call(partner_key, body_with()))

    response = alipayhk.respond(
        peer.call(partner_key, b'{"requestId":"' + b"0" * 32 + b'"}', target="/nowhere")
    )

    assert result_of(response, "result") == ("INVALID_API", "F")


def test_a_corrected_request_may_keep_its_request_id(alipayhk, partner_key):
    alipayhk.respond(peer.call(partner_key, body_with(contentStatus="1")))

    response = alipayhk.respond(peer.call(partner_key, body_with()))

    assert result_of(response) == ("SUCCESS", "S")


def test_requests_without_a_request_id_do_not_meet(alipayhk, partner_key):
    path = OTHER_CALLS[0]

    for body in (b'{"a":1}', b'{"a":2}'):
        response = alipayhk.respond(peer.call(partner_key, body, target=path))
        assert result_of(response, "result") == ("SUCCESS", "S")


def test_a_record_holds_what_arrived_and_no_content(
    alipayhk, partner_key, platform_key
):
    request = sealed_call(partner_key, platform_key, body_with())

    response = alipayhk.respond(request)

    (record,) = alipayhk.records
    assert record.time == peer.TIME
    assert (record.method, record.target) == ("POST", peer.TARGET)
    assert (record.client_id, record.key_version) == (peer.CLIENT_ID, "1")
    assert record.encrypted
    assert record.signed
    assert (record.result, record.status, record.fault) == ("SUCCESS", "S", "none")
    assert record.tracer_id == header_of(response, "Tracer-Id")
    assert request.body.decode() not in repr(record)
    assert len(record.body_sha256) == 64


def test_the_record_of_a_refusal_says_what_was_claimed(alipayhk, other_key):
    alipayhk.respond(peer.call(other_key, body_with(), version="7", client_id="X"))

    (record,) = alipayhk.records
    assert (record.client_id, record.key_version) == ("X", "7")
    assert not record.signed


def test_the_record_of_a_refusal_leaves_out_what_cannot_be_read(alipayhk, partner_key):
    request = peer.call(partner_key, body_with())
    headers = [*request.headers, *request.headers]

    alipayhk.respond(replace(request, headers=headers))

    (record,) = alipayhk.records
    assert (record.client_id, record.key_version) == (None, None)


def test_only_the_last_thousand_records_are_kept(alipayhk, partner_key):
    request = peer.call(partner_key, body_with(), client_id="nobody")
    for _ in range(1001):
        alipayhk.respond(request)

    assert len(alipayhk.records) == 1000


def test_no_secret_stands_in_a_repr(alipayhk, partner_key):
    exchange = alipayhk.exchange(peer.call(partner_key, body_with()))

    for text in (repr(alipayhk), repr(exchange), repr(exchange.response)):
        assert "C001" not in text
        assert "signature=" not in text
