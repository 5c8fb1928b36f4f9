"""The circuit breaker of one client: spares an AlipayHK that cannot be reached.

    closed ── failures in a row ──▶ open ── after a while ──▶ half open
       ▲                              ▲                           │
       └───────── probe answered ─────┼───── probe failed ────────┘

Failures are connections that cannot be made and deadlines that pass. Whatever was
answered, a refusal as well as an answer that is not trusted, shows that AlipayHK can
be reached. While it is open, calls end at once, nothing sent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from gateway.errors import UntrustedAnswer, UpstreamTimeout, UpstreamUnavailable


class BreakerState(IntEnum):
    """Where a breaker stands; the values are those of `gateway_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens, and for how long.

    Attributes:
        failures: this many in a row open it.
        open_s: then nothing is tried for so many seconds.
    """

    failures: int = 5
    open_s: float = 5.0


def _nobody(state: BreakerState, cause: str | None) -> None:
    """Be told of a change, and do nothing."""


class Breaker:
    """Counts failures in a row.

    Args:
        settings: when it opens.
        monotonic: gives seconds that never go back.
        on_change: is told of each change of state; where it opens, also why the last
            attempt failed.
    """

    def __init__(
        self,
        settings: BreakerSettings,
        monotonic: Callable[[], float],
        on_change: Callable[[BreakerState, str | None], None] = _nobody,
    ) -> None:
        self.state: BreakerState = BreakerState.CLOSED
        self._settings = settings
        self._monotonic = monotonic
        self._on_change = on_change
        self._failures = 0
        self._cause: str | None = None
        self._opened_at = 0.0
        self._probing = False

    def attempt(self, patience: float | None = None) -> "Attempt":
        """Let one attempt pass, a `with` block, and learn from how it ends.

        Args:
            patience: the monotonic second of the caller's own deadline. An attempt
                that it cut short says nothing of AlipayHK: an impatient caller must
                not close the way for all.

        Raises:
            UpstreamUnavailable: not now; its `retry_after_s` says when.
        """
        is_probe = self.state is not BreakerState.CLOSED
        if is_probe:
            self._begin_probe()
        return Attempt(self, is_probe, patience)

    def learn(self, error: BaseException | None, attempt: "Attempt") -> None:
        """Take in how an attempt ended."""
        if attempt.is_probe:
            self._probing = False
        if error is None or isinstance(error, UntrustedAnswer):
            if self._failures or self.state is not BreakerState.CLOSED:
                self._answered()
        elif isinstance(error, UpstreamUnavailable | UpstreamTimeout):
            patience = attempt.patience
            if patience is None or self._monotonic() < patience:
                self._failed(error.cause, probe=attempt.is_probe)

    def silence(self) -> None:
        """Tell nobody of changes any more: another breaker stands in this one's place."""
        self._on_change = _nobody

    def _begin_probe(self) -> None:
        left = self._opened_at + self._settings.open_s - self._monotonic()
        if left > 0 or self._probing:
            msg = (
                f"AlipayHK could not be reached {self._failures} times in a row; the "
                "next attempt is made in a few seconds (clients[].breaker)."
            )
            raise UpstreamUnavailable(
                msg, retry_after_s=max(left, 1.0), cause=self._cause
            )
        self._probing = True
        self._change(BreakerState.HALF_OPEN)

    def _answered(self) -> None:
        self._failures = 0
        self._change(BreakerState.CLOSED)

    def _failed(self, cause: str | None, *, probe: bool) -> None:
        self._failures += 1
        self._cause = cause
        closed = self.state is BreakerState.CLOSED
        if probe or (closed and self._failures >= self._settings.failures):
            self._opened_at = self._monotonic()
            self._change(BreakerState.OPEN, cause)

    def _change(self, state: BreakerState, cause: str | None = None) -> None:
        if state is not self.state:
            self.state = state
            self._on_change(state, cause)


class Attempt:
    """One attempt, as long as its `with` block lasts."""

    __slots__ = ("_breaker", "is_probe", "patience")

    def __init__(
        self,
        breaker: Breaker,
        is_probe: bool,  # noqa: FBT001 - its own kind makes it
        patience: float | None,
    ) -> None:
        self._breaker = breaker
        self.is_probe = is_probe
        self.patience = patience

    def __enter__(self) -> None:
        """Begin; it was let pass when it was made."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """End, and tell the breaker how."""
        self._breaker.learn(error, self)
