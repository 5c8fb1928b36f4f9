"""Rates: a token bucket per caller."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a caller may call.

    Attributes:
        per_second: exchanges per second in the long run.
        burst: how many may come at once after a pause.
    """

    per_second: float
    burst: int


class Bucket:
    """Lets `rate.burst` through at once and `rate.per_second` in the long run."""

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._level = float(rate.burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take one. Gives 0, or after how many seconds there will be one.

        Args:
            now: monotonic seconds.
        """
        gained = max(now - self._at, 0.0) * self.rate.per_second
        self._level = min(self._level + gained, float(self.rate.burst))
        self._at = now
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self.rate.per_second
