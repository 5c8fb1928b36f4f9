"""Callers who fill a gateway, as a process of their own.

    python -m tests.chaos.heavy_callers PORT ROUND

They keep WORKERS calls under way, and SLOW_SENDERS connections that send a byte now and
then: half of them never finish a head, half never a body. Once standard input ends, each
call comes to its end, and what became of every requestId is written as a JSON object:
`verified`, the `outcome` of a problem, `left` where a slow sender went away by itself, or
what went wrong where there was no answer.
"""

import asyncio
import json
import sys
from contextlib import closing, suppress
from itertools import count

from tests.chaos.conftest import SLOW_PATH, body_for
from tests.integration.caller import Caller, read_answer

CONCURRENT = 512
WORKERS = CONCURRENT + 16
"""Some too many, so that there are always some who are refused."""

SLOW_SENDERS = 200
PACE_S = 0.5
RAMP_S = 4
"""Over which the calls begin, so that AlipayHK's answers are spread as evenly."""

PATIENCE_S = 60
HEAVY, SLOW = "heavy-" + "h" * 40, "slow-" + "s" * 40
"""Their tokens."""


class Crowd:
    def __init__(self, port, label):
        self.told = {}
        self._caller = Caller(port, token=HEAVY)
        self._label = label
        self._numbers = count()
        self._over = asyncio.Event()

    async def run(self):
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(self._work(RAMP_S * number / WORKERS))
            for number in range(SLOW_SENDERS):
                send = self._body if number % 2 else self._head
                tasks.create_task(self._drip(send, RAMP_S * number / SLOW_SENDERS))
            await asyncio.to_thread(sys.stdin.read)
            self._over.set()

    def _name(self):
        return f"{self._label}-{next(self._numbers)}"

    async def _pause(self, seconds):
        """Wait, but not beyond the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    async def _work(self, begin_s):
        await self._pause(begin_s)
        while not self._over.is_set():
            name = self._name()
            self.told[name] = await self._call(name)
            if self.told[name] == "not_sent":
                await self._pause(1)

    async def _call(self, name):
        try:
            async with asyncio.timeout(PATIENCE_S):
                got = await self._caller.post(body_for(name), target=SLOW_PATH)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            return f"no answer: {error!r}"
        return outcome_of(got)

    async def _drip(self, send, begin_s):
        await self._pause(begin_s)
        while not self._over.is_set():
            reader, writer = await self._caller.connect()
            with closing(writer), suppress(ConnectionError):
                await send(reader, writer)

    async def _head(self, reader, writer):
        """Send headers without end, until the gateway has enough of it."""
        writer.write(b"POST / HTTP/1.1\r\nX: ")
        await self._trickle(reader, writer)

    async def _body(self, reader, writer):
        """Announce more than is ever sent; what is sent could be taken for a call."""
        name = self._name()
        body = body_for(name)
        head = (
            f"POST {SLOW_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SLOW}\r\n"
            f"Content-Length: {len(body) + 1000}\r\n\r\n"
        )
        self.told[name] = "left"
        writer.write(head.encode() + body)
        if (answer := await self._trickle(reader, writer)) is not None:
            self.told[name] = outcome_of(answer)

    async def _trickle(self, reader, writer):
        """Send a byte now and then, until there is an answer, or the other side ends."""
        answering = asyncio.ensure_future(read_answer(reader))
        try:
            while not self._over.is_set():
                writer.write(b" ")
                await asyncio.wait({answering}, timeout=PACE_S)
                if answering.done():
                    return answering.result()
        except asyncio.IncompleteReadError:
            return None
        finally:
            answering.cancel()


def outcome_of(got):
    if got.header("Gateway-Verified") == "true":
        return "verified"
    return got.problem["outcome"]


async def main(port, label):
    crowd = Crowd(int(port), label)
    await crowd.run()
    print(json.dumps(crowd.told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
