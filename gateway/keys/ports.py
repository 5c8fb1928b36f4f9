"""What a private key does for the gateway, wherever it lives, and who keeps it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.keys.model import Use
from gateway.protocol import PublicKey


class PrivateKey(Protocol):
    """One of the partner's pairs: in a file, a token, a vault.

    Both operations may wait, so that a key may live behind a network. Neither
    gives out private bytes, and no repr, pickle or error shows any.
    """

    @property
    def public(self) -> PublicKey:
        """The public half, under the version AlipayHK knows it by."""
        ...

    async def sign(self, base: bytes) -> bytes:
        """Give the raw RSA256 signature over `base`.

        Raises:
            KeyUnavailable: the key's home cannot be reached.
        """
        ...

    async def unwrap(self, wrapped_key: bytes) -> bytes:
        """Give the content key; random bytes where it was wrapped for another.

        Raises:
            DecryptionFailed: the wrapped key cannot be one of this pair's.
            KeyUnavailable: the key's home cannot be reached.
        """
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where one of our pairs lives, and what it must be able to do there.

    Attributes:
        key: a URI, or the name of a file in `folder`; see `gateway.keys.locations`.
        uses: what the pair is for; none where only its public half is wanted.
        folder: the keyring's.
        passphrase: where the file's passphrase is, if it has one.
    """

    key: str
    version: str
    uses: frozenset[Use]
    folder: Path
    passphrase: str | None = None


class KeyHome(Protocol):
    """A kind of place where pairs are kept, such as files or tokens.

    There is one of each kind in a process, and it outlives every keyring: what it
    holds open for a pair serves the next keyring too. Its methods are called in
    worker threads and may block, but never for longer than a few seconds.
    """

    def open(self, place: Place) -> PrivateKey:
        """Find a pair, and see that it can do what it is for.

        Raises:
            KeyringError: there is no such pair, or it cannot. Waiting will not help.
            KeyUnavailable: the home cannot be reached now.
        """
        ...

    def tidy(self) -> None:
        """Let go of what no pair needs any more. Called every now and then."""
        ...

    def close(self) -> None:
        """Let go of everything: the process ends. Pairs are unavailable from now on."""
        ...


@runtime_checkable
class KeyMaker(Protocol):
    """A home in which pairs are made, so that none was ever anywhere else."""

    def generate(self, place: Place, bits: int) -> RSAPublicKey:
        """Make a pair for the uses of `place`, and return its public half.

        May block for as long as a device needs for it.

        Raises:
            KeyringError: it cannot be made there, or there is one of that name.
            KeyUnavailable: the home cannot be reached now.
        """
        ...
