"""What the protocol needs to know of a key: its label and its public half."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key under the version by which the wire names it.

    Attributes:
        size_bytes: the length of its signatures and wrapped keys: 256 for RSA 2048.
    """

    version: str
    rsa: RSAPublicKey = field(repr=False)
    size_bytes: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the size once: each verification asks for it."""
        object.__setattr__(self, "size_bytes", (self.rsa.key_size + 7) // 8)


PublicKeys: TypeAlias = Sequence[PublicKey]
"""Keys that may verify, the active one first."""


def named(keys: PublicKeys, version: str | None) -> PublicKeys:
    """Pick the keys a message may mean: the named one, or all if it names none.

    Empty where the version is named and not held (protocol.md 2).
    """
    if version is None:
        return keys
    return [key for key in keys if key.version == version]
