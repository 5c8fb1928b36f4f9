"""No file descriptor left: nobody is lost, no loop runs hot, and it passes."""

import asyncio
import resource
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos.conftest import body_for, settings_for, until
from tests.integration.wallet import Wallet

DESCRIPTORS = 64


@pytest.fixture
async def wallet(platform_key, partner_key):
    wallet = Wallet(platform_key, partner_key.public_key())
    async with wallet.listening():
        yield wallet


@asynccontextmanager
async def hogs(address, count):
    """Open connections that say nothing."""
    host, _, port = address.rpartition(":")
    async with AsyncExitStack() as stack:
        for _ in range(count):
            _, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
        yield


async def test_exhausted_descriptors_cost_no_answer_and_no_processor(
    served, wallet, tmp_path
):
    served.configure(settings_for(wallet.port, idle_timeout_s=3))
    await served.start(limits=[(resource.RLIMIT_NOFILE, DESCRIPTORS)])
    assert (await served.caller.post(body_for("before"))).status == 200
    async with hogs(served.inbound, 2 * DESCRIPTORS):
        await until(lambda: served.seen("loop_error"), "descriptors are left")
        spent, started = served.processor_seconds(), time.monotonic()
        (tmp_path / "ring/touched").touch()  # the folder cannot be looked at either
        names = [f"during{number}" for number in range(20)]
        async with asyncio.timeout(30):
            answers = await asyncio.gather(
                *(served.caller.post(body_for(name)) for name in names)
            )
        spent = served.processor_seconds() - spent
        waited = time.monotonic() - started
        for got in answers:
            # A connection to AlipayHK needs a descriptor as well.
            assert got.status == 200 or got.problem["outcome"] == "not_sent"
    await until(lambda: _closed(served), "connections stayed open")
    assert (await served.caller.post(body_for("after"))).status == 200
    assert await served.ready()
    assert spent < waited / 2, f"{spent:.2f} s of processor in {waited:.2f} s"
    assert len(served.events) < 40, "an event for each attempt"
    assert await served.stop() == 0
    print(f"{spent:.2f} s of processor in {waited:.2f} s, {len(served.events)} events")


def _closed(served):
    return len(list(Path(f"/proc/{served.process.pid}/fd").iterdir())) < DESCRIPTORS / 2
