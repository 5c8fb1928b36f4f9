"""512 slow exchanges and 200 slow senders at once: who is healthy hardly notices.

Quiet and loaded times take turns. Each loaded one is compared with the worse of the two
quiet ones around it, and the median of several such ratios counts: so whatever else this
machine does falls on both, and what it does for a moment on neither.
"""

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.keys import formats
from tests import peer
from tests.chaos.conftest import SLOW_PATH, body_for, settings_for
from tests.chaos.heavy_callers import CONCURRENT, HEAVY, SLOW, SLOW_SENDERS
from tests.integration.caller import Caller
from tests.integration.test_callers import entry

ROUNDS = 5
WINDOW_S = 6
PER_SECOND = 50
MEMORY_MIB = 128
"""docs/promises.md says so."""

HEALTHY = "healthy-" + "q" * 40


@asynccontextmanager
async def process(module, *arguments):
    """Run a module until the end of the block. Gives it, and a list for what it says.

    The first line of its output is in the list at once, the rest after the block.
    """
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.chaos.{module}", *map(str, arguments)),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said: list[bytes] = []
    try:
        yield running, said
        rest, _ = await asyncio.wait_for(running.communicate(b""), 60)
        said.append(rest)
        assert running.returncode == 0
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


class Probe:
    """A healthy caller, who calls at a fixed pace however long an answer takes."""

    def __init__(self, port):
        self.told: dict[str, str] = {}
        self._caller = Caller(port, token=HEALTHY)

    async def window(self):
        """Call for a while. Gives the 99th percentile of seconds."""
        async with asyncio.TaskGroup() as tasks:
            calls = []
            began = time.monotonic()
            for number in range(WINDOW_S * PER_SECOND):
                await asyncio.sleep(began + number / PER_SECOND - time.monotonic())
                calls.append(tasks.create_task(self._call()))
        return statistics.quantiles([each.result() for each in calls], n=100)[-1]

    async def _call(self):
        name = f"probe-{len(self.told)}"
        self.told[name] = "no answer"
        began = time.monotonic()
        async with asyncio.timeout(30):
            got = await self._caller.post(body_for(name))
        assert got.header("Gateway-Verified") == "true", got.body
        self.told[name] = "verified"
        return time.monotonic() - began


def settings(port):
    """Give the default bounds, but for the slow ones' time and the callers' limits."""
    made = settings_for(port, body_timeout_s=8, idle_timeout_s=8, max_concurrent=768)
    made["callers"] = [
        entry("healthy", HEALTHY),
        entry("heavy", HEAVY, max_concurrent=CONCURRENT),
        entry("slow", SLOW),
    ]
    made["routes"] = [
        {"path": peer.TARGET, "client": "hk", "timeout_s": 10},
        {"path": SLOW_PATH, "client": "hk", "timeout_s": 6},
    ]
    return made


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_512_slow_exchanges_and_200_slow_senders_delay_no_healthy_caller(
    served, platform_key, tmp_path
):
    key_file = tmp_path / "platform.pem"
    key_file.write_bytes(formats.private_pem(platform_key))
    quiet, loaded, crowds, busy = [], [], [], []
    async with process("slow_platform", key_file) as (platform, arrivals):
        port = int(await platform.stdout.readline())
        served.configure(settings(port))
        await served.start()
        probe = Probe(served.caller.port)
        await probe.window()  # what is done once, is done
        quiet.append(await probe.window())
        for number in range(ROUNDS):
            async with process("heavy_callers", served.caller.port, number) as (
                _,
                outcomes,
            ):
                await filled(served)
                spent, began = served.processor_seconds(), time.monotonic()
                loaded.append(await probe.window())
                spent = served.processor_seconds() - spent
                busy.append(spent / (time.monotonic() - began))
                await filled(served)  # to the end of it
            crowds.append(json.loads(outcomes[-1]))
            quiet.append(await probe.window())
        peak = served.memory("VmHWM")
        assert await served.stop() == 0
    told = probe.told | {name: how for crowd in crowds for name, how in crowd.items()}
    assert len(told) == len(probe.told) + sum(map(len, crowds))
    reconcile(told, json.loads(arrivals[-1]), served.lines)
    around = pairwise(quiet)
    ratios = [p99 / max(pair) for p99, pair in zip(loaded, around, strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"p99 of {WINDOW_S * PER_SECOND} calls: quiet {milliseconds(quiet)} ms, loaded "
        f"{milliseconds(loaded)} ms, median of the ratios {ratio:.2f}; {peak:.0f} MiB at "
        f"most; {100 * statistics.mean(busy):.0f} % of a processor; {Counter(told.values())}"
    )
    assert ratio <= 2
    assert peak <= MEMORY_MIB


async def filled(served):
    """Wait until as much is under way as there may be."""

    async def levels():
        in_flight = await served.metric("gateway_in_flight")
        connections = await served.metric("gateway_connections")
        return in_flight >= CONCURRENT and connections >= CONCURRENT + SLOW_SENDERS

    async with asyncio.timeout(30):
        while not await levels():
            await asyncio.sleep(0.05)


def reconcile(told, arrived, lines):
    """Each request that arrived has one outcome, and each outcome its arrival."""
    assert set(told.values()) == {"verified", "unknown", "answered", "not_sent", "left"}
    assert set(arrived) <= set(told), "arrived, and nobody was told of it"
    for name, outcome in told.items():
        wanted = 0 if outcome in ("not_sent", "left") else 1
        assert arrived.get(name, 0) == wanted, f"{name} was {outcome}"
    codes = Counter(line["code"] for line in lines)
    counts = Counter(told.values())
    assert codes["verified"] == counts["verified"]
    assert (
        codes["upstream_timeout"] + codes["upstream_disconnected"] == counts["unknown"]
    )
    assert codes["signature_invalid"] == counts["answered"]


def milliseconds(seconds):
    return "/".join(f"{1000 * each:.0f}" for each in seconds)
