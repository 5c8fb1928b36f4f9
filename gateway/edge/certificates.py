"""What is told of X.509 certificates: why one does not verify, and until when one holds.

Nothing here decides whether a certificate is believed: OpenSSL does.
"""

import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from cryptography.x509 import (
    AuthorityKeyIdentifier,
    BasicConstraints,
    Certificate,
    DNSName,
    ExtensionNotFound,
    IPAddress,
    KeyUsage,
    SubjectAlternativeName,
    SubjectKeyIdentifier,
    load_der_x509_certificate,
)

from gateway.events import CertificateInUse

_PEM: Final = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.*?)-----END ", re.DOTALL
)
_MOST_NAMES: Final = 5
_LONGEST: Final = 100
"""Characters of a text from a certificate: whoever issued it chose them."""

# OpenSSL's X509_V_ERR_…: x509_vfy.h
_ISSUER_UNKNOWN: Final = (2, 20, 21)
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_SELF_SIGNED: Final = 18
_ROOT_UNKNOWN: Final = 19
_OTHER_NAME: Final = (62, 64)


class CertificateRefused(ssl.SSLCertVerificationError):
    """A server's certificate does not verify.

    Args:
        error: OpenSSL's.
        chain: what the server sent, its own certificate first.
        host: whom it should be for.

    Attributes:
        words: why, with the names and dates that matter.
    """

    def __init__(
        self,
        error: ssl.SSLCertVerificationError,
        chain: Sequence[Certificate],
        host: str | None,
    ) -> None:
        super().__init__(error.errno, error.strerror)
        self.verify_code, self.verify_message = error.verify_code, error.verify_message
        self.words = _why_refused(error, chain, host) if chain else error.verify_message


def parsed(chain: Iterable[bytes]) -> list[Certificate]:
    """Return the certificates of a chain in DER, without those that cannot be read."""
    found = []
    for each in chain:
        with suppress(ValueError):
            found.append(load_der_x509_certificate(each))
    return found


def certificates_in(pem: bytes) -> list[Certificate]:
    """Return the certificates in a PEM file, without what cannot be read."""
    found = []
    for block in _PEM.findall(pem):
        with suppress(ValueError):
            found.append(b64decode(block))
    return parsed(found)


def name_of(certificate: Certificate) -> str:
    """Return the subject of a certificate, or where it is empty, its names."""
    return _shown(certificate.subject.rfc4514_string()) or _names_of(certificate)


def lacks_of(chain: Sequence[Certificate]) -> list[str]:
    """Return what RFC 5280 asks for that a chain has not, and Python 3.13 insists on.

    It verifies with VERIFY_X509_STRICT, which earlier versions do not.
    """
    lacks = []
    for each in chain:
        is_root = each.subject == each.issuer
        if not is_root and not _has(each, AuthorityKeyIdentifier):
            lacks.append(f"{name_of(each)} has no authority key identifier")
        if _is_authority(each):
            if not _has(each, SubjectKeyIdentifier):
                lacks.append(f"{name_of(each)} has no subject key identifier")
            if not _has(each, KeyUsage):
                lacks.append(f"{name_of(each)} has no key usage")
            if not each.extensions.get_extension_for_class(BasicConstraints).critical:
                lacks.append(f"{name_of(each)} has basic constraints not critical")
    return lacks


def _why_refused(
    error: ssl.SSLCertVerificationError, chain: Sequence[Certificate], host: str | None
) -> str:
    leaf, last, code = chain[0], chain[-1], error.verify_code
    if code == _EXPIRED:
        words = _expired(chain)
    elif code == _NOT_YET_VALID:
        latest = max(chain, key=lambda each: each.not_valid_before_utc)
        words = f"{name_of(latest)} begins on {day_of(latest.not_valid_before_utc)}"
    elif code in _OTHER_NAME:
        words = f"it is for {_names_of(leaf) or name_of(leaf)}, not for {host}"
    elif code in (_SELF_SIGNED, _ROOT_UNKNOWN):
        words = f"the authority {name_of(last)} is not trusted"
    elif code in _ISSUER_UNKNOWN:
        issuer = _shown(last.issuer.rfc4514_string())
        words = f"the issuer {issuer} of {name_of(last)} is not known"
    else:
        words = "; ".join([error.verify_message, *lacks_of(chain)])
    return words


def _expired(chain: Sequence[Certificate]) -> str:
    now = datetime.now(UTC)  # noqa: TID251 - the clock that OpenSSL has just judged by
    for each in chain:
        if each.not_valid_after_utc < now:
            return f"{name_of(each)} has expired on {day_of(each.not_valid_after_utc)}"
    return f"the issuer of {name_of(chain[-1])} has expired"


def _names_of(certificate: Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
    except (ExtensionNotFound, ValueError):
        return ""
    found: list[str] = names.value.get_values_for_type(DNSName)
    found += map(str, names.value.get_values_for_type(IPAddress))
    more = ", …" if len(found) > _MOST_NAMES else ""
    return ", ".join(map(_shown, found[:_MOST_NAMES])) + more


def _has(certificate: Certificate, extension: type) -> bool:
    try:
        certificate.extensions.get_extension_for_class(extension)
    except (ExtensionNotFound, ValueError):
        return False
    return True


def _is_authority(certificate: Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(BasicConstraints)
    except (ExtensionNotFound, ValueError):
        return False
    return found.value.ca


def _shown(text: str) -> str:
    """Return a text of a certificate as one short line of printable characters."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def day_of(moment: datetime) -> str:
    """Return a moment to the minute, in words."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def in_use(setting: str, certificates: Iterable[Certificate]) -> list[CertificateInUse]:
    """Return what is told of certificates of a setting while they are in use."""
    return [
        CertificateInUse(setting, name_of(each), each.not_valid_after_utc)
        for each in certificates
    ]


class ShownChain:
    """The certificates that a server showed last.

    Args:
        setting: who it is.

    Attributes:
        in_use: what is told of them.
        lacks: what they lack that Python 3.13 and later refuse them for.
    """

    def __init__(self, setting: str) -> None:
        self.in_use: list[CertificateInUse] = []
        self.lacks: list[str] = []
        self._setting = setting
        self._last: bytes | None = None

    def __call__(self, leaf: bytes | None, chain: Callable[[], list[bytes]]) -> None:
        """Note a chain that has verified.

        Args:
            leaf: the server's own certificate, in DER.
            chain: gives all of them; called where the server's own is another.
        """
        if leaf == self._last:
            return
        self._last = leaf
        shown = parsed(chain())
        self.in_use = in_use(self._setting, shown)
        self.lacks = lacks_of(shown)
