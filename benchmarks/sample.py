"""The keys and messages of a benchmark: what callers send, what AlipayHK answers."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    generate_private_key,
)

from gateway.keys.formats import private_pem, public_pem, read_private_key
from gateway.protocol import (
    PublicKey,
    ReceivedRequest,
    SignedMessage,
    attach_signature,
    draft_request,
    draft_response,
    encrypt,
    format_time,
    sign,
    signature_base,
    verify_request,
)

TARGET = "/api/open/alipay/v1/content/synchronize"
CLIENT_ID = "4Q5Y8W0WSG45P907917"
KIB = 1024
SIZES = (KIB, 64 * KIB, 1024 * KIB)
"""Of bodies, in bytes: the request's, and as large its answer's."""

REFRESH_S = 1.0
"""An answer is signed anew once it is that old: long before it would be stale."""


class Keys(NamedTuple):
    """One private key of each party."""

    partner: RSAPrivateKey
    platform: RSAPrivateKey

    @classmethod
    def new(cls) -> "Keys":
        return cls(*(generate_private_key(65537, 2048) for _ in cls._fields))

    @classmethod
    def read(cls, folder: Path) -> "Keys":
        names = (f"{party}.pem" for party in cls._fields)
        return cls(*(read_private_key((folder / name).read_bytes()) for name in names))

    def write(self, folder: Path) -> None:
        """Write what all subjects read: the gateway's keyring, and each key alone."""
        folder.mkdir()
        for party, key in self._asdict().items():
            _private(folder / f"{party}.pem", private_pem(key))
        (folder / "platform-public.pem").write_text(
            public_pem(self.platform.public_key())
        )
        (folder / "keyring.yaml").write_text(
            "generation: 1\n"
            'partner: [{version: "1", state: active, key: partner.pem}]\n'
            'platform: [{version: "1", state: active, key: platform-public.pem}]\n'
        )


def request_body(size: int) -> bytes:
    """Give a Synchronize Content of exactly `size` bytes."""
    return _filled(
        b'{"requestId":"0123456789abcdef0123456789abcdef","contentId":"C001",'
        b'"contentType":"SKU","contentStatus":1,"contentInfo":"%s"}',
        size,
    )


def answer_body(size: int) -> bytes:
    """Give its answer, of exactly `size` bytes."""
    return _filled(
        b'{"resultInfo":{"resultCode":"SUCCESS","resultStatus":"S",'
        b'"resultMessage":"Success"},"extendInfo":"%s"}',
        size,
    )


def request(keys: Keys, size: int, *, encrypted: bool) -> SignedMessage:
    """Make a signed request, as the gateway sends it."""
    draft = draft_request(
        target=TARGET, client_id=CLIENT_ID, time=_now(), body=request_body(size)
    )
    if encrypted:
        platform = PublicKey("1", keys.platform.public_key())
        draft = encrypt(draft, os.urandom(32), platform)
    return _signed(keys.partner, draft)


def answer(keys: Keys, size: int, *, encrypted: bool) -> SignedMessage:
    """Make the signed answer. It does not depend on the body it answers."""
    partner = PublicKey("1", keys.partner.public_key())
    asked = request(keys, KIB, encrypted=False)
    received = ReceivedRequest("POST", TARGET, asked.headers, asked.body)
    verified = verify_request(received, keys=[partner])
    draft = draft_response(verified, time=_now(), body=answer_body(size))
    if encrypted:
        draft = encrypt(draft, os.urandom(32), partner)
    return _signed(keys.platform, draft)


class Canned:
    """The bytes of one answer, head and all, signed anew when they grow old."""

    def __init__(self, keys: Keys, size: int, *, encrypted: bool) -> None:
        self._make = lambda: _on_the_wire(answer(keys, size, encrypted=encrypted))
        self._made, self._bytes = time.monotonic(), self._make()

    def __bytes__(self) -> bytes:
        if time.monotonic() > self._made + REFRESH_S:
            self._made, self._bytes = time.monotonic(), self._make()
        return self._bytes


def _on_the_wire(message: SignedMessage) -> bytes:
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {text}" for name, text in message.headers)]
    lines.append(f"Content-Length: {len(message.body)}")
    return "\r\n".join([*lines, "", ""]).encode() + message.body


def _signed(key: RSAPrivateKey, draft) -> SignedMessage:
    return attach_signature(draft, sign(key, signature_base(draft)), key_version="1")


def _now() -> str:
    return format_time(datetime.now(UTC))


def _filled(template: bytes, size: int) -> bytes:
    return template % (b"x" * (size - len(template % b"")))


def _private(file: Path, data: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(data)
