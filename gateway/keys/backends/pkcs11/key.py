"""One pair in a token: what it can do, and it at work."""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.exceptions import (
    AttributeTypeInvalid,
    DataInvalid,
    DataLenRange,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    FunctionFailed,
    GeneralError,
    MechanismInvalid,
)

from gateway.errors import DecryptionFailed, KeyringError
from gateway.keys.backends.pkcs11.token import Seat, Token, TokenObject
from gateway.keys.backends.pkcs11.uri import TokenUri
from gateway.keys.formats import check_strength
from gateway.keys.model import Use
from gateway.protocol import PublicKey

_SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""DigestInfo of a SHA-256 without the digest (RFC 8017, 9.2, note 1)."""

_SIGNING: Final = (Mechanism.SHA256_RSA_PKCS, Mechanism.RSA_PKCS)
_REFUSALS: Final = (
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    DataInvalid,
    DataLenRange,
    FunctionFailed,
    GeneralError,
)
"""What tokens say of a wrapped key with a bad padding. SoftHSM's is the last."""


_HALVES: Final = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
_USELESS: Final = {
    ObjectClass.PUBLIC_KEY: {Attribute.WRAP: False},
    ObjectClass.PRIVATE_KEY: {Attribute.UNWRAP: False},
}
"""What a pair is not for. A key that may unwrap could bring others into the token."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a pair once it was looked at.

    Attributes:
        signing: how it signs; None where it was not asked to.
    """

    rsa: RSAPublicKey
    signing: Mechanism | None


class TokenKey:
    """A pair whose private half is in a token. Implements `PrivateKey`.

    Args:
        token: where it is.
        uri: what names it there.
        facts: what is known of it.
        public: its public half, with its version.
        secret: random bytes, for `unwrap`.
    """

    __slots__ = ("__weakref__", "_facts", "_secret", "_token", "_uri", "public")

    def __init__(
        self,
        token: Token,
        uri: TokenUri,
        facts: Facts,
        public: PublicKey,
        secret: bytes,
    ) -> None:
        self.public = public
        self._token = token
        self._uri = uri
        self._facts = facts
        self._secret = secret
        token.keys.add(self)

    def __repr__(self) -> str:
        return f"TokenKey(version={self.public.version!r})"

    def __reduce__(self) -> NoReturn:
        msg = "a pair of a token is bound to its process"
        raise TypeError(msg)

    async def sign(self, base: bytes) -> bytes:
        """Sign in the token.

        Raises:
            KeyUnavailable: the token is out of reach.
        """
        return await self._token.run(partial(self._sign, base))

    async def unwrap(self, wrapped_key: bytes) -> bytes:
        """Unwrap in the token; what it refuses gives bytes like any wrong key.

        Raises:
            DecryptionFailed: the wrapped key is no number below the modulus, of its
                length, which everybody can see.
            KeyUnavailable: the token is out of reach.
        """
        modulus = self._facts.rsa.public_numbers().n
        fits = len(wrapped_key) == self.public.size_bytes
        if not fits or int.from_bytes(wrapped_key) >= modulus:
            raise DecryptionFailed(blames_key=True)
        return await self._token.run(partial(self._unwrap, wrapped_key))

    def _sign(self, base: bytes, seat: Seat) -> bytes:
        key = seat.key(self._uri)
        if self._facts.signing is Mechanism.RSA_PKCS:
            base = _SHA256_INFO + hashlib.sha256(base).digest()
        signature: bytes = key.sign(base, mechanism=self._facts.signing)
        return signature

    def _unwrap(self, wrapped_key: bytes, seat: Seat) -> bytes:
        """Give the content key, or what stands in for it: without a word of which.

        A token that says of a wrapped key that its padding is bad is an oracle
        (Bleichenbacher). So the stand-in is made each time, the same for the same
        wrapped key, as OpenSSL's implicit rejection does; and an attribute is read
        first, so that a session that is gone shows there, in a call of its own, and
        what follows a refusal is what follows a success.
        """
        key = seat.key(self._uri)
        key.get_attributes([Attribute.CLASS])
        stand_in = hmac.digest(self._secret, wrapped_key, "sha256")
        try:
            content_key: bytes = key.decrypt(wrapped_key, mechanism=Mechanism.RSA_PKCS)
        except _REFUSALS:
            return stand_in
        return content_key


def examine(uri: TokenUri, uses: frozenset[Use], seat: Seat) -> Facts:
    """Look at a pair in its token.

    Args:
        uri: what names it.
        uses: what it must be able to do.
        seat: a session.

    Raises:
        KeyringError: there is no such pair, or it cannot do that.
    """
    key = seat.key(uri)
    if key.key_type != KeyType.RSA:
        msg = "it is no RSA key"
        raise KeyringError(msg)
    rsa = _public_half(uri, key, seat)
    check_strength(rsa)
    if problems := list(_lacks(key, uses, seat)):
        raise KeyringError("; ".join(problems))
    return Facts(rsa, _signing(seat) if Use.SIGN in uses else None)


