"""A worker, as the supervisor has it."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Final, Self

from gateway.errors import SetupError
from gateway.workers.channel import Answer, EndedError, Given, Orders, Verb, opened
from gateway.workers.launch import launch
from gateway.workers.standing import Told

BEAT_S: Final = 1.0
"""Between two looks whether a worker answers."""

_BEATS: Final = 10
"""So many without an answer, and a worker hangs. They are counted, not timed: where
the whole machine stood still, nobody hangs."""

_LEAVE_S: Final = 5.0
"""For a process to be gone that talks no more."""

_START_S: Final = 30.0
"""For a worker to serve. Its keyrings are read by then, or said to be out of reach."""


class Child:
    """A process that serves, or is about to.

    Args:
        number: the worker's, from 1.
        on_told: takes what it tells of itself.
    """

    process: asyncio.subprocess.Process

    def __init__(self, number: int, on_told: Callable[[Told], None]) -> None:
        self.number = number
        self.hung = False
        self._on_told = on_told
        self._orders = Orders(self._left)
        self._silent = 0
        self._over = asyncio.Event()

    @classmethod
    async def start(
        cls,
        number: int,
        descriptors: Sequence[int],
        given: Given,
        on_told: Callable[[Told], None],
    ) -> Self:
        """Start a process and wait until it serves.

        Raises:
            SetupError: it cannot, and says why; or it ended, or took too long.
        """
        child = cls(number, on_told)
        ours, its = socket.socketpair()
        with its:
            place = number, given.workers
            child.process = await launch(place, its, descriptors)
        try:
            await opened(child._orders.channel, ours)
            await child._begin(given)
        except BaseException:
            child.kill()
            await child.process.wait()
            raise
        return child

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.process.pid

    @property
    def is_over(self) -> bool:
        """Whether it talks no more."""
        return self._over.is_set()

    async def ended(self) -> int:
        """Wait for its end. Gives its status, negative for a signal.

        What it told before has come by then.
        """
        status = await self.process.wait()
        await self._over.wait()
        return status

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def beat(self) -> bool:
        """Have it tell of itself, unless it still owes an answer. Gives if it hangs."""
        self._silent += 1
        if self._silent == 1:
            _ = self._tell()  # the answer is taken as it comes
        self.hung = self._silent > _BEATS
        return self.hung

    async def fresh(self) -> None:
        """Wait until it has told of itself, or is gone; not if it owes much already."""
        if self._silent <= 2:
            await asyncio.wait({self._tell()})

    async def prepare(self, given: Given) -> str | None:
        """Have it start a plant. Gives why it cannot."""
        try:
            answer = await self._orders.give(Verb.PREPARE, given)
        except EndedError:
            return "it ended"
        return None if answer.get("problem") is None else str(answer["problem"])

    async def commit(self) -> None:
        """Have it take up what it prepared."""
        with contextlib.suppress(EndedError):
            await self._orders.give(Verb.COMMIT)

    def abort(self) -> None:
        """Have it give up what it prepared."""
        _ = self._orders.give(Verb.ABORT)

    async def drain(self) -> int | None:
        """Have it end. Gives how many requests it cut off; None if it did not say."""
        try:
            answer = await self._orders.give(Verb.DRAIN)
        except EndedError:
            return None
        cut = answer.get("cut")
        return cut if isinstance(cut, int) else None

    def cut(self) -> None:
        """Have it end at once; it is draining."""
        _ = self._orders.give(Verb.CUT)

    def _left(self) -> None:
        """See that it ends, by itself or not: who does not talk cannot be told to."""
        self._over.set()
        asyncio.get_running_loop().call_later(_LEAVE_S, self.kill)

    async def _begin(self, given: Given) -> None:
        try:
            async with asyncio.timeout(_START_S):
                answer = await self._orders.give(Verb.START, given)
                if answer.get("problem") is not None:
                    raise SetupError(str(answer["problem"]))
                self._take(await self._orders.give(Verb.TELL))
        except TimeoutError:
            msg = f"worker {self.number} did not serve within {_START_S:g} s"
            raise SetupError(msg) from None
        except EndedError:
            status = await self.process.wait()
            msg = f"worker {self.number} ended before it served, {ending(status)}"
            raise SetupError(msg) from None

    def _tell(self) -> "asyncio.Future[Answer]":
        answer = self._orders.give(Verb.TELL)
        answer.add_done_callback(self._told)
        return answer

    def _told(self, answer: "asyncio.Future[Answer]") -> None:
        if not answer.cancelled() and answer.exception() is None:
            self._take(answer.result())

    def _take(self, answer: Answer) -> None:
        self._silent = 0
        self._on_told(Told(answer))


def ending(status: int) -> str:
    """Say how a process ended."""
    return f"by signal {-status}" if status < 0 else f"with status {status}"
