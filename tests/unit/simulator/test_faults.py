"""Every fault of the table does what its row says, to a plain and an encrypted call."""

import json
from datetime import timedelta

import pytest

from gateway import errors
from gateway.errors import ExchangeError
from gateway.protocol import (
    Freshness,
    PublicKey,
    UnsignedRefusal,
    attach_signature,
    decrypt,
    draft_request,
    encrypt,
    parse_time,
    read_encryption,
    read_result,
    sign,
    signature_base,
    unwrap,
    verify_response,
)
from gateway.simulator.answers import Delivery
from gateway.simulator.faults import FAULTS, UnknownFault, fault_named
from gateway.simulator.selection import StandingOrder
from tests import peer

CODES = {
    each.code
    for each in vars(errors).values()
    if isinstance(each, type)
    and issubclass(each, ExchangeError)
    and hasattr(each, "code")
} | {"verified", "refused"}


class Partner:
    """Sends a request that is right in every way, and judges the answer."""

    def __init__(self, alipayhk, key, platform):
        self.alipayhk = alipayhk
        self.key = key
        self.platform = platform
        self.sent = 0

    async def call(self, *, encrypted=False, target=peer.TARGET, **members):
        """Give the answer's verdict, in the words of the table, and its body."""
        request = self._request(encrypted, target, members)
        try:
            received = await self.alipayhk.send(
                request, timeout_s=10, on_write=lambda: None
            )
            response = verify_response(
                received, request=request, keys=[self.platform], freshness=peer.FRESH
            )
            if isinstance(response, UnsignedRefusal):
                return "refused", response.body
            return "verified", self._plain(response)
        except ExchangeError as error:
            return error.code, b""

    def _plain(self, response):
        if response.encrypt is None:
            return response.body
        wrapped_key = read_encryption(response).wrapped_key
        return decrypt(response, unwrap(self.key, wrapped_key))

    def _request(self, encrypted, target, members):
        self.sent += 1
        value = {
            "requestId": f"{self.sent:032}",
            "contentId": "C001",
            "contentType": "SKU",
            "contentStatus": 1,
        }
        draft = draft_request(
            target=target,
            client_id=peer.CLIENT_ID,
            time=peer.TIME,
            body=json.dumps(value | members).encode(),
        )
        if encrypted:
            draft = encrypt(draft, peer.CONTENT_KEY, self.platform)
        signature = sign(self.key, signature_base(draft))
        return attach_signature(draft, signature, key_version="1")


@pytest.fixture
def partner(alipayhk, partner_key, platform_public):
    return Partner(alipayhk, partner_key, platform_public)


def expected(fault, *, encrypted):
    return (encrypted and fault.expect_encrypted) or fault.expect


def order(alipayhk, name, count=None):
    alipayhk.standing = StandingOrder(fault_named(name), count)


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_right_reader_makes_of_each_fault_what_its_row_says(
    partner, alipayhk, fault, encrypted
):
    order(alipayhk, fault.name)

    code, _ = await partner.call(encrypted=encrypted)

    assert code == expected(fault, encrypted=encrypted)
    assert alipayhk.records[-1].fault == fault.name


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_each_row_is_one_line_and_names_a_code_that_exists(fault):
    assert "\n" not in fault.description
    assert len(fault.description) < 80
    assert fault.expect in CODES
    assert fault.expect_encrypted in CODES | {""}


def test_each_way_of_delivery_is_some_faults():
    assert {fault.delivery for fault in FAULTS.values()} == set(Delivery)


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("content_risky", ("CONTENT_RISKY", "F")),
        ("unknown_exception", ("UNKNOWN_EXCEPTION", "F")),
        ("param_illegal", ("PARAM_ILLEGAL", "F")),
        ("unsigned_refusal", ("INVALID_SIGNATURE", "F")),
        ("unsigned_unknown", ("UNKNOWN_EXCEPTION", "U")),
        ("encrypted_refused_plainly", ("PARAM_ILLEGAL", "F")),
        ("no_key_version", ("SUCCESS", "S")),
        ("reordered_signature", ("SUCCESS", "S")),
        ("time_in_milliseconds", ("SUCCESS", "S")),
        ("lower_case_headers", ("SUCCESS", "S")),
    ],
)
async def test_a_fault_that_is_no_error_gives_its_result(
    partner, alipayhk, name, result, encrypted
):
    order(alipayhk, name)

    _, body = await partner.call(encrypted=encrypted)

    found = read_result(body)
    assert (found.code, found.status) == result


def answer_with(alipayhk, partner_key, name, body=b"{}"):
    order(alipayhk, name)
    return alipayhk.respond(peer.call(partner_key, body))


@pytest.mark.parametrize(
    ("fault", "header"),
    [
        ("repeated_signature", "Signature"),
        ("repeated_response_time", "Response-Time"),
        ("repeated_client_id", "Client-Id"),
        ("repeated_encrypt", "Encrypt"),
    ],
)
def test_a_repeated_header_occurs_exactly_twice(alipayhk, partner_key, fault, header):
    response = answer_with(alipayhk, partner_key, fault)

    names = [name for name, _ in response.headers]
    assert names.count(header) == 2
    assert len(names) == len(set(names)) + 1


