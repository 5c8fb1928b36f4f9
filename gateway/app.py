"""The running gateway: its listeners, its signals, its reloads, its end.

Whoever wants to know what talks to what reads this file and `gateway.plant`.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Final, TextIO

from gateway.access.admission import Admission, Quota
from gateway.audit.opening import actor
from gateway.audit.trail import Audit, NoAudit, Trail
from gateway.config import Listen, Settings, UnixAddress, digest_of, policy_change
from gateway.edge.admin import admin_server
from gateway.edge.connection import Server
from gateway.edge.inbound import Inbound, Service
from gateway.edge.listener import Listener, listening
from gateway.edge.tls import Certificates, LiveContext, keep_small_buffers
from gateway.errors import SetupError
from gateway.events import CanaryHalt, ExchangeRecord
from gateway.keys.backends.known import known_homes
from gateway.keys.keyring import Keyring
from gateway.plant import CLOCK, ENTROPY, Plant, audit_file
from gateway.relay.breaker import BreakerState
from gateway.telemetry.audit import AuditWatch, facts_of
from gateway.telemetry.clocks import ClockWatch
from gateway.telemetry.inventory import Inventory
from gateway.telemetry.log import EventLog, ExchangeLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.reach import KeyReach

_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})

_MARGIN_S: Final = 5.0
"""Beyond the longest route's deadline, for what is under way to finish."""

_QUIET_S: Final = 5.0
"""Between two lines of the same error of the loop."""


@dataclass(slots=True)
class _Repeated:
    """An error that may come often, and what of it was not told yet."""

    quiet_until: float = 0.0
    untold: int = 0


class Telemetry:
    """Hands each fact to the metrics, to the log and to the audit log."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self.metrics = Metrics()
        dropped = self.metrics.lines_dropped
        self.events = EventLog(stderr, CLOCK.now, dropped("stderr"))
        self.clocks = ClockWatch(self.events.event)
        self.reach = KeyReach(self.events.event)
        self.inventory = Inventory(CLOCK.now, self.events.event)
        self.metrics.watch_keys(self.inventory.figures)
        self.audit: Audit = NoAudit()
        self._exchanges = ExchangeLog(stdout, CLOCK.now, dropped("stdout"))
        self._loop = asyncio.get_running_loop()
        self._ended: list[ExchangeRecord] = []
        """Exchanges of this turn of the loop."""
        self._rings: dict[str, Keyring] = {}

    def use(self, settings: Settings) -> None:
        """Judge clocks and keys by these settings from now on."""
        clients = settings.clients
        self.clocks.use({each.name: each.clock_tolerance_s for each in clients})
        self.inventory.use({each.name: each.cryptoperiod for each in clients})
        self.metrics.keep({each.name for each in clients})
        self.reach.keep({each.name for each in clients})

    def __call__(self, record: ExchangeRecord) -> None:
        """Note a finished exchange, with all others of this turn of the loop.

        Together they cost half: the same code runs for one after the other, and their
        lines are one write.
        """
        self._ended.append(record)
        if len(self._ended) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Note what has not been noted yet."""
        ended, self._ended = self._ended, []
        for record in ended:
            self.metrics(record)
            self.clocks(record)
            self.reach(record)
            self.inventory(record)
            self.audit.exchange(record)
        self._exchanges.tell(ended)

    def loaded(self, client: str, ring: Keyring) -> None:
        """Note a keyring that is in use from now on."""
        self.metrics.loaded(client, ring)
        self.events.loaded(client, ring)
        self.inventory.loaded(client, ring)
        before, self._rings[client] = self._rings.get(client), ring
        self.audit.note(
            "keyring_loaded",
            client=client,
            source=facts_of(before),
            target=facts_of(ring),
        )

    def failed(self, client: str, reason: str) -> None:
        """Note a keyring that was refused."""
        self.metrics.failed(client, reason)
        self.events.failed(client, reason)
        self.audit.note(
            "keyring_refused",
            client=client,
            reason=reason,
            source=facts_of(self._rings.get(client)),
        )

    def reused(self, client: str, generation: int) -> None:
        """Note a keyring whose generation stood for another one."""
        self.events.reused(client, generation)

    def certificates_loaded(self, setting: str) -> None:
        """Note changed TLS files that are in use from now on."""
        self.events.event("certificates_loaded", setting=setting)
        self.audit.note("certificates_loaded", setting=setting)

    def certificates_refused(self, setting: str, reason: str) -> None:
        """Note changed TLS files that cannot be used."""
        self.metrics.certificates_refused(setting)
        self.events.event(
            "certificates_refused",
            setting=setting,
            reason=reason,
            consequence="new connections go on with those loaded before",
        )
        self.audit.note("certificates_refused", setting=setting, reason=reason)

    def canary_judged(self, client: str, key_version: str, *, failed: bool) -> None:
        """Note an exchange that tells of a canary, or of the version beside it."""
        self.metrics.canary_judged(client, key_version, failed=failed)

    def canary_halted(self, client: str, halt: CanaryHalt) -> None:
        """Note that the earlier version signs everything from now on, and why."""
        self.metrics.canary_halted(client)
        self.events.canary_halted(client, halt)
        self.audit.note(
            "canary_halted",
            client=client,
            reason=halt.reason,
            source={"signs": [halt.key_version, halt.other_version]},
            target={"signs": [halt.other_version]},
            evidence=asdict(halt),
        )

    def canary_halt_not_kept(self, client: str, reason: str) -> None:
        """Note that only this process knows of it."""
        self.events.event(
            "canary_halt_not_kept",
            client=client,
            reason=reason,
            consequence="other processes, and this one when it is started again, try "
            "the canary once more; change the ring where it comes from",
        )
        self.audit.note("canary_halt_not_kept", client=client, reason=reason)

    def breaker_changed(self, client: str, state: BreakerState) -> None:
        """Note that a client's breaker opened, is probing, or closed."""
        self.metrics.breaker_changed(client, state)
        self.events.event(f"breaker_{state.name.lower()}", client=client)

    def breaker_stands(self, client: str, state: BreakerState) -> None:
        """Note where the breaker stands that a client has from now on."""
        self.metrics.breaker_changed(client, state)


