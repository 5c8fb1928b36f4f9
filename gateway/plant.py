"""What one configuration makes: a policy, a relay, upstreams, and what is watched.

Together with `gateway.app` this is the composition root: the real clock and the
real entropy are bound here and nowhere else.
"""

import asyncio
import os
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

from gateway import config
from gateway.access.admission import Limits
from gateway.access.callers import Caller, Callers
from gateway.access.policy import NewBucket, Permits, Policy
from gateway.access.rates import Rate
from gateway.audit.file import AuditFile
from gateway.audit.opening import seal_of
from gateway.config import Encryption, ListenerTls, Settings
from gateway.edge.certificates import ShownChain
from gateway.edge.dial import Dial
from gateway.edge.inbound import Service
from gateway.edge.request import Bounds
from gateway.edge.resolver import Resolver
from gateway.edge.tls import Certificates, CertificatesListener
from gateway.edge.upstream import HttpUpstream
from gateway.errors import SetupError
from gateway.events import CertificateInUse
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.homes import Homes
from gateway.keys.store import KeyringListener, KeyStore
from gateway.preflight import certificates_of, client_tls, lacks, listener_tls
from gateway.relay.breaker import Breaker, BreakerSettings, BreakerState
from gateway.relay.exchange import Relay
from gateway.relay.lots import Lots
from gateway.relay.replay import ReplayGuard
from gateway.relay.routes import Client, Route, Routes
from gateway.relay.selftest import self_test
from gateway.wayback import CanaryListener, WayBack

_ENCRYPTS: Final = {
    Encryption.OFF: False,
    Encryption.OPTIONAL: None,
    Encryption.REQUIRED: True,
}


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Give the present moment, in UTC."""
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)
    """Give seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        await asyncio.sleep(seconds)


CLOCK: Final = SystemClock()
ENTROPY: Final = os.urandom


class PlantListener(KeyringListener, CertificatesListener, CanaryListener, Protocol):
    """Is told what happens in a plant beside its exchanges."""

    def breaker_changed(
        self, client: str, state: BreakerState, cause: str | None
    ) -> None:
        """Note that a client's breaker opened, and why, is probing, or closed."""
        ...

    def breaker_stands(self, client: str, state: BreakerState) -> None:
        """Note where the breaker stands that a client has from now on."""
        ...


