"""A configuration at work: what serves, what succeeds it, and how it ends.

`gateway.app` runs it alone in its process, `gateway.workers` in several. What talks to
what is to be read here and in `gateway.plant`.
"""

import asyncio
import contextlib
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gateway.access.admission import Admission, Quota
from gateway.access.policy import NewBucket
from gateway.audit.opening import actor
from gateway.audit.trail import Trail
from gateway.config import Listen, Settings, UnixAddress, digest_of, policy_change
from gateway.edge.connection import Server
from gateway.edge.inbound import Inbound, Service
from gateway.edge.listener import Listener
from gateway.edge.reasons import reason_of
from gateway.edge.tls import Certificates, LiveContext, keep_small_buffers
from gateway.errors import SetupError
from gateway.events import CertificateInUse
from gateway.keys.backends.known import known_homes
from gateway.keys.backends.pkcs11.pins import Refusals
from gateway.observer import Telemetry
from gateway.plant import CLOCK, ENTROPY, Plant, audit_file
from gateway.relay.lots import Lots
from gateway.telemetry.audit import AuditWatch
from gateway.telemetry.process import gateway_version

NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})

_MARGIN_S: Final = 5.0
"""Beyond the longest route's deadline, for what is under way to finish."""

_QUIET_S: Final = 5.0
"""Between two lines of the same error of the loop."""