class Gateway:
    """A gateway in this process. Make it where an event loop runs.

    Args:
        settings: the configuration to begin with.
        load: reads the configuration again, for a reload; raises SetupError.
        stdout: takes one line per exchange.
        stderr: takes one line per event of the gateway itself.
        environment: the variables that may hold passphrases and PINs.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        stdout: TextIO,
        stderr: TextIO,
        environment: Mapping[str, str] = _NO_VARIABLES,
    ) -> None:
        self._load = load
        self._homes = known_homes(
            environment, entropy=ENTROPY, monotonic=CLOCK.monotonic
        )
        self._telemetry = Telemetry(stdout, stderr)
        self._trail = self._trail_of(settings)
        self._memory = Quota(settings.room_for_bodies)
        self._plants = [Plant(settings, self._memory, self._homes, self._telemetry)]
        self._admission = Admission(self._plant.limits)
        self._stopping = asyncio.Event()
        self._cutting = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._tls: dict[str, LiveContext] = {}
        self._loop_errors: dict[str, _Repeated] = {}

    async def run(
        self, started: Callable[[Listener, Listener], None] = lambda *_: None
    ) -> int:
        """Serve until `stop`, then finish what is under way.

        Args:
            started: called with the inbound and the admin listener once both
                accept connections.

        Gives how many requests were cut off, because a second `stop` or the end of
        the time for draining came before theirs.

        Raises:
            SetupError: a listener or a TLS file cannot be used.
        """
        keep_small_buffers()
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        failure: SetupError | None = None
        cut = 0
        try:
            async with (
                self._audited(self._plant.settings),
                asyncio.TaskGroup() as tasks,
            ):
                cut = await self._serve(tasks, started)
        except* SetupError as errors:
            failure = next(e for e in errors.exceptions if isinstance(e, SetupError))
        self._telemetry.flush()
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

    def reload(self) -> None:
        """Read configuration and keys again. May be called from a signal handler."""
        self._reload_wanted.set()

    def handle_signals(self) -> None:
        """Drain on SIGTERM and SIGINT, reload on SIGHUP, also on one that was held.

        A second SIGTERM or SIGINT ends it at once.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def reasons(self) -> list[str]:
        """Give why the gateway is not ready; empty if it is."""
        if self._stopping.is_set():
            return ["the gateway is draining"]
        return self._plant.reasons() + self._audit_problems(required=True)

    def warnings(self) -> list[str]:
        """Give what is wrong and does not stop traffic yet."""
        return (
            self._plant.warnings()
            + self._telemetry.clocks.warnings()
            + self._telemetry.reach.warnings()
            + self._telemetry.inventory.warnings()
            + self._audit_problems(required=False)
        )

    @property
    def _plant(self) -> Plant:
        """The plant in use; those before it are finishing their exchanges."""
        return self._plants[-1]

    def _trail_of(self, settings: Settings) -> Trail | None:
        """Begin the audit log, if there is to be one."""
        if settings.audit is None:
            return None
        who = actor({})
        trail = Trail(
            audit_file(settings.audit, who),
            who=who,
            now=CLOCK.now,
            listener=AuditWatch(
                self._telemetry.metrics.audit_failed,
                self._telemetry.events.event,
                asyncio.get_running_loop().call_soon_threadsafe,
            ),
            required=settings.audit.required,
            exchanges=settings.audit.exchanges,
        )
        self._telemetry.audit = trail
        return trail

    def _audit_problems(self, *, required: bool) -> list[str]:
        trail = self._trail
        if trail is None or trail.problem is None or trail.required is not required:
            return []
        return [f"audit: {trail.problem}"]

    @contextlib.asynccontextmanager
    async def _audited(self, settings: Settings) -> AsyncIterator[None]:
        """Write down the start and the end, each with a checkpoint."""
        if self._trail is None:
            yield
            return
        target = {"configuration": digest_of(settings), "policy": str(settings.policy)}
        self._trail.note("started", target=target, version=_version())
        await asyncio.to_thread(self._trail.start)
        try:
            yield
        except* SetupError as errors:
            self._trail.note("stopped", reason=str(errors.exceptions[0]))
            raise
        finally:
            await asyncio.to_thread(self._trail.close)

    async def _serve(
        self,
        tasks: asyncio.TaskGroup,
        started: Callable[[Listener, Listener], None],
    ) -> int:
        settings = self._plant.settings
        service = await self._plant.start(tasks)
        inbound = Inbound(
            service,
            self._admission,
            self._memory,
            observer=self._telemetry,
            clock=CLOCK,
            entropy=ENTROPY,
        )
        if settings.audit is not None:
            inbound.audit(self._telemetry.audit.check, digests=settings.audit.exchanges)
        server = Server(
            inbound.handle,
            inbound.refuse,
            max_connections=settings.inbound.max_connections,
            idle_s=settings.inbound.idle_timeout_s,
            max_head_bytes=lambda: inbound.max_head_bytes,
            on_refused=self._telemetry.metrics.connection_refused,
        )
        self._watch_levels(inbound, server)
        self._telemetry.use(settings)
        try:
            async with (
                listening(
                    self._admin(),
                    _where(settings.admin.listen),
                    setting="admin.listen",
                    tls=self._live("admin", self._plant.admin_tls),
                ) as admin_listener,
                listening(
                    server,
                    _where(settings.inbound.listen),
                    setting="inbound.listen",
                    tls=self._live("inbound", self._plant.inbound_tls),
                ) as inbound_listener,
            ):
                self._announce(inbound_listener, admin_listener)
                started(inbound_listener, admin_listener)
                await self._until_stopped(tasks, inbound)
                cut = await self._drain(inbound, inbound_listener)
        finally:
            for plant in self._plants:
                plant.end()
        self._telemetry.events.event("stopped", cut_off=cut)
        self._telemetry.audit.note("stopped", cut_off=cut)
        return cut

    def _admin(self) -> Server:
        return admin_server(
            self.reasons,
            self.warnings,
            self._telemetry.metrics.expose,
            self._telemetry.inventory.page,
            lambda: self._plant.settings.admin.tokens,
        )

    def _live(
        self, listener: str, certificates: Certificates | None
    ) -> LiveContext | None:
        """Give a context that a reload may turn to the next plant's certificates."""
        if certificates is None:
            return None
        self._tls[listener] = LiveContext(certificates.context)
        return self._tls[listener]

    def _watch_levels(self, inbound: Inbound, server: Server) -> None:
        self._telemetry.metrics.watch(
            in_flight=lambda: inbound.in_flight,
            waiting=lambda: self._admission.waiting,
            buffered_bytes=lambda: self._memory.taken,
            connections=lambda: server.open,
        )

    def _announce(self, inbound: Listener, admin: Listener) -> None:
        settings = self._plant.settings
        self._telemetry.events.event(
            "listening",
            inbound=inbound.address,
            admin=admin.address,
            callers=len(settings.callers),
            policy=str(settings.policy),
            reasons_not_ready=self.reasons(),
        )

    async def _until_stopped(self, tasks: asyncio.TaskGroup, inbound: Inbound) -> None:
        until_then = [
            tasks.create_task(self._reload_on_demand(tasks, inbound)),
            tasks.create_task(self._telemetry.inventory.watch(CLOCK.sleep)),
            tasks.create_task(self._homes.watch()),
        ]
        await self._stopping.wait()
        for task in until_then:
            task.cancel()

    async def _drain(self, inbound: Inbound, listener: Listener) -> int:
        """Finish what is under way. Gives how many requests were not finished.

        The listener stays open for a while after readiness went down: whoever spreads
        the load has to notice first.
        """
        self._telemetry.events.event("draining", in_flight=inbound.in_flight)
        grace = self._plant.settings.inbound.drain_grace_s
        await self._or_cut(self._cutting.wait(), grace)
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

    async def _reload_on_demand(
        self, tasks: asyncio.TaskGroup, inbound: Inbound
    ) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            try:
                await self._reload(tasks, inbound)
            except SetupError as error:
                self._telemetry.events.event(
                    "reload_refused",
                    reason=error.detail,
                    consequence="the configuration and keys in use stay in use",
                )
                self._telemetry.audit.note(
                    "configuration_refused",
                    reason=error.detail,
                    source=digest_of(self._plant.settings),
                )

    async def _reload(self, tasks: asyncio.TaskGroup, inbound: Inbound) -> None:
        """Start a plant for the new configuration, and only then swap.

        Raises:
            SetupError: something of it cannot be used; nothing has changed.
        """
        settings, before = await asyncio.to_thread(self._load), self._plant.settings
        if _fixed(settings) != _fixed(before):
            msg = (
                "inbound.listen, admin.listen, whether they have tls, max_connections, "
                "idle_timeout_s and audit change only at a restart"
            )
            raise SetupError(msg)
        if problems := self._audit_problems(required=True):
            raise SetupError("; ".join(problems))
        plant = Plant(settings, self._memory, self._homes, self._telemetry, self._plant)
        try:
            service = await plant.start(tasks)
        except asyncio.CancelledError:  # the gateway ends, and this never began
            plant.end()
            raise
        if problems := plant.reasons():
            plant.end()
            raise SetupError("; ".join(problems))
        self._take_up(plant, inbound, service)
        self._plant.yield_to(plant)
        plant.tell()
        tasks.create_task(self._retire(self._plant))
        self._plants.append(plant)
        self._telemetry.events.event("reloaded")
        self._note_reload(before, settings)

    def _note_reload(self, before: Settings, settings: Settings) -> None:
        note = self._telemetry.audit.note
        source, target = digest_of(before), digest_of(settings)
        note("configuration_reloaded", source=source, target=target)
        if change := policy_change(before, settings):
            note("policy_changed", source=change[0], target=change[1])

    def _take_up(self, plant: Plant, inbound: Inbound, service: Service) -> None:
        inbound.use(service)
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

    def _on_loop_error(
        self, loop: asyncio.AbstractEventLoop, context: dict[str, object]
    ) -> None:
        """Log that something failed outside of any exchange, without its text.

        Not each time: where descriptors run out, asyncio says so thousands of times.
        """
        error = context.get("exception")
        name = type(error).__name__
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else None
        known = self._loop_errors.setdefault(f"{name} {number}", _Repeated())
        known.untold += 1
        if loop.time() >= known.quiet_until:
            self._telemetry.events.event(
                "loop_error", error=name, reason=reason, times=known.untold
            )
            known.quiet_until, known.untold = loop.time() + _QUIET_S, 0


def _version() -> str:
    try:
        return version("alipayhk-gateway")
    except PackageNotFoundError:
        return "(not installed as a package)"


def _where(listen: Listen) -> tuple[str, int] | Path:
    return (
        listen.path if isinstance(listen, UnixAddress) else (listen.host, listen.port)
    )


def _fixed(settings: Settings) -> tuple[object, ...]:
    """Give what of a configuration only a restart can change."""
    inbound, admin = settings.inbound, settings.admin
    return (
        *(inbound.listen, inbound.tls is None, inbound.max_connections),
        *(inbound.idle_timeout_s, admin.listen, admin.tls is None, settings.audit),
    )


def _longest_exchange(settings: Settings) -> float:
    """Give the longest from a request's head until AlipayHK's last answer to it."""
    inbound = settings.inbound
    waits = inbound.body_timeout_s + inbound.queue_timeout_s
    return waits + _longest_timeout(settings)


def _longest_timeout(settings: Settings) -> float:
    return max(route.timeout_s for route in settings.routes)
