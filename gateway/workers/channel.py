"""What supervisor and worker talk over: a pair of sockets that nobody else has.

The supervisor orders, and a worker answers each order once. Orders are pickled: they
carry whole settings. Answers are JSON: the supervisor takes no code from those who
speak to callers. No private key goes either way, and no body.
"""

import asyncio
import json
import pickle
import socket
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, TypeAlias, cast

from gateway.config import Settings
from gateway.sharing import Slots
from gateway.workers.frames import FrameError, Frames, frame

Answer: TypeAlias = dict[str, object]


class Verb(StrEnum):
    """What a worker may be told to do."""

    START = "start"
    TELL = "tell"
    PREPARE = "prepare"
    COMMIT = "commit"
    ABORT = "abort"
    DRAIN = "drain"
    CUT = "cut"


class Given(NamedTuple):
    """What a worker works by.

    Attributes:
        settings: the configuration of the whole gateway.
        slots: where the bucket of each caller is.
        workers: how many share it.
    """

    settings: Settings
    slots: Slots
    workers: int


class Order(NamedTuple):
    """An order to a worker."""

    number: int
    verb: Verb
    given: Given | None = None


class EndedError(Exception):
    """The other side is gone."""


class Channel(asyncio.Protocol):
    """One end.

    Args:
        on_message: takes each message.
        on_end: is called when the other side is gone, once.
    """

    def __init__(
        self, on_message: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # as uvloop's is, too

    def data_received(self, data: bytes) -> None:
        """Hand on what is whole; end where it is none of ours."""
        try:
            for message in self._frames.feed(data):
                self._on_message(message)
        except FrameError:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """End."""
        self._transport = None
        self._on_end()

    def send(self, message: bytes) -> None:
        """Send, if the other side is there."""
        if self._transport is not None:
            self._transport.write(frame(message))

    def close(self) -> None:
        """End; what was sent before still goes out."""
        if self._transport is not None:
            self._transport.close()


async def opened(channel: Channel, end: socket.socket) -> None:
    """Begin to talk over one end of the pair."""
    end.settimeout(0)
    await asyncio.get_running_loop().create_connection(lambda: channel, sock=end)


class Orders:
    """The supervisor's side: gives orders, and has the answers.

    Args:
        on_end: is called when the worker is gone.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.channel = Channel(self._answered, self._ended)
        self._on_end = on_end
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._last = 0
        self._over = False

    def give(self, verb: Verb, given: Given | None = None) -> asyncio.Future[Answer]:
        """Give an order. The answer comes, or EndedError."""
        self._last += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        # Who gave an order may be gone before the answer comes.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._over:
            answer.set_exception(EndedError())
            return answer
        self._waiting[self._last] = answer
        self.channel.send(pickle.dumps(Order(self._last, verb, given)))
        return answer

    def _answered(self, message: bytes) -> None:
        try:
            answer = json.loads(message)
            waiting = self._waiting.pop(answer.pop("number"), None)
        except (ValueError, AttributeError, KeyError, TypeError):
            self.channel.close()
            return
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _ended(self) -> None:
        self._over = True
        for each in self._waiting.values():
            if not each.done():
                each.set_exception(EndedError())
        self._waiting.clear()
        self._on_end()


class Answers:
    """The worker's side.

    Args:
        on_order: takes each order; each is to be answered.
        on_end: is called when the supervisor is gone.
    """

    def __init__(
        self, on_order: Callable[[Order], None], on_end: Callable[[], None]
    ) -> None:
        self.channel = Channel(self._ordered, on_end)
        self._on_order = on_order

    def answer(self, order: Order, **answer: object) -> None:
        """Answer an order."""
        text = json.dumps({"number": order.number, **answer})
        self.channel.send(text.encode())

    def _ordered(self, message: bytes) -> None:
        # Of our own supervisor, over a socket that only it has.
        order = pickle.loads(message)  # noqa: S301
        assert isinstance(order, Order)  # noqa: S101
        self._on_order(order)
