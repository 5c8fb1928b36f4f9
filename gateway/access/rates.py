"""Rates: a token bucket per caller."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a caller may call.

    Attributes:
        per_second: exchanges per second in the long run.
        burst: how many may come at once after a pause.
    """

    per_second: float
    burst: int


class Level(NamedTuple):
    """How full a bucket was, and when; in monotonic seconds."""

    tokens: float
    at: float

    def at_moment(self, now: float, rate: Rate) -> "Level":
        """Give the level of a later moment."""
        gained = max(now - self.at, 0.0) * rate.per_second
        return Level(min(self.tokens + gained, float(rate.burst)), now)

    def wait_s(self, rate: Rate) -> float:
        """Give after how many seconds there is a token; 0 where there is one."""
        return max(1.0 - self.tokens, 0.0) / rate.per_second

    def less_one(self) -> "Level":
        """Give the level once a token was taken."""
        return Level(self.tokens - 1.0, self.at)


class Bucket:
    """Lets `rate.burst` through at once and `rate.per_second` in the long run."""

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._level = Level(float(rate.burst), now)

    def take(self, now: float) -> float:
        """Take one. Gives 0, or after how many seconds there will be one.

        Args:
            now: monotonic seconds.
        """
        self._level = self._level.at_moment(now, self.rate)
        wait_s = self._level.wait_s(self.rate)
        if not wait_s:
            self._level = self._level.less_one()
        return wait_s
