"""PINs: read when a login needs one, and not kept.

A token locks itself after a few wrong ones. So one that was refused is not tried
again, by whatever reload or retry, until another stands in its place.
"""

import hmac
from collections.abc import Mapping

from gateway.errors import KeyringError
from gateway.keys.backends.access import read_secret
from gateway.keys.backends.pkcs11.uri import TokenUri


class Pins:
    """The PINs of a process.

    Args:
        environment: the variables that may hold one.
        secret: random bytes; what was refused is known again by a digest under it.
    """

    def __init__(self, environment: Mapping[str, str], secret: bytes) -> None:
        self._environment = environment
        self._secret = secret
        self._refused: set[bytes] = set()

    def read(self, uri: TokenUri) -> str | None:
        """Give a token's PIN; None if its URI names none.

        Raises:
            KeyringError: it is missing, no text, or was refused before.
        """
        if uri.pin_source is None:
            return None
        try:
            pin = read_secret(uri.pin_source, self._environment).decode()
        except KeyringError as error:
            msg = f"its PIN is missing: {error.detail}"
            raise KeyringError(msg) from None
        except UnicodeDecodeError:
            msg = f"its PIN in {uri.pin_source} is not UTF-8"
            raise KeyringError(msg) from None
        if self._digest(uri, pin) in self._refused:
            msg = (
                "the token refused its PIN, which is not tried again lest the token "
                f"lock: correct it in {uri.pin_source}"
            )
            raise KeyringError(msg)
        return pin

    def refused(self, uri: TokenUri, pin: str, reason: str) -> KeyringError:
        """Note that a token refused a PIN. Gives the error to raise."""
        self._refused.add(self._digest(uri, pin))
        msg = f"the token refuses its PIN in {uri.pin_source} ({reason})"
        return KeyringError(msg)

    def _digest(self, uri: TokenUri, pin: str) -> bytes:
        whose = f"{uri.module}\0{sorted(uri.token.items())}\0{pin}"
        return hmac.digest(self._secret, whose.encode(), "sha256")
