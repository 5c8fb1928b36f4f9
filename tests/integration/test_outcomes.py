"""Whether an exchange was sent is told from what was written, on real sockets.

What is told of every combination of attempts is in `tests/unit/relay/test_outcome.py`.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway.errors import KeyUnavailable
from gateway.keys.backends.pem import FileKey
from tests.integration.conftest import House, running, write_config, write_ring
from tests.integration.test_canary import LONG_AGO, Stage
from tests.integration.wallet import Reply, Wallet

REFUSAL = b'{"resultInfo":{"resultCode":"INVALID_SIGNATURE","resultStatus":"F"}}'


@pytest.fixture
def run_trial(tmp_path, partner_key, platform_key, other_key):
    """Give a context manager: a gateway whose canary AlipayHK refuses every time."""

    @asynccontextmanager
    async def run(meanwhile, **settings):
        wallet = Wallet(platform_key, partner_key.public_key())

        async def answer(request):
            if "keyVersion=2," not in request.header("Signature"):
                return wallet.success(request)
            await meanwhile(house)
            headers = [("Content-Type", "application/json")]
            return Reply(200, headers, REFUSAL, close=True)

        wallet.answer = answer
        async with wallet.listening():
            house = Stage(tmp_path, None, wallet.port, other_key)
            house.wallet = wallet
            write_ring(house.ring, partner_key, platform_key)
            await house.try_version((100, LONG_AGO))
            write_config(house, **settings)
            async with running(house):
                yield house

    return run


async def nobody_listens(house):
    house.wallet.server.close()


async def the_key_is_gone(house):
    async def gone(*_):
        raise KeyUnavailable("its token is gone")

    house.monkeypatch.setattr(FileKey, "sign", gone)


MEANWHILE = [nobody_listens, the_key_is_gone]


@pytest.mark.parametrize("meanwhile", MEANWHILE)
async def test_a_refused_canary_whose_repeat_is_not_sent_is_the_refusal(
    run_trial, monkeypatch, meanwhile
):
    async with run_trial(meanwhile) as house:
        house.monkeypatch = monkeypatch
        got = await house.caller.post()
        assert got.header("Gateway-Verified") == "false"
        assert (got.status, got.body) == (200, REFUSAL)
        assert len(house.wallet.arrived) == 1
        (line,) = house.exchanges
        assert (line["code"], line["result_code"]) == ("refused", "INVALID_SIGNATURE")


async def test_a_refused_canary_before_an_open_breaker_is_the_refusal(run_trial):
    """One attempt more, of another caller, opened it meanwhile."""

    async def meanwhile(house):
        if len(house.wallet.arrived) == 1:
            house.wallet.server.close()
            got = await house.caller.post()
            assert got.code == "upstream_unavailable"

    breaker = {"failures": 1, "open_s": 60}
    async with run_trial(meanwhile, client={"breaker": breaker}) as house:
        got = await house.caller.post()
        assert house.events("breaker_open")
        assert got.header("Gateway-Verified") == "false"
        assert got.body == REFUSAL
        assert len(house.wallet.arrived) == 1


async def test_what_the_end_cuts_off_before_a_byte_went_out_was_not_sent(
    tmp_path, partner_key, platform_key
):
    """It was still shaking hands: no TLS comes from over there."""
    waiting = asyncio.Event()

    async def accept(_, writer):
        waiting.set()
        writers.append(writer)

    writers = []
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    house = House(tmp_path, server)
    house.wallet = Wallet(platform_key, partner_key.public_key())
    house.wallet.port = server.sockets[0].getsockname()[1]
    write_ring(house.ring, partner_key, platform_key)
    write_config(house, scheme="https")
    async with running(house):
        call = asyncio.create_task(house.caller.post())
        await waiting.wait()
        house.gateway.stop()
        house.gateway.stop()
        await house.seen(lambda: house.events("stopped"), "it goes on")
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await call
    server.close()
    for writer in writers:
        writer.close()
    (line,) = house.exchanges
    assert (line["code"], line["outcome"]) == ("internal_error", "not_sent")
