"""What both kinds of connection know of their transport: what is read, and what is taken."""

import asyncio
from weakref import WeakKeyDictionary

from gateway.edge.pieces import READ_BYTES

_BUFFERS: "WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview]" = (
    WeakKeyDictionary()
)
"""One for each loop: what is read is parsed before anything else is read into it."""


class Paced(asyncio.BufferedProtocol):
    """A connection that waits for its other side. `_taken` says for what.

    Its transport says so by `pause_writing` and `resume_writing`. Bytes are read into a
    buffer that all connections of a loop share, so that a transport reads no more at
    once than is asked for: uvloop's own reads are of 256 kB.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._taken: asyncio.Future[None] | None = None
        """Done once the other side takes what is written; None while it does."""
        buffer = _BUFFERS.get(self._loop)
        if buffer is None:
            buffer = _BUFFERS[self._loop] = memoryview(bytearray(READ_BYTES))
        self._buffer = buffer

    def _bound_buffers(self, transport: asyncio.Transport) -> None:
        """Have a transport keep little of what is not taken yet, in each direction.

        Of what TLS decrypts later it would keep half a megabyte, in no account. A
        record that is not whole (16,645 bytes at most) has to fit below the lower mark.
        """
        transport.set_write_buffer_limits(READ_BYTES)
        if hasattr(transport, "set_read_buffer_limits"):  # TLS alone has them
            transport.set_read_buffer_limits(READ_BYTES, READ_BYTES // 2)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        """Return where the next bytes are to be read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(self._buffer[:nbytes])

    def data_received(self, data: memoryview) -> None:
        """Take what was read; it is gone once this returns."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """Note that the other side does not take what is written."""
        self._taken = self._loop.create_future()

    def resume_writing(self) -> None:
        """Note that it does."""
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)
