"""A caller's connection, beside what is asked over it."""

import asyncio
import gc
import weakref

from gateway.edge.connection import Server
from gateway.edge.response import Response


async def test_a_connection_that_is_gone_leaves_nothing_behind():
    """Garbage in a circle is looked for seldom; each connection left 2 KiB of it."""

    async def handle(request):
        await request.wire.deliver(request, Response(body=b"ok"), 5)

    server = Server(handle, lambda _: Response(status=400))
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    gone = asyncio.Event()
    gc.collect()
    gc.disable()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"ok")
        for each in server.connections:
            weakref.finalize(each, gone.set)
        del each
        writer.close()
        await writer.wait_closed()
        await asyncio.wait_for(gone.wait(), 5)
    finally:
        gc.enable()
        listening.close()
