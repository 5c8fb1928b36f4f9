"""What the audit key signs: checkpoints in the chain, and the head beside it.

Both say the same, "the chain has this line", in texts that begin differently: a
checkpoint, which stays in the log for ever, must not pass for the end of the log. Each
text is short and plain, so that the openssl program can verify it.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway.audit.chain import Link, Record, canonical, is_hash
from gateway.errors import AuditError

CHECKPOINT: Final = "checkpoint"
"""The `what` of a line that carries a signature."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log as it was signed.

    Attributes:
        link: the last line.
        time: when it was signed.
    """

    link: Link
    time: str


class Seal:
    """Signs what this key's holder has written."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = Inspector(key.public_key())

    def __repr__(self) -> str:
        return f"Seal(key={self.public.fingerprint!r})"

    def checkpoint(self, last: Link) -> dict[str, object]:
        """Give the fields by which a line vouches for `last`, the one before it."""
        return {"what": CHECKPOINT, **self._signed(checkpoint_text(last))}

    def head(self, last: Link, time: str) -> bytes:
        """Give the content of the file beside the log."""
        own = {"seq": last.seq, "hash": last.hash, "time": time}
        return canonical({**own, **self._signed(head_text(last, time))}) + b"\n"

    def _signed(self, text: bytes) -> dict[str, object]:
        signature = base64.b64encode(self._key.sign(text)).decode()
        return {"key": self.public.fingerprint, "signature": signature}


class Inspector:
    """Judges what a seal signed. Needs the public key alone."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.fingerprint = fingerprint(key)

    def checkpoint_holds(self, record: Record) -> bool:
        """Tell whether a checkpoint vouches for the line before it."""
        before = Link(record.link.seq - 1, record.previous)
        return self._holds(record.fields.get("signature"), checkpoint_text(before))

    def read_head(self, data: bytes) -> Head:
        """Read the file beside the log.

        Raises:
            AuditError: it is not a head, or not one that this key signed.
        """
        seq, digest, time, fields = _members(data)
        if fields.get("key") != self.fingerprint:
            msg = "another key signed it"
            raise AuditError(msg)
        link = Link(seq, digest)
        if not self._holds(fields.get("signature"), head_text(link, time)):
            msg = "its signature does not hold"
            raise AuditError(msg)
        return Head(link, time)

    def _holds(self, signature: object, text: bytes) -> bool:
        if not isinstance(signature, str):
            return False
        try:
            raw = base64.b64decode(signature, validate=True)
            self._key.verify(raw, text)
        except (InvalidSignature, ValueError):
            return False
        return base64.b64encode(raw).decode() == signature  # of several forms, the one


def checkpoint_text(link: Link) -> bytes:
    """Give what a checkpoint signs."""
    return f"alipayhk-gateway audit checkpoint\n{link}\n".encode()


def head_text(link: Link, time: str) -> bytes:
    """Give what the head signs."""
    return f"alipayhk-gateway audit head\n{link}\n{time}\n".encode()


def fingerprint(key: Ed25519PublicKey) -> str:
    """Give the SHA-256 of the SPKI, in hex."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """Give a private key as PKCS#8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Ed25519PublicKey) -> bytes:
    """Give a public key as SPKI PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_private_key(data: bytes) -> Ed25519PrivateKey:
    """Read an audit key.

    Raises:
        AuditError: it is something else; the text says what to do.
    """
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        _no_key("an Ed25519 private key in PEM, without a passphrase")
    if not isinstance(key, Ed25519PrivateKey):
        _no_key("an Ed25519 private key")
    return key


def read_public_key(data: bytes) -> Ed25519PublicKey:
    """Read the public half of an audit key, from the private one too.

    Raises:
        AuditError: it is something else; the text says what to do.
    """
    if b"PRIVATE KEY-----" in data:
        return read_private_key(data).public_key()
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        _no_key("an Ed25519 public key in PEM")
    if not isinstance(key, Ed25519PublicKey):
        _no_key("an Ed25519 public key")
    return key


def _members(data: bytes) -> tuple[int, str, str, dict[str, object]]:
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict) or canonical(fields) + b"\n" != data:
            _no_head()
        seq, digest, time = fields["seq"], fields["hash"], fields["time"]
    except (ValueError, KeyError, RecursionError):
        _no_head()
    if type(seq) is not int or not is_hash(digest) or not isinstance(time, str):
        _no_head()
    return seq, digest, time, fields


def _no_head() -> NoReturn:
    msg = "it is not what a gateway wrote"
    raise AuditError(msg)


def _no_key(wanted: str) -> NoReturn:
    msg = f"it is not {wanted}; `gateway audit keygen` makes one"
    raise AuditError(msg)
