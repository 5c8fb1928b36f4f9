"""Key files of other makers and systems: known by how they begin, with the way to PEM.

Only what never is a key that we read is named here. No message shows what is in a file.
"""

import base64
import binascii
import re
from collections.abc import Callable
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
)

_PEM: Final = b"-----BEGIN "
FOR_PSS: Final = (
    "for RSASSA-PSS, and AlipayHK's signatures are PKCS#1 v1.5; a key is for one of "
    "them: openssl genpkey -algorithm RSA makes such a pair"
)
_LABELS: Final = {
    b"OPENSSH PRIVATE KEY": "an OpenSSH private key; convert the file in its place: "
    "ssh-keygen -p -N '' -m PKCS8 -f FILE",
    b"RSA-PSS ": FOR_PSS,
    b"CERTIFICATE REQUEST": "a request for a certificate; take its key out: "
    "openssl req -in FILE -pubkey -noout -out KEY.pem",
    b"PGP ": "of OpenPGP, which is of no use here; make an RSA pair",
}
_BEGINNINGS: Final = {
    b"ssh-rsa ": "an OpenSSH public key; convert it: "
    "ssh-keygen -e -m PKCS8 -f FILE > KEY.pem",
    b"ssh-": "an OpenSSH public key, and not an RSA key",
    b"ecdsa-": "an OpenSSH public key, and not an RSA key",
    b"---- BEGIN SSH2 PUBLIC KEY ----": "an SSH2 public key; convert it: "
    "ssh-keygen -i -f FILE > KEY.pub; ssh-keygen -e -m PKCS8 -f KEY.pub > KEY.pem",
    b"PuTTY-User-Key-File-": "a PuTTY key; convert it: "
    "puttygen FILE -O private-openssh -o KEY.pem",
    b"\xfe\xed\xfe\xed": "a Java keystore; convert it: keytool -importkeystore "
    "-srckeystore FILE -destkeystore KEY.p12 -deststoretype PKCS12; openssl pkcs12 "
    "-in KEY.p12 -nodes -nocerts -out KEY.pem",
    b"<RSAKeyValue": "an XML key of .NET; export it there as PEM",
    b"{": "JSON, perhaps a JSON Web Key; export the key as PEM",
}
_ESCAPED: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----\\[nr]")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=\s]+")
_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_=\s-]+")


def recognise(data: bytes) -> str | None:
    """Return what a file is that is neither PEM nor bare base64 of DER, and the way to it.

    Args:
        data: all of the file.

    Returns:
        Words that follow "it is", with FILE for its name; None where nothing is known.
    """
    if (text := _utf16(data)) is not None:
        return text
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _PEM in data:
        return _of_pem(data)
    for beginning, what in _BEGINNINGS.items():
        if start.startswith(beginning):
            return what
    if data.startswith(b"\x30") and not data.isascii():
        return _of_der(data)
    return _of_base64(data)


def _utf16(data: bytes) -> str | None:
    halves = data[::2], data[1::2]
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    if not marked and (len(data) < 2 or all(any(half) for half in halves)):
        return None
    name = "UTF-16"
    if not marked:
        name += "BE" if any(halves[1]) else "LE"
    return f"{name} text; convert it: iconv -f {name} -t UTF-8 FILE > KEY.pem"


def _of_pem(data: bytes) -> str | None:
    for label, what in _LABELS.items():
        if _PEM + label in data:
            return what
    if _ESCAPED.search(data):
        return (
            "PEM whose line ends are written as \\n, as JSON and variables have them; "
            "convert it: printf '%b' \"$(cat FILE)\" > KEY.pem"
        )
    return None


def _of_base64(data: bytes) -> str | None:
    """Name base64 of another thing than DER, or in another form than the usual."""
    is_url = not _BASE64.fullmatch(data)
    if is_url and not _BASE64URL.fullmatch(data):
        return None
    text = b"".join(data.split())
    lacks = b"=" * (-len(text) % 4)
    try:
        inner = base64.b64decode(text + lacks, b"-_" if is_url else None, validate=True)
    except binascii.Error:
        return None
    if _PEM in inner:
        return "base64 of a PEM file; decode it: base64 -d FILE > KEY.pem"
    if _BASE64.fullmatch(inner) and inner.startswith(b"MI"):
        return "base64 of base64; decode it once: base64 -d FILE > KEY.pem"
    return _odd_base64(lacks.decode(), is_url=is_url) if _is_whole_der(inner) else None


def _odd_base64(lacks: str, *, is_url: bool) -> str | None:
    if not is_url and not lacks:
        return None
    what = "base64url" if is_url else "base64 without its padding"
    signs = " | tr -- '-_' '+/'" if is_url else ""
    end = f"; printf '%s' '{lacks}'" if lacks else ""
    return f"{what}; convert it: (tr -d '\\n' < FILE{signs}{end}) > KEY.pem"


def _is_whole_der(data: bytes) -> bool:
    """Check for a sequence of DER that has the length it says, of 256 bytes or more."""
    length = int.from_bytes(data[2:4])
    return data[:2] == b"\x30\x82" and len(data) == length + 4


_DER: Final[dict[Callable[[bytes], object], str]] = {
    partial(
        load_der_private_key, password=None, unsafe_skip_rsa_key_validation=True
    ): "a private key in DER; convert it: "
    "openssl pkey -inform DER -in FILE -out KEY.pem",
    load_der_public_key: "a public key in DER; convert it: "
    "openssl pkey -pubin -inform DER -in FILE -out KEY.pem",
    x509.load_der_x509_certificate: "a certificate in DER; take its key out: "
    "openssl x509 -inform DER -in FILE -pubkey -noout -out KEY.pem",
}


def _of_der(data: bytes) -> str:
    for load, what in _DER.items():
        try:
            load(data)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        return what
    return (
        "DER, or another binary form; if it is an encrypted key: openssl pkcs8 -inform "
        "DER -in FILE -out KEY.pem; if it is PKCS#12: openssl pkcs12 -in FILE -nodes "
        "-nocerts -out KEY.pem"
    )
