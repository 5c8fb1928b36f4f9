"""A log that nobody takes: traffic goes on, and what was dropped is counted."""

import asyncio
import fcntl
import json
import os
import resource
from contextlib import closing
from pathlib import Path

import pytest

from tests import peer
from tests.chaos.conftest import body_for, busy, settings_for
from tests.integration.wallet import Wallet

DROPPED = 'gateway_log_lines_dropped_total{stream="stdout"}'
COUNTED = (
    'gateway_exchanges_total{caller="",client="hk",code="verified",'
    f'route="{peer.TARGET}"}}'
)


@pytest.fixture
async def wallet(platform_key, partner_key):
    wallet = Wallet(platform_key, partner_key.public_key())
    async with wallet.listening():
        yield wallet


async def work(served, times):
    """Make some exchanges at once, all of which must do."""
    todo = iter(range(times))

    async def worker():
        for number in todo:
            got = await served.caller.post(body_for(f"r{number}"))
            assert got.header("Gateway-Verified") == "true"

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(worker())


async def counted(served, times):
    """Wait until so many are noted: a caller has its answer a moment before."""
    async with asyncio.timeout(10):
        while await served.metric(COUNTED) != times:
            pass


async def test_a_full_disk_stops_no_traffic(served, wallet):
    served.configure(settings_for(wallet.port))
    with Path("/dev/full").open("wb") as full:
        await served.start(stdout=full)
    await work(served, 100)
    await counted(served, 100)
    assert await served.metric(DROPPED) == 100
    assert await served.ready()
    (event,) = served.seen("log_failed")
    assert (event["stream"], event["level"]) == ("stdout", "error")
    assert event["reason"] == "No space left on device"
    got = await served.admin.raw(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    (warning,) = json.loads(got.body)["warnings"]
    assert "standard output cannot be written" in warning
    assert "No space left on device" in warning
    assert await served.stop() == 0


async def test_a_disk_that_is_full_in_the_middle_of_a_line_stops_no_traffic(
    served, wallet, tmp_path
):
    """The file may not grow beyond a size that is no whole number of lines."""
    served.configure(settings_for(wallet.port))
    size = 10_001
    log = tmp_path / "log"
    with log.open("ab") as file:
        await served.start(stdout=file, limits=[(resource.RLIMIT_FSIZE, size)])
    await work(served, 100)
    await counted(served, 100)
    dropped = await served.metric(DROPPED)
    assert await served.stop() == 0
    assert log.stat().st_size == size
    *whole, cut = log.read_bytes().split(b"\n")
    assert len(whole) + dropped == 100
    assert cut
    assert {json.loads(line)["code"] for line in whole} == {"verified"}


async def test_a_pipe_that_is_closed_stops_no_traffic(served, wallet):
    served.configure(settings_for(wallet.port))
    ours, theirs = os.pipe()
    await served.start(stdout=theirs)
    os.close(theirs)
    await work(served, 20)
    await counted(served, 20)
    os.close(ours)
    await work(served, 80)
    await counted(served, 100)
    assert await served.metric(DROPPED) == 80
    assert await served.stop() == 0


async def test_each_line_that_a_stalled_reader_missed_is_counted(served, wallet):
    served.configure(settings_for(wallet.port))
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    await served.start(stdout=theirs)
    os.close(theirs)
    os.set_blocking(ours, False)  # it may be empty when it is looked at
    with closing(os.fdopen(ours, "rb", buffering=0)) as pipe:
        async with busy(
            4, lambda number: served.caller.post(body_for(f"r{number}"))
        ) as done:
            # A reader who now and then takes what there is, and else is stalled.
            text = b""
            for _ in range(5):
                before = len(done)
                async with asyncio.timeout(10):
                    while len(done) < before + 60:
                        await asyncio.sleep(0.01)
                text += pipe.read(65536) or b""
        assert {got.status for got in done} == {200}
        await counted(served, len(done))
        dropped = await served.metric(DROPPED)
        text += pipe.read(65536) or b""
        await work(served, 1)  # its line tells how many were dropped before
        assert await served.stop() == 0
        text += pipe.read() or b""
    lines = [json.loads(line) for line in text.splitlines()]
    written = sum(line["event"] == "exchange" for line in lines)
    told = sum(line["count"] for line in lines if line["event"] == "log_lines_dropped")
    assert told == dropped > 100
    assert written + dropped == len(done) + 1
