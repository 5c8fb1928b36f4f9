"""A connection to AlipayHK that carries one exchange after another."""

import asyncio
import select
from typing import Final, cast

from gateway.access.admission import Loan
from gateway.edge.answers import AnswerReader
from gateway.edge.pieces import READ_BYTES, pieces_of
from gateway.errors import ExchangeError, UpstreamTimeout

_TURNS: Final = 4
"""Of the loop: two are enough for what has arrived to be read."""


class Outbound(asyncio.Protocol):
    """One connection, from its first exchange to its last.

    Attributes:
        idle_since: the loop's second at which it was last given back to the pool.
    """

    def __init__(self) -> None:
        self.idle_since = 0.0
        self._spoiled = False
        self._paused = False
        self._answer: AnswerReader | None = None
        self._progress: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None
        self._impatience: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    @property
    def is_fit(self) -> bool:
        """Whether a request may be written to it, as far as it was read.

        Not where bytes came before one was: they can be no answer to it, and it would
        be given the answer to another.
        """
        return not self._spoiled and not self._transport.is_closing()

    async def settle(self) -> bool:
        """Read what stands on it already, such as its end. Gives whether it is fit.

        When this gives true, nothing had come up to now. TLS has words of its own
        to read, which harm nothing.
        """
        for _ in range(_TURNS):
            if not self.is_fit or not self._arrived.poll(0):
                return self.is_fit
            await asyncio.sleep(0)
        return False

    async def ask(
        self,
        request: tuple[bytes, bytes],
        answer: AnswerReader,
        loan: Loan,
        first_byte_timeout_s: float | None,
    ) -> None:
        """Write a request, head and body, and read until its answer has ended.

        It is written before this waits for anything, or as much of it as is taken.

        Args:
            request: the bytes of its head and of its body.
            answer: takes what comes.
            loan: of the memory for bodies; reading waits for it.
            first_byte_timeout_s: how long the answer may take to begin.

        Raises:
            ExchangeError: the answer is wrong, or did not come.
        """
        loop = asyncio.get_running_loop()
        self._answer = answer
        await self._write(request, answer)
        if first_byte_timeout_s is not None and not answer.begun:
            self._impatience = loop.call_later(
                first_byte_timeout_s, self._lose_patience, first_byte_timeout_s
            )
        while not answer.ended:
            self._progress = loop.create_future()
            await self._progress
            if arrived := answer.taken():
                await loan.take(arrived)
            if self._paused and not self._transport.is_closing():
                self._paused = False
                self._transport.resume_reading()
        if answer.error is not None:
            raise answer.error
        self._answer = None

    async def _write(self, request: tuple[bytes, bytes], answer: AnswerReader) -> None:
        """Write head and body in one step, or a large body as it is taken.

        An answer that comes before the body was taken is one all the same; the
        connection is then at its end.
        """
        head, body = request
        first, *rest = pieces_of(body) or [memoryview(b"")]
        self._transport.write(head + first)
        for piece in rest:
            if self._taken is not None:
                await self._taken
            if answer.ended or self._spoiled:
                self._spoiled = True
                return
            self._transport.write(piece)

    def end(self) -> None:
        """Close the connection, whatever is under way on it."""
        self._answer = None
        self._calm()
        self._transport.abort()

    # --- what the loop calls ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # as a stream's are
        self._transport.set_write_buffer_limits(READ_BYTES)
        self._arrived = select.poll()
        self._arrived.register(transport.get_extra_info("socket"), select.POLLIN)

    def pause_writing(self) -> None:
        """Note that the other side does not take what is written."""
        self._taken = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Note that it does."""
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Read on in the answer that is awaited."""
        answer = self._answer
        if answer is None:
            self._spoiled = True
            return
        self._calm()
        answer.feed(data)
        if answer.unread >= READ_BYTES and not answer.ended:
            self._paused = True
            self._transport.pause_reading()
            self._wake()
        elif answer.ended:
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
        self._calm()
        if self._answer is not None:
            self._answer.end()
            if self._answer.error is not None and cause is not None:
                self._answer.error.__cause__ = cause
            self._wake()

    def _lose_patience(self, seconds: float) -> None:
        msg = f"No answer began within {seconds:g} s (clients[].first_byte_timeout_s)."
        self._fail(UpstreamTimeout(msg))

    def _fail(self, error: ExchangeError) -> None:
        if self._answer is not None:
            self._answer.error = error
            self._wake()

    def _calm(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _wake(self) -> None:
        for waiting in (self._progress, self._taken):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
