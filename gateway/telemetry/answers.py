"""Whether any answer can be used: a total failure must not look like health.

AlipayHK answers, and nothing of it is verified: it refuses our key, something in
between signs for it, or the clocks differ. Each exchange tells its caller; this tells
the operator that none does better. For its clock an instance is also not ready, as
another may do better. No traffic comes then that could show that the clock is right
again, so it is ready again after a while, and the next such answer ends that.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.errors import Outcome, ResponseStale
from gateway.events import REFUSED, VERIFIED, ExchangeRecord

MANY: Final = 20
"""Answers in a row. Fewer could be one caller's; more would be found too late."""

NOT_READY_S: Final = 60.0
"""From the last answer that the clock made useless. Ten probes or more see it, and a
minute is not long beside what it takes to correct a clock."""

_MOST_CAUSES: Final = 32
_ANSWERED: Final = str(Outcome.ANSWERED)


class Answered(NamedTuple):
    """How many answers a process had of one client.

    Attributes:
        verified: those of exchanges that ended as `verified`.
        unverified: all others.
        useless: of those, the ones that a clock is to blame for.
        cause: what most of the last unverified ones had.
    """

    verified: int = 0
    unverified: int = 0
    useless: int = 0
    cause: str = ""

    def since(self, before: "Answered") -> "Answered":
        """Return what came after `before`."""
        return Answered(
            max(0, self.verified - before.verified),
            max(0, self.unverified - before.unverified),
            max(0, self.useless - before.useless),
            self.cause,
        )


@dataclass(slots=True)
class _Client:
    """What is known of a client's answers."""

    tolerance_s: float
    verified: int = 0
    unverified: int = 0
    useless: int = 0
    """Of the unverified, those that the clock made so."""
    run: int = 0
    """Unverified ones since the last that was verified."""
    useless_run: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    is_told: bool = False
    is_clock_told: bool = False
    not_ready_until: float = 0.0

    @property
    def cause(self) -> str:
        """What most of the run had."""
        return max(self.causes, key=self.causes.__getitem__, default="")


class AnswerWatch:
    """Tells that no answer of a client is verified any more. An `Observer`.

    Args:
        tell: takes an event's name and fields, once per change.
        show: takes a client and how many answers in a row were not verified.
        monotonic: gives seconds that never go back.
    """

    def __init__(
        self,
        tell: Callable[..., None],
        show: Callable[[str, int], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._tell = tell
        self._show = show
        self._monotonic = monotonic
        self._clients: dict[str, _Client] = {}

    def use(self, tolerances: Mapping[str, float]) -> None:
        """Watch these clients from now on.

        Args:
            tolerances: of their clocks, in seconds, by client.
        """
        before, self._clients = self._clients, {}
        for name, tolerance_s in tolerances.items():
            client = self._clients[name] = before.get(name) or _Client(tolerance_s)
            client.tolerance_s = tolerance_s
            self._show(name, client.run)

    def __call__(self, record: ExchangeRecord) -> None:
        """Note what a finished exchange tells of AlipayHK's answers, if it had one."""
        client = self._clients.get(record.client)
        if client is None:
            return
        if record.code == VERIFIED:
            client.verified += 1
            if client.run:
                self._end(record.client, client)
        elif record.code == REFUSED or record.outcome == _ANSWERED:
            useless = _is_useless(record, client.tolerance_s)
            cause = record.code
            if record.code == REFUSED and record.result_code:
                cause = f"{cause} ({record.result_code})"
            self._fail(record.client, client, (1, int(useless)), cause)

    def add(self, name: str, answered: Answered) -> None:
        """Note what another process saw, as if what was verified had come last."""
        client = self._clients.get(name)
        if client is None:
            return
        client.verified += answered.verified
        if answered.verified and client.run:
            self._end(name, client)
        elif answered.unverified and not answered.verified:
            counts = answered.unverified, answered.useless
            self._fail(name, client, counts, answered.cause)

    def seen(self) -> dict[str, Answered]:
        """Return all that was seen, by client, for `add` in another process."""
        return {
            name: Answered(each.verified, each.unverified, each.useless, each.cause)
            for name, each in self._clients.items()
        }

    def reasons(self) -> list[str]:
        """Return why this instance is not ready: answers are of no use to it."""
        now = self._monotonic()
        return [
            f"{name}: no answer is of use, for its time: this machine's clock or "
            f"AlipayHK's is wrong. It is tried again {NOT_READY_S:g} s after the last"
            for name, each in self._clients.items()
            if now < each.not_ready_until
        ]

    def warnings(self) -> list[str]:
        """Return what an operator must know, for readiness."""
        return [
            f"{name}: AlipayHK answers, and none of the last {MANY} answers or more "
            f"was verified, most for {each.cause}"
            for name, each in self._clients.items()
            if each.is_told
        ]

    def _fail(
        self, name: str, client: _Client, counts: tuple[int, int], cause: str
    ) -> None:
        count, useless = counts
        client.unverified += count
        client.useless += useless
        client.run += count
        client.useless_run = client.useless_run + useless if useless == count else 0
        if cause in client.causes or len(client.causes) < _MOST_CAUSES:
            client.causes[cause] += count
        self._show(name, client.run)
        if client.run >= MANY and not client.is_told:
            client.is_told = True
            self._tell(
                "nothing_verified", client=name, answers=client.run, cause=client.cause
            )
        if client.useless_run >= MANY:
            client.not_ready_until = self._monotonic() + NOT_READY_S
            if not client.is_clock_told:
                client.is_clock_told = True
                self._tell(
                    "clock_unusable",
                    client=name,
                    clock_tolerance_s=client.tolerance_s,
                    consequence="not ready, until a minute after the last such answer",
                )

    def _end(self, name: str, client: _Client) -> None:
        """Note a verified answer behind others."""
        if client.is_told:
            self._tell("verified_again", client=name, answers=client.run)
        if client.is_clock_told:
            self._tell("clock_usable", client=name)
        client.run = client.useless_run = 0
        client.causes.clear()
        client.is_told = client.is_clock_told = False
        client.not_ready_until = 0.0
        self._show(name, 0)


def _is_useless(record: ExchangeRecord, tolerance_s: float) -> bool:
    """Return whether an unverified answer is one that a clock is to blame for."""
    skew = record.clock_skew_s
    if skew is None:
        skew = record.date_skew_s
    return record.code == ResponseStale.code or (
        skew is not None and abs(skew) > tolerance_s
    )
