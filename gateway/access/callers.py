"""Callers: the services that may use this gateway, and how each is recognised.

A caller shows a token, a certificate, or both, as its entry says. What is shown
must fit one caller in every part: a good certificate does not make up for a wrong
token. All failures are one error, so that it teaches nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.access.tokens import hash_token, read_bearer
from gateway.errors import Unauthenticated

_NO_TOKEN: Final = b""
"""In place of a hash, where no token was shown as one is: it is that of no token."""

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
    """All callers. Immutable.

    They are looked up, by the hash of the token that is shown or by the names in the
    certificate, so that a refusal costs as little with a thousand callers as with one.
    The look-up does not take constant time and need not (property P11 of
    docs/threat-model.md): what it compares is the SHA-256 of a guess, which nobody can
    choose, in a table that is ordered by SipHash under a key of this process.
    """

    def __init__(self, callers: Iterable[Caller]) -> None:
        self._by_token: dict[bytes, list[Caller]] = {}
        self._by_name: dict[str | None, list[Caller]] = {}
        for caller in callers:
            for digest in caller.token_hashes:
                self._by_token.setdefault(digest, []).append(caller)
            if not caller.token_hashes:
                self._by_name.setdefault(caller.certificate, []).append(caller)

    def __bool__(self) -> bool:
        return bool(self._by_token or self._by_name)

    def identify(self, credentials: Credentials) -> Caller:
        """Return the caller who sent a request.

        Raises:
            Unauthenticated: what it shows fits no caller in every part.
        """
        shown = _token_hash(credentials)
        if shown is not None:
            for caller in self._by_token.get(shown, ()):
                if _fits_name(caller, credentials):
                    return caller
            raise Unauthenticated(_UNKNOWN)
        for name in (*(credentials.names or ()), None):
            for caller in self._by_name.get(name, ()):
                return caller
        raise Unauthenticated(_UNKNOWN)


def _token_hash(credentials: Credentials) -> bytes | None:
    """Return the hash of the one token shown; None where nothing is shown at all."""
    if not credentials.authorization:
        return None
    if len(credentials.authorization) > 1:
        return _NO_TOKEN
    token = read_bearer(credentials.authorization[0])
    return _NO_TOKEN if token is None else hash_token(token)


def _fits_name(caller: Caller, credentials: Credentials) -> bool:
    if caller.certificate is None:
        return True
    return credentials.names is not None and caller.certificate in credentials.names
