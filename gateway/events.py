"""Facts about one exchange, collected as it goes and told once at its end.

The relay and the edge fill a record in; telemetry turns it into metrics and a log
line. So the core neither logs nor counts. A record holds no body, no key, no
signature and no credential.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

VERIFIED: Final = "verified"
REFUSED: Final = "refused"

Kind: TypeAlias = tuple[object, ...]
"""See `ExchangeRecord.kind`."""


@dataclass(init=False)
class ExchangeRecord:
    """What happened to one exchange.

    `vars` of it has what is known so far; all else is as its class says. So making one
    sets a single attribute, not twenty-nine. What every exchange has comes first.

    Attributes:
        code: `verified`, `refused` (an unsigned F or U) or a code of the errors.
        outcome: of a failed exchange: not_sent, unknown or answered.
        status: the HTTP status the caller got.
        caller: who sent it, by the configuration's name; empty where callers are not
            told apart.
        denied: the code that the policy refuses it with, also where it only reports
            so and the exchange went on.
        seconds: from the request's head until its answer is ready to be written.
        upstream_seconds: the part spent waiting for AlipayHK; None if not asked.
        attempts: how often it was signed and given to the network.
        key_version: the partner's version that signed last; None if nothing was.
        canary: the partner's version that was tried on it; None if none was.
        canary_attempts: of the attempts, those that the canary signed, where the
            earlier version signed the others; else None.
        verified_by: the platform's version that verified; None if none did.
        encrypted_to: the platform's version that the request was encrypted to.
        decrypted_by: the partner's version that decrypted the answer.
        decryption_label: the keyVersion that the answer names for that, where it is
            another one.
        clock_skew_s: Response-Time minus our clock, of a verified answer.
        date_skew_s: the Date header minus our clock, of any answer: to the second, and
            proved by nothing.
        tracer_id: AlipayHK's own name for this exchange, also of an answer that is
            not trusted.
        delivered: False where the caller did not take its answer.
        result_code: AlipayHK's resultCode, such as PARAM_ILLEGAL.
        request_sha256: of the caller's body, where the audit log notes exchanges: set
            once the exchange has its place there.
        response_sha256: of the plain body of AlipayHK's answer, likewise.
        cause: why AlipayHK could not be reached or gave no whole answer, in a few words.
        error: for internal errors: the exception's class and place, not its text.
        peer: where the request came from, if it ended as a problem.
    """

    exchange_id: str
    caller: str = ""
    client: str = ""
    route: str = ""
    encrypted: bool = False
    code: str = ""
    status: int = 0
    seconds: float = 0.0
    attempts: int = 0
    delivered: bool = True
    request_bytes: int = 0
    response_bytes: int = 0
    denied: str | None = None
    outcome: str | None = None
    upstream_seconds: float | None = None
    key_version: str | None = None
    canary: str | None = None
    canary_attempts: int | None = None
    verified_by: str | None = None
    encrypted_to: str | None = None
    decrypted_by: str | None = None
    decryption_label: str | None = None
    clock_skew_s: float | None = None
    date_skew_s: float | None = None
    tracer_id: str | None = None
    result_code: str | None = None
    request_sha256: str | None = None
    response_sha256: str | None = None
    cause: str | None = None
    error: str | None = None
    peer: str | None = None

    def __init__(self, exchange_id: str, **facts: object) -> None:
        """Begin the record of an exchange, with what is known of it.

        Args:
            exchange_id: names it.
            facts: attributes, by their names.
        """
        self.exchange_id = exchange_id
        if facts:
            vars(self).update(facts)

    @property
    def kind(self) -> Kind:
        """All that decides what it counts for, and nothing that is measured.

        No part is a caller's or an answer's to choose, so kinds are few: each is a
        combination of what is configured, of our codes and of keys in use.
        """
        return (
            self.caller,
            self.client,
            self.route,
            self.code,
            self.denied,
            self.delivered,
            self.attempts,
            self.key_version,
            self.canary,
            self.canary_attempts,
            self.verified_by,
            self.encrypted_to,
            self.decrypted_by,
            self.decryption_label is not None,
        )

    @property
    def is_strangers(self) -> bool:
        """Whether it was refused before its sender was known, or its route."""
        return not self.route and not self.caller

    @property
    def signatures(self) -> dict[str, int]:
        """How often each of our versions signed it."""
        if self.key_version is None:
            return {}
        refused = self.canary_attempts or 0
        if self.canary is None or self.canary == self.key_version or not refused:
            return {self.key_version: max(1, self.attempts)}
        others = self.attempts - refused
        return {self.canary: refused, self.key_version: max(1, others)}


class Observer(Protocol):
    """Is told of each exchange, once, when it has ended. It must not fail."""

    def __call__(self, record: ExchangeRecord) -> None:
        """Take note of a finished exchange."""
        ...


@dataclass(frozen=True, slots=True)
class CanaryHalt:
    """A canary was ended, because its key failed more than the one beside it.

    Attributes:
        key_version: the version that was tried.
        generation: of the ring whose canary it was.
        share: of the exchanges that it signed at the end, from 0 to 1.
        exchanges: how many of its exchanges were judged.
        failures: in how many of them its signature was refused, or the answer could
            not be decrypted.
        other_version: the version that signs everything from now on.
        other_exchanges: how many of that one's exchanges were judged meanwhile.
        other_failures: how many of them failed in the same way.
    """

    key_version: str
    generation: int
    share: float
    exchanges: int
    failures: int
    other_version: str | None
    other_exchanges: int
    other_failures: int

    @property
    def reason(self) -> str:
        """Say it in words."""
        return (
            f"{self.failures} of {self.exchanges} exchanges with version "
            f"{self.key_version} failed for its key, and {self.other_failures} of "
            f"{self.other_exchanges} with version {self.other_version}"
        )


MOST_PEERS: Final = 64
"""Distinct peers that a tally counts; more are told as so many."""


class Tally:
    """Many equal things, told in one line.

    Attributes:
        kind: what they have in common.
        began: when the interval began that they fell into.
        singly: how many of that interval were told one by one; they are not counted.
        count: how many there were beside those.
        first: when the first of them came.
        last: when the last came.
        peer: where one of them came from.
        peers: the addresses they came from, without ports; `MOST_PEERS` at most.
    """

    __slots__ = ("began", "count", "first", "kind", "last", "peer", "peers", "singly")

    def __init__(self, kind: tuple[str, ...], began: datetime) -> None:
        self.kind = kind
        self.began = self.first = self.last = began
        self.singly = self.count = 0
        self.peer: str | None = None
        self.peers: set[str] = set()

    def add(self, peer: str | None, now: datetime) -> None:
        """Count one more."""
        if not self.count:
            self.first = now
        self.count += 1
        self.last = now
        if peer is not None:
            self.peer = self.peer or peer
            if len(self.peers) < MOST_PEERS:
                self.peers.add(peer.rpartition(":")[0])

    def absorb(self, later: "Tally") -> None:
        """Count those of a later interval, too."""
        self.count += later.count
        self.last = later.last
        self.peer = self.peer or later.peer
        self.peers = set(sorted(self.peers | later.peers)[:MOST_PEERS])

    @property
    def facts(self) -> dict[str, object]:
        """What a line tells of it, beside what its kind says."""
        facts: dict[str, object] = {
            "count": self.count,
            "first": self.first.isoformat(timespec="milliseconds"),
            "last": self.last.isoformat(timespec="milliseconds"),
        }
        if self.peer is not None:
            facts |= {"peer": self.peer, "peers": len(self.peers)}
        return facts


class Tallies:
    """Turns a flood of equal things into few lines.

    Of each kind, the first few of an interval are told one by one, and the others in
    one line once it is over. An interval begins with the first of its kind.

    Args:
        every: the length of an interval.
        singly: how many of a kind are told one by one in each.
    """

    def __init__(self, every: timedelta, singly: int = 0) -> None:
        self.every = every
        self._singly = singly
        self._open: dict[tuple[str, ...], Tally] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def add(self, kind: tuple[str, ...], peer: str | None, now: datetime) -> bool:
        """Take one more. Return whether it is to be told by itself."""
        tally = self._open.get(kind)
        if tally is None:
            tally = self._open[kind] = Tally(kind, now)
        if tally.singly < self._singly:
            tally.singly += 1
            return True
        tally.add(peer, now)
        return False

    def take(self, now: datetime | None = None) -> list[Tally]:
        """Remove and return the tallies to be told now.

        Args:
            now: take those whose interval is over; None takes all.
        """
        over = [each for each in self._open.values() if self._is_over(each, now)]
        for each in over:
            del self._open[each.kind]
        return [each for each in over if each.count]

    def put_back(self, tallies: Iterable[Tally]) -> None:
        """Keep what could not be told; `take` gives it again."""
        for each in tallies:
            later = self._open.get(each.kind)
            if later is not None:
                each.absorb(later)
            self._open[each.kind] = each

    def _is_over(self, tally: Tally, now: datetime | None) -> bool:
        # A clock that was set back must not hold a tally for as long.
        return now is None or not tally.began <= now < tally.began + self.every


@dataclass(frozen=True, slots=True)
class CertificateInUse:
    """A certificate that the gateway shows, trusts, or was shown by AlipayHK.

    Attributes:
        setting: where its file stands in the configuration, or who showed it.
        name: its subject.
        not_after: when it expires.
    """

    setting: str
    name: str
    not_after: datetime
