"""Places: how many exchanges may be under way, and how long one may wait for its turn.

Limits hold for the whole gateway, for each caller and for each client (one AlipayHK
account). Places are taken in the order caller, client, gateway: who waits for its
own limit holds no place that another could use.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gateway.errors import Overloaded

_UNLIMITED: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once.

    Attributes:
        total: exchanges in all.
        wait_s: how long an exchange may wait for its place.
        callers: exchanges by caller; who is not in it has no limit of its own.
        clients: exchanges by client; likewise.
    """

    total: int
    wait_s: float = 0.0
    callers: Mapping[str, int] = field(default_factory=dict)
    clients: Mapping[str, int] = field(default_factory=dict)


class Quota:
    """An amount that is shared out, and the queue for it: first come, first served.

    What is shared may be places for exchanges or bytes of memory.
    """

    def __init__(self, limit: int) -> None:
        self.taken = 0
        self._limit = limit
        self._queue: deque[tuple[asyncio.Future[None], int, Account | None]] = deque()
        self._overdrawn: Account | None = None
        self._exceeding: set[Account] = set()
        """Those that exceeded the limit and may hold something still."""

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def is_over(self) -> bool:
        """Whether more is taken than may be."""
        return self.excess > 0

    @property
    def excess(self) -> int:
        """How much more is taken than may be; negative where it is less."""
        return self.taken - self._limit

    def take_now(self, amount: int = 1) -> bool:
        """Take `amount` if it can be had without waiting. Return whether it could."""
        if self.taken + amount > self._limit or self._queue:
            return False
        self.taken += amount
        return True

    def resize(self, limit: int) -> None:
        """Share out another amount; nobody loses what it has."""
        self._limit = limit
        self._call_in()

    def add(self, amount: int = 1) -> None:
        """Take at once, whether or not there is so much left."""
        self.taken += amount

    async def take(self, amount: int = 1, account: "Account | None" = None) -> None:
        """Wait until `amount` can be had, and take it. May be cancelled.

        Args:
            amount: how much.
            account: the holder, where it may be the one that exceeds the limit.
        """
        overdraws = self._overdrawn is not None and self._overdrawn is account
        if overdraws or (not self._queue and self._may_have(amount, account)):
            self._grant(amount, account)
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((turn, amount, account))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came in the same moment
                self.give_back(amount)
            with suppress(ValueError):
                self._queue.remove((turn, amount, account))
            self._call_in()
            raise

    def give_back(self, amount: int = 1) -> None:
        """Give back what was taken; the next in the queue may have it."""
        self.taken -= amount
        if self._queue:
            self._call_in()

    def settle(self, account: "Account") -> None:
        """Let another account exceed the limit, if this one did."""
        if self._overdrawn is account:
            self._overdrawn = None
            self._call_in()

    def _may_have(self, amount: int, account: "Account | None") -> bool:
        if self.taken + amount <= self._limit:
            return True
        if account is None or self._overdrawn is not None:
            return self._overdrawn is account is not None
        # Answers that nobody takes would exceed it one after the other, without end.
        self._exceeding = {each for each in self._exceeding if each.held}
        return sum(each.held for each in self._exceeding) <= self._limit

    def _grant(self, amount: int, account: "Account | None") -> None:
        self.taken += amount
        if self.taken > self._limit and account is not None:
            self._overdrawn = account
            self._exceeding.add(account)

    def _call_in(self) -> None:
        while self._queue:
            turn, amount, account = self._queue[0]
            if not turn.done():
                if not self._may_have(amount, account):
                    return
                self._grant(amount, account)
                turn.set_result(None)
            self._queue.popleft()


def unlimited() -> Quota:
    """Return a quota that never runs out."""
    return Quota(_UNLIMITED)


