"""Which key made a signature, however its header was mangled, and over which digest.

PKCS#1 v1.5 gives the digest back to whoever has the public key. So a key is known by
its signature without the bytes that were signed, and those can then be sought by
comparing digests.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.hashes import (
    SHA256,
    SHA384,
    SHA512,
    HashAlgorithm,
)

from gateway.protocol.diagnosis.model import Diagnosis, KnownKey
from gateway.protocol.encoding import decode_value
from gateway.protocol.fields import FieldError, SignatureField

# DigestInfo without its digest (RFC 8017, 9.2, note 1).
_DIGEST_INFOS: Final = {
    "md5": "3020300c06082a864886f70d020505000410",
    "sha1": "3021300906052b0e03021a05000414",
    "sha224": "302d300d06096086480165030402040500041c",
    "sha256": "3031300d060960864801650304020105000420",
    "sha384": "3041300d060960864801650304020205000430",
    "sha512": "3051300d060960864801650304020305000440",
}
_SIGNED_WITH: Final = "sha256"
_VALUE = re.compile(r"signature\s*=([^,]*)")
_VERSION = re.compile(r"keyVersion\s*=\s*([A-Za-z0-9._-]+)")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_PSS_HASHES: Final[tuple[HashAlgorithm, ...]] = (SHA256(), SHA384(), SHA512())


@dataclass(frozen=True, slots=True)
class Reading:
    """A signature as it can be read out of a header.

    Attributes:
        mistake: what had to be undone to read it; None where nothing had.
    """

    mistake: Diagnosis | None
    key_version: str | None
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Made:
    """A signature whose key is known.

    Attributes:
        mistakes: what is wrong with how it was made or written.
    """

    key: KnownKey
    key_version: str | None
    mistakes: tuple[Diagnosis, ...]
    _hash: str = field(repr=False)
    _digest: bytes = field(repr=False)

    def over(self, base: bytes) -> bool:
        """Tell whether these are the bytes that were signed."""
        digest = hashlib.new(self._hash, base, usedforsecurity=False).digest()
        return digest == self._digest


def readings(text: str) -> Iterator[Reading]:
    """Give every signature that the header's text may hold, the plain one first."""
    version = found[1] if (found := _VERSION.search(text)) else None
    value = (found[1] if (found := _VALUE.search(text)) else text).strip()
    unreadable = []
    try:
        parsed = SignatureField.parse(text)
        yield Reading(None, parsed.key_version, parsed.signature)
    except FieldError as error:
        finding = f"The Signature header cannot be used: {error}."
        unreadable = [(_field("unreadable", finding), value)]
    for mistake, repaired in (*_repairs(value), *unreadable):
        try:
            yield Reading(mistake, version, decode_value(repaired))
        except ValueError:
            continue
    if _HEX.fullmatch(value):
        finding = "The signature was written in hexadecimal digits."
        yield Reading(_field("hex", finding), version, bytes.fromhex(value))


def makers(reading: Reading, keys: Iterable[KnownKey]) -> Iterator[Made]:
    """Give the key that made the signature; nothing where it is none of `keys`."""
    for key in keys:
        try:
            data = key.public.rsa.recover_data_from_signature(
                reading.signature, PKCS1v15(), None
            )
        except InvalidSignature:
            continue
        name, digest, how = _digest_in(data)
        mistakes = tuple(each for each in (reading.mistake, how) if each is not None)
        yield Made(key, reading.key_version, mistakes, name, digest)


def made_with_pss(
    reading: Reading, keys: Iterable[KnownKey], base: bytes
) -> KnownKey | None:
    """Give the key that made a PSS signature over `base`: no digest comes out there."""
    for key in keys:
        for algorithm in _PSS_HASHES:
            padding = PSS(MGF1(algorithm), PSS.AUTO)
            try:
                key.public.rsa.verify(reading.signature, base, padding, algorithm)
            except InvalidSignature:
                continue
            return key
    return None


def _repairs(value: str) -> Iterator[tuple[Diagnosis, str]]:
    if " " in value:
        finding = "A + of the signature became a space: it was decoded as in a form."
        yield _field("plus_lost", finding), value.replace(" ", "+")
    if "%25" in value:
        finding = "The signature was percent-encoded twice."
        yield _field("encoded_twice", finding), value.replace("%25", "%")


def _digest_in(data: bytes) -> tuple[str, bytes, Diagnosis | None]:
    """Give hash, digest and what is wrong of what a signature was made over."""
    for name, prefix in _DIGEST_INFOS.items():
        if data.startswith(bytes.fromhex(prefix)):
            digest = data[len(bytes.fromhex(prefix)) :]
            finding = f"The signature was made with {name.upper()}, not with SHA-256."
            wrong = None if name == _SIGNED_WITH else _made("hash", finding)
            return name, digest, wrong
    finding = "The signature was made over a bare digest, without the hash's name."
    return _SIGNED_WITH, data, _made("bare_digest", finding)


def _made(code: str, finding: str) -> Diagnosis:
    advice = "RSA256 is RSASSA-PKCS1-v1_5 with SHA-256, SHA256withRSA in Java's words."
    return Diagnosis(f"signature_{code}", finding, advice)


def _field(code: str, finding: str) -> Diagnosis:
    advice = (
        "Write `algorithm=RSA256,keyVersion=…,signature=…`, the value as standard "
        "base64, percent-encoded once; read it by percent-decoding once, no form."
    )
    return Diagnosis(f"field_{code}", finding, advice)
