"""What one client's verified answers tell of an answer that is sent a second time.

No signature covers the request that an answer is to: who breaks TLS may keep an answer
and send it to a later request for the same target. Two rules find that.

* An answer is not older than its request. AlipayHK's clock is learned from its answers:
  the least by which a Response-Time was ahead of the stopwatch when it arrived. Its real
  lead is never less than that, and an answer is made after its request was sent, whether
  its time is taken at the beginning or at the end. So an honest Response-Time is not
  before the sending plus that lead, less the second to which it is written.
* A signature that was accepted is not accepted again for a request that was sent over a
  second later. RSA PKCS#1 v1.5 gives equal answers of one second equal signatures, and
  busy traffic has many of them, so the time runs from the last one. One that was refused
  for its time is never accepted: it taught a lead by which its time would do.

Our own clock has no part in it: it may be set meanwhile. Where AlipayHK's goes back by
more than `MARGIN_S`, one answer is refused, and teaches the new lead; equal answers of
the seconds that it repeats are refused.
"""

from typing import Final

MARGIN_S: Final = 5.0
"""A second for the resolution, the rest for AlipayHK's machines among themselves."""

_WINDOW_S: Final = 3600.0
"""A lead is remembered for one to two windows: longer, and drift would wear it out."""

_SAME_S: Final = 1.1
"""A second for the resolution, a tenth for AlipayHK's machines among themselves."""

_MOST: Final = 8192
"""Signatures: the last 8,192 to 16,384 verified ones are remembered, in about 3 MB. At
1,000 answers a second that is 8 s and more; behind `MARGIN_S`, the times tell."""

_ID_BYTES: Final = 16
_NEVER: Final = float("inf")


class ReplayGuard:
    """Remembers the lead of AlipayHK's clock and the signatures accepted last.

    All moments are seconds of the relay's stopwatch, but for those of Response-Time,
    which are seconds since 1970.
    """

    def __init__(self) -> None:
        self._lead = self._lead_before = _NEVER
        self._since = -_NEVER
        self._seen: dict[bytes, float] = {}
        self._seen_before: dict[bytes, float] = {}

    def earliest(self, sent: float) -> float | None:
        """Return the least Response-Time of an answer to a request sent then.

        None where nothing was learned yet, or not for long.
        """
        lead = min(self._lead, self._lead_before)
        if lead == _NEVER or sent >= self._since + 2 * _WINDOW_S:
            return None
        return sent + lead - MARGIN_S

    def learn(self, response_time: float, received: float) -> None:
        """Learn from a verified answer how far AlipayHK's clock is ahead.

        Also from one that was refused for being too early, or nothing would ever be
        accepted again once that clock went back.
        """
        if received >= self._since + _WINDOW_S:
            kept = received < self._since + 2 * _WINDOW_S
            self._lead_before = self._lead if kept else _NEVER
            self._lead, self._since = _NEVER, received
        self._lead = min(self._lead, response_time - received)

    def admits(self, signature: bytes, sent: float, received: float) -> bool:
        """Return whether an answer is not one that was accepted before, and accept it.

        Args:
            signature: the answer's, verified.
            sent: when the first attempt of its exchange began.
            received: when it was whole.
        """
        name = signature[:_ID_BYTES]
        last = self._seen.get(name, self._seen_before.get(name))
        if last is not None and sent >= last + _SAME_S:
            return False
        self._remember(name, received)
        return True

    def refuse(self, signature: bytes) -> None:
        """Never admit this signature, as long as it is remembered."""
        self._remember(signature[:_ID_BYTES], -_NEVER)

    def _remember(self, name: bytes, received: float) -> None:
        if len(self._seen) >= _MOST:
            self._seen_before, self._seen = self._seen, {}
        self._seen[name] = received
