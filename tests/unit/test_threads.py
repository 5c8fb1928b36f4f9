"""Threads: a call that blocks holds up neither others nor the end."""

import asyncio
import subprocess
import sys
import threading

import pytest

from gateway.threads import Threads

# Ends while a call still blocks: the pool of asyncio would wait for it.
_ENDS = """
import asyncio, time
from gateway.threads import Threads

async def main():
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Threads())
    loop.run_in_executor(None, time.sleep, 60)
    await asyncio.to_thread(print, "done")

asyncio.run(main())
"""


@pytest.fixture
async def threads():
    asyncio.get_running_loop().set_default_executor(Threads())


@pytest.mark.usefixtures("threads")
async def test_calls_that_block_hold_up_no_other():
    go_on = threading.Event()
    blocked = [asyncio.create_task(asyncio.to_thread(go_on.wait)) for _ in range(64)]
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: 7) == 7
    go_on.set()
    assert all(await asyncio.gather(*blocked))


@pytest.mark.usefixtures("threads")
async def test_what_fails_is_told_to_whoever_waits():
    with pytest.raises(ValueError, match="invalid literal"):
        await asyncio.to_thread(int, "x")


def test_a_call_that_was_cancelled_in_time_is_not_made(monkeypatch):
    begun: list[threading.Thread] = []

    def begin(thread):
        begun.append(thread)

    monkeypatch.setattr(threading.Thread, "start", begin)
    called: list[int] = []
    future = Threads().submit(called.append, 1)
    future.cancel()
    begun[0].run()
    assert called == []


def test_the_end_of_the_process_waits_for_no_call():
    done = subprocess.run(
        [sys.executable, "-c", _ENDS], capture_output=True, timeout=20, check=True
    )
    assert (done.stdout, done.stderr) == (b"done\n", b"")
