"""Which key signs an exchange, and what becomes of it where a canary's is refused.

AlipayHK that refuses a signature does not act. So an exchange whose canary it refused
is repeated, once, with the earlier version and the identical body: the caller sees
nothing of it. So is one that the canary's key could not be reached for. Without a
canary nothing is repeated here and nothing is judged.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.errors import KeyUnavailable, UntrustedAnswer
from gateway.events import ExchangeRecord
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.ports import PrivateKey
from gateway.relay.canary import CanaryWatch, Course
from gateway.relay.outcome import Answer, Attempts

_FAILED: Final = "F"

Attempt: TypeAlias = Callable[[PrivateKey], Awaitable[Answer]]
"""Signs with a key, sends, and gives the answer, or raises an ExchangeError."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What decides who signs an exchange, and whether it is repeated.

    Attributes:
        codes: resultCodes of refusals for the signature.
        attempts: the exchange's.
        lot: the exchange's, by which it falls to the canary or not.
    """

    codes: Collection[str]
    attempts: Attempts
    lot: float


async def carry_out(
    attempt: Attempt,
    ring: Keyring,
    watch: CanaryWatch,
    terms: Terms,
    record: ExchangeRecord,
) -> Answer:
    """Carry out an exchange with the key whose turn it is, and judge that key.

    Args:
        attempt: carries it out with a key; may be called twice.
        ring: the exchange's.
        watch: is told how the canary and the version beside it fare.
        terms: who signs, and what is repeated.
        record: notes the canary.

    Raises:
        ExchangeError: there is no answer that may be passed on.
    """
    canary = ring.canary
    if canary is None or canary.halted is not None or ring.active_signer is None:
        return await attempt(ring.signer_for(terms.lot))
    trial = _Trial(attempt, ring, canary, watch.course_of(ring), terms, record)
    if canary.takes(terms.lot):
        return await trial.by_canary()
    return await trial.by_other()


@dataclass(frozen=True, slots=True)
class _Trial:
    """An exchange while there is a canary."""

    attempt: Attempt
    ring: Keyring
    canary: Canary
    course: Course
    terms: Terms
    record: ExchangeRecord

    async def by_other(self) -> Answer:
        verdicts: list[bool] = []
        try:
            return await self._judged(self.ring.signer, verdicts)
        finally:
            for failed in verdicts:
                self.course.judge_other(self.ring, self.canary, failed=failed)

    async def by_canary(self) -> Answer:
        """Judge the canary last: against what the other made of the same exchange."""
        self.record.canary = self.canary.version
        before = self.course.evidence.other.failures
        verdicts: list[bool] = []
        try:
            answer: Answer | None = None
            try:
                answer = await self._judged(self.canary.key, verdicts)
            except KeyUnavailable:
                if self.terms.attempts.written:  # an earlier attempt: not safe again
                    raise
            if answer is None or self._is_refused(answer):
                self.record.canary_attempts = self.record.attempts
                answer = await self.by_other()
        finally:
            alone = self.course.evidence.other.failures == before
            for failed in verdicts:
                self.course.judge_canary(
                    self.ring, self.canary, failed=failed, alone=alone
                )
        return answer

    async def _judged(self, signer: PrivateKey, verdicts: list[bool]) -> Answer:
        """Carry it out with a key, and note whether that failed, if it tells."""
        try:
            answer = await self.attempt(signer)
        except UntrustedAnswer as error:
            if error.blames_key:
                verdicts.append(True)
            raise
        if answer.verified or self._is_refused(answer):
            verdicts.append(not answer.verified)
        return answer

    def _is_refused(self, answer: Answer) -> bool:
        """Tell whether AlipayHK refused the signature: it says so, unsigned."""
        refusal = answer.refusal
        return (
            refusal is not None
            and refusal.status == _FAILED
            and refusal.code in self.terms.codes
        )
