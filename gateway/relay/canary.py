"""The watch over a canary: counts how it fares, and ends it where it fares worse.

A failure is one of the key alone: AlipayHK refused the signature, or its answer does not
decrypt as one that was encrypted to another key does not. What was verified and could be
read is a success. Anything else, such as a deadline that passed, a business refusal
without a signature, or a decrypted text that is no JSON object, is neither.

Its share grows by its schedule, but no step is taken before `ENOUGH` exchanges were
verified at the share before: a schedule that only knows the time would let a key sign
everything that nobody has called with yet.

A watch is that of a client, over all its rings; what it has seen is kept for one
generation. Whoever holds the ring asks `halt_of` whether the canary in it is over.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, TypeAlias

from gateway.events import CanaryHalt
from gateway.keys.keyring import Canary, Keyring
from gateway.relay.evidence import Evidence

ENOUGH: Final = 20
"""Of exchanges that AlipayHK verified, for the next step. A key that it does not know is
given up after 6 failures at 5 % and 22 at 50 %, and has no exchange that is verified."""

OnJudged: TypeAlias = Callable[[str, bool], None]
"""Is told of a judged exchange: the version, and whether it failed."""

OnHalt: TypeAlias = Callable[[CanaryHalt], None]
"""Is told, once, that a canary is over."""


class Course:
    """The canary of one generation, and what was seen of it so far.

    Args:
        generation: of its ring.
        on_judged: is told of each judged exchange.
        on_halt: is told when it is over.
    """

    def __init__(self, generation: int, on_judged: OnJudged, on_halt: OnHalt) -> None:
        self.generation: Final = generation
        self.evidence: Final = Evidence()
        self.halt: CanaryHalt | None = None
        self._on_judged = on_judged
        self._on_halt = on_halt
        self._verified: Counter[float] = Counter()

    def share_of(self, canary: Canary) -> float:
        """Return the share that the canary may sign: that of its schedule, or less."""
        if not canary.steps:
            return canary.share
        allowed, *following = canary.steps
        for share in following:
            if share > allowed and self._verified[allowed] < ENOUGH:
                break
            allowed = share
        return allowed

    def judge_other(self, ring: Keyring, canary: Canary, *, failed: bool) -> None:
        """Take in an exchange of the version beside the canary."""
        self.evidence.judge_other(canary.share, failed=failed)
        self._on_judged(ring.signer.public.version, failed)

    def judge_canary(
        self, ring: Keyring, canary: Canary, *, failed: bool, alone: bool
    ) -> None:
        """Take in an exchange of the canary, and end it if that is enough.

        Args:
            ring: whose canary it is.
            canary: as it was when the exchange began.
            failed: whether it failed.
            alone: whether the other version failed in nothing meanwhile.
        """
        evidence = self.evidence
        evidence.judge_canary(canary.share, failed=failed, alone=alone)
        self._verified[canary.share] += not failed
        self._on_judged(canary.version, failed)
        if evidence.suffices and self.halt is None:
            self.halt = _halt(ring, canary, evidence)
            self._on_halt(self.halt)


class CanaryWatch:
    """Watches the canaries of one client.

    Args:
        on_judged: is told of each judged exchange while there is a canary.
        on_halt: is told when one is over.
    """

    def __init__(
        self,
        on_judged: OnJudged = lambda *_: None,
        on_halt: OnHalt = lambda _: None,
    ) -> None:
        self._on_judged = on_judged
        self._on_halt = on_halt
        self._latest = self._course(0)

    def halt_of(self, ring: Keyring) -> CanaryHalt | None:
        """Give what ended the ring's canary; None while nothing did."""
        same = self._latest.generation == ring.generation
        return self._latest.halt if same else None

    def share_of(self, canary: Canary, generation: int) -> float:
        """Return the share that the canary of a generation may sign now."""
        same = self._latest.generation == generation
        course = self._latest if same else self._course(generation)
        return course.share_of(canary)

    def course_of(self, ring: Keyring) -> Course:
        """Give the course of the ring's canary; an older ring's is of no account."""
        if ring.generation > self._latest.generation:
            self._latest = self._course(ring.generation)
        if ring.generation == self._latest.generation:
            return self._latest
        return self._course(ring.generation)

    def _course(self, generation: int) -> Course:
        return Course(generation, self._on_judged, self._on_halt)


def _halt(ring: Keyring, canary: Canary, evidence: Evidence) -> CanaryHalt:
    return CanaryHalt(
        canary.version,
        ring.generation,
        canary.share,
        evidence.canary.exchanges,
        evidence.canary.failures,
        ring.signer.public.version,
        evidence.other.exchanges,
        evidence.other.failures,
    )
