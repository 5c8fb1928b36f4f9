"""What holds for every message, not just for the ones we thought of."""

import base64
import binascii
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from gateway.errors import DecryptionFailed, ExchangeError, InvalidRequest
from gateway.protocol import (
    EncryptField,
    FieldError,
    ReceivedRequest,
    ReceivedResponse,
    SignatureField,
    UnsignedRefusal,
    VerifiedRequest,
    VerifiedResponse,
    attach_signature,
    check_request_body,
    decrypt,
    draft_request,
    draft_response,
    encoding,
    encrypt,
    encryption,
    format_time,
    parse_time,
    read_encryption,
    read_result,
    results,
    sign,
    signature_base,
    unwrap,
    verify_request,
    verify_response,
)
from gateway.protocol.encoding import decode_base64, decode_value, encode_value
from gateway.protocol.outgoing import check_client_id, check_target
from gateway.protocol.results import is_legacy, outline, parse_object, result_of
from tests import peer

# --- the material ------------------------------------------------------------

anything = st.text(st.characters(exclude_categories=()))
"""Any text, lone surrogates and control characters included."""

ascii_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
labels = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
client_ids = st.from_regex(r"[!#%&(-_a-~]{1,40}", fullmatch=True)
pieces = st.lists(
    st.from_regex(r"[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2}|/[a-z]", fullmatch=True),
    max_size=20,
).map("".join)
targets = st.builds(
    "/a{}{}{}".format, pieces, st.sampled_from(["", "?a=", "?"]), st.just("b") | pieces
).filter(lambda target: not target.endswith("?"))
keys_2048 = st.binary(min_size=256, max_size=256)
objects = st.dictionaries(st.text(), st.text() | st.integers()).map(
    lambda value: json.dumps(value, ensure_ascii=False).encode()
)
times = st.sampled_from(
    [
        "2026-11-23T14:00:00+08:00",
        "2026-11-23T06:00:00Z",
        "2026-11-23T14:00:00.123+0800",
        "1795413600000",
    ]
)

json_numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | json_numbers | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def json_objects(draw):
    """A JSON object in one of its many spellings, as bytes."""
    text = json.dumps(
        draw(st.dictionaries(st.text(), json_values, max_size=5)),
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 0, 2, "\t"])),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", ":")])),
    )
    around = st.text(" \t\r\n", max_size=3)
    return (draw(around) + text + draw(around)).encode()


def flip(data, bit):
    """Give the bytes with one bit flipped."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flip_text(text, bit):
    """Give the ASCII text with one bit flipped, read as Latin-1."""
    return flip(text.encode("ascii"), bit).decode("latin-1")


def judge_response(received, platform_public, request=None):
    return verify_response(
        received,
        request=request or peer.sent_request(),
        keys=[platform_public],
        freshness=peer.FRESH,
    )


def outcome_of(verify, *args):
    """Give what came of it: the error of the taxonomy, or the value."""
    try:
        return verify(*args)
    except ExchangeError as error:
        return error


# --- one flipped bit ---------------------------------------------------------


def flipped_responses(key, *, body, time, client_id, target):
    """Give each part's length in bits, and how to make the answer with one flipped."""
    good = peer.answer(key, body, time=time, client_id=client_id, target=target)
    base = peer.signature_base(target=target, client_id=client_id, time=time, body=body)
    signature = peer.rsa256(key, base)

    def with_header(name, value):
        headers = peer.with_header(good.headers, name, value)
        return ReceivedResponse(200, headers, body), target

    return {
        "body": (
            body,
            lambda bit: (ReceivedResponse(200, good.headers, flip(body, bit)), target),
        ),
        "time": (
            time,
            lambda bit: with_header("Response-Time", flip_text(time, bit)),
        ),
        "client id": (
            client_id,
            lambda bit: with_header("Client-Id", flip_text(client_id, bit)),
        ),
        "signature": (
            signature,
            lambda bit: with_header(
                "Signature", peer.signature_header(flip(signature, bit))
            ),
        ),
        "target": (target, lambda bit: (good, flip_text(target, bit))),
    }


def sent_to(target, client_id):
    """Give a request of ours to any target at all, checked or not."""
    draft = peer.sent_request(client_id=client_id).draft
    object.__setattr__(draft, "target", target)
    return attach_signature(draft, bytes(256), key_version="1")


