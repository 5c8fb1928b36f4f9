"""The lot by which an exchange falls to a canary or not.

Callers choose exchange ids. Were the lot a plain hash of the id, they would choose the
key that signs, and could have a canary sign nothing, or nothing but what fails.
"""

import hashlib
from typing import Final

_BYTES: Final = 6
"""Of a hash: as many as a float holds exactly, so that every lot is below 1."""


class Lots:
    """Draws the lots of exchanges.

    Args:
        secret: 32 random bytes that no caller knows. Who has the same draws the same.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __call__(self, exchange_id: str) -> float:
        """Return an exchange's lot, from 0 to below 1: the same for the same id."""
        keyed = hashlib.blake2b(
            exchange_id.encode(), key=self._secret, digest_size=_BYTES
        )
        return int.from_bytes(keyed.digest()) / (1 << 8 * _BYTES)
