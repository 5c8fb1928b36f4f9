"""Bodies as far as the gateway looks into them."""

import sys
import tracemalloc

import pytest

from gateway.errors import InvalidRequest
from gateway.protocol import Result, check_request_body, read_result, results
from gateway.protocol.results import outline, parse_object

DEEP = 100_000

NOT_AN_OBJECT = [
    pytest.param(b"", id="nothing"),
    pytest.param(b" ", id="a space"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="an array"),
    pytest.param(b'[{"a":1}]', id="an object in an array"),
    pytest.param(b'"{}"', id="an object in a string"),
    pytest.param(b"1", id="a number"),
    pytest.param(b"true", id="true"),
    pytest.param(b"{", id="half an object"),
    pytest.param(b"{}{}", id="two objects"),
    pytest.param(b"{} x", id="text after the object"),
    pytest.param(b"{}\x00", id="NUL after the object"),
    pytest.param(b"{}\x0c", id="a form feed after the object"),
    pytest.param(b'{"a":1,}', id="a comma too many"),
    pytest.param(b'{"a":1;"b":2}', id="no comma"),
    pytest.param(b'{"a":1 "b":2}', id="a space for a comma"),
    pytest.param(b'{"a"=1}', id="no colon"),
    pytest.param(b"{'a':1}", id="single quotes"),
    pytest.param(b"{a:1}", id="no quotes"),
    pytest.param(b'{1:"a"}', id="a number as key"),
    pytest.param(b'{"a":01}', id="a leading nought"),
    pytest.param(b'{"a":.5}', id="no digit before the point"),
    pytest.param(b'{"a":0x10}', id="hexadecimal"),
    pytest.param(b'{"a":NaN}', id="NaN"),
    pytest.param(b'{"a":Infinity}', id="Infinity"),
    pytest.param(b'{"a":-Infinity}', id="minus Infinity"),
    pytest.param(b'{"a":"\x01"}', id="a bare control character"),
    pytest.param(b'{"a":"\n"}', id="a bare newline"),
    pytest.param(b'{"a":"\\x41"}', id="no such escape"),
    pytest.param(b'{/*c*/"a":1}', id="a comment"),
    pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
    pytest.param("{}".encode("utf-16"), id="UTF-16"),
    pytest.param("{}".encode("utf-32-le"), id="UTF-32"),
    pytest.param(b'{"a":"\xff"}', id="not UTF-8"),
    pytest.param(b'{"a":"\xc0\xaf"}', id="an overlong form"),
    pytest.param(b'{"a":"\xed\xa0\x80"}', id="a surrogate in UTF-8"),
    pytest.param('{"a":"é"}'.encode("latin-1"), id="Latin-1"),
    pytest.param(b"<html>502 Bad Gateway</html>", id="HTML"),
    pytest.param(b'{"a":' * DEEP, id="a deep object, not closed"),
    pytest.param(b'{"a":' * DEEP + b"1" + b"}" * DEEP, id="a deep object"),
    pytest.param(b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}", id="deep arrays"),
]


@pytest.fixture(autouse=True, params=["small", "large"])
def size(request, monkeypatch):
    """Read every body as a large one is read, too."""
    if request.param == "large":
        monkeypatch.setattr(results, "_LARGE", 1)


@pytest.mark.parametrize("read", [parse_object, outline])
@pytest.mark.parametrize("body", NOT_AN_OBJECT)
def test_what_is_no_json_object_is_an_error(body, read):
    with pytest.raises(ValueError):
        read(body)


@pytest.mark.parametrize("body", NOT_AN_OBJECT)
def test_a_request_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(InvalidRequest, match=r"^The body must be a JSON object: it is"):
        check_request_body(body)


