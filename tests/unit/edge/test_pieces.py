"""Bodies in pieces: however small they are, little more than their bytes is held."""

import asyncio
import tracemalloc

from gateway.access.admission import Account, Quota
from gateway.edge.request import Arriving, Bounds, Request, read_body

PIECES = 1 << 13


class Wire:
    names = None

    def __init__(self, memory):
        self.account = Account(memory)

    def update_flow(self):
        """Nothing: there is no connection."""


async def test_a_body_that_comes_two_bytes_at_a_time_is_held_in_little_more():
    size = 2 * PIECES
    memory = Quota(size)
    arriving = Arriving(memory)
    request = Request(Wire(memory))
    request.take_headers([(b"Content-Length", str(size).encode())])
    bounds = Bounds(1 << 14, size, 30, 30)

    async def read():
        async with arriving.one("", request.body, 30) as pending:
            await read_body(request, bounds, pending, arriving)

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    tracemalloc.start()
    try:
        for number in range(PIECES):
            request.body.add(number.to_bytes(2, "big"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert memory.taken == size
    assert held <= 1.5 * size + 4096
    request.body.complete()
    await reading
    assert request.body.whole() == b"".join(n.to_bytes(2, "big") for n in range(PIECES))
