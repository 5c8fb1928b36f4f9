"""RSA keys as text: every form seen in the wild in, one form out.

PKCS#1, PKCS#8 and SPKI, as PEM or as bare base64 on one line (protocol.md 7).
Messages say what a file holds instead of a key, and never show what is in it: what other
makers write, `gateway.keys.foreign` knows. Weak keys are refused (`gateway.keys.strength`).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from gateway.errors import KeyringError
from gateway.keys import strength
from gateway.keys.foreign import FOR_PSS, recognise

_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_PRIVATE_LABELS: Final = {b"PRIVATE KEY", b"RSA PRIVATE KEY"}
_ENCRYPTED_LABEL: Final = b"ENCRYPTED PRIVATE KEY"
_PUBLIC_LABELS: Final = {b"PUBLIC KEY", b"RSA PUBLIC KEY"}

_RSASSA_PSS: Final = bytes.fromhex("06092a864886f70d01010a")
"""The algorithm of such a key (RFC 4055, 1.2), which cryptography passes over."""

_HEAD_BYTES: Final = 40
"""The algorithm stands in these; what else may is a version and lengths."""

_Key = TypeVar("_Key")


def read_private_key(data: bytes, passphrase: bytes | None = None) -> RSAPrivateKey:
    """Read an RSA private key that is strong enough.

    Args:
        data: the text of its file.
        passphrase: opens an encrypted PKCS#8; any other form is refused then.

    Raises:
        KeyringError: it is something else, or weak; the text says what.
    """
    return _read(data, lambda: _private(data, passphrase))


def read_public_key(data: bytes) -> RSAPublicKey:
    """Read an RSA public key that is strong enough, as far as that can be seen.

    Raises:
        KeyringError: it is something else, or weak; the text says what.
    """
    return _read(data, lambda: _public(data))


def is_encrypted(data: bytes) -> bool:
    """Tell an encrypted PKCS#8 in PEM, which takes a passphrase to read."""
    begin = _BEGIN.search(data)
    return begin is not None and begin[1] == _ENCRYPTED_LABEL


def private_pem(key: RSAPrivateKey, passphrase: bytes | None = None) -> bytes:
    """Give a private key as PKCS#8 PEM, encrypted if there is a passphrase."""
    encryption = (
        NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def public_pem(key: RSAPublicKey) -> str:
    """Give a public key as SPKI PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_base64(key: RSAPublicKey) -> str:
    """Give a public key as SPKI in bare base64, one line."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def fingerprint(key: RSAPublicKey) -> str:
    """Give the SHA-256 of the SPKI, in hex: one key, one fingerprint."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _read(data: bytes, read: Callable[[], _Key]) -> _Key:
    """Read a key; where that fails, name what the file is, if it can be known."""
    try:
        return read()
    except KeyringError as error:
        reason = error.detail
    what = recognise(data)
    raise KeyringError(reason if what is None else f"it is {what}")


def _private(data: bytes, passphrase: bytes | None) -> RSAPrivateKey:
    if is_encrypted(data) or passphrase is not None:
        return _decrypted(data, passphrase)
    der = _der(data, _PRIVATE_LABELS, "private")
    key = _parse(lambda: _load(der, None))
    if key is None and _parse(lambda: load_der_public_key(der)) is not None:
        _fail("it is a public key; a private key belongs here")
    if not isinstance(key, RSAPrivateKey):
        _fail("it is not an RSA private key in PKCS#8 or PKCS#1")
    return _checked(key)


def _public(data: bytes) -> RSAPublicKey:
    der = _der(data, _PUBLIC_LABELS, "public")
    key = _parse(lambda: load_der_public_key(der))
    if key is None and _parse(lambda: _load(der, None)) is not None:
        _fail(
            "it is a private key; AlipayHK's public key belongs here. If this is "
            "AlipayHK's private key, you should not have it"
        )
    if not isinstance(key, RSAPublicKey):
        _fail("it is not an RSA public key in SPKI or PKCS#1")
    check_strength(key)
    return key


def _load(der: bytes, passphrase: bytes | None) -> object:
    """Load a private key, its numbers unchecked: of a huge one that takes for ever."""
    return load_der_private_key(der, passphrase, unsafe_skip_rsa_key_validation=True)


def _checked(key: RSAPrivateKey) -> RSAPrivateKey:
    """Check the numbers of a private key, their size before anything else."""
    numbers = key.private_numbers()
    _check(strength.flaw_of_size(numbers.public_numbers))
    if _parse(numbers.private_key) is None:
        _fail("it is not an RSA private key: its numbers do not belong together")
    _check(strength.flaw_of_private(numbers))
    return key


def _decrypted(data: bytes, passphrase: bytes | None) -> RSAPrivateKey:
    """Read a private key that is encrypted, or should be."""
    if passphrase is None:
        _fail("it is encrypted with a passphrase, and no passphrase is named for it")
    if not is_encrypted(data):
        _fail(
            "it is not encrypted PKCS#8 (BEGIN ENCRYPTED PRIVATE KEY), and a passphrase "
            "is named for it; encrypt it: openssl pkcs8 -topk8"
        )
    der = _der(data, {_ENCRYPTED_LABEL}, "private")
    try:
        key = _load(der, passphrase)
    except (ValueError, TypeError):
        _fail("its passphrase is wrong, or the file is damaged")
    except UnsupportedAlgorithm:
        _fail("it is encrypted in a way that is not known here; use AES (PBES2)")
    if not isinstance(key, RSAPrivateKey):
        _fail("it is not an RSA private key")
    return _checked(key)


def _der(data: bytes, labels: set[bytes], wanted: str) -> bytes:
    """Take the DER out of PEM or bare base64."""
    if not data.strip():
        _fail("it is empty")
    begin = _BEGIN.search(data)
    if begin is None:
        return _from_base64(data)
    label = begin[1]
    body, end, rest = data[begin.end() :].partition(b"-----END " + label + b"-----")
    if not end:
        _fail("it is PEM without an end: it was cut short")
    if (label not in labels and b"ENCRYPTED" in label) or b"Proc-Type" in body:
        _fail("it is encrypted with a passphrase; an unencrypted key belongs here")
    if label not in labels:
        _fail(_what_else(label, wanted))
    if _BEGIN.search(rest):
        _fail("it holds more than one PEM block; one key belongs in a file")
    return _from_base64(body)


def _what_else(label: bytes, wanted: str) -> str:
    if b"CERTIFICATE" in label:
        return (
            "it is a certificate; take its key out: "
            "openssl x509 -pubkey -noout -in FILE > KEY.pem"
        )
    if label in _PRIVATE_LABELS | _PUBLIC_LABELS:
        other = "public" if wanted == "private" else "private"
        return f"it is a {other} key; a {wanted} key belongs here"
    return "it is PEM, but not an RSA key"


def _from_base64(data: bytes) -> bytes:
    try:
        der = base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        _fail("it is neither PEM nor base64")
    if _RSASSA_PSS in der[:_HEAD_BYTES]:
        _fail(f"it is {FOR_PSS}")
    return der


def _parse(load: Callable[[], _Key]) -> _Key | None:
    try:
        return load()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def check_strength(key: RSAPublicKey) -> None:
    """Pass a key whose private half nobody can work out, as far as that can be seen.

    Raises:
        KeyringError: somebody could, or it is too large to work with.
    """
    _check(strength.flaw_of_public(key.public_numbers()))


def _check(flaw: str | None) -> None:
    if flaw is not None:
        _fail(flaw)


def _fail(message: str) -> NoReturn:
    raise KeyringError(message)
