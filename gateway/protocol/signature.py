"""The signature base, and RSA256 over it.

    <METHOD> SP <request-target> LF <Client-Id> "." <time> "." <body>

RSA256 is RSASSA-PKCS1-v1_5 with SHA-256, pinned: nothing in a message chooses
another hash or padding. Source: protocol.md 1.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.protocol.keys import PublicKey

_PADDING: Final = PKCS1v15()
_HASH: Final = SHA256()


def base_of(method: str, target: str, client_id: str, time: str, body: bytes) -> bytes:
    """Give the bytes that are signed. `body` is the exact bytes on the wire."""
    return f"{method} {target}\n{client_id}.{time}.".encode() + body


def sign(key: RSAPrivateKey, base: bytes) -> bytes:
    """Sign with a key that is in this process. Gives the raw signature."""
    return key.sign(base, _PADDING, _HASH)


def matches(key: PublicKey, signature: bytes, base: bytes) -> bool:
    """Tell whether `key` made `signature` over `base`.

    For this package alone: callers outside use `verify_request` and
    `verify_response`, which raise.
    """
    if len(signature) != key.size_bytes:
        return False
    try:
        key.rsa.verify(signature, base, _PADDING, _HASH)
    except InvalidSignature:
        return False
    return True
