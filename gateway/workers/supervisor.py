"""The supervisor: binds, starts and replaces workers, and speaks for all of them.

It serves no exchange, and holds no key of a keyring: what it loads is the key of the
audit log and that of the admin listener, if they are configured.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final, TextIO

from gateway.config import Settings
from gateway.edge.admin import admin_server
from gateway.edge.connection import Server
from gateway.edge.listener import Listener, address_of, bound, listening
from gateway.edge.tls import Certificates, LiveContext, keep_small_buffers
from gateway.errors import SetupError
from gateway.observer import Telemetry
from gateway.plant import CLOCK, ENTROPY
from gateway.preflight import listener_tls
from gateway.sharing import Allotment, Buckets, Crowds, Memory, slots_of
from gateway.telemetry.merging import exposed, read
from gateway.telemetry.pages import told_by
from gateway.workers.channel import Given
from gateway.workers.child import BEAT_S, Child, ending
from gateway.workers.standing import Standing
from gateway.workers.streams import at_once
from gateway.works import (
    audit_problems,
    audited,
    check_fixed,
    failure_of,
    heed_signals,
    note_reload,
    reload_on_demand,
    tell_loop_errors,
    trail_of,
    where,
)

_PATIENCE_S: Final = 1.0
"""For workers to tell what a page of the admin listener shows; then it shows what they
told last."""

_LIVED_S: Final = 10.0
"""Who served for so long is replaced at once, and so is the first that did not."""

_PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before the next start of a worker that keeps dying; the last one stays."""


