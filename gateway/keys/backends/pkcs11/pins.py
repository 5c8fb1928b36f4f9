"""PINs: read when a login needs one, and not kept.

A token locks itself after a few wrong ones. So one that was refused is not tried
again until another stands in its place: by no reload, no retry, and none of the
processes that share `Refusals`. Others, such as this gateway after a restart, know
nothing of that: none takes the last try that a token says it has left.
"""

import hmac
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from gateway.errors import KeyringError
from gateway.keys.backends.access import read_secret
from gateway.keys.backends.pkcs11.uri import TokenUri

_SECRET_BYTES: Final = 32


class Refusals(Protocol):
    """Digests of refused PINs, and the secret that they are made under.

    Both are in memory alone: whoever has both finds a PIN of a few digits.
    """

    def alone(self, token: bytes) -> AbstractContextManager[None]:
        """Keep others that share this from trying a PIN of a token, to the block's end."""
        ...

    def secret(self) -> bytes:
        """Return the secret. Call it, and what follows, inside `alone`."""
        ...

    def add(self, digest: bytes) -> None:
        """Note a digest."""
        ...

    def __contains__(self, digest: bytes) -> bool:
        """Check whether a digest was noted."""
        ...


class OwnRefusals:
    """Those of one process. Implements `Refusals`.

    Args:
        entropy: gives that many random bytes.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._secret = entropy(_SECRET_BYTES)
        self._digests: set[bytes] = set()
        self._locks: dict[bytes, threading.Lock] = {}

    @contextmanager
    def alone(self, token: bytes) -> Iterator[None]:
        """Keep other threads from trying a PIN of a token."""
        with self._locks.setdefault(token, threading.Lock()):
            yield

    def secret(self) -> bytes:
        """Return the secret."""
        return self._secret

    def add(self, digest: bytes) -> None:
        """Note a digest."""
        self._digests.add(digest)

    def __contains__(self, digest: bytes) -> bool:
        """Check whether a digest was noted."""
        return digest in self._digests


class Pins:
    """The PINs of a process.

    Args:
        environment: the variables that may hold one.
        refusals: those that must not be tried again.
    """

    def __init__(self, environment: Mapping[str, str], refusals: Refusals) -> None:
        self._environment = environment
        self._refusals = refusals

    def alone(self, token: bytes) -> AbstractContextManager[None]:
        """Keep others that share the refusals from trying a PIN of a token.

        Args:
            token: what tells the token from all others.
        """
        return self._refusals.alone(token)

    def read(self, uri: TokenUri, token: bytes) -> str:
        """Return the PIN that a URI names. Call it inside `alone`.

        Raises:
            KeyringError: it is missing, no text, or was refused before.
        """
        source = uri.pin_source or ""
        try:
            pin = read_secret(source, self._environment).decode()
        except KeyringError as error:
            msg = f"its PIN is missing: {error.detail}"
            raise KeyringError(msg) from None
        except UnicodeDecodeError:
            msg = f"its PIN in {source} is not UTF-8"
            raise KeyringError(msg) from None
        if self._digest(token, pin) in self._refusals:
            msg = (
                "the token refused its PIN, which is not tried again lest the token "
                f"lock: correct it in {source}"
            )
            raise KeyringError(msg)
        return pin

    def refused(
        self, uri: TokenUri, token: bytes, pin: str, reason: str
    ) -> KeyringError:
        """Note that a token refused a PIN. Returns the error to raise."""
        self._refusals.add(self._digest(token, pin))
        msg = f"the token refuses its PIN in {uri.pin_source} ({reason})"
        return KeyringError(msg)

    def _digest(self, token: bytes, pin: str) -> bytes:
        whose = token + b"\0" + pin.encode()
        return hmac.digest(self._refusals.secret(), whose, "sha256")
