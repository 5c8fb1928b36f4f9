"""Words of the key model: states, uses, and one key with its label.

States are NIST SP 800-57 Part 1 Rev. 5, section 7.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.protocol import PublicKey


class KeyState(StrEnum):
    """Where a key version is in its life.

    | state       | partner's pair     | platform's key  |
    |-------------|--------------------|-----------------|
    | pre-active  | held, not used     | held, not used  |
    | … staged    | decrypts           | verifies        |
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
"""States in which a key decrypts or verifies."""


@dataclass(frozen=True, slots=True)
class Life:
    """When a key version came into each state; None where that is not recorded."""

    created: datetime | None = None
    activated: datetime | None = None
    deactivated: datetime | None = None
    compromised: datetime | None = None
    destroyed: datetime | None = None


@dataclass(frozen=True, slots=True)
class Plans:
    """When a key version is to take its next steps; None where none is planned."""

    activate_at: datetime | None = None
    deactivate_at: datetime | None = None
    destroy_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is known of one key version, without the key.

    Attributes:
        fingerprint: SHA-256 of the SPKI, in hex; None where it is not known.
        public: the key, where it is held.
        staged: whether it decrypts or verifies before it is active.
        home: the scheme of where its private half, or it, lives.
    """

    version: str
    state: KeyState
    uses: frozenset[Use]
    fingerprint: str | None
    public: PublicKey | None = field(repr=False)
    staged: bool = False
    life: Life = Life()
    home: str = "file"
    plans: Plans = Plans()

    @property
    def processes(self) -> bool:
        """Whether it decrypts or verifies what comes in."""
        early = self.staged and self.state is KeyState.PRE_ACTIVE
        return early or self.state in PROCESSES