class Plant:
    """One configuration at work. A reload starts a new one and ends the old.

    Args:
        settings: the configuration.
        homes: where private keys may live; they outlive the plant.
        listener: is told of keyrings, certificates, canaries and breakers.
        before: the plant that this one is to replace. No keyring may be older than
            the one it uses, and the listener hears nothing until `tell`.
        lots: decide which exchanges fall to a canary; they outlive the plant.
        new_bucket: makes the buckets of callers' rates, where several processes
            share them.
    """

    def __init__(
        self,
        settings: Settings,
        homes: Homes,
        listener: PlantListener,
        before: "Plant | None" = None,
        *,
        lots: Lots,
        new_bucket: NewBucket | None = None,
    ) -> None:
        self.settings = settings
        self._lots = lots
        self.policy: Policy | None = None
        self.inbound_tls: Certificates | None = None
        self.admin_tls: Certificates | None = None
        self.resolver: Resolver = before.resolver if before else Resolver()
        self._listener = listener
        self._policy_before = before.policy if before else None
        self._new_bucket = new_bucket
        self._ending = asyncio.Event()
        self._started: asyncio.Future[Service] = (
            asyncio.get_running_loop().create_future()
        )
        self._certificates: dict[str, Certificates] = {}
        self._ways_back = {
            client.name: (before.way_back(client) if before else None)
            or WayBack(client.name, KeyringFolder(client.keyring), listener)
            for client in settings.clients
        }
        self._stores = {
            client.name: KeyStore(
                client.name,
                KeyringFolder(client.keyring, homes.only(settings.keys.homes)),
                partial(self_test, entropy=ENTROPY),
                listener,
                now=CLOCK.now,
                at_least=before.generation(client) if before else 0,
                halted=self._ways_back[client.name].reason,
                canary_share=self._ways_back[client.name].watch.share_of,
                quiet=before is not None,
            )
            for client in settings.clients
        }
        self._shown = {
            client.name: (before.shown(client) if before else None)
            or ShownChain(f"client {client.name}: upstream")
            for client in settings.clients
        }
        self._breakers = {
            client.name: (before.breaker(client) if before else None)
            or self._breaker(client)
            for client in settings.clients
        }
        self._replays = {
            client.name: (before.replays(client) if before else None) or ReplayGuard()
            for client in settings.clients
        }
        self._watching: list[asyncio.Task[None]] = []
        if before is None:
            self._tell_breakers()

    @property
    def limits(self) -> Limits:
        """How many exchanges may be under way."""
        inbound = self.settings.inbound
        return Limits(
            inbound.max_concurrent,
            inbound.queue_timeout_s,
            _limits_of(self.settings.callers),
            _limits_of(self.settings.clients),
        )

    async def start(self, tasks: asyncio.TaskGroup) -> Service:
        """Start in `tasks`, load every keyring once, and give what answers requests.

        A keyring that cannot be loaded is no error: its client's exchanges are
        `key_unavailable` until it can be; see `reasons`.

        Raises:
            SetupError: a TLS file cannot be used.
        """
        tasks.create_task(self._run())
        # Whoever waits may be cancelled: a reload is, where the gateway ends.
        return await asyncio.shield(self._started)

    async def load(self) -> None:
        """Load every keyring once; `reasons` says what could not be."""
        for store in self._stores.values():
            await store.reload()

    def tell(self) -> None:
        """Tell the listener what is in use, and from now on of each change."""
        for store in self._stores.values():
            store.tell()
        self._tell_breakers()

    def yield_to(self, successor: "Plant") -> None:
        """Tell no more of breakers that `successor` does not go on with.

        Attempts under way may still open one, and nothing would close it again.
        """
        kept = successor._breakers.values()  # noqa: SLF001 - its own kind
        for breaker in self._breakers.values():
            if breaker not in kept:
                breaker.silence()

    def retire(self) -> None:
        """Stop watching; exchanges under way have their keyring already."""
        for task in self._watching:
            task.cancel()

    def end(self) -> None:
        """Close the upstreams and stop watching. Cuts exchanges under way."""
        self.retire()
        self._ending.set()

    def generation(self, client: config.Client) -> int:
        """Give the generation in use of the same client's same keyring; else 0."""
        for each in self.settings.clients:
            ring = self._stores[each.name].ring
            if (each.name, each.keyring) == (client.name, client.keyring) and ring:
                return ring.generation
        return 0

    def way_back(self, client: config.Client) -> WayBack | None:
        """Give what the same client saw of its same keyring's canary; else None."""
        for each in self.settings.clients:
            if (each.name, each.keyring) == (client.name, client.keyring):
                return self._ways_back[each.name]
        return None

    def breaker(self, client: config.Client) -> Breaker | None:
        """Give the same client's breaker, if it is to the same host; else None."""
        for each in self.settings.clients:
            if (each.name, each.upstream, each.breaker) == (
                client.name,
                client.upstream,
                client.breaker,
            ):
                return self._breakers[each.name]
        return None

    def shown(self, client: config.Client) -> ShownChain | None:
        """Give what the same client's same host showed of itself; else None."""
        for each in self.settings.clients:
            if (each.name, each.upstream) == (client.name, client.upstream):
                return self._shown[each.name]
        return None

    def certificates(self) -> list[CertificateInUse]:
        """Return the certificates that are in use, those of AlipayHK included."""
        files = [each.in_use for each in self._certificates.values()]
        shown = [each.in_use for each in self._shown.values()]
        return [certificate for each in files + shown for certificate in each]

    def replays(self, client: config.Client) -> ReplayGuard | None:
        """Return what the same client learned of the same host's answers, else None."""
        for each in self.settings.clients:
            if (each.name, each.upstream) == (client.name, client.upstream):
                return self._replays[each.name]
        return None

    def reasons(self) -> list[str]:
        """Give why exchanges of some client cannot be carried out."""
        return [
            f"{name}: {reason}"
            for name in self._stores
            for reason in self.reasons_of(name)
        ]

    def warnings(self) -> list[str]:
        """Give what is wrong and does not stop traffic yet."""
        rings = [
            f"{name}: generation {store.ring.generation} stays in use: {reason}"
            for name, store in self._stores.items()
            if store.ring is not None
            for reason in (store.problem or "").splitlines()
        ]
        rings += [
            f"{name}: {store.warning}"
            for name, store in self._stores.items()
            if store.warning is not None
        ]
        certificates = [
            f"{setting}: the certificate loaded before stays in use: {each.problem}"
            for setting, each in self._certificates.items()
            if each.problem is not None
        ]
        return rings + self._halted() + certificates + self._refused_by_others()

    def _refused_by_others(self) -> list[str]:
        if sys.version_info >= (3, 13):
            return []
        return [
            f"client {name}: upstream: Python 3.13 and later refuse its certificate: "
            f"{'; '.join(shown.lacks)}"
            for name, shown in self._shown.items()
            if shown.lacks
        ]

    def _halted(self) -> list[str]:
        rings = [(name, store.ring) for name, store in self._stores.items()]
        return [
            f"{name}: the canary of partner version {ring.canary.version} is over, and "
            f"the version before it signs everything: {ring.canary.halted}. See that "
            "AlipayHK has registered that version, then try it again (`gateway keys "
            f"activate {ring.canary.version} --canary 5%`), or take it back (`gateway "
            "keys rollback`)"
            for name, ring in rings
            if ring and ring.canary and ring.canary.halted
        ]

    async def _run(self) -> None:
        with ExitStack() as stack:
            try:
                async with asyncio.TaskGroup() as watchers:
                    service = self._service(stack)
                    await self.load()
                    watches = [
                        *(store.watch for store in self._stores.values()),
                        *(each.watch for each in self._certificates.values()),
                    ]
                    self._watching = [watchers.create_task(each()) for each in watches]
                    self._started.set_result(service)
                    await self._ending.wait()
                    self.retire()  # the end may have come before there was a watch
            except* SetupError as errors:
                self._started.set_exception(errors.exceptions[0])

    def _service(self, stack: ExitStack) -> Service:
        inbound, admin = self.settings.inbound, self.settings.admin
        by_certificate = [each.token_sha256 is None for each in self.settings.callers]
        self.inbound_tls = self._listener_tls(
            "inbound", inbound.tls, required=all(by_certificate)
        )
        self.admin_tls = self._listener_tls(
            "admin", admin.tls, required=not admin.tokens
        )
        clients = {
            each.name: self._client(each, stack) for each in self.settings.clients
        }
        routes = [
            Route(
                each.path,
                clients[each.client],
                _ENCRYPTS[each.encryption],
                each.timeout_s,
                each.repeat_unknown,
            )
            for each in self.settings.routes
        ]
        self.policy = self._policy(routes)
        bounds = Bounds(
            inbound.max_header_bytes,
            inbound.max_body_bytes,
            inbound.body_timeout_s,
            inbound.write_timeout_s,
        )
        return Service(
            self.policy,
            Relay(CLOCK, ENTROPY, self._lots),
            bounds,
            frozenset(inbound.hosts),
        )

    def _policy(self, routes: list[Route]) -> Policy:
        # Not kept: a chain of plants would keep the keys of all of them.
        before, self._policy_before = self._policy_before, None
        return Policy(
            Routes(routes),
            Callers(
                Caller(each.name, each.token_sha256 or (), each.client_certificate)
                for each in self.settings.callers
            ),
            {each.name: _permits(each, routes) for each in self.settings.callers},
            mode=self.settings.policy,
            monotonic=CLOCK.monotonic,
            before=before,
            new_bucket=self._new_bucket,
        )

    def _listener_tls(
        self, section: str, tls: ListenerTls | None, *, required: bool
    ) -> Certificates | None:
        if tls is None:
            return None
        setting = f"{section}.tls"
        certificates = Certificates(
            setting,
            (tls.certificate, tls.private_key, tls.client_ca),
            partial(listener_tls, setting, tls, required=required),
            self._listener,
            partial(
                certificates_of,
                setting,
                {"certificate": tls.certificate, "client_ca": tls.client_ca},
            ),
        )
        self._certificates[setting] = certificates
        return certificates

    def _client(self, each: config.Client, stack: ExitStack) -> Client:
        setting = f"client {each.name}: tls"
        files = (each.tls.ca_file, each.tls.certificate, each.tls.private_key)
        certificates = Certificates(
            setting,
            files,
            partial(client_tls, setting, each.tls),
            self._listener,
            partial(
                certificates_of,
                setting,
                {"ca_file": each.tls.ca_file, "certificate": each.tls.certificate},
            ),
        )
        self._certificates[setting] = certificates
        upstream = HttpUpstream(
            Dial(
                each.upstream,
                tls=certificates.context,
                connect_timeout_s=each.connect_timeout_s,
                public_only=each.public_addresses_only,
                resolver=self.resolver,
                shown=self._shown[each.name],
            ),
            max_response_bytes=each.max_response_bytes,
            first_byte_timeout_s=each.first_byte_timeout_s,
            max_connection_age_s=each.max_connection_age_s,
            entropy=ENTROPY,
        )
        stack.callback(upstream.close)
        return Client(
            each.name,
            each.client_id,
            self._stores[each.name],
            upstream,
            timedelta(seconds=each.clock_tolerance_s),
            each.time_offset,
            each.send_key_version,
            each.encrypted_content_type,
            each.reuse_content_key,
            self._breakers[each.name],
            each.retries,
            each.signature_refusal_codes,
            self._ways_back[each.name].watch,
            self._replays[each.name],
        )

    def _breaker(self, client: config.Client) -> Breaker:
        return Breaker(
            BreakerSettings(client.breaker.failures, client.breaker.open_s),
            CLOCK.monotonic,
            partial(self._listener.breaker_changed, client.name),
        )

    def _tell_breakers(self) -> None:
        for name, breaker in self._breakers.items():
            self._listener.breaker_stands(name, breaker.state)

    def reasons_of(self, name: str) -> list[str]:
        """Give why exchanges of this client cannot be carried out."""
        store = self._stores[name]
        ring = store.ring
        if ring is None:
            return (store.problem or "").splitlines()
        encrypts = any(
            route.client == name and route.encryption is not Encryption.OFF
            for route in self.settings.routes
        )
        return lacks(ring, encrypts=encrypts)


def audit_file(audit: config.Audit, who: str) -> AuditFile:
    """Make what writes the audit log.

    Args:
        audit: where it is, and how.
        who: who writes.

    Raises:
        AuditError: its key cannot be used.
    """
    return AuditFile(
        audit.file,
        seal_of(audit.key),
        max_bytes=audit.max_bytes,
        checkpoint_every=audit.checkpoint_every,
        who=who,
        now=CLOCK.now,
    )


def _permits(caller: config.Caller, routes: list[Route]) -> Permits:
    its_own = Routes(
        route
        for route in routes
        if route.client.name in caller.clients
        and (caller.routes is None or route.path in caller.routes)
    )
    rate = caller.rate
    return Permits(
        its_own, Rate(rate.per_second, rate.burst_or_default) if rate else None
    )


def _limits_of(
    entries: tuple[config.Caller, ...] | tuple[config.Client, ...],
) -> dict[str, int]:
    return {
        each.name: each.max_concurrent
        for each in entries
        if each.max_concurrent is not None
    }
