"""How the writing of the audit log goes, and what of a keyring belongs into it."""

import contextlib
from collections.abc import Callable, Iterable

from gateway.keys.keyring import Keyring
from gateway.keys.model import KeyInfo
from gateway.telemetry.log import canary_of


class AuditWatch:
    """Counts and tells what fails. Called by a thread that is not the loop's.

    Args:
        count: counts an attempt to write that failed.
        tell: takes an event's name and fields, in the loop.
        post: has a function called in the loop.
    """

    def __init__(
        self,
        count: Callable[[], None],
        tell: Callable[..., None],
        post: Callable[..., object],
    ) -> None:
        self._count = count
        self._tell = tell
        self._post = post
        self._told: str | None = None
        self._full = False

    def audit_failed(self, reason: str) -> None:
        """Count an attempt that failed; tell it once for each reason."""
        self._count()
        if reason != self._told:
            self._told = reason
            self._event("audit_failed", reason=reason)

    def audit_works(self) -> None:
        """Tell that the log is written again."""
        self._told, self._full = None, False
        self._event("audit_works_again")

    def audit_dropped(self) -> None:
        """Count a line that was dropped; tell the first."""
        self._count()
        if not self._full:
            self._full = True
            self._event("audit_lines_dropped", reason="too many wait to be written")

    def _event(self, name: str, **fields: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._post(lambda: self._tell(name, **fields))


def facts_of(ring: Keyring | None) -> dict[str, object] | None:
    """Give what an auditor needs of a ring: its versions, states and fingerprints."""
    if ring is None:
        return None
    return {
        "generation": ring.generation,
        "digest": ring.digest,
        "partner": _keys(ring.partner),
        "platform": _keys(ring.platform),
        **canary_of(ring),
    }


def _keys(keys: Iterable[KeyInfo]) -> list[dict[str, object]]:
    return [
        {
            "version": key.version,
            "state": str(key.state),
            "uses": sorted(key.uses),
            "fingerprint": key.fingerprint,
        }
        for key in keys
    ]
