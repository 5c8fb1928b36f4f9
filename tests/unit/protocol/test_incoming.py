"""Their side: what may be believed. The verdict table is in test_verdicts.py."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import (
    ClientIdMismatch,
    EncryptionDowngraded,
    InvalidRequest,
    KeyVersionUnknown,
    ResponseMalformed,
    ResponseStale,
    SignatureInvalid,
    SignatureMissing,
)
from gateway.protocol import (
    Freshness,
    PublicKey,
    ReceivedRequest,
    ReceivedResponse,
    UnsignedRefusal,
    VerifiedResponse,
    read_date,
    read_tracer_id,
    verify_request,
    verify_response,
)
from gateway.protocol.incoming import single
from tests import peer

SINGLE = ["Signature", "Response-Time", "Client-Id", "Encrypt", "Content-Type"]


@pytest.fixture
def judge(platform_public):
    """Give a function that verifies an answer to our plain request."""

    def verify(received, *, request=None, keys=None, freshness=peer.FRESH):
        return verify_response(
            received,
            request=request or peer.sent_request(),
            keys=[platform_public] if keys is None else keys,
            freshness=freshness,
        )

    return verify


@pytest.fixture
def answer(platform_key):
    """A good answer."""
    return peer.answer(platform_key)


def changed(received, name, *values):
    headers = peer.with_header(received.headers, name, *values)
    return ReceivedResponse(received.status, headers, received.body)


# --- a signed answer ---------------------------------------------------------


def test_a_good_answer_is_verified(judge, answer):
    verified = judge(answer)
    assert isinstance(verified, VerifiedResponse)
    assert verified.client_id == peer.CLIENT_ID
    assert verified.time == peer.NOW
    assert verified.time_text == peer.TIME
    assert verified.body == peer.SUCCESS
    assert verified.encrypt is None
    assert verified.key_version == "1"
    assert verified.status == 200
    assert verified.headers is answer.headers


@pytest.mark.parametrize("status", [200, 201, 299, 300, 400, 403, 500, 503])
@pytest.mark.parametrize("body", [peer.FAILURE, peer.UNKNOWN, b"{}"])
def test_a_signed_answer_is_verified_whatever_its_status(
    status, body, judge, platform_key
):
    assert judge(peer.answer(platform_key, body, status=status)).status == status


@pytest.mark.parametrize("status", [200, 201, 299])
def test_a_signed_success_is_one_under_each_status_of_success(
    status, judge, platform_key
):
    verified = judge(peer.answer(platform_key, status=status))
    assert (verified.status, verified.result.status) == (status, "S")


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
@pytest.mark.parametrize("envelope", ["result", "resultInfo"])
def test_a_signed_success_under_another_status_is_malformed(
    status, envelope, judge, platform_key
):
    """No signature covers the status: a success would be taken for a failure."""
    body = b'{"%s":{"resultStatus":"S"}}' % envelope.encode()
    with pytest.raises(ResponseMalformed, match=f"HTTP {status}"):
        judge(peer.answer(platform_key, body, status=status))


@pytest.mark.parametrize(
    "body",
    [
        b"{}\n",
        b" { } ",
        b'{"resultInfo":{"resultStatus":"S","resultStatus":"F"}}',
        '{"a":"\\ud800\u9673"}'.encode(),
    ],
)
def test_any_signed_object_is_given_byte_for_byte(body, judge, platform_key):
    assert judge(peer.answer(platform_key, body)).body == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b"\xff\x00",
        b"<html></html>",
        b'{"a":NaN}',
        b'\xef\xbb\xbf{"a":1}',
        b"{}{}",
        b"{" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda body: repr(body[:16]),
)
def test_a_signed_plain_body_that_is_no_object_is_malformed(body, judge, platform_key):
    with pytest.raises(ResponseMalformed, match="JSON object"):
        judge(peer.answer(platform_key, body))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(peer.SUCCESS + b"\n", id="a newline added"),
        pytest.param(peer.SUCCESS[:-1], id="a byte lost"),
        pytest.param(peer.SUCCESS.replace(b":", b": "), id="written again"),
        pytest.param(b"\xef\xbb\xbf" + peer.SUCCESS, id="a byte order mark added"),
        pytest.param(peer.SUCCESS.decode().encode("utf-16"), id="another charset"),
        pytest.param(b"", id="nothing left"),
    ],
)
def test_a_body_altered_on_the_way_is_refused(body, judge, answer):
    with pytest.raises(SignatureInvalid):
        judge(ReceivedResponse(200, answer.headers, body))


def test_an_answer_to_another_target_is_refused(judge, platform_key):
    with pytest.raises(SignatureInvalid):
        judge(peer.answer(platform_key, target=peer.TARGET + "/"))


@pytest.mark.parametrize("target", [peer.TARGET + "?a=b", peer.TARGET])
def test_the_query_string_is_part_of_the_target(target, judge, platform_key):
    request = peer.sent_request(target=peer.TARGET + "?a=b")
    received = peer.answer(platform_key, target=target)
    if "?" in target:
        assert judge(received, request=request).status == 200
    else:
        with pytest.raises(SignatureInvalid):
            judge(received, request=request)


def test_a_request_sent_back_as_its_answer_is_refused(judge, partner_key):
    """Our own signature over our own request proves nothing."""
    received = peer.answer(partner_key, peer.REQUEST_BODY)
    with pytest.raises(SignatureInvalid):
        judge(received)


def test_an_answer_by_a_stranger_is_refused(judge, other_key):
    with pytest.raises(SignatureInvalid, match="does not hold"):
        judge(peer.answer(other_key))


@pytest.mark.parametrize("name", ["signature", "SIGNATURE", "SiGnAtUrE"])
def test_header_names_are_read_in_any_case(name, judge, answer):
    headers = [
        (name if key == "Signature" else key.lower(), value)
        for key, value in answer.headers
    ]
    assert judge(ReceivedResponse(200, headers, answer.body)).status == 200


def test_white_space_around_header_values_does_not_matter(judge, answer):
    headers = [(key, f" \t{value}\t ") for key, value in answer.headers]
    assert judge(ReceivedResponse(200, headers, answer.body)).time_text == peer.TIME


def test_other_headers_do_not_matter(judge, answer):
    others = [("Set-Cookie", "a"), ("Set-Cookie", "b"), ("X", "\u9999\x00"), ("", "")]
    headers = [*others, *answer.headers, ("Request-Time", "x"), ("X-Signature", "y")]
    assert judge(ReceivedResponse(200, headers, answer.body)).status == 200


# --- the Signature header ----------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x", "not a list of key=value pairs"),
        ("algorithm=RSA256,keyVersion=1", "its signature is empty"),
        ("algorithm=RSA256,keyVersion=1,signature=", "its signature is empty"),
        ("algorithm=RSA256,keyVersion=1,signature=!", "its signature is not base64"),
        ("algorithm=ECC224,keyVersion=1,signature=AAAA", "it names ECC224"),
        ("algorithm=none,keyVersion=1,signature=AAAA", "another algorithm"),
        ("algorithm=RSA256,keyVersion=1,signature=AAAA", "does not hold"),
    ],
)
def test_a_signature_that_cannot_be_used_is_invalid(value, said, judge, answer):
    with pytest.raises(SignatureInvalid, match=said):
        judge(changed(answer, "Signature", value))


@pytest.mark.parametrize("length", [0, 1, 128, 255])
def test_a_partial_signature_is_invalid(length, judge, answer, platform_key):
    base = peer.signature_base(time=peer.TIME, body=peer.SUCCESS)
    part = peer.rsa256(platform_key, base)[:length]
    with pytest.raises(SignatureInvalid):
        judge(changed(answer, "Signature", peer.signature_header(part)))


@pytest.mark.parametrize("version", ["2", "01", "1.0", "latest"])
def test_a_key_version_that_is_not_held_is_refused(version, judge, platform_key):
    with pytest.raises(KeyVersionUnknown):
        judge(peer.answer(platform_key, version=version))


def test_with_no_keys_nothing_is_verified(judge, answer):
    with pytest.raises(KeyVersionUnknown):
        judge(answer, keys=[])


def test_the_named_key_verifies_and_no_other_is_tried(judge, platform_key, other_key):
    keys = [
        PublicKey("2", other_key.public_key()),
        PublicKey("1", platform_key.public_key()),
    ]
    assert judge(peer.answer(platform_key, version="1"), keys=keys).key_version == "1"
    with pytest.raises(SignatureInvalid):
        judge(peer.answer(platform_key, version="2"), keys=keys)


@pytest.mark.parametrize("version", [None, ""])
def test_without_a_key_version_every_key_is_tried(
    version, judge, platform_key, other_key
):
    keys = [
        PublicKey("2", other_key.public_key()),
        PublicKey("1", platform_key.public_key()),
    ]
    for key, label in ((platform_key, "1"), (other_key, "2")):
        verified = judge(peer.answer(key, version=version), keys=keys)
        assert verified.key_version == label


def test_without_a_key_version_the_active_key_is_tried_first(judge, platform_key):
    keys = [
        PublicKey("active", platform_key.public_key()),
        PublicKey("deactivated", platform_key.public_key()),
    ]
    verified = judge(peer.answer(platform_key, version=None), keys=keys)
    assert verified.key_version == "active"


def test_without_a_key_version_a_stranger_is_still_refused(
    judge, partner_key, platform_public, other_key
):
    keys = [platform_public, PublicKey("2", partner_key.public_key())]
    with pytest.raises(SignatureInvalid):
        judge(peer.answer(other_key, version=None), keys=keys)


# --- critical headers --------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("twin", ["same", "other", "empty"])
def test_a_repeated_critical_header_is_malformed(name, twin, judge, answer):
    value = dict(answer.headers).get(name, "x")
    second = {"same": value, "other": "other", "empty": ""}[twin]
    for values in ((value, second), (second, value)):
        headers = peer.with_header(answer.headers, name, values[0])
        headers.append((name.lower(), values[1]))
        with pytest.raises(ResponseMalformed, match=f"The header {name} occurs 2"):
            judge(ReceivedResponse(200, headers, answer.body))


@pytest.mark.parametrize("name", SINGLE)
def test_a_repeated_critical_header_spoils_a_refusal_too(name, judge):
    headers = [(name, ""), (name, "")]
    with pytest.raises(ResponseMalformed):
        judge(ReceivedResponse(200, headers, peer.FAILURE))


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize(
    "value",
    [
        *("\x00", "a\x00", "a\nb", "a\r\nX: y", "\x7f", "\x0b", "\x1f"),
        *("\u00e9", "\u00a0", "\u2028", "\u3000", "\ufeff", "\uff11", "\udcff"),
    ],
)
def test_a_critical_header_is_printable_ascii(name, value, judge, answer):
    with pytest.raises(ResponseMalformed, match="printable ASCII"):
        judge(changed(answer, name, value))


def test_single_gives_none_for_a_missing_or_empty_header():
    assert single([], "A") is None
    assert single([("a", "")], "A") is None
    assert single([("a", " \t ")], "A") is None
    assert single([("b", "x")], "A") is None


def test_single_drops_the_white_space_around_the_value_and_nothing_else():
    assert single([("a", " \t~x\t y! \t")], "A") == "~x\t y!"
    visible = "".join(map(chr, range(0x21, 0x7F)))
    for first in visible:
        for last in visible:
            assert single([("a", f"{first}0{last}")], "A") == f"{first}0{last}"


# --- Client-Id ---------------------------------------------------------------


@pytest.mark.parametrize(
    "client_id", ["OTHER", peer.CLIENT_ID.lower(), peer.CLIENT_ID + "0", "0"]
)
def test_an_answer_for_another_client_id_is_refused(client_id, judge, answer):
    with pytest.raises(ClientIdMismatch, match="names another Client-Id"):
        judge(changed(answer, "Client-Id", client_id))


def test_an_answer_signed_for_another_client_id_is_refused(judge, platform_key):
    """The answer's own word is not taken, however well it is signed."""
    with pytest.raises(ClientIdMismatch):
        judge(peer.answer(platform_key, client_id="OTHER"))
    relabelled = changed(
        peer.answer(platform_key, client_id="OTHER"), "Client-Id", peer.CLIENT_ID
    )
    with pytest.raises(SignatureInvalid):
        judge(relabelled)