def generate(
    uri: TokenUri, uses: frozenset[Use], bits: int, seat: Seat
) -> RSAPublicKey:
    """Make a pair in its token: the private half can never be read, not even wrapped.

    Args:
        uri: what is to name it: both halves get its label and id.
        uses: what it is for, and may do nothing beside.
        bits: of the modulus.
        seat: a session.

    Raises:
        KeyringError: the token makes none, or has one of that name.
    """
    if not _offers(
        seat, Mechanism.RSA_PKCS_KEY_PAIR_GEN, MechanismFlag.GENERATE_KEY_PAIR
    ):
        msg = "its token makes no RSA pairs (CKM_RSA_PKCS_KEY_PAIR_GEN)"
        raise KeyringError(msg)
    if any(seat.find(kind, uri) for kind in _HALVES):
        msg = (
            "the token has a key of that label and id already: `gateway keys import` "
            "takes it up, or name another"
        )
        raise KeyringError(msg)
    signs, decrypts = Use.SIGN in uses, Use.DECRYPT in uses
    with seat.session.token.open(rw=True) as session:
        public, _ = session.generate_keypair(
            KeyType.RSA,
            bits,
            id=uri.id,
            label=uri.label,
            store=True,
            mechanism=Mechanism.RSA_PKCS_KEY_PAIR_GEN,
            public_template={
                **_USELESS[ObjectClass.PUBLIC_KEY],
                Attribute.VERIFY: signs,
                Attribute.ENCRYPT: decrypts,
            },
            private_template={
                **_USELESS[ObjectClass.PRIVATE_KEY],
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.SIGN: signs,
                Attribute.DECRYPT: decrypts,
            },
        )
        return _public_half(uri, public, seat)


def _public_half(uri: TokenUri, key: TokenObject, seat: Seat) -> RSAPublicKey:
    """Read modulus and exponent, of the private key or else of the public one."""
    for each in (key, *seat.find(ObjectClass.PUBLIC_KEY, uri)):
        n = _attribute(each, Attribute.MODULUS)
        e = _attribute(each, Attribute.PUBLIC_EXPONENT)
        if isinstance(n, bytes) and isinstance(e, bytes):
            try:
                numbers = RSAPublicNumbers(int.from_bytes(e), int.from_bytes(n))
                return numbers.public_key()
            except ValueError:
                break
    msg = "its public half cannot be read in the token"
    raise KeyringError(msg)


def _lacks(key: TokenObject, uses: frozenset[Use], seat: Seat) -> Iterator[str]:
    """Find what the token, or this key, cannot do of what is wanted."""
    if Use.SIGN in uses:
        if _signing(seat) is None:
            yield "its token cannot sign with RSA PKCS#1 v1.5 (CKM_RSA_PKCS)"
        if not _attribute(key, Attribute.SIGN):
            yield "it may not sign (CKA_SIGN is false); give the entry use: [decrypt]"
    if Use.DECRYPT in uses:
        if not _offers(seat, Mechanism.RSA_PKCS, MechanismFlag.DECRYPT):
            yield (
                "its token cannot unwrap PKCS#1 v1.5 (CKM_RSA_PKCS), as AlipayHK wraps "
                "content keys; give the entry use: [sign], and decrypt with another pair"
            )
        if not _attribute(key, Attribute.DECRYPT):
            yield (
                "it may not decrypt (CKA_DECRYPT is false); give the entry use: [sign], "
                "and decrypt with another pair"
            )
    if _attribute(key, Attribute.ALWAYS_AUTHENTICATE):
        yield (
            "its token asks for the PIN with each signature (CKA_ALWAYS_AUTHENTICATE), "
            "which a gateway does not do"
        )


def _signing(seat: Seat) -> Mechanism | None:
    """Give how the token signs: it hashes, or else we do."""
    fit = (each for each in _SIGNING if _offers(seat, each, MechanismFlag.SIGN))
    return next(fit, None)


def _offers(seat: Seat, mechanism: Mechanism, flag: MechanismFlag) -> bool:
    slot = seat.session.token.slot
    if mechanism not in slot.get_mechanisms():
        return False
    try:
        return bool(slot.get_mechanism_info(mechanism).flags & flag)
    except MechanismInvalid:
        return False


def _attribute(key: TokenObject, attribute: Attribute) -> object:
    """Give an attribute; None where the token knows none of that name."""
    try:
        return key[attribute]
    except AttributeTypeInvalid:
        return None