class Works(ABC):
    """What serves in one process. Make it where an event loop runs.

    Args:
        settings: the configuration to begin with.
        telemetry: is told of everything.
        environment: the variables that may hold passphrases and PINs.
        new_bucket: makes the bucket of a caller's rate, where it is not this
            process's own.
        refusals: the PINs that tokens refused, where they are not this process's own.
        lots: of exchanges, where other processes draw the same.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        *,
        environment: Mapping[str, str] = NO_VARIABLES,
        new_bucket: NewBucket | None = None,
        refusals: Refusals | None = None,
        lots: Lots | None = None,
    ) -> None:
        self._homes = known_homes(
            environment,
            entropy=ENTROPY,
            monotonic=CLOCK.monotonic,
            refusals=refusals,
        )
        self._telemetry = telemetry
        self._trail = trail_of(settings, telemetry)
        self._memory = Quota(settings.room_for_bodies)
        self._new_bucket = new_bucket
        self._lots = lots or Lots(ENTROPY(32))
        self._plants = [
            Plant(
                settings,
                self._homes,
                telemetry,
                lots=self._lots,
                new_bucket=new_bucket,
            )
        ]
        self._admission = Admission(self._plant.limits)
        self._stopping = asyncio.Event()
        self._cutting = asyncio.Event()
        self._tls: dict[str, LiveContext] = {}
        self._tasks: asyncio.TaskGroup
        self._inbound: Inbound
        self._prepared: tuple[Plant, Service] | None = None

    async def run(self) -> int:
        """Serve until `stop`, then finish what is under way.

        Gives how many requests were cut off, because a second `stop` or the end of
        the time for draining came before theirs.

        Raises:
            SetupError: a listener or a TLS file cannot be used.
        """
        keep_small_buffers()
        tell_loop_errors(self._telemetry)
        failure: SetupError | None = None
        cut = 0
        try:
            async with self._audited(), asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                cut = await self._serve()
        except* SetupError as errors:
            failure = failure_of(errors)
        await asyncio.to_thread(self._homes.close)
        if failure is not None:
            raise failure
        return cut

    def stop(self) -> None:
        """Drain and end; the second time, end at once.

        May be called from a signal handler of the loop.
        """
        if self._stopping.is_set():
            self._cutting.set()
        self._stopping.set()

    def reasons(self) -> list[str]:
        """Give why the gateway is not ready; empty if it is."""
        if self._stopping.is_set():
            return ["the gateway is draining"]
        return (
            self._plant.reasons()
            + self._telemetry.answers.reasons()
            + audit_problems(self._trail, required=True)
        )

    def warnings(self) -> list[str]:
        """Give what is wrong and does not stop traffic yet."""
        return (
            self._plant.warnings()
            + self._telemetry.clocks.warnings()
            + self._telemetry.reach.warnings()
            + self._telemetry.inventory.warnings()
            + self._telemetry.answers.warnings()
            + self._telemetry.log_problems()
            + self._telemetry.certificates.warnings()
            + audit_problems(self._trail, required=False)
        )

    async def prepare(self, settings: Settings) -> None:
        """Start a plant for another configuration, which serves nothing yet.

        `commit` or `abort` must follow.

        Raises:
            SetupError: something of it cannot be used; nothing has changed.
        """
        self.abort()
        if problems := audit_problems(self._trail, required=True):
            raise SetupError("; ".join(problems))
        plant = Plant(
            settings,
            self._homes,
            self._telemetry,
            self._plant,
            lots=self._lots,
            new_bucket=self._new_bucket,
        )
        try:
            service = await plant.start(self._tasks)
        except asyncio.CancelledError:  # the gateway ends, and this never began
            plant.end()
            raise
        if problems := plant.reasons():
            plant.end()
            raise SetupError("; ".join(problems))
        self._prepared = plant, service

    def commit(self) -> None:
        """Serve by what was prepared; exchanges under way end as they began."""
        if self._prepared is None:
            return
        plant, service = self._prepared
        self._prepared = None
        self._take_up(plant, service)
        self._plant.yield_to(plant)
        plant.tell()
        self._tasks.create_task(self._retire(self._plant))
        self._plants.append(plant)

    def abort(self) -> None:
        """Give up what was prepared, if anything was."""
        if self._prepared is not None:
            self._prepared[0].end()
            self._prepared = None

    @abstractmethod
    def _audited(self) -> AbstractAsyncContextManager[None]:
        """Write the audit log, if there is one, to the end of the block."""

    @abstractmethod
    def _opened(self, server: Server) -> AbstractAsyncContextManager[Listener]:
        """Take connections, to the end of the block."""

    @abstractmethod
    def _ended(self, cut: int) -> None:
        """Note the end, and how many requests were cut off."""

    @property
    def _plant(self) -> Plant:
        """The plant in use; those before it are finishing their exchanges."""
        return self._plants[-1]

    async def _serve(self) -> int:
        settings = self._plant.settings
        service = await self._plant.start(self._tasks)
        self._inbound = inbound = Inbound(
            service,
            self._admission,
            self._memory,
            observer=self._telemetry,
            clock=CLOCK,
            entropy=ENTROPY,
        )
        if settings.audit is not None:
            inbound.audit(
                self._telemetry.audit.reserve, digests=settings.audit.exchanges
            )
        server = Server(
            inbound.handle,
            inbound.refuse,
            max_connections=settings.inbound.max_connections,
            head_s=settings.inbound.head_timeout_s,
            idle_s=settings.inbound.idle_timeout_s,
            max_head_bytes=lambda: inbound.max_head_bytes,
            memory=self._memory,
            on_refused=self._telemetry.full("inbound"),
        )
        server.on_handshake_failed = partial(
            self._telemetry.handshake_failed, "inbound"
        )
        self._watch_levels(server)
        self._telemetry.use(settings)
        try:
            async with self._opened(server) as listener:
                await self._until_stopped()
                cut = await self._drain(listener)
        finally:
            self.abort()
            for plant in self._plants:
                plant.end()
            self._telemetry.end()  # before the audit log's own end
        self._ended(cut)
        return cut

    def _live(
        self, listener: str, certificates: Certificates | None
    ) -> LiveContext | None:
        """Give a context that a reload may turn to the next plant's certificates."""
        if certificates is None:
            return None
        self._tls[listener] = LiveContext(certificates.context)
        return self._tls[listener]

    def _watch_levels(self, server: Server) -> None:
        self._telemetry.metrics.watch(
            in_flight=lambda: self._inbound.in_flight,
            waiting=lambda: self._admission.waiting,
            buffered_bytes=lambda: self._memory.taken,
            connections=lambda: server.open,
        )
        self._telemetry.watch_certificates(self._certificates)

    def _certificates(self) -> list[CertificateInUse]:
        return self._plant.certificates()

    def _meanwhile(self) -> list[Coroutine[None, None, None]]:
        """Give what goes on until the gateway is stopped."""
        return [
            self._telemetry.inventory.watch(CLOCK.sleep),
            self._telemetry.certificates.watch(CLOCK.sleep),
            self._homes.watch(),
        ]

    async def _until_stopped(self) -> None:
        until_then = [self._tasks.create_task(each) for each in self._meanwhile()]
        await self._stopping.wait()
        for task in until_then:
            task.cancel()

    def _grace_s(self) -> float:
        """Give how long connections are taken after readiness went down."""
        return self._plant.settings.inbound.drain_grace_s

    async def _drain(self, listener: Listener) -> int:
        """Finish what is under way. Gives how many requests were not finished.

        The listener stays open for a while after readiness went down: whoever spreads
        the load has to notice first.
        """
        inbound = self._inbound
        await self._or_cut(self._cutting.wait(), self._grace_s())
        await listener.stop_accepting()
        inbound.draining = True
        longest = max(_longest_timeout(plant.settings) for plant in self._plants)
        asyncio.get_running_loop().call_later(_MARGIN_S, inbound.arriving.end)
        await self._or_cut(inbound.idle(), longest + _MARGIN_S)
        if inbound.requests:
            self._telemetry.events.event("cut_off", requests=inbound.requests)
        return inbound.requests

    async def _or_cut(
        self, wait: Coroutine[None, None, object], at_most: float
    ) -> None:
        """Wait for something, but no longer than `at_most` or until a second signal."""
        waits = {
            asyncio.ensure_future(wait),
            asyncio.ensure_future(self._cutting.wait()),
        }
        await asyncio.wait(waits, timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    def _take_up(self, plant: Plant, service: Service) -> None:
        self._inbound.use(service)
        self._admission.use(plant.limits)
        self._memory.resize(plant.settings.room_for_bodies)
        self._telemetry.use(plant.settings)
        for listener, certificates in (
            ("inbound", plant.inbound_tls),
            ("admin", plant.admin_tls),
        ):
            if certificates is not None:
                self._tls[listener].present = certificates.context

    async def _retire(self, plant: Plant) -> None:
        """End a plant that was replaced, once its last exchange must be over."""
        plant.retire()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_longest_exchange(plant.settings) + _MARGIN_S):
                await self._stopping.wait()
                return
        self._plants.remove(plant)
        plant.end()