@pytest.mark.parametrize("values", [[], [""], ["  "]])
def test_a_signed_answer_without_a_client_id_is_refused(values, judge, answer):
    with pytest.raises(ClientIdMismatch, match="has no Client-Id"):
        judge(changed(answer, "Client-Id", *values))


@pytest.mark.parametrize("client_id", [None, "", peer.CLIENT_ID])
def test_an_unsigned_refusal_needs_no_client_id(client_id, judge):
    headers = [] if client_id is None else [("Client-Id", client_id)]
    assert isinstance(
        judge(ReceivedResponse(200, headers, peer.FAILURE)), UnsignedRefusal
    )


def test_an_unsigned_refusal_for_another_client_id_is_refused(judge):
    headers = [("Client-Id", "OTHER")]
    with pytest.raises(ClientIdMismatch):
        judge(ReceivedResponse(200, headers, peer.FAILURE))


# --- Response-Time -----------------------------------------------------------


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-23T14:00:00+08:00",
        "2026-11-23T06:00:00Z",
        "2026-11-23T06:00:00.123456789Z",
        "2026-11-23T14:00:00+0800",
        "1795413600000",
    ],
)
def test_the_time_is_verified_as_it_stands(time, judge, platform_key):
    verified = judge(peer.answer(platform_key, time=time))
    assert verified.time_text == time
    assert abs(verified.time - peer.NOW) < timedelta(seconds=1)


