"""What a position-reading receiver would stumble over is remarked on, not refused."""

import json
from dataclasses import replace

import pytest

from tests import peer

BODY = json.dumps(
    {"requestId": "1", "contentId": "C", "contentType": "SKU", "contentStatus": 1}
).encode()


@pytest.fixture
def request_(partner_key):
    return peer.call(partner_key, BODY)


def remarks(alipayhk, request):
    record = alipayhk.exchange(request).record
    assert record.signed, "it was refused"
    return record.remarks


def test_a_request_as_it_should_be_gets_no_remark(
    alipayhk, partner_key, platform_key, request_
):
    sealed = peer.call(
        partner_key,
        peer.seal(BODY),
        encrypt=peer.encrypt_header(peer.wrap(platform_key.public_key())),
    )

    assert remarks(alipayhk, request_) == ()
    assert remarks(alipayhk, sealed) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (",", ", "),
        ("keyVersion=1,", ""),
        ("keyVersion=1", "keyVersion="),
        ("RSA256", "rsa256"),
        ("%3D", "="),
        ("algorithm=RSA256,keyVersion=1,", "keyVersion=1,algorithm=RSA256,"),
    ],
)
def test_a_signature_in_another_form_is_remarked_on(alipayhk, request_, old, new):
    value = dict(request_.headers)["Signature"]
    assert old in value
    headers = peer.with_header(request_.headers, "Signature", value.replace(old, new))

    (remark,) = remarks(alipayhk, replace(request_, headers=headers))

    assert remark.startswith("Signature is not exactly of the form algorithm=RSA256,")


def test_an_encrypt_header_in_another_form_is_remarked_on(
    alipayhk, partner_key, platform_key
):
    header = peer.encrypt_header(peer.wrap(platform_key.public_key()), version=None)
    request = peer.call(partner_key, peer.seal(BODY), encrypt=header)

    (remark,) = remarks(alipayhk, request)

    assert remark.startswith("Encrypt is not exactly of the form")


@pytest.mark.parametrize(
    "value",
    [
        "text/html",
        "application/json",
        "application/xml",
        "application/json; char\u017fet=UTF-8",  # a long s is an s to Unicode alone
    ],
)
def test_another_content_type_is_remarked_on(alipayhk, request_, value):
    headers = peer.with_header(request_.headers, "content-type", value)

    (remark,) = remarks(alipayhk, replace(request_, headers=headers))

    assert remark.startswith("Content-Type is not")


@pytest.mark.parametrize("name", ["Cookie", "authorization", "Gateway-Encrypt"])
def test_a_header_that_should_have_stayed_behind_is_remarked_on(
    alipayhk, request_, name
):
    headers = [*request_.headers, (name, "x")]

    (remark,) = remarks(alipayhk, replace(request_, headers=headers))

    assert name in remark


@pytest.mark.parametrize("time", ["2026-11-23T06:00:00Z", "1795413600000"])
def test_a_time_in_another_form_is_remarked_on(alipayhk, partner_key, time):
    (remark,) = remarks(alipayhk, peer.call(partner_key, BODY, time=time))

    assert remark.startswith("Request-Time is not")


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_clock_that_is_off_is_remarked_on(alipayhk, clock, request_, minutes):
    clock.advance(minutes=minutes)

    (remark,) = remarks(alipayhk, request_)

    assert "five minutes" in remark


def test_a_time_that_cannot_be_read_is_refused(alipayhk, partner_key):
    record = alipayhk.exchange(peer.call(partner_key, BODY, time="noon")).record

    assert not record.signed
    assert record.remarks == (
        "Request-Time is not exactly of the form YYYY-MM-DDTHH:MM:SS+08:00",
    )