def trail_of(settings: Settings, telemetry: Telemetry) -> Trail | None:
    """Begin the audit log of this process, if there is to be one."""
    if settings.audit is None:
        return None
    who = actor({})
    trail = Trail(
        audit_file(settings.audit, who),
        who=who,
        now=CLOCK.now,
        listener=AuditWatch(
            telemetry.metrics.audit_failed,
            telemetry.events.event,
            asyncio.get_running_loop().call_soon_threadsafe,
        ),
        required=settings.audit.required,
        exchanges=settings.audit.exchanges,
    )
    telemetry.audit = trail
    return trail


def audit_problems(trail: Trail | None, *, required: bool) -> list[str]:
    """Give why the audit log cannot be written, where it is required, or is not."""
    if trail is None or trail.problem is None or trail.required is not required:
        return []
    return [f"audit: {trail.problem}"]


@contextlib.asynccontextmanager
async def audited(trail: Trail | None, settings: Settings) -> AsyncIterator[None]:
    """Write down the gateway's start and its end, each with a checkpoint."""
    if trail is None:
        yield
        return
    target = {"configuration": digest_of(settings), "policy": str(settings.policy)}
    trail.note("started", target=target, version=gateway_version())
    await asyncio.to_thread(trail.start)
    try:
        yield
    except* SetupError as errors:
        trail.note("stopped", reason=str(failure_of(errors)))
        raise
    finally:
        await asyncio.to_thread(trail.close)


