"""A worker: serves from what its supervisor gave it, and does as it is told."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TextIO

from gateway.access.policy import Taking
from gateway.access.rates import Rate
from gateway.audit.trail import Trail
from gateway.edge.connection import Server
from gateway.edge.door import Shared
from gateway.edge.listener import Listener, listening
from gateway.errors import SetupError
from gateway.keys.backends.pkcs11.pins import Refusals
from gateway.observer import Telemetry
from gateway.plant import ENTROPY
from gateway.relay.lots import Lots
from gateway.sharing import (
    Buckets,
    Crowds,
    Memory,
    SharedBucket,
    SharedRefusals,
    Slots,
    part_of,
)
from gateway.workers.channel import Answer, Answers, Given, Order, Verb, opened
from gateway.workers.streams import at_once
from gateway.works import Works, failure_of, where


class Shares:
    """The buckets of this worker's policy, as the supervisor allots them."""

    def __init__(self, buckets: Buckets, slots: Slots) -> None:
        self.slots = slots
        self._buckets = buckets

    def new(self, caller: str, rate: Rate) -> Taking:
        """Give the bucket of a caller."""
        return SharedBucket(self._buckets, self.slots[caller], rate)


class Part(Works):
    """What serves in a worker.

    Args:
        given: what it works by.
        telemetry: is told of everything.
        shares: the buckets of callers' rates.
        shared: where connections come from.
        lots: of exchanges, the same in all workers.
        environment: the variables that may hold passphrases and PINs.
        refusals: the PINs that tokens refused, whichever worker tried them.
    """

    def __init__(  # noqa: PLR0913 - what workers share, each by its name
        self,
        given: Given,
        telemetry: Telemetry,
        *,
        shares: Shares,
        shared: Shared,
        lots: Lots,
        environment: Mapping[str, str],
        refusals: Refusals | None = None,
    ) -> None:
        super().__init__(
            part_of(given.settings, given.workers),
            telemetry,
            environment=environment,
            new_bucket=shares.new,
            refusals=refusals,
            lots=lots,
        )
        self.serving = asyncio.Event()
        self._shares = shares
        self._shared = shared
        self._orphaned = False

    def orphaned(self) -> None:
        """Drain and end without grace: whoever spreads the load knows already."""
        self._orphaned = True
        if not self._stopping.is_set():
            self._telemetry.events.event("supervisor_gone")
            self.stop()

    async def take(self, given: Given) -> None:
        """Prepare other settings; as `prepare`."""
        self._shares.slots = given.slots
        await self.prepare(part_of(given.settings, given.workers))

    def told(self) -> Answer:
        """Give what is to be told of this worker; `standing.Told` reads it."""
        telemetry = self._telemetry
        return {
            "metrics": telemetry.metrics.told(),
            "reasons": self.reasons(),
            "warnings": self.warnings(),
            "keys": telemetry.inventory.page(),
            "answers": telemetry.answers.seen(),
        }

    def _audited(self) -> AbstractAsyncContextManager[None]:
        return _writing(self._trail)

    @asynccontextmanager
    async def _opened(self, server: Server) -> AsyncIterator[Listener]:
        async with listening(
            server,
            where(self._plant.settings.inbound.listen),
            setting="inbound.listen",
            tls=self._live("inbound", self._plant.inbound_tls),
            shared=self._shared,
        ) as listener:
            self.serving.set()
            yield listener

    def _grace_s(self) -> float:
        return 0.0 if self._orphaned else super()._grace_s()

    def _ended(self, cut: int) -> None:
        """Leave it to the supervisor to tell."""


@asynccontextmanager
async def _writing(trail: Trail | None) -> AsyncIterator[None]:
    """Write the audit log; that the gateway starts and ends is the supervisor's line."""
    if trail is None:
        yield
        return
    await asyncio.to_thread(trail.start)
    try:
        yield
    finally:
        await asyncio.to_thread(trail.close)


class Worker:
    """A worker's process.

    Args:
        place: its number, from 1, and how many workers there are.
        memory: what all of them have.
        sockets: where connections come from.
        stdout: takes one line per exchange.
        stderr: takes one line per event.
        environment: the variables that may hold passphrases and PINs.
    """

    def __init__(
        self,
        place: tuple[int, int],
        memory: Memory,
        sockets: tuple[socket.socket, ...],
        *,
        stdout: TextIO,
        stderr: TextIO,
        environment: Mapping[str, str],
    ) -> None:
        number, workers = place
        self._telemetry = Telemetry(at_once(stdout), at_once(stderr), number)
        self._buckets = Buckets(memory)
        self._refusals = SharedRefusals(memory, ENTROPY)
        self._lots = Lots(memory.secret)
        self._shared = Shared(sockets, Crowds(memory, workers).of(number))
        self._environment = environment
        self._answers = Answers(self._ordered, self._left)
        self._to_start: asyncio.Future[Order | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._to_drain: Order | None = None
        self._gone = asyncio.Event()
        self._part: Part
        self._tasks: asyncio.TaskGroup

    async def run(self, end: socket.socket) -> int:
        """Serve until told to end. Gives the exit status.

        Args:
            end: of the pair of sockets.
        """
        await opened(self._answers.channel, end)
        start = await self._to_start
        if start is None or start.given is None:
            return 1
        cut = 1
        try:
            cut = await self._serve(start, start.given)
        except* SetupError as errors:
            self._answers.answer(start, problem=failure_of(errors).detail)
        if self._to_drain is not None:
            self._answers.answer(self._to_drain, cut=cut)
        self._answers.channel.close()
        await self._gone.wait()
        return 1 if cut else 0

    async def _serve(self, start: Order, given: Given) -> int:
        self._part = Part(
            given,
            self._telemetry,
            shares=Shares(self._buckets, given.slots),
            shared=self._shared,
            lots=self._lots,
            environment=self._environment,
            refusals=self._refusals,
        )
        if self._gone.is_set():
            self._part.orphaned()
        async with asyncio.TaskGroup() as self._tasks:
            telling = self._tasks.create_task(self._tell_started(start))
            cut = await self._part.run()
            telling.cancel()
        return cut

    async def _tell_started(self, start: Order) -> None:
        await self._part.serving.wait()
        self._answers.answer(start)

    def _ordered(self, order: Order) -> None:
        match order.verb:
            case Verb.START:
                self._to_start.set_result(order)
            case Verb.TELL:
                self._answers.answer(order, **self._part.told())
            case Verb.PREPARE:
                self._tasks.create_task(self._prepare(order))
            case Verb.DRAIN:
                self._to_drain = order
                self._part.stop()
            case Verb.COMMIT | Verb.ABORT | Verb.CUT:
                act = {
                    Verb.COMMIT: self._part.commit,
                    Verb.ABORT: self._part.abort,
                    Verb.CUT: self._part.stop,
                }[order.verb]
                act()
                self._answers.answer(order)

    async def _prepare(self, order: Order) -> None:
        assert order.given is not None  # noqa: S101
        try:
            await self._part.take(order.given)
        except SetupError as error:
            self._answers.answer(order, problem=error.detail)
        else:
            self._answers.answer(order)

    def _left(self) -> None:
        """Go on without a supervisor, to the end of what is under way."""
        self._gone.set()
        if not self._to_start.done():
            self._to_start.set_result(None)
        elif hasattr(self, "_part"):
            self._part.orphaned()