@pytest.mark.parametrize("body", NOT_AN_OBJECT)
def test_a_body_that_is_no_json_object_has_no_result(body):
    assert read_result(body) is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a":"\xff"}', "it is not UTF-8"),
        (b'{"a":1,\n"b"}', "it is not JSON (line 2, column 4)"),
        (b'{"a":NaN}', "it is not JSON (line 1, column 1)"),
        (b"[]", "it is JSON, but not an object"),
        (b"[" * DEEP, "it is nested too deeply"),
    ],
)
@pytest.mark.parametrize("read", [parse_object, outline])
def test_the_error_says_what_is_wrong(body, said, read):
    with pytest.raises(ValueError) as caught:
        read(body)
    assert str(caught.value) == said


def test_the_error_never_quotes_the_body():
    for body in (b'{"CANARY":}', b"CANARY", b'{"a":"CANARY', b'["CANARY"]'):
        with pytest.raises(InvalidRequest) as caught:
            check_request_body(body)
        assert "CANARY" not in caught.value.detail
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_numbers_are_left_as_text_however_long():
    digits = b"9" * (sys.get_int_max_str_digits() + 1)
    body = b'{"int":' + digits + b',"float":1e999999,"small":-0.10}'
    assert parse_object(body) == {
        "int": digits.decode(),
        "float": "1e999999",
        "small": "-0.10",
    }


def test_an_object_may_hold_anything_that_json_allows():
    body = ' \t\r\n{"a":{"b":[1,{"c":null}]},"":"\\ud800","香港":"\\u0000\U0001f600"}\n'
    assert parse_object(body.encode()) == {
        "a": {"b": ["1", {"c": None}]},
        "": "\ud800",
        "香港": "\x00\U0001f600",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"requestId":"1","contentStatus":1}',
        b'{"signature":"x","request":"a text of the API"}',
        b'{"signature":"x","request":{"goods":1}}',
        b'{"signature":"x","request":["head","body"]}',
        b'{"request":{"head":{},"body":{}}}',
        b'{"head":{},"body":{},"signature":"x"}',
        b'{"data":{"request":{"head":{}},"signature":"x"}}',
    ],
)
def test_a_json_object_passes_as_a_request_body(body):
    check_request_body(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"request":{"head":{"version":"2.0"},"body":{}},"signature":"x"}',
        b'{"signature":null,"request":{"head":{}}}',
        b'{"signature":"","request":{"body":{}}}',
        b'{"request":{"body":{},"head":{},"body":{}},"signature":"x"}',
    ],
)
def test_the_legacy_envelope_is_recognised_and_named(body):
    with pytest.raises(InvalidRequest, match="legacy form"):
        check_request_body(body)


@pytest.mark.parametrize("name", ["resultInfo", "result"])
@pytest.mark.parametrize("status", ["S", "F", "U"])
def test_the_result_is_read_from_either_envelope(name, status):
    body = f'{{"{name}":{{"resultCode":"C","resultStatus":"{status}"}}}}'
    assert read_result(body.encode()) == Result(status, "C")


@pytest.mark.parametrize(
    "body",
    [
        b'{"result":{"resultStatus":"F"}}',
        b'{"other":{"resultStatus":"S"},"result":{"resultStatus":"F"}}',
        b'{"result":{"resultStatus":"F","a":{"x":1,"x":2}},"b":{"y":1,"y":2}}',
    ],
)
def test_a_result_needs_no_code(body):
    assert read_result(body) == Result("F", "")