def note_reload(telemetry: Telemetry, before: Settings, settings: Settings) -> None:
    """Tell that another configuration is in use."""
    telemetry.events.event("reloaded")
    note = telemetry.audit.note
    source, target = digest_of(before), digest_of(settings)
    note("configuration_reloaded", source=source, target=target)
    if change := policy_change(before, settings):
        note("policy_changed", source=change[0], target=change[1])


def _note_refusal(telemetry: Telemetry, reason: str, in_use: Settings) -> None:
    """Tell that another configuration was refused."""
    telemetry.events.event(
        "reload_refused",
        reason=reason,
        consequence="the configuration and keys in use stay in use",
    )
    telemetry.audit.note(
        "configuration_refused", reason=reason, source=digest_of(in_use)
    )


async def reload_on_demand(
    wanted: asyncio.Event,
    reload: Callable[[], Awaitable[None]],
    telemetry: Telemetry,
    in_use: Callable[[], Settings],
) -> None:
    """Reload each time that it is wanted. Runs until cancelled.

    Args:
        wanted: is set for that.
        reload: raises SetupError where nothing has changed.
        telemetry: is told why.
        in_use: gives the settings that stay in use.
    """
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            await reload()
        except SetupError as error:
            _note_refusal(telemetry, error.detail, in_use())


def failure_of(errors: ExceptionGroup[SetupError]) -> SetupError:
    """Give the first error of a group, however deep in it."""
    first = errors.exceptions[0]
    return failure_of(first) if isinstance(first, ExceptionGroup) else first


def check_fixed(before: Settings, settings: Settings) -> None:
    """Pass if a reload may take these settings up.

    Raises:
        SetupError: they change what only a restart can change.
    """
    if _fixed(settings) != _fixed(before):
        msg = (
            "inbound.listen, admin.listen, whether they have tls, max_connections, "
            "head_timeout_s, idle_timeout_s, workers and audit change only at a restart"
        )
        raise SetupError(msg)


def where(listen: Listen) -> tuple[str, int] | Path:
    """Give an address as a listener takes it."""
    return (
        listen.path if isinstance(listen, UnixAddress) else (listen.host, listen.port)
    )


@dataclass(slots=True)
class _Repeated:
    """An error that may come often, and what of it was not told yet."""

    quiet_until: float = 0.0
    untold: int = 0


def tell_loop_errors(telemetry: Telemetry) -> None:
    """Log what fails outside of any exchange, without its text.

    Not each time: where descriptors run out, asyncio says so thousands of times.
    """
    errors: dict[str, _Repeated] = {}

    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        name = type(error).__name__
        reason = reason_of(error) if isinstance(error, OSError) else None
        known = errors.setdefault(f"{name} {reason}", _Repeated())
        known.untold += 1
        if loop.time() >= known.quiet_until:
            telemetry.events.event(
                "loop_error", error=name, reason=reason, times=known.untold
            )
            known.quiet_until, known.untold = loop.time() + _QUIET_S, 0

    asyncio.get_running_loop().set_exception_handler(tell)


def heed_signals(stop: Callable[[], None], reload: Callable[[], None]) -> None:
    """Have SIGTERM and SIGINT stop, SIGHUP reload, also one that was held."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _fixed(settings: Settings) -> tuple[object, ...]:
    """Give what of a configuration only a restart can change."""
    inbound, admin = settings.inbound, settings.admin
    return (
        *(inbound.listen, inbound.tls is None, inbound.max_connections),
        *(inbound.head_timeout_s, inbound.idle_timeout_s),
        *(admin.listen, admin.tls is None),
        *(settings.workers, settings.audit),
    )


def _longest_exchange(settings: Settings) -> float:
    """Give the longest from a request's head until AlipayHK's last answer to it."""
    inbound = settings.inbound
    waits = inbound.body_timeout_s + inbound.queue_timeout_s
    return waits + _longest_timeout(settings)


def _longest_timeout(settings: Settings) -> float:
    return max(route.timeout_s for route in settings.routes)