PARTS = ["body", "time", "client id", "signature", "target"]


@pytest.mark.parametrize("part", PARTS)
def test_no_flipped_bit_of_an_answer_is_overlooked(part, platform_key, platform_public):
    """Every bit of one answer."""
    value, make = flipped_responses(
        platform_key,
        body=peer.SUCCESS,
        time=peer.TIME,
        client_id=peer.CLIENT_ID,
        target=peer.TARGET,
    )[part]
    for bit in range(len(value) * 8):
        received, target = make(bit)
        request = sent_to(target, peer.CLIENT_ID)
        given = outcome_of(judge_response, received, platform_public, request)
        assert isinstance(given, ExchangeError), bit


@pytest.mark.parametrize("part", PARTS)
@given(body=objects, time=times, client_id=client_ids, data=st.data())
def test_no_flipped_bit_of_any_answer_is_overlooked(
    *, part, body, time, client_id, data, platform_key, platform_public
):
    target = data.draw(targets)
    parts = flipped_responses(
        platform_key, body=body, time=time, client_id=client_id, target=target
    )
    value, make = parts[part]
    received, target_sent = make(data.draw(st.integers(0, len(value) * 8 - 1)))
    request = sent_to(target_sent, client_id)
    with pytest.raises(ExchangeError):
        judge_response(received, platform_public, request)


@given(body=objects, time=times, client_id=client_ids, target=targets)
def test_any_answer_with_no_bit_flipped_is_verified(
    *, body, time, client_id, target, platform_key, platform_public
):
    """Without this the tests above could pass for the wrong reason."""
    received = peer.answer(
        platform_key, body, time=time, client_id=client_id, target=target
    )
    request = sent_to(target, client_id)
    verified = judge_response(received, platform_public, request)
    assert verified.body == body
    assert verified.time_text == time


@given(
    part=st.sampled_from(["body", "target", "client_id", "time", "signature"]),
    body=st.binary(min_size=1),
    target=targets,
    data=st.data(),
)
def test_no_flipped_bit_of_any_request_is_overlooked(
    *, part, body, target, data, partner_key, partner_public
):
    call = peer.call(partner_key, body, target=target)
    headers = dict(call.headers)
    base = peer.signature_base(target=target, time=peer.TIME, body=body)
    values = {
        "body": body,
        "target": target,
        "client_id": headers["Client-Id"],
        "time": headers["Request-Time"],
        "signature": peer.rsa256(partner_key, base),
    }
    value = values[part]
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    if isinstance(value, bytes):
        values[part] = flip(value, bit)
    else:
        values[part] = flip_text(value, bit)
    headers["Client-Id"] = values["client_id"]
    headers["Request-Time"] = values["time"]
    headers["Signature"] = peer.signature_header(values["signature"])
    received = ReceivedRequest(
        "POST", values["target"], list(headers.items()), values["body"]
    )
    assert verify_request(call, keys=[partner_public]).body == body
    with pytest.raises(ExchangeError):
        verify_request(received, keys=[partner_public])


# --- nothing escapes the taxonomy --------------------------------------------

NAMES = ["Signature", "Response-Time", "Request-Time", "Client-Id", "Encrypt"]
header_names = st.sampled_from(NAMES + [name.lower() for name in NAMES]) | anything
field_values = st.builds(
    "{}={},{}={},{}={}".format,
    st.sampled_from(["algorithm", "Algorithm", " algorithm"]),
    st.sampled_from(["RSA256", "rsa256", "RSA_AES", "ECC224", ""]),
    st.sampled_from(["keyVersion", "keyversion"]),
    st.sampled_from(["1", "", "2"]) | ascii_text,
    st.sampled_from(["signature", "symmetricKey"]),
    keys_2048.map(encode_value) | ascii_text,
)
header_values = (
    anything
    | ascii_text
    | field_values
    | times
    | st.sampled_from(["", " ", peer.CLIENT_ID])
)
header_lists = st.lists(st.tuples(header_names, header_values), max_size=7)
bodies = st.binary() | st.sampled_from(
    [peer.SUCCESS, peer.FAILURE, peer.UNKNOWN, b"{}", b"[" * 5000, b'{"a":' * 5000]
)