def test_the_same_instant_in_another_form_is_not_what_was_signed(judge, answer):
    with pytest.raises(SignatureInvalid):
        judge(changed(answer, "Response-Time", "2026-11-23T06:00:00Z"))


@pytest.mark.parametrize(
    "time", ["now", "2026-11-23T14:00:00", "1795413600", "2026-02-30T00:00:00Z", "?"]
)
def test_a_signed_time_that_cannot_be_read_is_malformed(time, judge, platform_key):
    with pytest.raises(ResponseMalformed, match="Response-Time cannot be read"):
        judge(peer.answer(platform_key, time=time))


@pytest.mark.parametrize("minutes", [-6, 6, 24 * 60])
def test_a_stale_answer_is_refused(minutes, judge, answer):
    now = peer.NOW + timedelta(minutes=minutes)
    with pytest.raises(ResponseStale):
        judge(answer, freshness=Freshness(now, timedelta(minutes=5)))


def test_a_bad_signature_is_told_before_a_stale_time(judge, other_key):
    """A stranger's clock is no news."""
    late = Freshness(peer.NOW + timedelta(days=1), timedelta(minutes=5))
    with pytest.raises(SignatureInvalid):
        judge(peer.answer(other_key), freshness=late)


# --- unsigned answers --------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
@pytest.mark.parametrize("body", [peer.FAILURE, peer.UNKNOWN])
def test_an_unsigned_refusal_is_passed_on_as_it_is(status, body, judge):
    headers = [("Tracer-Id", "t")]
    refusal = judge(ReceivedResponse(status, headers, body))
    assert isinstance(refusal, UnsignedRefusal)
    assert refusal.status == status
    assert refusal.headers is headers
    assert refusal.body is body
    assert refusal.result.status in "FU"
    assert refusal.result.code in {"PARAM_ILLEGAL", "UNKNOWN_EXCEPTION"}


