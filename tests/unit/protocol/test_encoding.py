"""Base64 on the wire: written one way, read in every way seen."""

import base64
import binascii
import string
from itertools import product
from urllib.parse import quote

import pytest

from gateway.protocol.encoding import (
    _canonical,
    decode_base64,
    decode_value,
    encode_value,
)

# 0xfbeffe is "++/+" in the standard alphabet and "--_-" in the URL-safe one.
VALUE = b"\xfb\xef\xfe"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (VALUE, "%2B%2B%2F%2B"),
        (VALUE + b"\x00", "%2B%2B%2F%2BAA%3D%3D"),
        (VALUE + b"\x00\x00", "%2B%2B%2F%2BAAA%3D"),
        (b"", ""),
    ],
)
def test_a_value_is_written_as_percent_encoded_standard_base64(value, text):
    assert encode_value(value) == text


@pytest.mark.parametrize("length", [0, 1, 2, 3, 255, 256, 257])
def test_a_value_is_written_as_the_standard_library_writes_it(length):
    value = bytes(range(256)) * 2
    expected = quote(base64.b64encode(value[:length]), safe="")
    assert encode_value(value[:length]) == expected


@pytest.mark.parametrize(
    "text",
    [
        "%2B%2B%2F%2BAA%3D%3D",
        "%2b%2b%2f%2bAA%3d%3d",
        "%2B%2B%2F%2BAA==",
        "++/+AA==",
        "--_-AA==",
        "-+_+AA",
        "--_-AA",
        "++/+AA",
        "++/+AA=",
        "%2B+/+AA==",
        " ++/ +AA\t==\r\n",
        "%2B%2B% 2F%2BAA%3 D%3D",
        "%2B%2B%2F%2B%0D%0AAA%3D%3D",
        "%2B%2B%2F%2B%41%41%3D%3D",
    ],
)
def test_a_value_is_read_in_every_form_seen(text):
    assert decode_value(text) == VALUE + b"\x00"


@pytest.mark.parametrize("last", string.ascii_letters + string.digits + "+/")
def test_base64_may_end_in_any_letter(last):
    assert decode_base64(f"AAA{last}") == base64.b64decode(f"AAA{last}")


def test_a_plus_is_never_read_as_a_space():
    assert decode_value("+AAA%2FAAA") == base64.b64decode("+AAA/AAA")


def test_percent_decoding_happens_only_once():
    with pytest.raises(ValueError):
        decode_value("%252B%252B%252F%252B")


def test_bare_base64_is_not_percent_decoded():
    with pytest.raises(ValueError):
        decode_base64("%2B%2B%2F%2B")


@pytest.mark.parametrize("text", ["++/+AA", "++/\n+AA==\n", "--_-AA==", "\t++/+AA = ="])
def test_base64_is_read_with_either_alphabet_and_any_white_space(text):
    assert decode_base64(text) == VALUE + b"\x00"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("A", id="one character holds no byte"),
        pytest.param("AAAAA", id="five characters hold no whole bytes"),
        pytest.param("AB==", id="unused bits are set"),
        pytest.param("AAB=", id="unused bits are set, two bytes"),
        pytest.param("AB", id="unused bits are set, no padding"),
        pytest.param("AA==AA==", id="padding in the middle"),
        pytest.param("A=AA", id="padding inside a group"),
        pytest.param("=AAA", id="padding first"),
        pytest.param("AA===", id="three padding characters"),
        pytest.param("AA.A", id="another alphabet"),
        pytest.param("AA\x00A", id="NUL"),
        pytest.param("AA\x0bA", id="vertical tab"),
        pytest.param("AA\u00a0A", id="no-break space"),
        pytest.param("AA\u2003A", id="em space"),
        pytest.param("\uff21AAA", id="full-width letter"),
        pytest.param("\udc80AAA", id="lone surrogate"),
    ],
)
@pytest.mark.parametrize("read", [decode_base64, decode_value])
def test_what_is_not_base64_is_an_error(read, text):
    with pytest.raises(ValueError):
        read(text)


@pytest.mark.parametrize(
    "text", ["%", "AAA%", "%4", "%GGAA", "%FFAA", "%00AAA", "%%41"]
)
def test_a_broken_escape_is_an_error(text):
    with pytest.raises(ValueError):
        decode_value(text)


@pytest.mark.parametrize("read", [decode_base64, decode_value])
@pytest.mark.parametrize("text", ["", " ", "\r\n"])
def test_no_text_is_no_bytes(read, text):
    assert read(text) == b""


@pytest.mark.parametrize("ahead", [0, 4, 28, 60, 64, 124, 128, 1020])
def test_every_ending_is_judged_as_by_another_library(ahead):
    """Behind as much as is read at once, too: the library takes 16 to 64 at a time."""
    start = "+/A9" * (ahead // 4)
    for ending in product("AQgw4/-=\n", repeat=4):
        text = start + "".join(ending)
        try:
            value = binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            value = None
        if value is not None and base64.b64encode(value).decode() != text:
            value = None
        assert _canonical(text) == _canonical(text.encode()) == value