@given(status=st.integers(), headers=header_lists, body=bodies, encrypted=st.booleans())
@example(status=200, headers=[("Signature", "\udcff")], body=b"", encrypted=False)
@example(status=-1, headers=[("\ud800", "\ud800")], body=b"", encrypted=True)
@settings(max_examples=300)
def test_no_answer_escapes_the_taxonomy(
    status, headers, body, encrypted, platform_public
):
    """And none that is not signed is believed."""
    request = (
        peer.sent_encrypted_request(platform_public)
        if encrypted
        else peer.sent_request()
    )
    received = ReceivedResponse(status, headers, body)
    given = outcome_of(judge_response, received, platform_public, request)
    assert isinstance(given, ExchangeError | UnsignedRefusal)
    if isinstance(given, UnsignedRefusal):
        assert b'"F"' in body or b'"U"' in body


@given(method=anything, target=anything, headers=header_lists, body=bodies)
@example(
    method="POST",
    target="/a\udcff",
    headers=[
        ("Client-Id", "C"),
        ("Request-Time", peer.TIME),
        ("Signature", peer.signature_header(bytes(256))),
    ],
    body=b"",
)
@settings(max_examples=300)
def test_no_request_escapes_the_taxonomy(method, target, headers, body, partner_public):
    def verify():
        return verify_request(
            ReceivedRequest(method, target, headers, body), keys=[partner_public]
        )

    assert isinstance(outcome_of(verify), ExchangeError)


@given(time=ascii_text | times, client_id=ascii_text, body=bodies, status=st.integers())
def test_no_signed_answer_escapes_the_taxonomy(
    *, time, client_id, body, status, platform_key, platform_public
):
    """The platform may sign nonsense, too."""
    received = peer.answer(
        platform_key, body, time=time, client_id=client_id, status=status
    )
    given = outcome_of(judge_response, received, platform_public)
    assert isinstance(given, ExchangeError | VerifiedResponse | UnsignedRefusal)


@given(
    body=st.binary() | st.binary().map(base64.b64encode) | ascii_text.map(str.encode),
    header=ascii_text | field_values,
    content_key=st.binary(max_size=40)
    | st.sampled_from([16, 24, 32]).flatmap(
        lambda size: st.binary(min_size=size, max_size=size)
    ),
)
def test_decrypting_ends_in_an_object_or_in_the_one_error(
    *, body, header, content_key, partner_key, platform_key, platform_public
):
    assume(header.strip())
    received = peer.answer(platform_key, body, encrypt=header)
    message = judge_response(received, platform_public)
    steps = [
        lambda: unwrap(partner_key, read_encryption(message).wrapped_key),
        lambda: decrypt(message, content_key),
    ]
    for step in steps:
        given = outcome_of(step)
        assert isinstance(given, bytes | DecryptionFailed)


@given(wrapped=st.binary(max_size=300) | keys_2048)
def test_unwrapping_any_bytes_ends_in_bytes_or_in_the_one_error(wrapped, partner_key):
    given = outcome_of(unwrap, partner_key, wrapped)
    assert isinstance(given, bytes | DecryptionFailed)


@pytest.mark.parametrize(
    ("parse", "error"),
    [
        (SignatureField.parse, FieldError),
        (EncryptField.parse, FieldError),
        (parse_time, ValueError),
        (decode_value, ValueError),
        (decode_base64, ValueError),
        (check_target, ValueError),
        (check_client_id, ValueError),
    ],
)
@given(
    text=anything
    | ascii_text
    | field_values
    | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?[+-]\d\d:?\d\d")
    | st.from_regex(r"[0-9]{11,15}")
    | st.from_regex(r"[A-Za-z0-9+/_%-]{0,40}={0,3}")
)
@settings(max_examples=100)
def test_a_parser_raises_nothing_but_its_own_error(parse, error, text):
    with suppress(error):
        parse(text)


@given(body=st.binary() | anything.map(lambda text: text.encode("utf-8", "replace")))
def test_a_body_is_an_object_or_a_value_error(body):
    try:
        assert isinstance(parse_object(body), dict)
    except ValueError:
        assert read_result(body) is None
        with pytest.raises(InvalidRequest):
            check_request_body(body)