@pytest.mark.parametrize(
    "body",
    [
        peer.SUCCESS,
        b"",
        b"{}",
        b'{"resultStatus":"F"}',
        b'{"result":{"resultStatus":"f"}}',
        b'{"result":{"resultStatus":"FU"}}',
        b'{"result":{"resultStatus":""}}',
        b'{"result":{"resultStatus":"F"},"result":{"resultStatus":"S"}}',
        b'{"resultInfo":{"resultStatus":"S"},"result":{"resultStatus":"F"}}',
        b"\xef\xbb\xbf" + peer.FAILURE,
        peer.FAILURE + b"x",
        peer.FAILURE.decode().encode("utf-16"),
        peer.seal(peer.FAILURE),
        b"F",
        b"<html>F</html>",
    ],
)
def test_no_other_unsigned_answer_is_passed_on(body, judge):
    for status in (200, 403, 502):
        with pytest.raises(SignatureMissing, match=f"HTTP {status} without Signature"):
            judge(ReceivedResponse(status, [], body))


def test_half_a_signature_is_told_apart_from_none(judge, answer):
    for name in ("Signature", "Response-Time"):
        with pytest.raises(SignatureMissing, match="one is missing"):
            judge(changed(answer, name))


# --- encryption --------------------------------------------------------------


