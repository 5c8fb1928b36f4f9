"""Clocks that jump: the wall clock's word is Response-Time's, and no deadline's."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway.plant import SystemClock
from tests import peer

SKEW = 'gateway_clock_skew_seconds{client="hk"}'


class WallClock:
    """This machine's wall clock, moved."""

    def __init__(self):
        self.moved = timedelta(0)

    def now(self):
        return datetime.now(UTC) + self.moved


@pytest.fixture
def wall_clock(monkeypatch):
    clock = WallClock()
    monkeypatch.setattr(SystemClock, "now", lambda _: clock.now())
    return clock


@pytest.mark.parametrize("jump_s", [301, 3600, -301, -86400 * 365])
async def test_a_clock_that_jumped_refuses_answers_until_it_is_back(
    house, wall_clock, jump_s
):
    assert (await house.caller.post()).status == 200
    wall_clock.moved = timedelta(seconds=jump_s)
    got = await house.caller.post()
    assert (got.status, got.code) == (502, "response_stale")
    assert got.problem["outcome"] == "answered"
    assert await house.metric(SKEW) == pytest.approx(-jump_s, abs=2)
    (warned,) = house.events("clock_skewed")
    assert warned["skew_s"] == pytest.approx(-jump_s, abs=2)
    assert b"check this machine's clock" in (await house.admin_get("/readyz")).body
    wall_clock.moved = timedelta(0)
    assert (await house.caller.post()).header("Gateway-Verified") == "true"
    assert len(house.events("clock_in_step")) == 1
    assert b"clock" not in (await house.admin_get("/readyz")).body


@pytest.mark.parametrize("jump_s", [160, -160])
async def test_a_clock_is_warned_of_before_it_hurts(house, wall_clock, jump_s):
    wall_clock.moved = timedelta(seconds=jump_s)
    for _ in range(3):
        assert (await house.caller.post()).header("Gateway-Verified") == "true"
    (warned,) = house.events("clock_skewed")  # once, not each time
    assert warned["clock_tolerance_s"] == 300
    wall_clock.moved /= 10
    assert (await house.caller.post()).header("Gateway-Verified") == "true"
    assert len(house.events("clock_in_step")) == 1


@pytest.mark.parametrize("jump_s", [86400 * 3650, -86400 * 3650])
async def test_no_deadline_is_the_wall_clocks(run_house, wall_clock, jump_s):
    """A jump in the middle of everything that waits ends none of it."""
    arrived, let_go = asyncio.Event(), asyncio.Event()

    async def answer(request):
        arrived.set()
        await let_go.wait()
        time = wall_clock.now().isoformat(timespec="seconds")
        return house.wallet.signed(request, peer.SUCCESS, time=time)

    async with run_house() as house:
        house.wallet.answer = answer
        reader, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
        writer.write(b"POST " + peer.TARGET.encode())  # a head that is still arriving
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(house.caller.post())
            await arrived.wait()
            wall_clock.moved = timedelta(seconds=jump_s)
            # What the loop has to do after the jump is done once it has answered this.
            assert (await house.admin_get("/livez")).status == 200
            assert not waiting.done()
            let_go.set()
        assert waiting.result().header("Gateway-Verified") == "true"
        assert house.exchanges[0]["seconds"] < 60
        rest = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        writer.write(rest)
        assert b" 200 " in await reader.readline()
        writer.close()


async def test_a_deadline_passes_while_the_wall_clock_stands_still_or_runs_back(
    run_house, wall_clock
):
    async def answer(_):
        wall_clock.moved -= timedelta(hours=1)
        await asyncio.Event().wait()

    async with run_house(route={"timeout_s": 0.2}) as house:
        house.wallet.answer = answer
        got = await house.caller.post()
        assert (got.code, got.problem["outcome"]) == ("upstream_timeout", "unknown")


async def test_an_open_breaker_does_not_heed_the_wall_clock(run_house, wall_clock):
    client = {"breaker": {"failures": 1, "open_s": 3600}, "retries": 0}
    async with run_house(client=client, route={"timeout_s": 0.2}) as house:
        house.wallet.answer = lambda _: asyncio.Event().wait()
        assert (await house.caller.post()).code == "upstream_timeout"
        for jump_s in (7200, -7200):
            wall_clock.moved = timedelta(seconds=jump_s)
            got = await house.caller.post()
            assert (got.code, got.problem["outcome"]) == (
                "upstream_unavailable",
                "not_sent",
            )
        assert len(house.wallet.arrived) == 1