def objects_of(keys, values, at_least):
    """Give objects of so many of these keys, also twice, as texts."""
    pairs = st.tuples(st.sampled_from(keys), values)
    return st.lists(pairs, min_size=at_least, max_size=3).map(
        lambda pairs: "{" + ",".join(f'"{key}" : {value}' for key, value in pairs) + "}"
    )


@st.composite
def nearly_objects(draw):
    """What is a body with a result or of the legacy form, or would be but for a character."""
    leaves = st.sampled_from(['"S"', "-0.5e1", '{"a":1}', "[1,{}]"])
    inner = objects_of(
        ("resultStatus", "resultStatus", "resultCode", "head"), leaves, 1
    )
    outer = ("result", "resultInfo", "request", "signature", "a")
    text = draw(objects_of(outer, inner | inner | leaves, 1))
    if draw(st.booleans()):
        return text
    at, more = draw(st.integers(0, len(text))), draw(st.sampled_from(_MORE))
    return text[:at] + more + text[at + draw(st.integers(0, 1)) :]


_MORE = ("", "{", "}", "[", ",", ":", '"', "\n", "\x00", "\\", "é", "1", "NaN")


@given(body=nearly_objects() | json_objects().map(bytes.decode))
@settings(max_examples=500)
def test_a_large_body_is_read_as_a_small_one(body):
    def verdict(read):
        try:
            value = read(body.encode())
        except ValueError as error:
            return str(error)
        return list(value), result_of(value), is_legacy(value, "request")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_LARGE", 1)
        outlined = verdict(outline)
    assert outlined == verdict(parse_object)


@given(body=json_objects())
def test_every_json_object_is_one(body):
    assert list(parse_object(body)) == list(json.loads(body))


# --- parse and format are inverse --------------------------------------------


@given(version=st.none() | labels, value=st.binary(min_size=1, max_size=300))
def test_parsing_a_written_field_gives_it_back(version, value):
    for kind in (SignatureField, EncryptField):
        field = kind(version, value)
        assert kind.parse(field.format()) == field


@given(version=st.none() | labels, value=st.binary(min_size=1, max_size=300))
def test_a_written_field_is_the_one_the_rule_has(version, value):
    assert SignatureField(version, value).format() == (
        peer.signature_header(value, version)
    )
    assert EncryptField(version, value).format() == peer.encrypt_header(value, version)


@st.composite
def spellings(draw, text):
    """One of the accepted ways to write this base64."""
    if draw(st.booleans()):
        text = text.replace("+", "-").replace("/", "_")
    if draw(st.booleans()):
        text = text.rstrip("=")
    escape = {
        "all": lambda sign: quote(sign, safe=""),
        "none": lambda sign: sign,
        "lower": lambda sign: quote(sign, safe="").lower() if sign in "+/=" else sign,
        "every": lambda sign: f"%{ord(sign):02X}",
    }[draw(st.sampled_from(["all", "none", "lower", "every"]))]
    text = "".join(escape(sign) for sign in text)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from([" ", "\t", "\r\n", "\n"])) + text[at:]
    return text


@given(value=st.binary(max_size=300), data=st.data())
def test_a_value_is_read_back_in_every_accepted_spelling(value, data):
    text = data.draw(spellings(base64.b64encode(value).decode()))
    assert decode_value(text) == value


@given(value=st.binary(max_size=300))
def test_a_written_value_is_read_back(value):
    assert decode_value(encode_value(value)) == value


@given(text=st.text("ABCDwxyz0189+/-_=%2F ", max_size=24))
@settings(max_examples=300)
def test_what_is_read_as_base64_is_what_the_standard_library_reads(text):
    """Nothing is guessed: only the spelling differs."""
    try:
        value = decode_base64(text)
    except ValueError:
        return
    bare = text.replace(" ", "").rstrip("=").translate(str.maketrans("-_", "+/"))
    assert base64.b64encode(value).decode().rstrip("=") == bare


