"""Headers that public documentation prints: for the grammar alone."""

import json
from pathlib import Path

import pytest

from gateway.protocol import EncryptField, FieldError, SignatureField, parse_time

ITEMS = {
    item["name"]: item
    for item in json.loads(
        Path(__file__).with_name("published_headers.json").read_text("utf-8")
    )["items"]
}


def test_no_published_header_is_missing():
    assert list(ITEMS) == [
        "alipayhk_header_sample_wrapped",
        "antom_request_sample",
        "antom_response_sample",
        "alipayhk_encrypt_sample",
        "legacy_style_headers",
    ]


@pytest.mark.parametrize(
    ("name", "first", "last"),  # by Python's own urllib and base64
    [
        ("alipayhk_header_sample_wrapped", "284857b6", "233985f3"),
        ("antom_request_sample", "4950af05", "a13647e5"),
        ("antom_response_sample", "7758ddc0", "fc75f3c9"),
    ],
)
@pytest.mark.parametrize("separator", [",", ", "])
def test_a_published_signature_is_256_bytes(name, first, last, separator):
    text = separator.join(part.strip() for part in ITEMS[name]["header"].split(","))
    field = SignatureField.parse(text)
    assert field.key_version == "1"
    assert len(field.signature) == 256
    assert field.signature[:4].hex() == first
    assert field.signature[-4:].hex() == last


def test_white_space_pasted_into_a_value_is_dropped_even_within_an_escape():
    text = ITEMS["alipayhk_header_sample_wrapped"]["header"]
    assert "% 2F" in text
    mended = text.replace(" ", "")
    assert SignatureField.parse(text) == SignatureField.parse(mended)
    assert SignatureField.parse(text).format() == mended


@pytest.mark.parametrize("name", ["antom_request_sample", "antom_response_sample"])
def test_a_published_signature_is_written_as_it_was_printed(name):
    text = ITEMS[name]["header"]
    assert SignatureField.parse(text).format() == text.replace(", ", ",")


def test_the_published_wrapped_key_is_read_though_it_can_be_none():
    field = EncryptField.parse(ITEMS["alipayhk_encrypt_sample"]["header"])
    assert field.key_version == "1"
    assert len(field.wrapped_key) == 24


def test_the_headers_of_the_legacy_form_are_refused():
    item = ITEMS["legacy_style_headers"]
    with pytest.raises(FieldError, match="another algorithm"):
        SignatureField.parse(item["signature"])
    with pytest.raises(FieldError, match="another algorithm"):
        EncryptField.parse(item["encrypt"])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("antom_request_sample", "request_time"),
        ("antom_response_sample", "response_time"),
        ("legacy_style_headers", "request_time"),
    ],
)
def test_the_published_times_are_read(name, key):
    assert parse_time(ITEMS[name][key]).tzinfo is not None
