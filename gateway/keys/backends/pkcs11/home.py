"""The home of pairs in PKCS#11 tokens: their libraries and tokens, once a process."""

import threading
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.errors import KeyringError, KeyUnavailable
from gateway.keys.backends.pkcs11.pins import OwnRefusals, Pins, Refusals
from gateway.keys.backends.pkcs11.uri import TokenUri, parse
from gateway.keys.ports import Place, PrivateKey
from gateway.protocol import PublicKey

if TYPE_CHECKING:  # these load python-pkcs11
    from gateway.keys.backends.pkcs11.key import Facts
    from gateway.keys.backends.pkcs11.module import Module
    from gateway.keys.backends.pkcs11.token import Token
    from gateway.keys.model import Use

_SECRET_BYTES: Final = 32
_GENERATION_S: Final = 120.0
"""Small devices search for primes for a minute."""

_TokenName: TypeAlias = tuple[Path, frozenset[tuple[str, str]], bool]
"""Library, labels, and whether there is a login: without, fewer keys are seen."""


class Pkcs11Home:
    """Tokens. Implements `KeyHome`. python-pkcs11 is loaded at the first URI.

    Args:
        environment: the variables that may hold a PIN.
        entropy: gives that many random bytes.
        monotonic: seconds that never go back.
        refusals: the PINs that tokens refused, where several processes share them.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        entropy: Callable[[int], bytes],
        monotonic: Callable[[], float],
        refusals: Refusals | None = None,
    ) -> None:
        self._environment = environment
        self._refusals = refusals
        self._entropy = entropy
        self._monotonic = monotonic
        self._modules: dict[Path, Module] = {}
        self._tokens: dict[_TokenName, Token] = {}
        self._facts: dict[tuple[Token, object, frozenset[Use]], Facts] = {}
        self._lock = threading.Lock()

    @cached_property
    def _secret(self) -> bytes:
        return self._entropy(_SECRET_BYTES)

    @cached_property
    def _pins(self) -> Pins:
        return Pins(self._environment, self._refusals or OwnRefusals(self._entropy))

    def open(self, place: Place) -> PrivateKey:
        """Find a pair in its token.

        One that was found before is given also while its token is out of reach: it
        works again when the token does, and a reload need not wait for that.

        Raises:
            KeyringError: as the port says; also where python-pkcs11 is missing.
            KeyUnavailable: as the port says.
        """
        uri, keys = parse(place.key), _keys()
        with self._lock:
            token = self._token(uri)
            known = (token, uri.key, place.uses)
            try:
                self._facts[known] = token.do(partial(keys.examine, uri, place.uses))
            except KeyUnavailable:
                if known not in self._facts:
                    raise
            facts = self._facts[known]
            public = PublicKey(place.version, facts.rsa)
            key: PrivateKey = keys.TokenKey(token, uri, facts, public, self._secret)
            return key

    def generate(self, place: Place, bits: int) -> RSAPublicKey:
        """Make a pair in its token, which it never leaves. Implements `KeyMaker`.

        Raises:
            KeyringError, KeyUnavailable: as the port says.
        """
        uri, keys = parse(place.key), _keys()
        work = partial(keys.generate, uri, place.uses, bits)
        with self._lock:
            public: RSAPublicKey = self._token(uri).do(work, _GENERATION_S)
        return public

    def tidy(self) -> None:
        """Close the sessions of tokens of which no pair is in use."""
        with self._lock:
            for name, token in [*self._tokens.items()]:
                if not token.keys:
                    del self._tokens[name]
                    token.close()
            self._facts = {
                known: facts
                for known, facts in self._facts.items()
                if known[0] in self._tokens.values()
            }

    def close(self) -> None:
        """Close every session and let go of the libraries."""
        with self._lock:
            for token in self._tokens.values():
                token.close()
            for module in self._modules.values():
                module.close()
            self._tokens, self._modules, self._facts = {}, {}, {}

    def _token(self, uri: TokenUri) -> "Token":
        from gateway.keys.backends.pkcs11 import module, token  # noqa: PLC0415 - an extra

        labels = frozenset(uri.token.items())
        name = (uri.module, labels, uri.pin_source is not None)
        if uri.module not in self._modules:
            self._modules[uri.module] = module.Module(uri.module)
        if name not in self._tokens:
            library = self._modules[uri.module]
            self._tokens[name] = token.Token(library, uri, self._pins, self._monotonic)
        self._tokens[name].uri = uri
        return self._tokens[name]


def _keys() -> ModuleType:
    """Load what needs python-pkcs11, at the first URI.

    Raises:
        KeyringError: it is not installed.
    """
    try:
        from gateway.keys.backends.pkcs11 import key  # noqa: PLC0415 - an extra
    except ImportError:
        msg = (
            "keys in tokens need python-pkcs11, which is not installed: in the "
            "gateway's checkout, pip install '.[pkcs11]'"
        )
        raise KeyringError(msg) from None
    return key
