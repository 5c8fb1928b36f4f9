"""The running gateway: its listeners, its signals, its reloads, its end.

Whoever wants to know what talks to what reads this file and `gateway.plant`.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Final, TextIO

from aiohttp import web

from gateway.config import Settings
from gateway.edge.admin import admin_server
from gateway.edge.connection import Server
from gateway.edge.inbound import Inbound
from gateway.edge.listener import Listener, listening
from gateway.edge.request import Limits
from gateway.errors import SetupError
from gateway.events import ExchangeRecord
from gateway.keys.keyring import Keyring
from gateway.plant import CLOCK, ENTROPY, Plant
from gateway.telemetry.log import EventLog, ExchangeLog
from gateway.telemetry.metrics import Metrics

_MARGIN_S: Final = 5.0
"""Beyond the longest route's deadline, for what is under way to finish."""


class Telemetry:
    """Hands each fact to the metrics and to the log."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self.metrics = Metrics()
        dropped = self.metrics.lines_dropped
        self.events = EventLog(stderr, CLOCK.now, dropped("stderr"))
        self._exchanges = ExchangeLog(stdout, CLOCK.now, dropped("stdout"))

    def __call__(self, record: ExchangeRecord) -> None:
        """Note a finished exchange."""
        self.metrics(record)
        self._exchanges(record)

    def loaded(self, client: str, ring: Keyring) -> None:
        """Note a keyring that is in use from now on."""
        self.metrics.loaded(client, ring)
        self.events.loaded(client, ring)

    def failed(self, client: str, reason: str) -> None:
        """Note a keyring that was refused."""
        self.metrics.failed(client, reason)
        self.events.failed(client, reason)


class Gateway:
    """A gateway in this process. Make it where an event loop runs.

    Args:
        settings: the configuration to begin with.
        load: reads the configuration again, for a reload; raises SetupError.
        stdout: takes one line per exchange.
        stderr: takes one line per event of the gateway itself.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        stdout: TextIO,
        stderr: TextIO,
    ) -> None:
        self._load = load
        self._telemetry = Telemetry(stdout, stderr)
        self._plants = [Plant(settings, self._telemetry)]
        self._stopping = asyncio.Event()
        self._reload_wanted = asyncio.Event()

    async def run(
        self, started: Callable[[Listener, Listener], None] = lambda *_: None
    ) -> None:
        """Serve until `stop`, then finish what is under way.

        Args:
            started: called with the inbound and the admin listener once both
                accept connections.

        Raises:
            SetupError: a listener or a TLS file cannot be used.
        """
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        failure: SetupError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._serve(tasks, started)
        except* SetupError as errors:
            failure = next(e for e in errors.exceptions if isinstance(e, SetupError))
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Drain and end. May be called from a signal handler of the loop."""
        self._stopping.set()

    def handle_signals(self) -> None:
        """Drain on SIGTERM and SIGINT, reload on SIGHUP, also on one that was held."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def reasons(self) -> list[str]:
        """Give why the gateway is not ready; empty if it is."""
        if self._stopping.is_set():
            return ["the gateway is draining"]
        return self._plant.reasons()

    def warnings(self) -> list[str]:
        """Give what is wrong and does not stop traffic yet."""
        return self._plant.warnings()

    @property
    def _plant(self) -> Plant:
        """The plant in use; those before it are finishing their exchanges."""
        return self._plants[-1]

    async def _serve(
        self,
        tasks: asyncio.TaskGroup,
        started: Callable[[Listener, Listener], None],
    ) -> None:
        settings, metrics = self._plant.settings, self._telemetry.metrics
        admin = web.ServerRunner(
            admin_server(self.reasons, self.warnings, metrics.expose)
        )
        async with listening(
            admin, *settings.admin.listen, setting="admin.listen"
        ) as admin_listener:
            relay = await self._plant.start(tasks)
            inbound = Inbound(relay, _limits(settings), self._telemetry, CLOCK, ENTROPY)
            metrics.count_in_flight(lambda: inbound.in_flight)
            server = web.ServerRunner(
                Server(inbound.handle, inbound.refuse), shutdown_timeout=_MARGIN_S
            )
            try:
                async with listening(
                    server, *settings.inbound.listen, setting="inbound.listen"
                ) as inbound_listener:
                    self._announce(inbound_listener, admin_listener)
                    started(inbound_listener, admin_listener)
                    await self._until_stopped(tasks, inbound)
                    await self._drain(inbound, inbound_listener)
            finally:
                for plant in self._plants:
                    plant.end()
        self._telemetry.events.event("stopped")

    def _announce(self, inbound: Listener, admin: Listener) -> None:
        self._telemetry.events.event(
            "listening",
            inbound=f"{inbound.host}:{inbound.port}",
            admin=f"{admin.host}:{admin.port}",
            reasons_not_ready=self.reasons(),
        )

    async def _until_stopped(self, tasks: asyncio.TaskGroup, inbound: Inbound) -> None:
        reloading = tasks.create_task(self._reload_on_demand(tasks, inbound))
        await self._stopping.wait()
        reloading.cancel()

    async def _drain(self, inbound: Inbound, listener: Listener) -> None:
        self._telemetry.events.event("draining", in_flight=inbound.in_flight)
        await listener.stop_accepting()
        inbound.draining = True
        longest = max(_longest_timeout(plant.settings) for plant in self._plants)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest + _MARGIN_S):
                await inbound.idle()

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

    async def _reload(self, tasks: asyncio.TaskGroup, inbound: Inbound) -> None:
        """Start a plant for the new configuration, and only then swap.

        Raises:
            SetupError: something of it cannot be used; nothing has changed.
        """
        settings, before = await asyncio.to_thread(self._load), self._plant.settings
        if (settings.inbound.listen, settings.admin.listen) != (
            before.inbound.listen,
            before.admin.listen,
        ):
            msg = "inbound.listen and admin.listen change only at a restart"
            raise SetupError(msg)
        plant = Plant(settings, self._telemetry, self._plant)
        relay = await plant.start(tasks)
        if problems := plant.reasons():
            plant.end()
            raise SetupError("; ".join(problems))
        inbound.use(relay, _limits(settings))
        plant.tell()
        tasks.create_task(self._retire(self._plant))
        self._plants.append(plant)
        self._telemetry.events.event("reloaded")

    async def _retire(self, plant: Plant) -> None:
        """End a plant that was replaced, once its last exchange must be over."""
        plant.retire()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_longest_timeout(plant.settings) + _MARGIN_S):
                await self._stopping.wait()
                return
        self._plants.remove(plant)
        plant.end()

    def _on_loop_error(
        self, _: asyncio.AbstractEventLoop, context: dict[str, object]
    ) -> None:
        """Log that something failed outside of any exchange, without its text."""
        error = context.get("exception")
        self._telemetry.events.event("loop_error", error=type(error).__name__)


def _limits(settings: Settings) -> Limits:
    inbound = settings.inbound
    return Limits(
        inbound.max_body_bytes, inbound.max_concurrent, inbound.body_timeout_s
    )


def _longest_timeout(settings: Settings) -> float:
    return max(route.timeout_s for route in settings.routes)
