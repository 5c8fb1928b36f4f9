"""The changes that faults make: to a draft, to its sealing, to a finished answer."""

import base64
import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeAlias

from gateway.protocol import (
    Draft,
    PublicKey,
    SignatureField,
    encrypt,
    format_time,
    parse_time,
)
from gateway.simulator.answers import MAX_BODY_BYTES, SimulatedResponse

Redraft: TypeAlias = Callable[[Draft], Draft]
"""Changes an answer before it is encrypted and signed."""

Seal: TypeAlias = Callable[[Draft, bytes, PublicKey, PublicKey], Draft]
"""Encrypts: the draft, a content key, the partner's key, AlipayHK's own."""

Finish: TypeAlias = Callable[[SimulatedResponse], SimulatedResponse]
"""Changes an answer after it was signed."""

TEXT: Final = b"This is not JSON.\n"
_KEY_VERSION: Final = re.compile(r"keyVersion=[^,]*")
_BLOCK_BYTES: Final = 16

# --- to a draft --------------------------------------------------------------


def as_drafted(draft: Draft) -> Draft:
    """Change nothing."""
    return draft


def shifted(offset: timedelta) -> Redraft:
    """Move the time."""
    return lambda draft: replace(
        draft, time=format_time(parse_time(draft.time) + offset)
    )


def in_milliseconds(draft: Draft) -> Draft:
    """Write the time as epoch milliseconds."""
    return replace(draft, time=f"{parse_time(draft.time).timestamp() * 1000:.0f}")


def for_other_target(draft: Draft) -> Draft:
    """Sign as if another target had been called."""
    return replace(draft, target=f"{draft.target}/other")


def for_other_client(draft: Draft) -> Draft:
    """Name another Client-Id."""
    return replace(draft, client_id="5Z000000000000000000")


def as_text(draft: Draft) -> Draft:
    """Make the body one that is not JSON."""
    return replace(draft, body=TEXT)


def padded(draft: Draft) -> Draft:
    """Make the body larger than a careful client accepts, and still JSON."""
    return replace(draft, body=draft.body + b" " * (MAX_BODY_BYTES + (64 << 10)))


# --- to its sealing ----------------------------------------------------------


def seal(draft: Draft, content_key: bytes, partner: PublicKey, _: PublicKey) -> Draft:
    """Encrypt to the partner, as it should be."""
    return encrypt(draft, content_key, partner)


def break_wrapped_key(
    draft: Draft, content_key: bytes, partner: PublicKey, _: PublicKey
) -> Draft:
    """Flip one bit of the wrapped content key."""
    sealed = encrypt(draft, content_key, partner)
    assert sealed.encryption is not None  # noqa: S101 - `encrypt` has set it
    wrapped = sealed.encryption.wrapped_key
    broken = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
    return replace(sealed, encryption=replace(sealed.encryption, wrapped_key=broken))


def seal_to_ourselves(
    draft: Draft, content_key: bytes, partner: PublicKey, platform: PublicKey
) -> Draft:
    """Wrap the content key for AlipayHK itself, under the partner's version."""
    return encrypt(draft, content_key, replace(platform, version=partner.version))


def cut_last_block(
    draft: Draft, content_key: bytes, partner: PublicKey, _: PublicKey
) -> Draft:
    """Drop the last block: what then is the last byte, JSON's, is no padding."""
    sealed = encrypt(draft, content_key, partner)
    ciphertext = base64.b64decode(sealed.body)
    return replace(sealed, body=base64.b64encode(ciphertext[:-_BLOCK_BYTES]))


# --- to a finished answer ----------------------------------------------------


def as_made(answer: SimulatedResponse) -> SimulatedResponse:
    """Change nothing."""
    return answer


def without(*names: str) -> Finish:
    """Drop headers."""
    return lambda answer: answer.without(*names)


def repeating(name: str) -> Finish:
    """Write a header twice."""
    return lambda answer: answer.repeating(name)


def naming_version(header: str, version: str) -> Finish:
    """Change the keyVersion of Signature or Encrypt."""
    label = f"keyVersion={version}"
    return lambda answer: answer.changing(
        header, lambda text: _KEY_VERSION.sub(label, text)
    )


def flip_signature(answer: SimulatedResponse) -> SimulatedResponse:
    """Flip one bit of the signature."""

    def flip(text: str) -> str:
        field = SignatureField.parse(text)
        flipped = bytes([field.signature[0] ^ 1]) + field.signature[1:]
        return replace(field, signature=flipped).format()

    return answer.changing("Signature", flip)


def empty_signature(answer: SimulatedResponse) -> SimulatedResponse:
    """Leave the Signature header without a value."""
    return answer.changing("Signature", lambda _: "")


def cut_signature(answer: SimulatedResponse) -> SimulatedResponse:
    """End the Signature header after `signature=`."""
    return answer.changing(
        "Signature", lambda text: text.partition("signature=")[0] + "signature="
    )


def reorder_signature(answer: SimulatedResponse) -> SimulatedResponse:
    """Write the Signature header another way that means the same."""

    def reorder(text: str) -> str:
        algorithm, version, signature = text.split(",")
        return f"{signature}, {version}, {algorithm.replace('RSA256', 'rsa256')}"

    return answer.changing("Signature", reorder)


def in_lower_case(answer: SimulatedResponse) -> SimulatedResponse:
    """Write the names of the headers in lower case, as HTTP/2 has them."""
    headers = [(name.lower(), value) for name, value in answer.headers]
    return replace(answer, headers=headers)


def unsigned(answer: SimulatedResponse) -> SimulatedResponse:
    """Drop both headers of a signature."""
    return answer.without("Signature", "Response-Time")


def unsigned_text(answer: SimulatedResponse) -> SimulatedResponse:
    """Drop the signature, and make the body one that is not JSON."""
    return replace(unsigned(answer), body=TEXT)


def with_line_feed(answer: SimulatedResponse) -> SimulatedResponse:
    """Add a line feed to the body."""
    return replace(answer, body=answer.body + b"\n")


def compressed(answer: SimulatedResponse) -> SimulatedResponse:
    """Compress the body, and say so."""
    headers = [*answer.headers, ("Content-Encoding", "gzip")]
    return replace(answer, headers=headers, body=gzip.compress(answer.body, mtime=0))


def with_large_header(answer: SimulatedResponse) -> SimulatedResponse:
    """Add a header of 1 MiB."""
    return replace(answer, headers=[*answer.headers, ("X-Padding", "x" * (1 << 20))])


def page(status: int, title: str, *headers: tuple[str, str]) -> Finish:
    """Answer with a page of HTML instead, as something on the way may do."""
    kind = ("Content-Type", "text/html; charset=UTF-8")
    body = f"<html><title>{title}</title></html>\n".encode()
    return lambda answer: replace(
        answer, status=status, headers=[kind, *headers], body=body
    )


def no_http(answer: SimulatedResponse) -> SimulatedResponse:
    """Make the body what is sent instead of HTTP."""
    return replace(answer, body=b"AlipayHK says no\r\n\r\n")
