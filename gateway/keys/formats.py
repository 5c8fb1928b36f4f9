"""RSA keys as text: every form seen in the wild in, one form out.

PKCS#1, PKCS#8 and SPKI, as PEM or as bare base64 on one line (protocol.md 7).
Messages say what a file holds instead of a key, and never show what is in it.
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

MINIMUM_BITS: Final = 2048
_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_PRIVATE_LABELS: Final = {b"PRIVATE KEY", b"RSA PRIVATE KEY"}
_ENCRYPTED_LABEL: Final = b"ENCRYPTED PRIVATE KEY"
_PUBLIC_LABELS: Final = {b"PUBLIC KEY", b"RSA PUBLIC KEY"}

_Key = TypeVar("_Key")


def read_private_key(data: bytes, passphrase: bytes | None = None) -> RSAPrivateKey:
    """Read an RSA private key of at least 2048 bits.

    Args:
        data: the text of its file.
        passphrase: opens an encrypted PKCS#8; any other form is refused then.

    Raises:
        KeyringError: it is something else; the text says what.
    """
    if is_encrypted(data) or passphrase is not None:
        return _decrypted(data, passphrase)
    der = _der(data, _PRIVATE_LABELS, "private")
    key = _parse(lambda: load_der_private_key(der, password=None))
    if key is None and _parse(lambda: load_der_public_key(der)) is not None:
        _fail("it is a public key; a private key belongs here")
    if not isinstance(key, RSAPrivateKey):
        _fail("it is not an RSA private key in PKCS#8 or PKCS#1")
    check_strength(key.public_key())
    return key


def read_public_key(data: bytes) -> RSAPublicKey:
    """Read an RSA public key of at least 2048 bits.

    Raises:
        KeyringError: it is something else; the text says what.
    """
    der = _der(data, _PUBLIC_LABELS, "public")
    key = _parse(lambda: load_der_public_key(der))
    if key is None and _parse(lambda: load_der_private_key(der, None)) is not None:
        _fail(
            "it is a private key; AlipayHK's public key belongs here. If this is "
            "AlipayHK's private key, you should not have it"
        )
    if not isinstance(key, RSAPublicKey):
        _fail("it is not an RSA public key in SPKI or PKCS#1")
    check_strength(key)
    return key


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
        key = load_der_private_key(der, passphrase)
    except (ValueError, TypeError):
        _fail("its passphrase is wrong, or the file is damaged")
    except UnsupportedAlgorithm:
        _fail("it is encrypted in a way that is not known here; use AES (PBES2)")
    if not isinstance(key, RSAPrivateKey):
        _fail("it is not an RSA private key")
    check_strength(key.public_key())
    return key


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
        return "it is a certificate; take its key out: openssl x509 -pubkey -noout"
    if label in _PRIVATE_LABELS | _PUBLIC_LABELS:
        other = "public" if wanted == "private" else "private"
        return f"it is a {other} key; a {wanted} key belongs here"
    return "it is PEM, but not an RSA key"


def _from_base64(data: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        _fail("it is neither PEM nor base64")


def _parse(load: Callable[[], _Key]) -> _Key | None:
    try:
        return load()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def check_strength(key: RSAPublicKey) -> None:
    """Pass a key that is long enough, with an exponent that is.

    Raises:
        KeyringError: it is not.
    """
    if key.key_size < MINIMUM_BITS:
        _fail(f"it has {key.key_size} bits; at least {MINIMUM_BITS} are needed")
    exponent = key.public_numbers().e
    if exponent < 65537:  # FIPS 186-5, A.1.1
        _fail(f"its public exponent is {exponent}; at least 65537 is needed")


def _fail(message: str) -> NoReturn:
    raise KeyringError(message)
