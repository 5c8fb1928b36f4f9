"""Words of the key model: states, uses, and one key with its label.

States are NIST SP 800-57 Part 1 Rev. 5, section 7.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.protocol import PublicKey


class KeyState(StrEnum):
    """Where a key version is in its life.

    | state       | partner's pair     | platform's key  |
    |-------------|--------------------|-----------------|
    | pre-active  | held, not used     | held, not used  |
    | active      | signs and decrypts | verifies, encrypts |
    | deactivated | decrypts           | verifies        |
    | compromised | nothing            | nothing         |
    | destroyed   | nothing, no file   | nothing, no file |
    """

    PRE_ACTIVE = "pre-active"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"


class Use(StrEnum):
    """What a key is for. A pair may be kept for one use alone."""

    SIGN = "sign"
    DECRYPT = "decrypt"
    VERIFY = "verify"
    ENCRYPT = "encrypt"


PARTNER_USES: Final = frozenset({Use.SIGN, Use.DECRYPT})
PLATFORM_USES: Final = frozenset({Use.VERIFY, Use.ENCRYPT})

HELD: Final = frozenset({KeyState.PRE_ACTIVE, KeyState.ACTIVE, KeyState.DEACTIVATED})
"""States in which the key itself is read; else only its label is known."""

PROCESSES: Final = (KeyState.ACTIVE, KeyState.DEACTIVATED)
"""States in which a key still decrypts or verifies: the active one comes first."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is known of one key version, without the key.

    Attributes:
        fingerprint: SHA-256 of the SPKI, in hex; None for a key that is not held.
    """

    version: str
    state: KeyState
    uses: frozenset[Use]
    fingerprint: str | None
    public: PublicKey | None = field(repr=False)
