"""Two clocks that drift apart, noticed before answers are refused for it.

The skew is AlipayHK's time minus ours: by the signed Response-Time where an answer
has one, else by the Date header, which proves nothing and is good enough to warn.
"""

from collections.abc import Callable, Mapping
from typing import Final

from gateway.events import ExchangeRecord

_WARNS_AT: Final = 0.5
"""The part of the tolerance beyond which a skew is warned of."""

_CALMS_AT: Final = 0.25
"""Below this part the warning ends; between the two it stays as it is."""


class ClockWatch:
    """Warns when a client's skew passes half of its tolerance. An `Observer`.

    Args:
        tell: takes the event's name and its fields, once per change.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._tolerances: Mapping[str, float] = {}
        self._skewed: dict[str, float] = {}

    def use(self, tolerances: Mapping[str, float]) -> None:
        """Take these tolerances, in seconds by client, from now on."""
        self._tolerances = tolerances
        self._skewed = {
            client: skew
            for client, skew in self._skewed.items()
            if client in tolerances
        }

    def __call__(self, record: ExchangeRecord) -> None:
        """Judge the skew of a finished exchange, if it has one."""
        skew = record.clock_skew_s
        if skew is None:
            skew = record.date_skew_s
        tolerance = self._tolerances.get(record.client)
        if skew is None or tolerance is None:
            return
        part = abs(skew) / tolerance
        known = record.client in self._skewed
        if part >= _WARNS_AT or (known and part >= _CALMS_AT):
            self._skewed[record.client] = skew
            if not known:
                self._note("clock_skewed", record.client, skew, tolerance)
        elif known:
            del self._skewed[record.client]
            self._note("clock_in_step", record.client, skew, tolerance)

    def warnings(self) -> list[str]:
        """Give what an operator must know, for readiness."""
        return [
            f"{client}: AlipayHK's clock is {skew:+.1f} s from ours, and answers are "
            f"refused at {self._tolerances[client]:g} s; check this machine's clock"
            for client, skew in self._skewed.items()
        ]

    def _note(self, event: str, client: str, skew: float, tolerance: float) -> None:
        self._tell(
            event, client=client, skew_s=round(skew, 3), clock_tolerance_s=tolerance
        )