@given(value=st.binary(max_size=300), data=st.data())
@settings(max_examples=500)
def test_the_short_way_reads_the_one_text_that_base64_writes_and_no_other(value, data):
    """Whatever was done to it. Another library writes and reads here."""
    text = base64.b64encode(value)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(text)))
        more = data.draw(st.sampled_from([b"", b"=", b"A", b"/", b"\n", b" ", b"\xe9"]))
        text = text[:at] + more + text[at + data.draw(st.integers(0, 2)) :]
    for spelled in (text, text.decode("latin-1")):
        try:
            read = binascii.a2b_base64(spelled, strict_mode=True)
        except ValueError:
            read = None
        if read is not None and base64.b64encode(read) != text:
            read = None
        assert encoding._canonical(spelled) == read


@given(body=st.binary(max_size=600), key=st.binary(min_size=32, max_size=32))
def test_a_body_is_sealed_as_the_rule_has_it_and_opened_again(body, key):
    sealed = encryption._encrypt_body(key, body)
    assert sealed == peer.seal(body, key)
    assert encryption._decrypt_body(key, sealed) == body


zones = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
moments = st.datetimes(
    min_value=datetime(1900, 1, 1), max_value=datetime(2999, 1, 1), timezones=zones
)


@given(moment=moments, zone=zones)
def test_a_written_time_is_read_back_to_the_second(moment, zone):
    text = format_time(moment, zone)
    assert parse_time(text) == moment.replace(microsecond=0)
    assert parse_time(text).utcoffset() == zone.utcoffset(None)


@given(moment=moments, digits=st.integers(1, 9), colon=st.booleans())
def test_a_time_with_a_fraction_is_read_to_the_microsecond(moment, digits, colon):
    nanoseconds = f"{moment.microsecond:06d}789"[:digits]
    kept = int(nanoseconds[:6].ljust(6, "0"))
    offset = f"{moment:%z}"
    if colon:
        offset = f"{offset[:3]}:{offset[3:]}"
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds}{offset}"
    assert parse_time(text) == moment.replace(microsecond=kept)


@given(milliseconds=st.integers(100_000_000_000, 4_102_444_800_000))
def test_epoch_milliseconds_are_read_exactly(milliseconds):
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = epoch + timedelta(milliseconds=milliseconds)
    assert parse_time(str(milliseconds)) == expected


# --- there and back ----------------------------------------------------------


@given(body=json_objects(), answer=json_objects(), keys=st.binary(min_size=64))
def test_encrypted_there_and_back_is_the_identity(
    *, body, answer, keys, partner_key, partner_public, platform_key, platform_public
):
    """Byte for byte, both ways, through every stage."""
    draft = draft_request(
        target=peer.TARGET, client_id=peer.CLIENT_ID, time=peer.TIME, body=body
    )
    draft = encrypt(draft, keys[:32], platform_public)
    sent = attach_signature(
        draft, sign(partner_key, signature_base(draft)), key_version="1"
    )

    call = verify_request(
        ReceivedRequest("POST", sent.target, sent.headers, sent.body),
        keys=[partner_public],
    )
    assert isinstance(call, VerifiedRequest)
    content_key = unwrap(platform_key, read_encryption(call).wrapped_key)
    assert content_key == keys[:32]
    assert decrypt(call, content_key) == body

    reply = draft_response(call, time=peer.TIME, body=answer)
    reply = encrypt(reply, keys[32:64], partner_public)
    replied = attach_signature(
        reply, sign(platform_key, signature_base(reply)), key_version="1"
    )
    received = ReceivedResponse(200, replied.headers, replied.body)
    verified = judge_response(received, platform_public, sent)
    content_key = unwrap(partner_key, read_encryption(verified).wrapped_key)
    assert decrypt(verified, content_key) == answer


@given(body=json_objects(), right=st.binary(min_size=32, max_size=32), data=st.data())
def test_decrypting_with_another_content_key_is_the_one_error(
    body, right, data, platform_key, platform_public
):
    size = data.draw(st.sampled_from([16, 24, 32]))
    wrong = data.draw(st.binary(min_size=size, max_size=size))
    assume(wrong != right)
    received = peer.answer(platform_key, peer.seal(body, right), encrypt="x")
    message = judge_response(received, platform_public)
    with pytest.raises(DecryptionFailed):
        decrypt(message, wrong)


@given(body=json_objects())
def test_unwrapping_with_another_private_key_is_the_one_error(
    body, partner_public, platform_key, platform_public, other_key
):
    received = peer.sealed_answer(platform_key, partner_public.rsa, body)
    message = judge_response(received, platform_public)
    with pytest.raises(DecryptionFailed):
        decrypt(message, unwrap(other_key, read_encryption(message).wrapped_key))


