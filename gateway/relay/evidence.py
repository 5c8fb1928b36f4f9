"""Whether a canary fails more than the version beside it: two tests that never end.

Each keeps a number that is expected not to grow as long as both versions fail alike
(a test martingale), and that is looked at after every exchange. Either suffices.

* By shares. Of the exchanges that fail, as large a share is the canary's as of all:
  s. Were its odds of failing `ODDS` times greater, it would be ODDS * s / d, with
  d = 1 + (ODDS - 1) * s. So a failure of the canary multiplies by ODDS / d, one of the
  other version by 1 / d. This is quick where s is small: 6 failures at 5 %, 22 at 50 %.
* By pairs. A canary's exchange that fails is set against what the other version made
  of the same exchange, or else of its last one. Alike, the first fails and the second
  does not with p * (1 - p), which is a quarter at most, whatever p is. So such a pair
  multiplies by 2, and any other exchange of the canary by 2 / 3. This needs no share,
  and works where all is the canary's: 30 in a row.

A failure of the canary speaks against it only if the other version failed in nothing
while it lasted: at the edges of an outage the two are not asked at the same time.

Neither number falls below 1, so that a long time without trouble, or an outage that
hit both, is no credit for later. The price is that the bound grows with time: within n
failures, or n exchanges of the canary, the chance of going back for nothing is below
n / `BY_SHARES`, or n / `BY_PAIRS`. (The floored number is never above the sum of the
martingales that begin at each step, which is expected to be n; then Doob.) So: below
one in a thousand for a canary that sees a thousand failures, and below one in a
thousand for one of a million exchanges.
"""

from dataclasses import dataclass, field
from typing import Final

ODDS: Final = 20.0
BY_SHARES: Final = 1e6
BY_PAIRS: Final = 1e9

_PAIR: Final = 2.0
_NO_PAIR: Final = 2 / 3
"""With at most a quarter of pairs: 2 / 4 + 3 / 4 * 2 / 3 is 1."""


@dataclass(slots=True)
class Tally:
    """What was judged of one version. `last_failed` is None where nothing was."""

    exchanges: int = 0
    failures: int = 0
    last_failed: bool | None = None

    def count(self, *, failed: bool) -> None:
        """Count one."""
        self.exchanges += 1
        self.failures += failed
        self.last_failed = failed


@dataclass(slots=True)
class Evidence:
    """What speaks against a canary.

    Attributes:
        by_shares: how much more likely its share of the failures is if it is worse.
        by_pairs: the same, of what became of the same exchange with either version.
    """

    canary: Tally = field(default_factory=Tally)
    other: Tally = field(default_factory=Tally)
    by_shares: float = 1.0
    by_pairs: float = 1.0

    @property
    def suffices(self) -> bool:
        """Whether it is time to go back."""
        return self.by_shares >= BY_SHARES or self.by_pairs >= BY_PAIRS

    def judge_other(self, share: float, *, failed: bool) -> None:
        """Take in an exchange of the other version.

        Args:
            share: of the exchanges, that the canary signs: from 0 to 1.
            failed: whether it was the key that failed.
        """
        self.other.count(failed=failed)
        if failed:
            self._weigh_share(1 / _spread(share))

    def judge_canary(self, share: float, *, failed: bool, alone: bool) -> None:
        """Take in an exchange of the canary, after what the other version made of it.

        Args:
            share: of the exchanges, that the canary signs: from 0 to 1.
            failed: whether it was the key that failed.
            alone: whether the other version failed in nothing meanwhile.
        """
        self.canary.count(failed=failed)
        if failed and alone:
            self._weigh_share(ODDS / _spread(share))
        is_pair = failed and alone and self.other.last_failed is False
        self.by_pairs = max(1.0, self.by_pairs) * (_PAIR if is_pair else _NO_PAIR)

    def _weigh_share(self, factor: float) -> None:
        self.by_shares = max(1.0, self.by_shares) * factor


def _spread(share: float) -> float:
    return 1 + (ODDS - 1) * share
