"""A connection to AlipayHK that carries one exchange after another."""

import asyncio
import select
from typing import Final, cast

from gateway.edge.alarm import Alarm
from gateway.edge.answers import AnswerReader
from gateway.edge.paced import Paced
from gateway.edge.pieces import READ_BYTES, pieces_of
from gateway.errors import UpstreamTimeout
from gateway.protocol import ReceivedResponse
from gateway.relay.ports import UNCOUNTED, Memory
from gateway.turns import next_turn

_TURNS: Final = 4
"""Of the loop: two are enough for what has arrived to be read."""


class Outbound(Paced):
    """One connection, from its first exchange to its last.

    Attributes:
        idle_since: the loop's second at which it was last given back to the pool.
    """

    def __init__(self) -> None:
        super().__init__()
        self.idle_since = 0.0
        self._spoiled = False
        self._paused = False
        self._memory: Memory = UNCOUNTED
        self._unread = 0
        """Bytes of the answer that came since reading was last allowed to go on."""
        self._reader = AnswerReader(0)
        self._answer: AnswerReader | None = None
        """The reader, while an answer is awaited."""
        self._progress: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._lose_patience)
        self._deadline = 0.0
        self._first_byte_s: float | None = None
        self._late = False
        self._transport: asyncio.Transport

    @property
    def is_fit(self) -> bool:
        """Whether a request may be written to it, as far as it was read.

        Not where bytes came before one was: they can be no answer to it, and it would
        be given the answer to another.
        """
        return not self._spoiled and not self._transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether it may carry another exchange: the last came to a good end."""
        return self._reader.keeps_open and self.is_fit

    @property
    def is_still(self) -> bool:
        """Whether a request may be written to it at once: nothing had come up to now.

        TLS has words of its own to read, which harm nothing: see `settle`.
        """
        return self.is_fit and not self._arrived.poll(0)

    async def settle(self) -> bool:
        """Read what stands on it already, such as its end. Gives whether it is still."""
        for _ in range(_TURNS):
            if self.is_still or not self.is_fit:
                return self.is_fit
            await next_turn()
        return False

    async def ask(
        self,
        request: tuple[bytes, bytes],
        max_response_bytes: int,
        memory: Memory,
        deadline: float,
        first_byte_timeout_s: float | None = None,
    ) -> ReceivedResponse:
        """Write a request, head and body, and give its whole answer.

        It is written before this waits for anything, or as much of it as is taken.

        Args:
            request: the bytes of its head and of its body.
            max_response_bytes: the greatest body that is read.
            memory: counts what comes; reading waits until there is room.
            deadline: the loop's second at which this is over.
            first_byte_timeout_s: how long the answer may take to begin.

        Raises:
            ExchangeError: the answer is wrong, or did not come.
            TimeoutError: it had not ended by the deadline.
        """
        answer = self._reader
        answer.renew(max_response_bytes)
        self._answer, self._deadline, self._late = answer, deadline, False
        self._memory, self._unread = memory, 0
        self._first_byte_s = first_byte_timeout_s
        self._alarm.set(
            deadline
            if first_byte_timeout_s is None
            else min(deadline, self._loop.time() + first_byte_timeout_s)
        )
        head, body = request
        if len(body) <= READ_BYTES:
            self._transport.write(head + body)
        else:
            await self._write(head, body, answer)
        while not answer.ended:
            if self._late:  # also while this waited for something else
                raise TimeoutError
            if self._paused:  # likewise
                await self._read_on(deadline)
                continue
            self._progress = self._loop.create_future()
            await self._progress
        if (error := answer.take_error()) is not None:
            try:
                raise error
            finally:
                del error  # which leads back here
        self._alarm.calm()
        self._answer, self._memory = None, UNCOUNTED
        memory.settle()
        return ReceivedResponse(answer.status, answer.headers, answer.take_body())

    async def _read_on(self, deadline: float) -> None:
        """Read on, once there is room for what comes."""
        if self._memory.is_over:
            async with asyncio.timeout_at(deadline):
                await self._memory.room()
        self._unread = 0
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def _write(self, head: bytes, body: bytes, answer: AnswerReader) -> None:
        """Write a large body as it is taken.

        An answer that comes before the body was taken is one all the same; the
        connection is then at its end.
        """
        first, *rest = pieces_of(body)
        self._transport.write(head + first)
        for piece in rest:
            if self._taken is not None:
                await self._taken
            if self._late:
                raise TimeoutError
            if answer.ended or self._spoiled:
                self._spoiled = True
                return
            self._transport.write(piece)

    def end(self) -> None:
        """Close the connection, whatever is under way on it."""
        self._answer = None
        self._alarm.end()
        self._transport.abort()

    # --- what the loop calls ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # as a stream's are
        self._bound_buffers(self._transport)
        self._arrived = select.poll()
        self._arrived.register(transport.get_extra_info("socket"), select.POLLIN)

    def data_received(self, data: memoryview) -> None:
        """Read on in the answer that is awaited."""
        answer = self._answer
        if answer is None:
            self._spoiled = True
            return
        size = len(data)
        self._memory.add(size)
        self._unread += size
        if self._first_byte_s is not None:
            self._first_byte_s = None
            self._alarm.set(self._deadline)
        answer.feed(data)
        if answer.ended:
            self._wake()
        elif self._unread >= READ_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
            self._wake()

    def eof_received(self) -> None:
        """Note that no more bytes come; the connection is closed by that."""
        self._spoiled = True
        self._end_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._spoiled = True
        self._end_answer(exc)

    def _end_answer(self, cause: Exception | None = None) -> None:
        self._alarm.end()
        if self._answer is not None:
            self._answer.end()
            if self._answer.error is not None and cause is not None:
                self._answer.error.__cause__ = cause
            self._wake()

    def _lose_patience(self) -> None:
        answer = self._answer
        if answer is None or answer.ended:
            return  # it came in the same turn of the loop
        if self._first_byte_s is None or self._loop.time() >= self._deadline:
            self._late = True
        else:
            seconds = f"{self._first_byte_s:g} s (clients[].first_byte_timeout_s)"
            answer.fail(UpstreamTimeout(f"No answer began within {seconds}."))
        self._wake()

    def _wake(self) -> None:
        for waiting in (self._progress, self._taken):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