def test_the_encrypt_header_is_kept_unread(judge, platform_key):
    verified = judge(peer.answer(platform_key, encrypt="nonsense"))
    assert verified.encrypt == "nonsense"


@pytest.mark.parametrize(
    "body",
    [
        peer.SUCCESS,
        b"",
        b"{}",
        b"[]",
        b"OK",
        b'{"result":{"resultStatus":"X"}}',
        b'{"result":{"resultStatus":"F","resultStatus":"S"}}',
        peer.seal(peer.SUCCESS),
    ],
)
@pytest.mark.parametrize("encrypt", [None, "", " "])
def test_a_plain_answer_to_an_encrypted_request_is_a_downgrade(
    body, encrypt, judge, platform_key, platform_public
):
    request = peer.sent_encrypted_request(platform_public)
    received = peer.answer(platform_key, body, encrypt=encrypt)
    with pytest.raises(EncryptionDowngraded):
        judge(received, request=request)


@pytest.mark.parametrize("body", [peer.FAILURE, peer.UNKNOWN])
def test_a_plain_signed_refusal_of_an_encrypted_request_is_verified(
    body, judge, platform_key, platform_public
):
    request = peer.sent_encrypted_request(platform_public)
    assert judge(peer.answer(platform_key, body), request=request).body == body


def test_a_downgrade_is_told_only_of_a_valid_answer(judge, other_key, platform_public):
    request = peer.sent_encrypted_request(platform_public)
    with pytest.raises(SignatureInvalid):
        judge(peer.answer(other_key), request=request)


# --- requests that come to us ------------------------------------------------


def test_a_good_request_is_verified(partner_key, partner_public):
    verified = verify_request(peer.call(partner_key), keys=[partner_public])
    assert verified.method == "POST"
    assert verified.target == peer.TARGET
    assert verified.client_id == peer.CLIENT_ID
    assert verified.time == datetime(2026, 11, 23, 6, tzinfo=UTC)
    assert verified.time_text == peer.TIME
    assert verified.body == peer.REQUEST_BODY
    assert verified.encrypt is None
    assert verified.key_version == "1"


def call_with(key, name, *values):
    call = peer.call(key)
    headers = peer.with_header(call.headers, name, *values)
    return ReceivedRequest(call.method, call.target, headers, call.body)


@pytest.mark.parametrize("name", ["Signature", "Request-Time", "Client-Id"])
@pytest.mark.parametrize("values", [[], [""], [" \t"]])
def test_a_request_without_a_needed_header_is_invalid(
    name, values, partner_key, partner_public
):
    with pytest.raises(InvalidRequest, match=f"The header {name} is missing or empty"):
        verify_request(call_with(partner_key, name, *values), keys=[partner_public])