@given(body=json_objects(), place=st.integers(0, 1 << 16))
def test_a_flipped_bit_of_the_encrypt_header_gives_the_answer_or_the_one_error(
    *, body, place, partner_key, partner_public, platform_key, platform_public
):
    """No signature covers that header: it may break an answer, never change it."""
    received = peer.sealed_answer(platform_key, partner_public.rsa, body)
    text = dict(received.headers)["Encrypt"]
    bit = place % (len(text) * 8)  # wrapping is random, and so is the length
    headers = peer.with_header(received.headers, "Encrypt", flip_text(text, bit))
    received = ReceivedResponse(200, headers, received.body)

    def read():
        message = judge_response(received, platform_public)
        wrapped = read_encryption(message).wrapped_key
        return decrypt(message, unwrap(partner_key, wrapped))

    given = outcome_of(read)
    assert isinstance(given, ExchangeError) or given == body


# --- quick ways read what the long ones read ---------------------------------------


def outcome(read, text):
    """Give what is read of a text, or how it is refused."""
    try:
        return read(text)
    except ValueError as error:
        return type(error)


base64_like = st.one_of(
    st.binary(max_size=40).map(encode_value),
    st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()),
    st.binary(max_size=40).map(lambda data: base64.urlsafe_b64encode(data).decode()),
    st.lists(
        st.sampled_from(
            [
                *("A", "b", "9", "+", "/", "-", "_", "=", "%2B", "%2b", "%2F", "%3D"),
                *("%3d", "%252B", "%41", "%20", "%", "2B", " ", "\n", "\xe9", "\ud800"),
            ]
        ),
        max_size=12,
    ).map("".join),
    anything,
)


@given(base64_like)
@example("QQ==")
@example("QR==")  # an unused bit that is not zero
@example("%51Q==")
@example("QQ%3D=")
def test_base64_is_the_same_by_the_quick_way_and_by_the_long_one(text):
    """White space is dropped, and shuts the quick way."""
    assert outcome(decode_base64, text) == outcome(decode_base64, f" {text}")
    assert outcome(decode_value, text) == outcome(decode_value, f"\t{text}")


headers = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *("algorithm=RSA256", "algorithm=rsa256 ", "algorithm=ECC224"),
                *(
                    "algorithm",
                    "keyVersion=1",
                    "keyVersion=",
                    "keyVersion=2=3",
                    "",
                    " ",
                ),
                *(
                    "xsignature=QQ==",
                    "signature",
                    "symmetricKey=QQ%3D%3D",
                    "x=signature=",
                ),
                *("signature=signature=QQ==", "signature=QQ==,signature=QQ=="),
            ]
        ),
        base64_like.map("signature={}".format),
        base64_like.map(" signature={}".format),
        anything,
    ),
    max_size=5,
).map(",".join)


@given(headers)
@example("algorithm=RSA256,keyVersion=1,signature=QQ%3D%3D")
@example("signature=QQ==,algorithm=RSA256,signature=QQ")
@example("signature=QQ%3D%3D")
def test_a_header_is_the_same_by_the_quick_way_and_by_the_long_one(text):
    """A space before a key means nothing, and shuts the quick way."""
    apart = text.replace(",signature=", ", signature=")
    assert outcome(SignatureField.parse, text) == outcome(SignatureField.parse, apart)


@given(
    st.sampled_from(["", " ", "\n", "\ufeff", "\x00"]),
    st.one_of(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | ascii_text,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(ascii_text, inner, max_size=3)
            ),
        ).map(json.dumps),
        st.sampled_from(
            ['{"a":1,"a":2}', "{}{}", '{"a":NaN}', "{", "", "[1]", '{"a":01}']
        ),
    ),
    st.sampled_from(["", " ", "\r\n", "x", "{}"]),
)
def test_json_is_the_same_with_white_space_about_it_and_without(before, text, behind):
    """White space shuts the quick way; and what is no JSON is none by either."""
    body = (before + text + behind).encode()
    quick, long = (outcome(parse_object, each) for each in (body, b" " + body))
    assert (quick, type(quick)) == (long, type(long))