@pytest.mark.parametrize(("name", "hours"), [("clock_ahead", 1), ("clock_behind", -1)])
async def test_a_clock_that_is_off_is_off_by_an_hour_and_signed(
    partner, alipayhk, monkeypatch, name, hours
):
    offset = timedelta(hours=hours)
    monkeypatch.setattr(peer, "FRESH", Freshness(peer.NOW + offset, timedelta(0)))
    order(alipayhk, name)

    code, _ = await partner.call()

    assert code == "verified"


def test_a_time_in_milliseconds_is_the_same_moment(alipayhk, partner_key):
    response = answer_with(alipayhk, partner_key, "time_in_milliseconds")

    text = dict(response.headers)["Response-Time"]
    assert text.isdigit()
    assert parse_time(text) == peer.NOW


def test_a_huge_answer_is_still_one_that_is_signed(
    alipayhk, partner_key, platform_public
):
    response = answer_with(alipayhk, partner_key, "huge")

    base = peer.signature_base(time=peer.TIME, body=response.body)
    header = dict(response.headers)["Signature"]
    assert len(response.body) > 8 << 20
    assert header == peer.signature_header(
        peer.rsa256(alipayhk.registry._keys["1"], base)
    )
    assert PublicKey("1", platform_public.rsa).size_bytes == 256


async def test_a_lost_answer_was_acted_on(partner, alipayhk):
    """A caller who repeats it with the same requestId gets the answer it missed."""
    order(alipayhk, "reset_before", count=1)

    codes = [(await partner.call(requestId="1"))[0] for _ in range(2)]

    assert codes == ["upstream_disconnected", "verified"]
    assert [record.repeated for record in alipayhk.records] == [False, True]


async def test_after_an_unknown_exception_the_same_request_may_succeed(
    partner, alipayhk
):
    order(alipayhk, "unknown_exception", count=1)

    bodies = [(await partner.call(requestId="1"))[1] for _ in range(2)]

    assert [read_result(body).code for body in bodies] == [
        "UNKNOWN_EXCEPTION",
        "SUCCESS",
    ]


async def test_what_was_risky_stays_risky(partner, alipayhk):
    order(alipayhk, "content_risky", count=1)

    bodies = [(await partner.call(requestId="1"))[1] for _ in range(2)]

    assert {read_result(body).code for body in bodies} == {"CONTENT_RISKY"}


async def test_an_ordered_result_does_not_replace_the_one_a_request_has(
    partner, alipayhk
):
    await partner.call(requestId="1")
    order(alipayhk, "content_risky", count=1)
    await partner.call(requestId="1")

    _, body = await partner.call(requestId="1")

    assert read_result(body).code == "SUCCESS"


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_fault_is_chosen_by_the_content_id(partner, encrypted):
    code, _ = await partner.call(
        encrypted=encrypted, contentId="simulate:bad_signature"
    )

    assert code == "signature_invalid"


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_fault_is_chosen_by_the_query(partner, encrypted):
    code, _ = await partner.call(
        encrypted=encrypted, target=f"{peer.TARGET}?a=b&simulate=bad_signature"
    )

    assert code == "signature_invalid"


async def test_the_query_comes_before_the_content_id_and_that_before_the_order(
    partner, alipayhk
):
    order(alipayhk, "missing_client_id", count=1)

    by_query = await partner.call(
        target=f"{peer.TARGET}?simulate=bad_signature", contentId="simulate:clock_ahead"
    )
    by_content_id = await partner.call(contentId="simulate:clock_ahead")
    by_order = await partner.call()
    by_nothing = await partner.call()

    assert [code for code, _ in (by_query, by_content_id, by_order, by_nothing)] == [
        "signature_invalid",
        "response_stale",
        "client_id_mismatch",
        "verified",
    ]


async def test_an_order_without_a_count_stands_until_it_is_cleared(partner, alipayhk):
    order(alipayhk, "bad_signature")
    assert {(await partner.call())[0] for _ in range(3)} == {"signature_invalid"}

    alipayhk.standing = StandingOrder()

    assert (await partner.call())[0] == "verified"


async def test_a_request_can_ask_to_be_spared(partner, alipayhk):
    order(alipayhk, "bad_signature")

    code, _ = await partner.call(contentId="simulate:none")

    assert code == "verified"


async def test_a_fault_that_does_not_exist_is_refused_with_a_suggestion(partner):
    code, body = await partner.call(contentId="simulate:bad_signatur")

    assert code == "verified"
    assert read_result(body).code == "PARAM_ILLEGAL"
    assert b"did you mean bad_signature?" in body


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(UnknownFault, match="lists them"):
        fault_named("xyzzy")


def test_a_request_that_does_not_verify_gets_no_fault(alipayhk, other_key):
    order(alipayhk, "no_signature", count=1)

    record = alipayhk.exchange(peer.call(other_key, b"{}")).record

    assert record.fault == "none"
    assert alipayhk.standing.left == 1