def test_two_envelopes_that_agree_are_one_result():
    envelope = b'{"resultStatus":"F","resultCode":"C"}'
    body = b'{"resultInfo":' + envelope + b',"result":' + envelope + b"}"
    assert read_result(body) == Result("F", "C")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="no envelope"),
        pytest.param(b'{"resultStatus":"F"}', id="no envelope, a bare status"),
        pytest.param(b'{"data":{"result":{"resultStatus":"F"}}}', id="too deep"),
        pytest.param(b'{"Result":{"resultStatus":"F"}}', id="another case"),
        pytest.param(b'{"result":{}}', id="an empty envelope"),
        pytest.param(b'{"result":{"ResultStatus":"F"}}', id="another case within"),
        pytest.param(b'{"result":null}', id="null"),
        pytest.param(b'{"result":"F"}', id="text"),
        pytest.param(b'{"result":[{"resultStatus":"F"}]}', id="an array"),
        pytest.param(b'{"result":{"resultStatus":null}}', id="a status of null"),
        pytest.param(b'{"result":{"resultStatus":true}}', id="a status of true"),
        pytest.param(b'{"result":{"resultStatus":["F"]}}', id="a status in an array"),
        pytest.param(
            b'{"result":{"resultStatus":"F"},"result":{"resultStatus":"S"}}',
            id="an envelope twice",
        ),
        pytest.param(
            b'{"result":{"resultStatus":"S","resultStatus":"F"}}', id="a status twice"
        ),
        pytest.param(
            b'{"result":{"resultStatus":"F","resultStatus":"F"}}',
            id="the same status twice",
        ),
        pytest.param(
            b'{"result":{"resultStatus":"F","resultStatu\\u0073":"S"}}',
            id="a status twice, once escaped",
        ),
        pytest.param(
            b'{"a":1,"result":{"resultStatus":"F"},"a":2}', id="another key twice"
        ),
        pytest.param(
            b'{"resultInfo":{"resultStatus":"S"},"result":{"resultStatus":"F"}}',
            id="two envelopes that disagree",
        ),
        pytest.param(
            b'{"resultInfo":{"resultStatus":"F"},"result":null}',
            id="two envelopes, one of them unreadable",
        ),
        pytest.param(
            b'{"resultInfo":null,"result":{"resultStatus":"F"}}',
            id="two envelopes, the first unreadable",
        ),
    ],
)
def test_where_a_reader_could_be_in_doubt_there_is_no_result(body):
    assert read_result(body) is None


@pytest.mark.parametrize("status", ["f", "F ", "", "Success", "\u0130"])
def test_a_status_is_read_as_it_stands(status):
    body = f'{{"result":{{"resultStatus":"{status}"}}}}'
    assert read_result(body.encode()) == Result(status, "")


@pytest.mark.parametrize(
    "code",
    ["null", '["C"]', '""', '"TWO WORDS"', '"A\\u0000"', '"%s"' % ("X" * 65)],
)
def test_a_code_that_could_be_none_is_left_out_and_the_status_stands(code):
    body = f'{{"result":{{"resultStatus":"F","resultCode":{code}}}}}'.encode()
    assert read_result(body) == Result("F", "")


ITEMS = b'{"goodsId":"G1","price":{"value":1200,"currency":"HKD"}},'


@pytest.mark.parametrize(
    "body",
    [
        b'{"resultInfo":{"resultStatus":"S"},"items":[' + ITEMS * 20_000 + b"1]}",
        b'{"resultInfo":{"resultStatus":"S","items":[' + ITEMS * 20_000 + b"1]}}",
        b'{"resultInfo":{"resultStatus":"S"}' + b',"a":{"b":-1.5e3}' * 1000 + b"}",
        b'{"resultInfo":{"resultStatus":"S"},"text":"' + b"x" * 1_000_000 + b'"}',
    ],
    ids=["objects", "objects in the result", "many keys", "a text"],
)
def test_reading_a_large_body_takes_little_more_memory_than_the_body(body):
    tracemalloc.start()
    try:
        outline(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(body)


@pytest.mark.parametrize("keys", [1023, 1024, 1025, 100_000])
def test_an_object_of_many_keys_is_read_all_the_same(keys):
    more = "".join(f',"{number}":{{}}' for number in range(keys - 1))
    body = f'{{"result":{{"resultStatus":"F","resultCode":"C"}}{more}}}'.encode()
    assert list(outline(body)) == list(parse_object(body))
    assert read_result(body) == Result("F", "C")
    assert read_result(body[:-1] + b',"0":1}') == (
        None if keys > 1 else Result("F", "C")
    )
