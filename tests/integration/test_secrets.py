"""Nothing that the gateway prints, counts or answers shows a body, key or credential."""

import base64
import logging

import pytest

from gateway.keys import formats
from tests import peer
from tests.integration.test_untrusted_answers import UNTRUSTED

CANARY = "canary-7f3a9c"
HEADERS = [
    ("Authorization", f"Bearer {CANARY}"),
    ("Cookie", f"session={CANARY}"),
    ("X-Api-Key", CANARY),
]
BODY = b'{"requestId":"%s","secret":"%s"}' % (CANARY.encode(), CANARY.encode())


@pytest.fixture
def logged(caplog):
    """Everything that any library logs, at its most talkative."""
    caplog.set_level(logging.DEBUG)
    return caplog


def key_material(*keys):
    """Give texts that would give a private key away, in the forms it may take."""
    for key in keys:
        numbers = key.private_numbers()
        yield base64.b64encode(formats.private_pem(key)).decode()[100:140]
        for line in formats.private_pem(key).decode().splitlines()[1:-1]:
            yield line[:40]
        for number in (numbers.d, numbers.p, numbers.q):
            yield str(number)[:40]
            yield f"{number:x}"[:40]


async def exchanges(house):
    """Send the canaries through every kind of end an exchange has."""
    wallet = house.wallet
    secret = b'{"secret":"%s","resultInfo":{"resultStatus":"S"}}' % CANARY.encode()
    yield lambda r: wallet.signed(r, secret), []
    yield lambda r: wallet.encrypted(r, secret), [("Gateway-Encrypt", "true")]
    yield lambda _: b"HTTP/1.1 500 " + CANARY.encode() + b"\r\n\r\n" + secret, []
    yield lambda _: CANARY.encode() * 100, []
    yield lambda _: b"HTTP/1.1 200 OK\r\n" + CANARY.encode() + b"\r\n\r\n", []
    for answer, _ in UNTRUSTED.values():
        yield lambda r, answer=answer: answer(wallet, r), []


async def test_no_output_holds_a_body_a_key_or_a_credential(
    run_house, logged, capfd, partner_key, platform_key
):
    answers = []
    async with run_house(client={"max_response_bytes": 65536}) as house:
        async for answer, headers in exchanges(house):
            house.wallet.answer = answer
            answers.append(await house.caller.post(BODY, headers=[*HEADERS, *headers]))
        for raw in (
            f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\nX {CANARY}\r\n\r\n",
            f"{CANARY}\r\n\r\n",
            f"POST {peer.TARGET}?{CANARY}=% HTTP/1.1\r\nHost: g\r\n\r\n",
            f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\nContent-Length: {CANARY}\r\n\r\n",
        ):
            answers.append(await house.caller.raw(raw.encode()))  # noqa: PERF401
        answers.append(await house.caller.post(b'{"bad":' + CANARY.encode()))
        (house.ring / "partner-1.pem").write_text(f"{CANARY}\n")
        await house.seen(lambda: house.events("keyring_refused"), "not refused")
        pages = [await house.admin_get(page) for page in ("/metrics", "/readyz")]
    problems = [got for got in answers if got.header("Gateway-Verified") is None]
    assert len(problems) > 40
    printed = capfd.readouterr()
    output = "\n".join(
        [
            house.stdout.getvalue(),
            house.stderr.getvalue(),
            printed.out,
            printed.err,
            logged.text,
            *(str(got) for got in (*problems, *pages)),
        ]
    )
    assert "keyring_refused" in output
    assert CANARY not in output
    for text in key_material(partner_key, platform_key):
        assert text not in output
    assert dict(house.wallet.arrived[0].headers)["Signature"][-80:-20] not in output


async def test_a_defect_is_logged_by_its_place_and_answered_without_its_text(
    house, monkeypatch
):
    def fail(*_):
        raise RuntimeError(CANARY)

    monkeypatch.setattr("gateway.relay.exchange.check_request_body", fail)
    got = await house.caller.post()
    assert (got.status, got.code) == (500, "internal_error")
    assert got.problem["outcome"] == "not_sent"
    assert CANARY not in str(got) + house.stdout.getvalue() + house.stderr.getvalue()
    assert house.exchanges[0]["error"].startswith("RuntimeError at test_secrets.py:")


async def test_a_defect_after_sending_leaves_the_outcome_unknown(house, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError(CANARY)

    monkeypatch.setattr("gateway.relay.exchange.verify_response", fail)
    got = await house.caller.post()
    assert (got.code, got.problem["outcome"]) == ("internal_error", "unknown")
    assert len(house.wallet.arrived) == 1