class Supervisor:
    """A gateway of several workers. Make it where an event loop runs.

    Args:
        settings: the configuration to begin with.
        load: reads the configuration again, for a reload; raises SetupError.
        stderr: takes one line per event.
    """

    def __init__(
        self, settings: Settings, load: Callable[[], Settings], *, stderr: TextIO
    ) -> None:
        self._settings = settings
        self._load = load
        stderr = at_once(stderr)
        self._telemetry = Telemetry(stderr, stderr)
        self._trail = trail_of(settings, self._telemetry)
        workers = settings.processes
        self._standing = Standing(workers, self._telemetry.answers)
        self._memory = Memory.new(ENTROPY)
        self._crowds = Crowds(self._memory, workers)
        self._allotment = Allotment(Buckets(self._memory), CLOCK.monotonic)
        self._allotment.use(self._allotment.plan(settings))
        self._admin_tls = _admin_tls(settings, self._telemetry)
        self._live = LiveContext(self._admin_tls.context) if self._admin_tls else None
        self._watch: asyncio.Task[None] | None = None
        self._places = {number: asyncio.Lock() for number in range(1, workers + 1)}
        self._children: dict[int, Child] = {}
        self._sockets: list[int] = []
        self._stopping = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    async def run(self) -> int:
        """Serve until `stop`, then have all finish what is under way.

        Gives how many requests were cut off.

        Raises:
            SetupError: a listener or a TLS file cannot be used, or no worker starts.
        """
        keep_small_buffers()
        tell_loop_errors(self._telemetry)
        failure: SetupError | None = None
        cut = 0
        try:
            async with (
                audited(self._trail, self._settings),
                asyncio.TaskGroup() as self._tasks,
            ):
                cut = await self._serve()
        except* SetupError as errors:
            failure = failure_of(errors)
        finally:
            self._telemetry.end()
            self._memory.close()
        if failure is not None:
            raise failure
        return cut

    def stop(self) -> None:
        """Drain and end; the second time, end at once. For a signal handler."""
        if self._stopping.is_set():
            for child in self._children.values():
                child.cut()
        self._stopping.set()

    def reload(self) -> None:
        """Read configuration and keys again. May be called from a signal handler."""
        self._reload_wanted.set()

    def handle_signals(self) -> None:
        """Drain on SIGTERM and SIGINT, reload on SIGHUP, also on one that was held."""
        heed_signals(self.stop, self.reload)

    def reasons(self) -> list[str]:
        """Give why the gateway is not ready; empty if it is."""
        if self._stopping.is_set():
            return ["the gateway is draining"]
        own = self._telemetry.answers.reasons()
        own += audit_problems(self._trail, required=True)
        return list(dict.fromkeys([*own, *self._standing.reasons()]))

    def warnings(self) -> list[str]:
        """Give what is wrong and does not stop traffic yet."""
        own = audit_problems(self._trail, required=False)
        own += self._telemetry.answers.warnings() + self._telemetry.log_problems()
        if self._admin_tls and (problem := self._admin_tls.problem):
            own.append(
                f"admin.tls: the certificate loaded before stays in use: {problem}"
            )
        return list(dict.fromkeys([*own, *self._standing.warnings()]))

    async def _serve(self) -> int:
        settings = self._settings
        self._telemetry.use(settings)
        async with (
            listening(
                self._admin(),
                where(settings.admin.listen),
                setting="admin.listen",
                tls=self._live,
            ) as admin,
            bound(where(settings.inbound.listen), setting="inbound.listen") as sockets,
            self._cared_for([each.fileno() for each in sockets]),
        ):
            self._announce(address_of(sockets, where(settings.inbound.listen)), admin)
            keeping = [
                self._tasks.create_task(each)
                for each in (
                    reload_on_demand(
                        self._reload_wanted,
                        self._reload,
                        self._telemetry,
                        lambda: self._settings,
                    ),
                    *(self._keep(number) for number in self._places),
                )
            ]
            await self._stopping.wait()
            for task in keeping:
                task.cancel()
            for each in sockets:
                each.close()  # or they would take connections that nobody serves
            return await self._drain()

    @asynccontextmanager
    async def _cared_for(self, sockets: list[int]) -> AsyncIterator[None]:
        """Have workers, each of which answers or is ended, to the end of the block."""
        self._sockets = sockets
        beating = self._tasks.create_task(self._beat())
        self._watch_certificates()
        try:
            async with asyncio.TaskGroup() as starts:
                for number in self._places:
                    starts.create_task(self._start(number))
            yield
        finally:
            beating.cancel()
            if self._watch is not None:
                self._watch.cancel()
            for child in self._children.values():
                child.kill()
                await child.ended()

    def _admin(self) -> Server:
        server = admin_server(
            self.reasons,
            self.warnings,
            lambda: exposed(
                self._standing.metrics(read(self._telemetry.metrics.told()))
            ),
            lambda: self._standing.keys(self._telemetry.inventory.page()),
            lambda: self._settings.admin.tokens,
            hosts=lambda: frozenset(self._settings.admin.hosts),
            gather=self._gather,
            on_refused=self._telemetry.full("admin"),
        )
        server.on_handshake_failed = partial(self._telemetry.handshake_failed, "admin")
        return server

    def _announce(self, inbound: str, admin: Listener) -> None:
        self._telemetry.events.event(
            "listening",
            inbound=inbound,
            admin=admin.address,
            callers=len(self._settings.callers),
            policy=str(self._settings.policy),
            workers=len(self._places),
            reasons_not_ready=self.reasons(),
        )

    async def _gather(self) -> None:
        """Have all workers tell how they are now, those that do it soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await asyncio.gather(*(each.fresh() for each in self._living()))

    def _living(self) -> list[Child]:
        return [each for each in self._children.values() if not each.is_over]

    async def _beat(self) -> None:
        """End workers that answer no more. Runs until cancelled."""
        while True:
            await CLOCK.sleep(BEAT_S)
            for child in self._living():
                if child.beat():
                    self._telemetry.events.event(
                        "worker_hung",
                        worker=child.number,
                        pid=child.pid,
                        consequence="it is killed",
                    )
                    child.kill()

    async def _keep(self, number: int) -> None:
        """Have a worker in this place. Runs until cancelled."""
        short_lives = 0
        while True:
            child = self._children[number]
            since = CLOCK.monotonic()
            status = await child.ended()
            self._note_death(child, status)
            lived = CLOCK.monotonic() - since
            short_lives = 0 if lived >= _LIVED_S else short_lives + 1
            short_lives = await self._replace(number, short_lives)

    async def _replace(self, number: int, short_lives: int) -> int:
        """Start another worker. Gives how often one in its place lived shortly."""
        while True:
            pause = min(max(short_lives - 1, 0), len(_PAUSES_S) - 1)
            await CLOCK.sleep(_PAUSES_S[pause])
            self._standing.restarts[number] += 1
            try:
                await self._start(number)
            except SetupError as error:
                self._telemetry.events.event(
                    "worker_not_started", worker=number, reason=error.detail
                )
                short_lives += 1
            else:
                return short_lives

    async def _start(self, number: int) -> None:
        """Start a worker with the settings in use.

        Raises:
            SetupError: it cannot serve, or ended before it did.
        """
        async with self._places[number]:
            child = await Child.start(
                number,
                [self._memory.descriptor, *self._sockets],
                Given(self._settings, self._allotment.slots, len(self._places)),
                partial(self._standing.told, number),
            )
            self._children[number] = child
        self._telemetry.events.event("worker_started", worker=number, pid=child.pid)

    def _note_death(self, child: Child, status: int) -> None:
        self._children.pop(child.number)
        self._crowds.nobody(child.number)
        self._standing.died(child.number)
        facts: dict[str, object] = {
            "worker": child.number,
            "pid": child.pid,
            **({"signal": -status} if status < 0 else {"status": status}),
        }
        self._telemetry.events.event(
            "worker_died",
            **facts,
            consequence="its exchanges under way have no answer: unknown",
        )
        self._telemetry.audit.note("worker_died", **facts)

    async def _drain(self) -> int:
        """Have all workers finish what is under way, each as if it were alone."""
        self._telemetry.events.event("draining", in_flight=self._standing.in_flight())
        children = list(self._children.values())
        cut = sum(await asyncio.gather(*map(self._drained, children)))
        self._telemetry.events.event("stopped", cut_off=cut)
        self._telemetry.audit.note("stopped", cut_off=cut)
        return cut

    async def _drained(self, child: Child) -> int:
        """Have a worker end. Gives how many requests it did not finish."""
        cut = await child.drain()
        status = await child.ended()
        if cut is None:  # it died; what it had under way had no answer
            last = self._standing.died(child.number)
            cut = last.in_flight if last is not None else 0
            self._telemetry.events.event(
                "cut_off", worker=child.number, requests=cut, reason=ending(status)
            )
        return cut

    async def _reload(self) -> None:
        """Have every worker prepare; only if all could, have them all take it up.

        Raises:
            SetupError: something of it cannot be used; nothing has changed.
        """
        settings, before = await asyncio.to_thread(self._load), self._settings
        check_fixed(before, settings)
        if problems := audit_problems(self._trail, required=True):
            raise SetupError("; ".join(problems))
        admin_tls = _admin_tls(settings, self._telemetry)
        async with AsyncExitStack() as stack:
            for place in self._places.values():  # nobody starts with what was before
                await stack.enter_async_context(place)
            planned = self._allotment.plan(settings)
            given = Given(settings, slots_of(planned), len(self._places))
            children = await self._prepare(given)
            self._settings = settings
            self._allotment.use(planned)
            await asyncio.gather(*(each.commit() for each in children))
        self._take_up(admin_tls)
        note_reload(self._telemetry, before, settings)

    async def _prepare(self, given: Given) -> list[Child]:
        """Have every worker prepare.

        Raises:
            SetupError: one could not; none of them has changed.
        """
        children = self._living()
        answers = await asyncio.gather(*(each.prepare(given) for each in children))
        problems = {
            child.number: [answer] if answer else []
            for child, answer in zip(children, answers, strict=True)
        }
        if not any(answers) and children:
            return children
        for child in children:
            child.abort()
        why = told_by(problems) or ["no worker serves at the moment"]
        raise SetupError("; ".join(why))

    def _take_up(self, admin_tls: Certificates | None) -> None:
        self._telemetry.use(self._settings)
        self._admin_tls = admin_tls
        if self._live is not None and admin_tls is not None:
            self._live.present = admin_tls.context
        self._watch_certificates()

    def _watch_certificates(self) -> None:
        """Take up changed files of the admin listener, of these settings alone."""
        if self._watch is not None:
            self._watch.cancel()
        if self._admin_tls is not None:
            self._watch = self._tasks.create_task(self._admin_tls.watch())


def _admin_tls(settings: Settings, telemetry: Telemetry) -> Certificates | None:
    tls = settings.admin.tls
    if tls is None:
        return None
    return Certificates(
        "admin.tls",
        (tls.certificate, tls.private_key, tls.client_ca),
        partial(listener_tls, "admin.tls", tls, required=not settings.admin.tokens),
        telemetry,
    )
