"""Callers: the services that may use this gateway, and how each is recognised.

A caller shows a token, a certificate, or both, as its entry says. What is shown
must fit one caller in every part: a good certificate does not make up for a wrong
token. All failures are one error, so that it teaches nothing.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.access.tokens import hash_token, read_bearer
from gateway.errors import Unauthenticated

_NO_TOKEN: Final = bytes(32)
_UNKNOWN: Final = (
    "The credentials of this request are those of no caller. Send Authorization: "
    "Bearer with the caller's token, or its client certificate, as it was agreed."
)


@dataclass(frozen=True, slots=True)
class Caller:
    """A service that may call.

    Attributes:
        token_hashes: SHA-256 of each token that proves this caller; two while one
            replaces the other.
        certificate: the subject alternative name its certificate must carry.
    """

    name: str
    token_hashes: tuple[bytes, ...] = field(default=(), repr=False)
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows of its sender.

    Attributes:
        authorization: the Authorization headers, all of them.
        names: the subject alternative names of the certificate that TLS verified;
            None without one.
    """

    authorization: tuple[str, ...] = field(default=(), repr=False)
    names: frozenset[str] | None = None


class Callers:
    """All callers. Immutable."""

    def __init__(self, callers: Iterable[Caller]) -> None:
        self._callers = tuple(callers)

    def __bool__(self) -> bool:
        return bool(self._callers)

    def identify(self, credentials: Credentials) -> Caller:
        """Tell who sent a request.

        Every token is compared with every hash, in constant time (property P11 of
        docs/threat-model.md), so that the time says nothing about which one is near.

        Raises:
            Unauthenticated: what it shows fits no caller in every part.
        """
        shown = _token_hash(credentials)
        found: Caller | None = None
        for caller in self._callers:
            fits = _fits_token(caller, shown) & _fits_name(caller, credentials)
            found = caller if fits else found
        if found is None:
            raise Unauthenticated(_UNKNOWN)
        return found


def _token_hash(credentials: Credentials) -> bytes | None:
    """Give the hash of the one token shown; None where nothing is shown at all."""
    if not credentials.authorization:
        return None
    if len(credentials.authorization) > 1:
        return _NO_TOKEN
    token = read_bearer(credentials.authorization[0])
    return _NO_TOKEN if token is None else hash_token(token)


def _fits_token(caller: Caller, shown: bytes | None) -> bool:
    if not caller.token_hashes:
        return shown is None
    fits = False
    for each in caller.token_hashes:
        fits |= hmac.compare_digest(each, shown or _NO_TOKEN)
    return fits & (shown is not None)


def _fits_name(caller: Caller, credentials: Credentials) -> bool:
    if caller.certificate is None:
        return True
    return credentials.names is not None and caller.certificate in credentials.names