@pytest.mark.parametrize("name", ["Signature", "Request-Time", "Client-Id", "Encrypt"])
@pytest.mark.parametrize("values", [["a", "a"], ["", ""], ["a\x00"], ["\u00e9"]])
def test_a_request_with_a_repeated_or_unreadable_header_is_invalid(
    name, values, partner_key, partner_public
):
    with pytest.raises(InvalidRequest, match=f"The header {name} "):
        verify_request(call_with(partner_key, name, *values), keys=[partner_public])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("method", "PUT"),
        ("method", "post"),
        ("target", "/other"),
        ("target", peer.TARGET + "?a=b"),
        ("client_id", "OTHER"),
        ("time", "2026-11-23T14:00:01+08:00"),
        ("body", peer.REQUEST_BODY + b"\n"),
    ],
)
def test_a_request_signed_for_something_else_is_refused(
    part, value, partner_key, partner_public
):
    as_sent = peer.call(partner_key)
    signed = peer.call(partner_key, **{part: value})
    signature = dict(signed.headers)["Signature"]
    headers = peer.with_header(as_sent.headers, "Signature", signature)
    received = ReceivedRequest(as_sent.method, as_sent.target, headers, as_sent.body)
    with pytest.raises(SignatureInvalid):
        verify_request(received, keys=[partner_public])


def test_a_request_by_a_stranger_is_refused(other_key, partner_public):
    with pytest.raises(SignatureInvalid):
        verify_request(peer.call(other_key), keys=[partner_public])


def test_a_request_under_an_unknown_key_version_is_refused(partner_key, partner_public):
    with pytest.raises(KeyVersionUnknown):
        verify_request(peer.call(partner_key, version="2"), keys=[partner_public])


@pytest.mark.parametrize("time", ["now", "2026-11-23", "1795413600", "x" * 5000])
def test_a_signed_request_time_that_cannot_be_read_is_invalid(
    time, partner_key, partner_public
):
    with pytest.raises(InvalidRequest, match="Request-Time cannot be read"):
        verify_request(peer.call(partner_key, time=time), keys=[partner_public])


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/a\udcff"),
        ("POST", "\ud800"),
        ("PO\udcffST", "/a"),
    ],
)
def test_a_request_line_that_is_not_unicode_is_refused(
    method, target, partner_key, partner_public
):
    """Some HTTP parsers decode stray bytes of a target to lone surrogates."""
    received = ReceivedRequest(method, target, peer.call(partner_key).headers, b"{}")
    with pytest.raises((InvalidRequest, SignatureInvalid)):
        verify_request(received, keys=[partner_public])


# --- what is noted, and never judged -----------------------------------------


@pytest.mark.parametrize("name", ["Tracer-Id", "tracerId", "TRACE-ID"])
@pytest.mark.parametrize("value", ["t", "!~", "x" * 128])
def test_a_trace_is_found_under_each_of_its_names(name, value):
    assert read_tracer_id([("Date", "x"), (name, value), (name, "y")]) == value


@pytest.mark.parametrize(
    "value", ["", " ", "a b", "a\t", "\x7f", "\x00", "\xe9", "\u0661", "x" * 129]
)
def test_what_could_be_no_trace_is_passed_over(value):
    headers = [("Tracer-Id", value)]
    assert read_tracer_id(headers) is None
    assert read_tracer_id([*headers, ("Trace-Id", "t2"), ("Tracer-Id", "t1")]) == "t1"


def test_of_several_dates_the_first_is_read():
    dates = [("Date", f"Mon, 23 Nov 2026 06:00:0{n} GMT") for n in (1, 2)]
    assert read_date(dates) == datetime(2026, 11, 23, 6, 0, 1, tzinfo=UTC)
    assert read_date([("Dated", dates[0][1])]) is None
