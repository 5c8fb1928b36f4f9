"""The keyring in use, swapped whole, and the watch over where it comes from.

A new ring is taken up only after it was read without a problem, its generation did
not fall, and it passed the self-test: it, and each ring that it plans to become. Until
then, and whenever that fails, the last good ring stays in use. Planned steps are taken
when they are due, whatever has become of the source meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Final, Protocol

from gateway.errors import KeyringError, KeyUnavailable, SetupError
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.schedule import FIRST_MOMENT

POLL_SECONDS: Final = 0.4
"""A change is taken up after two equal looks: within a second."""

_LOOKS_TO_WAIT: Final = 4
"""A folder in which something always changes is read all the same: after 1.6 s."""

_LOOKS_TO_TRY_AGAIN: Final = 25


class KeyringSource(Protocol):
    """Where a keyring comes from."""

    def read(self, now: datetime) -> Keyring:
        """Read the whole ring as it is at this moment; may block.

        Raises:
            SetupError: it cannot be used.
        """
        ...

    def state(self) -> object:
        """Give a value, cheap to get, that changes when the ring may have; may block."""
        ...


class KeyringListener(Protocol):
    """Is told what became of each attempt to take up a ring."""

    def loaded(self, client: str, ring: Keyring) -> None:
        """Note that a ring is in use from now on."""
        ...

    def failed(self, client: str, reason: str) -> None:
        """Note that a ring was refused and what is in use stays in use."""
        ...

    def reused(self, client: str, generation: int) -> None:
        """Note that a ring was taken up whose generation stood for another one."""
        ...


class KeyStore:
    """The keyring of one client.

    Args:
        client: the client's name, for those who listen.
        source: where the ring comes from.
        accept: the self-test; raises SetupError if the ring must not be used.
        listener: is told of each success and failure.
        now: gives the present moment, aware, by which planned steps are due.
        at_least: the lowest generation that is taken up.
        halted: gives why a ring's canary is to sign nothing more, at any time, though
            its source does not say so; None while it may.
        canary_share: gives the share that a ring's canary may sign, which may be less
            than its schedule has come to.
        quiet: tell the listener nothing until `tell` is called.
    """

    def __init__(  # noqa: PLR0913 - its ports
        self,
        client: str,
        source: KeyringSource,
        accept: Callable[[Keyring], Awaitable[None]],
        listener: KeyringListener,
        *,
        now: Callable[[], datetime],
        at_least: int = 0,
        halted: Callable[[Keyring], str | None] = lambda _: None,
        canary_share: Callable[[Canary, int], float] = lambda canary, _: canary.share,
        quiet: bool = False,
    ) -> None:
        self.client = client
        self._clock = now
        self._latest = FIRST_MOMENT
        self._source = source
        self._accept = accept
        self._listener = listener
        self._at_least = at_least
        self._halted = halted
        self._canary_share = canary_share
        self._telling = not quiet
        self._ring: Keyring | None = None
        self._seen: object = None
        self.problem: str | None = "the keyring is not loaded yet"
        """Why the source's present content is not in use; None if it is."""
        self.warning: str | None = None
        """What is wrong with the content that is in use; None if nothing is."""

    @property
    def ring(self) -> Keyring | None:
        """The ring in use, if one could be loaded yet."""
        ring = self._ring
        if ring is not None and (reason := self._halted(ring)) is not None:
            ring = self._ring = ring.with_canary_halted(reason)
        return ring

    @property
    def current(self) -> Keyring:
        """The ring in use. Take it once per exchange.

        It is that of this moment also while the watch waits for a source that hangs.

        Raises:
            KeyUnavailable: no ring could be loaded yet.
        """
        if self._ring is not None and self._ring.due is not None:
            self.advance()
        if (ring := self.ring) is None:
            msg = f"The keyring of client {self.client} could not be loaded."
            raise KeyUnavailable(msg)
        return ring

    def tell(self) -> None:
        """Tell the listener what is in use, and from now on of each change."""
        self._telling = True
        if (ring := self.ring) is not None:
            self._listener.loaded(self.client, ring)
            if self.warning is not None:
                self._listener.reused(self.client, ring.generation)
        if self.problem is not None:
            self._listener.failed(self.client, self.problem)

    async def reload(self) -> bool:
        """Take up what the source holds now, whole, or change nothing.

        Gives whether the ring of the source is now the one in use.
        """
        changed = False
        try:
            state = await asyncio.to_thread(self._source.state)
            changed, self._seen = state != self._seen, state
            ring = await asyncio.to_thread(self._source.read, self._now())
            self._check_generation(ring)
            for each in _with_later(ring):
                await self._accept(each)
        except SetupError as error:
            return self._refused(error.detail, news=changed)
        except Exception as error:  # noqa: BLE001 - whatever it is, keep the last good
            reason = f"a defect of the gateway ({type(error).__name__})"
            return self._refused(reason, news=changed)
        self.problem = None
        self._at_least = ring.generation
        self._replace(ring)
        return True

    def advance(self) -> None:
        """Take the planned steps that are due, and let a canary grow that may."""
        if (ring := self.ring) is not None:
            later = self._with_share(ring.at(self._now()))
            if later is not ring:
                self._use(later)

    def _replace(self, ring: Keyring) -> None:
        """Use a ring of the source, with what came due while it was read."""
        now = self._now()
        before, ring = self.ring.at(now) if self.ring else None, ring.at(now)
        self._use(ring)
        if before is None or before.generation != ring.generation:
            self.warning = None
        elif before.content != ring.content:
            self.warning = (
                f"generation {ring.generation} stands for another content than before; "
                "raise it with each change"
            )
            if self._telling:
                self._listener.reused(self.client, ring.generation)

    def _with_share(self, ring: Keyring) -> Keyring:
        if ring.canary is None:
            return ring
        share = self._canary_share(ring.canary, ring.generation)
        return ring.with_canary_share(share)

    def _use(self, ring: Keyring) -> None:
        self._ring = ring = self._with_share(ring)
        if self._telling:
            self._listener.loaded(self.client, self.ring or ring)

    def _now(self) -> datetime:
        """Give the latest moment that was seen: no step is untaken by a clock."""
        self._latest = max(self._latest, self._clock())
        return self._latest

    async def watch(self) -> None:
        """Reload when the source has changed and come to rest. Runs until cancelled.

        It is not waited for long: other files in the folder may change for ever. A ring
        that was refused is tried again now and then: what was in its way may have been
        no change of the source, such as too many open files.
        """
        before, looks, waited = self._seen, 0, 0
        while True:
            await asyncio.sleep(self._pause())
            self.advance()
            now = await self._look()
            looks += 1
            waited = waited + 1 if now != self._seen else 0
            again = self.problem is not None and looks % _LOOKS_TO_TRY_AGAIN == 0
            at_rest = now == before and (waited or again)
            if at_rest or waited == _LOOKS_TO_WAIT:
                await self.reload()
                waited = 0
            before = now

    def _pause(self) -> float:
        """Give the seconds until the next look, or until a planned step before it."""
        due = self.ring.due if self.ring else None
        if due is None:
            return POLL_SECONDS
        return min(POLL_SECONDS, max(0.0, (due - self._now()).total_seconds()))

    async def _look(self) -> object:
        try:
            return await asyncio.to_thread(self._source.state)
        except Exception as error:  # noqa: BLE001 - the watch goes on; a reload says why
            return type(error)

    def _check_generation(self, ring: Keyring) -> None:
        if ring.generation < self._at_least:
            msg = (
                f"generation {ring.generation} is older than {self._at_least}, "
                "which is in use; a change raises it, also one that goes back"
            )
            raise KeyringError(msg)

    def _refused(self, reason: str, *, news: bool) -> bool:
        news, self.problem = news or reason != self.problem, reason
        if news and self._telling:
            self._listener.failed(self.client, reason)
        return False


def _with_later(ring: Keyring) -> Iterator[Keyring]:
    """Give a ring and each that it plans to become."""
    yield ring
    while ring.due is not None:
        ring = ring.at(ring.due)
        yield ring
