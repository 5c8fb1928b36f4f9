"""The gateway alone in its process: its listeners, its signals, its reloads.

Whoever wants to know what talks to what reads this file, `gateway.works` and
`gateway.plant`. Several workers are in `gateway.workers`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TextIO

from gateway.config import Settings
from gateway.edge.admin import admin_server
from gateway.edge.connection import Server
from gateway.edge.listener import Listener, listening
from gateway.observer import Telemetry
from gateway.works import (
    NO_VARIABLES,
    Works,
    audited,
    check_fixed,
    heed_signals,
    note_reload,
    reload_on_demand,
    where,
)

Started = Callable[[Listener, Listener], None]


class Gateway(Works):
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
        environment: Mapping[str, str] = NO_VARIABLES,
    ) -> None:
        super().__init__(settings, Telemetry(stdout, stderr), environment=environment)
        self._load = load
        self._reload_wanted = asyncio.Event()
        self._started: Started = lambda *_: None

    async def run(self, started: Started = lambda *_: None) -> int:
        """Serve until `stop`, then finish what is under way; as `Works.run`.

        Args:
            started: called with the inbound and the admin listener once both
                accept connections.
        """
        self._started = started
        return await super().run()

    def reload(self) -> None:
        """Read configuration and keys again. May be called from a signal handler."""
        self._reload_wanted.set()

    def handle_signals(self) -> None:
        """Drain on SIGTERM and SIGINT, reload on SIGHUP, also on one that was held.

        A second SIGTERM or SIGINT ends it at once.
        """
        heed_signals(self.stop, self.reload)

    def _audited(self) -> AbstractAsyncContextManager[None]:
        return audited(self._trail, self._plant.settings)

    @asynccontextmanager
    async def _opened(self, server: Server) -> AsyncIterator[Listener]:
        settings = self._plant.settings
        async with (
            listening(
                self._admin(),
                where(settings.admin.listen),
                setting="admin.listen",
                tls=self._live("admin", self._plant.admin_tls),
            ) as admin,
            listening(
                server,
                where(settings.inbound.listen),
                setting="inbound.listen",
                tls=self._live("inbound", self._plant.inbound_tls),
            ) as inbound,
        ):
            self._announce(inbound, admin)
            self._started(inbound, admin)
            yield inbound

    def _admin(self) -> Server:
        server = admin_server(
            self.reasons,
            self.warnings,
            self._telemetry.metrics.expose,
            self._telemetry.inventory.page,
            lambda: self._plant.settings.admin.tokens,
            hosts=lambda: frozenset(self._plant.settings.admin.hosts),
            on_refused=self._telemetry.full("admin"),
        )
        server.on_handshake_failed = partial(self._telemetry.handshake_failed, "admin")
        return server

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

    def _meanwhile(self) -> list[Coroutine[None, None, None]]:
        return [
            reload_on_demand(
                self._reload_wanted,
                self._reload,
                self._telemetry,
                lambda: self._plant.settings,
            ),
            *super()._meanwhile(),
        ]

    async def _drain(self, listener: Listener) -> int:
        self._telemetry.events.event("draining", in_flight=self._inbound.in_flight)
        return await super()._drain(listener)

    def _ended(self, cut: int) -> None:
        self._telemetry.events.event("stopped", cut_off=cut)
        self._telemetry.audit.note("stopped", cut_off=cut)

    async def _reload(self) -> None:
        """Start a plant for the new configuration, and only then swap.

        Raises:
            SetupError: something of it cannot be used; nothing has changed.
        """
        settings, before = await asyncio.to_thread(self._load), self._plant.settings
        check_fixed(before, settings)
        await self.prepare(settings)
        self.commit()
        note_reload(self._telemetry, before, settings)
