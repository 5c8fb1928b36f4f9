"""Why a socket, a look-up or TLS would not, in words for an operator."""

import errno
import os
import socket
import ssl
from typing import Final

from gateway.edge.certificates import CertificateRefused

_NO_SUCH_NAME: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", -5))
_BY_CLASS: Final[dict[type[OSError], int]] = {
    ConnectionResetError: errno.ECONNRESET,
    ConnectionAbortedError: errno.ECONNABORTED,
    ConnectionRefusedError: errno.ECONNREFUSED,
    BrokenPipeError: errno.EPIPE,
    TimeoutError: errno.ETIMEDOUT,
}
"""Asyncio raises some of these without a number."""

_OURS_REFUSED: Final = "our client certificate was refused"
_TLS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "a client certificate is wanted",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "the handshake was refused: no cipher in common, or a client certificate is "
        "wanted"
    ),
    "TLSV1_ALERT_UNKNOWN_CA": f"{_OURS_REFUSED}: its issuer is not known there",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"{_OURS_REFUSED}: it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": f"{_OURS_REFUSED}: it was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _OURS_REFUSED,
    "SSLV3_ALERT_BAD_CERTIFICATE": _OURS_REFUSED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _OURS_REFUSED,
    "TLSV1_ALERT_ACCESS_DENIED": _OURS_REFUSED,
    "TLSV1_UNRECOGNIZED_NAME": "the host name is not known there (SNI)",
    "TLSV1_ALERT_PROTOCOL_VERSION": "no version of TLS in common: 1.2 at least",
    "UNSUPPORTED_PROTOCOL": "no version of TLS in common: 1.2 at least",
    "WRONG_VERSION_NUMBER": "what answers does not speak TLS",
    "HTTP_REQUEST": "what answers does not speak TLS",
    "UNEXPECTED_EOF_WHILE_READING": "the connection was closed in the middle",
}
"""Words for OpenSSL's reasons, as seen from a client."""


def reason_of(error: OSError) -> str:
    """Return the reason alone: the texts of asyncio repeat addresses around it.

    An `errno` is not one in every OSError: those of OpenSSL and of name look-ups number
    other things.
    """
    if isinstance(error, CertificateRefused):
        return f"TLS: certificate does not verify: {error.words}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {_tls_reason(error)}"
    if isinstance(error, socket.gaierror):
        what = "not found" if error.errno in _NO_SUCH_NAME else "look-up failed"
        return f"name {what} ({error.strerror})"
    number = error.errno or _BY_CLASS.get(type(error), 0)
    return os.strerror(number) if number > 0 else error.strerror or type(error).__name__


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate does not verify: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _TLS["UNEXPECTED_EOF_WHILE_READING"]
    reason = error.reason or type(error).__name__
    return _TLS.get(reason, reason.replace("_", " ").lower())
