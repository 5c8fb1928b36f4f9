"""Pairs in files: the private half is in this process, on the disk it may be encrypted."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from gateway.errors import KeyringError
from gateway.keys.backends.access import Others, read_key_file, read_secret
from gateway.keys.backends.homes import Homes
from gateway.keys.formats import read_private_key
from gateway.keys.locations import FILE, path_of
from gateway.keys.ports import Place, PrivateKey
from gateway.protocol import PublicKey, sign, unwrap
from gateway.turns import next_turn

_WAITS_BYTES: Final = 1 << 16
"""As much is signed together with others."""

_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})


class FileKey:
    """A pair whose private half is in this process. Implements `PrivateKey`.

    It shows only its version in a repr and cannot be pickled.
    """

    __slots__ = ("_private", "public")

    def __init__(self, version: str, private: RSAPrivateKey) -> None:
        self._private = private
        self.public = PublicKey(version, private.public_key())

    def __repr__(self) -> str:
        return f"FileKey(version={self.public.version!r})"

    def __reduce__(self) -> NoReturn:
        msg = "a private key does not leave its process"
        raise TypeError(msg)

    async def sign(self, base: bytes) -> bytes:
        """Sign in this thread: it takes a quarter of a millisecond.

        All that can sign in this turn of the loop do so one behind the other, which
        saves a fiftieth of an exchange: the processor has the code at hand. Large ones
        do not wait: each would hold a second copy of its body meanwhile.
        """
        if len(base) <= _WAITS_BYTES:
            await next_turn()
        return sign(self._private, base)

    async def unwrap(self, wrapped_key: bytes) -> bytes:
        """Unwrap in this thread, likewise."""
        await next_turn()
        return unwrap(self._private, wrapped_key)


class FileHome:
    """Key files, in the keyring's folder or elsewhere. Implements `KeyHome`.

    Args:
        environment: the variables that may hold a passphrase.
    """

    def __init__(self, environment: Mapping[str, str] = _NO_VARIABLES) -> None:
        self._environment = environment

    def open(self, place: Place) -> PrivateKey:
        """Read a pair.

        Raises:
            KeyringError: it cannot be read, or is open to others, or no such pair.
        """
        return FileKey(place.version, self.read(place))

    def read(self, place: Place) -> RSAPrivateKey:
        """Read a private key as such, to convert it or to look into a message.

        Raises:
            KeyringError: as `open`.
        """
        data = read_key_file(path_of(place.key, place.folder), Others.MAY_NOTHING)
        if place.passphrase is None:
            return read_private_key(data)
        try:
            passphrase = read_secret(place.passphrase, self._environment)
        except KeyringError as error:
            msg = f"its passphrase is missing: {error.detail}"
            raise KeyringError(msg) from None
        return read_private_key(data, passphrase)

    def tidy(self) -> None:
        """Do nothing: no file stays open."""

    def close(self) -> None:
        """Do nothing: no file stays open."""


FILES: Final = Homes({FILE: FileHome()})
"""Files alone, without a passphrase; for whoever has to do with no other homes."""
