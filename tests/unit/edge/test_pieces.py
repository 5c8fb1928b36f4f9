"""Bodies in pieces: however small they are, little more than their bytes is held."""

import asyncio
import tracemalloc

from gateway.access.admission import Quota
from gateway.edge.request import Arriving, Bounds, Request, read_body

PIECES = 1 << 13


class Wire:
    names = None

    def hold(self):
        """Nothing: there is no connection."""

    go_on = hold


async def test_a_body_that_comes_two_bytes_at_a_time_is_held_in_little_more():
    size = 2 * PIECES
    request = Request(Wire())
    request.take_headers([(b"Content-Length", str(size).encode())])
    bounds, memory = Bounds(1 << 14, size, 30, 30), Quota(size)
    reading = asyncio.create_task(read_body(request, bounds, memory, Arriving()))
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
    assert await reading == b"".join(n.to_bytes(2, "big") for n in range(PIECES))
