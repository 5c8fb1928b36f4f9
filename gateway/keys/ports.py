"""What a private key does for the gateway, wherever it lives."""

from typing import Protocol

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
