"""Bearer tokens: 256 random bits at the caller, their SHA-256 in the configuration.

A fast hash is enough for a token that nobody chose: there is no dictionary of 256
random bits to try.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Final

TOKEN_BYTES: Final = 32
_PREFIX: Final = "ahkgw_"
"""Lets scanners for leaked secrets know one when they see it."""

_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]{16,256})")


def new_token(entropy: Callable[[int], bytes]) -> str:
    """Make a token."""
    bits = base64.urlsafe_b64encode(entropy(TOKEN_BYTES)).rstrip(b"=")
    return _PREFIX + bits.decode()


def hash_token(token: str) -> bytes:
    """Give the SHA-256 of a token's text: what `token_sha256` holds, in hex."""
    return hashlib.sha256(token.encode()).digest()


def read_bearer(value: str) -> str | None:
    """Take the token out of an Authorization header (RFC 6750, 2.1); None if none."""
    found = _BEARER.fullmatch(value.strip(" \t"))
    return found[1] if found else None
