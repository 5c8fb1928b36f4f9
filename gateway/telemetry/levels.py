"""How much an event matters: the `level` of its line."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

INFO: Final = "info"
WARNING: Final = "warning"
ERROR: Final = "error"

LEVELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "audit_failed": ERROR,
        "audit_lines_dropped": ERROR,
        "audit_works_again": INFO,
        "breaker_closed": INFO,
        "breaker_half_open": INFO,
        "breaker_open": ERROR,
        "canary_halt_not_kept": ERROR,
        "canary_halted": ERROR,
        "certificate_near_end": WARNING,
        "certificate_past_end": ERROR,
        "certificates_loaded": INFO,
        "certificates_refused": ERROR,
        "clock_in_step": INFO,
        "clock_skewed": WARNING,
        "clock_unusable": ERROR,
        "clock_usable": INFO,
        "connections_full": WARNING,
        "cut_off": WARNING,
        "decryption_label_differs": WARNING,
        "draining": INFO,
        "handshake_failed": WARNING,
        "handshakes_failed": WARNING,
        "key_near_end": WARNING,
        "key_past_end": ERROR,
        "keyring_generation_reused": WARNING,
        "keyring_loaded": INFO,
        "keyring_refused": ERROR,
        "keys_in_reach": INFO,
        "keys_out_of_reach": ERROR,
        "listening": INFO,
        "log_failed": ERROR,
        "log_lines_dropped": WARNING,
        "log_works_again": INFO,
        "loop_error": ERROR,
        "nothing_verified": ERROR,
        "partner_key_first_used": INFO,
        "platform_key_first_seen": INFO,
        "reload_refused": ERROR,
        "reloaded": INFO,
        "stopped": INFO,
        "supervisor_gone": ERROR,
        "verified_again": INFO,
        "worker_died": ERROR,
        "worker_hung": ERROR,
        "worker_not_started": ERROR,
        "worker_started": INFO,
    }
)
"""The level of each event. error: somebody has to act, or exchanges fail for it.
warning: nothing fails yet, or it is a peer's fault. info: all else."""


def level_of(event: str) -> str:
    """Return the level of an event."""
    return LEVELS.get(event, INFO)
