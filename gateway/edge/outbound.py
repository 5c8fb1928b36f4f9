"""A connection to AlipayHK that carries one exchange after another."""

import asyncio
import os
import select
from contextlib import suppress
from math import inf
from typing import Final, cast

from gateway.edge.alarm import Alarm
from gateway.edge.answers import AnswerReader
from gateway.edge.paced import Paced
from gateway.edge.pieces import READ_BYTES, pieces_of
from gateway.edge.reasons import reason_of
from gateway.errors import UpstreamTimeout
from gateway.protocol import ReceivedResponse
from gateway.relay.ports import UNCOUNTED, Memory
from gateway.turns import next_turn

_TURNS: Final = 4
"""Of the loop: two are enough for what has arrived to be read."""


class Outbound(Paced):
    """One connection, from its first exchange to its last.

    Attributes:
        fresh_until: the loop's second from which on it carries no further exchange.
        idle_until: the loop's second until which it may be taken from the pool.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fresh_until = inf
        self.idle_until = 0.0
        self._lost_by = "closed"
        """Why it ended, once it has."""
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
        self._rest: int | None = None
        """A second descriptor of the socket, while a large request is under way."""
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
    def keep_alive_s(self) -> float:
        """How long the other side keeps it open after its last answer, as that said."""
        return self._reader.keep_alive_s

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

    async def reason_lost(self) -> str:
        """Return why it is not fit any more, as far as the loop tells."""
        for _ in range(_TURNS):
            await next_turn()
        return self._lost_by

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
        self._finish()
        return ReceivedResponse(answer.status, answer.headers, answer.take_body())

    def _finish(self) -> None:
        self._alarm.calm()
        self._answer = None
        self._forget_rest()
        self._memory.settle()
        self._memory = UNCOUNTED

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
        connection is then at its end. One that came before a write failed is read, too:
        the loop closes its descriptor by then, and with the last one what was received
        is gone.
        """
        self._rest = os.dup(self._transport.get_extra_info("socket").fileno())
        first, *rest = pieces_of(body)
        self._transport.write(head + first)
        for piece in rest:
            if self._taken is not None:
                await self._taken
            if self._late:
                raise TimeoutError
            if answer.ended or not self.is_fit:
                self._spoiled = True
                return
            self._transport.write(piece)

    def end(self) -> None:
        """Close the connection, whatever is under way on it."""
        self._answer = None
        self._alarm.end()
        self._forget_rest()
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
        if isinstance(exc, OSError):
            self._lost_by = reason_of(exc)
        self._read_rest()
        self._end_answer(exc)

    def _read_rest(self) -> None:
        """Read what had come when a write failed: it may be the answer that says why."""
        rest, answer = self._rest, self._answer
        if rest is None or answer is None:
            return
        tls = self._transport.get_extra_info("ssl_object")
        with suppress(OSError):
            while not answer.ended and (data := os.read(rest, READ_BYTES)):
                self._memory.add(len(data))
                answer.feed(data if tls is None else tls.read_rest(data))
        self._forget_rest()

    def _forget_rest(self) -> None:
        if self._rest is not None:
            os.close(self._rest)
            self._rest = None

    def _end_answer(self, cause: Exception | None = None) -> None:
        self._alarm.end()
        if self._answer is not None:
            self._answer.end()
            if (error := self._answer.error) is not None:
                error.__cause__, error.cause = cause, self._lost_by
            self._wake()

    def _lose_patience(self) -> None:
        answer = self._answer
        if answer is None or answer.ended:
            return  # it came in the same turn of the loop
        if self._first_byte_s is None or self._loop.time() >= self._deadline:
            self._late = True
        else:
            seconds = f"{self._first_byte_s:g} s (clients[].first_byte_timeout_s)"
            msg = f"No answer began within {seconds}."
            cause = f"timed out: no answer began within {seconds}"
            answer.fail(UpstreamTimeout(msg, cause=cause))
        self._wake()

    def _wake(self) -> None:
        for waiting in (self._progress, self._taken):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
