"""What one configuration makes: keyrings under watch, upstreams, a relay.

Together with `gateway.app` this is the composition root: the real clock and the
real entropy are bound here and nowhere else.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from gateway import config
from gateway.config import Encryption, Settings, Tls
from gateway.documents import Document, DocumentError, Problem
from gateway.edge.upstream import HttpUpstream, open_session, tls_context
from gateway.errors import KeyringError, SetupError
from gateway.keys.backends.file import KeyringFolder, Others, read_key_file
from gateway.keys.keyring import Keyring
from gateway.keys.store import KeyringListener, KeyStore
from gateway.relay.exchange import Relay
from gateway.relay.routes import Client, Route, Routes
from gateway.relay.selftest import self_test

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

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return time.monotonic()


CLOCK: Final = SystemClock()
ENTROPY: Final = os.urandom


class Plant:
    """One configuration at work. A reload starts a new one and ends the old.

    Args:
        settings: the configuration.
        listener: is told of each keyring that is taken up or refused.
        before: the plant that this one is to replace. No keyring may be older than
            the one it uses, and the listener hears nothing until `tell`.
    """

    def __init__(
        self,
        settings: Settings,
        listener: KeyringListener,
        before: "Plant | None" = None,
    ) -> None:
        self.settings = settings
        self._ending = asyncio.Event()
        self._started: asyncio.Future[Relay] = (
            asyncio.get_running_loop().create_future()
        )
        self._stores = {
            client.name: KeyStore(
                client.name,
                KeyringFolder(client.keyring),
                partial(self_test, entropy=ENTROPY),
                listener,
                at_least=before.generation(client) if before else 0,
                quiet=before is not None,
            )
            for client in settings.clients
        }
        self._watching: list[asyncio.Task[None]] = []

    async def start(self, tasks: asyncio.TaskGroup) -> Relay:
        """Start in `tasks`, load every keyring once, and give the relay.

        A keyring that cannot be loaded is no error: its client's exchanges are
        `key_unavailable` until it can be; see `reasons`.

        Raises:
            SetupError: a TLS file cannot be used.
        """
        tasks.create_task(self._run())
        return await self._started

    async def load(self) -> None:
        """Load every keyring once; `reasons` says what could not be."""
        for store in self._stores.values():
            await store.reload()

    def tell(self) -> None:
        """Tell the listener what is in use, and from now on of each change."""
        for store in self._stores.values():
            store.tell()

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

    def reasons(self) -> list[str]:
        """Give why exchanges of some client cannot be carried out."""
        return [
            f"{name}: {reason}"
            for name in self._stores
            for reason in self.reasons_of(name)
        ]

    def warnings(self) -> list[str]:
        """Give what is wrong and does not stop traffic yet."""
        return [
            f"{name}: generation {store.ring.generation} stays in use: {reason}"
            for name, store in self._stores.items()
            if store.ring is not None
            for reason in (store.problem or "").splitlines()
        ]

    async def _run(self) -> None:
        try:
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as watchers:
                relay = await self._relay(stack)
                await self.load()
                self._watching = [
                    watchers.create_task(store.watch())
                    for store in self._stores.values()
                ]
                self._started.set_result(relay)
                await self._ending.wait()
        except* SetupError as errors:
            self._started.set_exception(errors.exceptions[0])

    async def _relay(self, stack: AsyncExitStack) -> Relay:
        clients = {
            each.name: await self._client(each, stack) for each in self.settings.clients
        }
        routes = Routes(
            Route(
                each.path,
                clients[each.client],
                _ENCRYPTS[each.encryption],
                each.timeout_s,
            )
            for each in self.settings.routes
        )
        return Relay(routes, CLOCK, ENTROPY)

    async def _client(self, each: config.Client, stack: AsyncExitStack) -> Client:
        session = await stack.enter_async_context(
            open_session(tls=tls_of(each), connect_timeout_s=each.connect_timeout_s)
        )
        return Client(
            each.name,
            each.client_id,
            self._stores[each.name],
            HttpUpstream(each.upstream, session, each.max_response_bytes),
            timedelta(seconds=each.clock_tolerance_s),
            each.time_offset,
            each.send_key_version,
            each.encrypted_content_type,
            each.reuse_content_key,
        )

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
        return _lacks(ring, encrypts=encrypts)


def tls_of(client: config.Client) -> ssl.SSLContext:
    """Make a client's TLS settings.

    Raises:
        SetupError: one of its files cannot be used.
    """
    tls = client.tls
    for key, reason in _tls_flaws(tls):
        msg = f"client {client.name}: tls.{key}: {reason}"
        raise SetupError(msg)
    return tls_context(tls.ca_file, tls.certificate, tls.private_key)


async def check(document: Document[Settings]) -> list[Problem]:
    """Find what is wrong with a configuration, and what keyrings and TLS files lack.

    A mistake in the one hides none in the others: each file whose path can be read
    is read as serving would.
    """
    problems = [*document.problems]
    for files in config.files_of(document):
        problems += await _keyring_problems(document, files)
        for key, reason in _tls_flaws(files.tls):
            place = (*files.place, "tls", key)
            problems.append(document.problem(place, reason))
    return list(dict.fromkeys(problems))


async def _keyring_problems(
    document: Document[Settings], files: config.Files
) -> list[Problem]:
    if files.keyring is None:
        return []
    place = (*files.place, "keyring")
    try:
        ring = await asyncio.to_thread(KeyringFolder(files.keyring).read)
        await self_test(ring, entropy=ENTROPY)
    except DocumentError as error:
        return [*error.problems]
    except SetupError as error:
        return [document.problem(place, error.detail)]
    lacks = _lacks(ring, encrypts=files.encrypts)
    return [document.problem(place, lack) for lack in lacks]


def _lacks(ring: Keyring, *, encrypts: bool) -> list[str]:
    return [f"missing: {lack}" for lack in ring.missing(encrypting=encrypts)]


def _tls_flaws(tls: Tls) -> Iterator[tuple[str, str]]:
    """Find what is wrong with TLS files: the key that names one, and the reason."""
    if tls.ca_file is not None and (reason := _refusal(tls.ca_file)):
        yield "ca_file", reason
    if tls.private_key is None:
        return
    try:
        read_key_file(tls.private_key, Others.MAY_NOTHING)
    except KeyringError as error:
        yield "private_key", error.detail
        return
    if tls.certificate is not None and (
        reason := _refusal(None, tls.certificate, tls.private_key)
    ):
        yield "certificate", reason


def _refusal(*files: Path | None) -> str:
    """Give why TLS cannot use these files; nothing if it can."""
    try:
        tls_context(*files)
    except ssl.SSLError:
        return "not PEM as it must be"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return ""