class Account:
    """The bytes that one holder has in memory, counted in a quota that all share.

    A caller's connection has one for what it holds of requests, and an exchange has one
    for what is made of its request and what comes of its answer. What has arrived is
    held, so it is counted whether or not there is room for it; whoever may wait for
    room, or refuse, looks at the quota afterwards.

    Args:
        quota: the memory of the whole process.

    Attributes:
        held: the bytes.
    """

    __slots__ = ("_quota", "held")

    def __init__(self, quota: Quota) -> None:
        self.held = 0
        self._quota = quota

    @property
    def is_over(self) -> bool:
        """Whether all accounts together hold more than they may."""
        return self._quota.is_over

    def add(self, amount: int) -> None:
        """Count `amount` more bytes."""
        self.held += amount
        self._quota.taken += amount

    def keep(self, amount: int) -> None:
        """Count `amount` bytes, and no others: all else is not held any more."""
        if amount != self.held:
            spare, self.held = self.held - amount, amount
            self._quota.give_back(spare)

    def release(self, amount: int) -> None:
        """Count `amount` bytes fewer: they are not held any more."""
        self.keep(self.held - amount)

    async def room(self) -> None:
        """Wait until all accounts together hold no more than they may.

        One account at a time need not wait, until `settle`: if all that hold something
        waited for each other, none would ever release anything. What those hold that
        did not wait is bounded by the limit once more. May be cancelled.
        """
        await self._quota.take(0, self)

    def settle(self) -> None:
        """Note that nothing more is added to what `room` was asked for."""
        self._quota.settle(self)


Place: TypeAlias = tuple[Quota, ...]
"""What an exchange holds while it is under way."""

_SETTINGS: Final = (
    "callers[].max_concurrent",
    "clients[].max_concurrent",
    "inbound.max_concurrent",
)


class Admission:
    """All places of a gateway. Outlives reloads, so that none is given out twice."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total = Quota(limits.total)
        self._of_callers: dict[str, Quota] = {}
        self._of_clients: dict[str, Quota] = {}
        self._places: dict[tuple[str, str], Place] = {}

    @property
    def waiting(self) -> int:
        """How many exchanges wait for a place."""
        by_name = (*self._of_callers.values(), *self._of_clients.values())
        return sum(quota.waiting for quota in (self._total, *by_name))

    def use(self, limits: Limits) -> None:
        """Take these limits from now on."""
        self._limits = limits
        self._total.resize(limits.total)
        for known, given in (
            (self._of_callers, limits.callers),
            (self._of_clients, limits.clients),
        ):
            for name, quota in known.items():
                quota.resize(given.get(name, _UNLIMITED))

    def enter_now(self, caller: str, client: str) -> Place | None:
        """Give a place that is free, to be given back with `leave`; None if none is."""
        wanted = self._quotas(caller, client)
        for index, quota in enumerate(wanted):
            if not quota.take_now():
                self.leave(wanted[:index])
                return None
        return wanted

    async def enter(
        self, caller: str, client: str, patience_s: float | None = None
    ) -> Place:
        """Wait for a place, to be given back with `leave`.

        Args:
            caller: the caller's name, or nothing.
            client: the client's name.
            patience_s: how long this caller would wait at most.

        Raises:
            Overloaded: none was free in time; the text names the limit.
        """
        wait_s = self._limits.wait_s
        if patience_s is not None:
            wait_s = min(wait_s, max(patience_s, 0.0))
        return await _queue_up(self._quotas(caller, client), wait_s)

    def _quotas(self, caller: str, client: str) -> Place:
        known = self._places.get((caller, client))
        if known is None:
            known = self._places[caller, client] = (
                _quota(self._of_callers, self._limits.callers, caller),
                _quota(self._of_clients, self._limits.clients, client),
                self._total,
            )
        return known

    def leave(self, place: Place) -> None:
        """Give a place back."""
        for quota in place:
            quota.give_back()


async def _queue_up(wanted: Place, wait_s: float) -> Place:
    held: list[Quota] = []
    try:
        async with asyncio.timeout(wait_s):
            for quota in wanted:
                await quota.take()
                held.append(quota)
    except BaseException as error:
        for quota in held:
            quota.give_back()
        if not isinstance(error, TimeoutError):
            raise
        msg = (
            f"As many exchanges as may be are under way ({_SETTINGS[len(held)]}). "
            "Send again later."
        )
        raise Overloaded(msg) from None
    return wanted


def _quota(known: dict[str, Quota], limits: Mapping[str, int], name: str) -> Quota:
    if name not in known:
        known[name] = Quota(limits.get(name, _UNLIMITED))
    return known[name]
