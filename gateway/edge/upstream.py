"""AlipayHK over HTTP/1.1: sends the signed bytes once and reads the whole answer.

Invariants: one fixed origin, no redirect is followed, no cookie kept, no proxy
taken from the environment, no body decompressed, TLS always verified. A request is
written in one step to a connection that is fit for it, so that whether a byte of it
went out is known, and `not_sent` is never a guess.

Written for this one job: a library's client costs more than the signature's
verification, and is lenient where this must not be (docs/adr/0015-own-client.md).
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

from gateway.edge.dial import Dial
from gateway.edge.outbound import Outbound
from gateway.edge.pool import Pool
from gateway.errors import UpstreamTimeout, UpstreamUnavailable
from gateway.protocol import ReceivedResponse, SignedMessage
from gateway.relay.ports import Memory
from gateway.turns import next_turn

_OUR_HEADERS: Final = "Accept-Encoding: identity\r\nUser-Agent: alipayhk-gateway\r\n"


class HttpUpstream:
    """One AlipayHK host. Implements the relay's `Upstream`.

    Args:
        dial: makes connections to it.
        max_response_bytes: the greatest body that is read.
        first_byte_timeout_s: how long AlipayHK may take to begin its answer; None
            leaves that to the deadline.
        max_connection_age_s: no exchange begins on a connection that is older.
        entropy: gives that many random bytes; by default none that are random.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        max_response_bytes: int,
        first_byte_timeout_s: float | None = None,
        max_connection_age_s: float = inf,
        entropy: Callable[[int], bytes] = bytes,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(dial, max_connection_age_s, entropy)
        self._behind_target = f" HTTP/1.1\r\nHost: {dial.host}\r\n{_OUR_HEADERS}"
        self._max_response_bytes = max_response_bytes
        self._first_byte_timeout_s = first_byte_timeout_s

    def close(self) -> None:
        """Close every connection that is idle; others close after their exchange."""
        self._pool.close()

    async def send(
        self,
        request: SignedMessage,
        *,
        timeout_s: float,
        memory: Memory,
        on_write: Callable[[], None],
    ) -> ReceivedResponse:
        """Send the request and wait for the whole answer; see `Upstream.send`.

        Its reading waits for room in the memory, as refusing it would lose it.
        """
        deadline = self._loop.time() + timeout_s
        await next_turn()  # so that those who signed in this turn write together
        connection = self._pool.take_now() or await self._connection(deadline)
        before = memory.held
        try:
            head = self._head(request)
            on_write()  # `ask` writes before it waits for anything
            return await connection.ask(
                (head, request.body),
                self._max_response_bytes,
                memory,
                deadline,
                self._first_byte_timeout_s,
            )
        except BaseException as error:
            memory.settle()
            memory.keep(before)
            if not isinstance(error, TimeoutError):
                raise
            msg = "No whole answer came in time."
            cause = "timed out: no whole answer"
            raise UpstreamTimeout(msg, cause=cause, at_deadline=True) from None
        finally:
            self._pool.give_back(connection)

    async def _connection(self, deadline: float) -> Outbound:
        try:
            return await self._pool.take(deadline - self._loop.time())
        except TimeoutError:
            msg = "No connection to AlipayHK could be made in time."
            cause = "timed out: no connection"
            raise UpstreamUnavailable(msg, cause=cause, at_deadline=True) from None

    def _head(self, request: SignedMessage) -> bytes:
        draft = request.draft
        return (
            f"{draft.method} {draft.target}{self._behind_target}{request.header_lines}"
            f"Content-Length: {len(draft.body)}\r\n\r\n"
        ).encode("latin-1")
