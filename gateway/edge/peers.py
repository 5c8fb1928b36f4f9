"""Who is at the other end of a connection, and why TLS with it came to nothing."""

import re
import socket
import ssl
import struct
from types import MappingProxyType
from typing import Final

_CREDENTIALS: Final = struct.Struct("=iII")
"""`struct ucred` of Linux: process, user, group (unix(7), SO_PEERCRED)."""

_REASONS: Final = MappingProxyType(
    {
        "HTTP_REQUEST": "it spoke plain HTTP to a TLS listener",
        "WRONG_VERSION_NUMBER": "what it sent is not TLS",
        "UNEXPECTED_MESSAGE": "what it sent is not a handshake",
        "UNSUPPORTED_PROTOCOL": "it speaks no version of TLS from 1.2 on",
        "VERSION_TOO_LOW": "it speaks no version of TLS from 1.2 on",
        "NO_SHARED_CIPHER": "it has no cipher in common with the listener",
        "NO_SUITABLE_SIGNATURE_ALGORITHM": "it takes no signature of the listener's key",
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no client certificate",
        "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the listener's certificate",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refused the listener's certificate",
        "SSLV3_ALERT_BAD_CERTIFICATE": "it refused the listener's certificate",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it takes the listener's certificate for expired",
        "TLSV1_ALERT_PROTOCOL_VERSION": "it takes no version of TLS from 1.2 on",
        "UNEXPECTED_EOF_WHILE_READING": "it ended the connection",
    }
)
"""OpenSSL's reasons, as a caller's team has to be told them."""

_NAME: Final = re.compile(r"[A-Z0-9_]{1,64}")


def peer_of(connection: socket.socket, address: object) -> str | None:
    """Return where a connection comes from, as text; None where that is not known.

    Args:
        connection: as it was accepted.
        address: as `accept` gave it.
    """
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        data = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
    except OSError:
        return None
    process, user, _ = _CREDENTIALS.unpack(data)
    return f"uid={user}:pid={process}"


def why_no_tls(error: OSError) -> str:
    """Return in words why a TLS handshake failed, as seen from the listener."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its client certificate does not verify: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        name = getattr(error, "reason", None) or ""
        if name in _REASONS:
            return _REASONS[name]
        known = bool(_NAME.fullmatch(name))
        return name.replace("_", " ").lower() if known else "TLS failed"
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return "it did not finish the handshake in time"
    return "it ended the connection"
