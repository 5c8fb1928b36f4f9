"""Our side of a message: draft, (encrypt), sign, attach.

    draft = draft_request(target=…, client_id=…, time=…, body=…)
    draft = encrypt(draft, content_key, platform_key)       # where wanted
    signature = await signer.sign(signature_base(draft))    # a file, an HSM
    signed = attach_signature(draft, signature, key_version="1")

The core never signs by itself: it gives the bytes and takes the signature, so a
private key may live anywhere and the core stays free of I/O.
"""

import re
from functools import lru_cache

from gateway.protocol.fields import SignatureField, check_key_version
from gateway.protocol.messages import (
    POST,
    Direction,
    Draft,
    SignedMessage,
    VerifiedRequest,
)
from gateway.protocol.signature import base_of

# RFC 3986 3.3 and 3.4: what may stand in an origin-form target, escapes whole.
_SEGMENT = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_TARGET = re.compile(rf"/{_SEGMENT}*(?:\?(?:{_SEGMENT}|\?)+)?")
_CLIENT_ID = re.compile(r"[!#%&(-_a-~]{1,128}")
"""Visible ASCII without `"`, `'`, `` ` `` and `$`: those are left over from a shell or
a file of variables, and AlipayHK would know no such client."""

_TIME = re.compile(r"[\x21-\x7e]{1,64}")


@lru_cache(maxsize=64)
def check_target(target: str) -> str:
    """Give `target` back if it is a path with an optional query (origin form).

    Raises:
        ValueError: it is a URL, has a fragment, or a character that must be escaped.
    """
    if not _TARGET.fullmatch(target) or target.startswith("//"):
        msg = "a target is a path, and a query string if needed, without a host"
        raise ValueError(msg)
    return target


@lru_cache(maxsize=64)
def check_client_id(client_id: str) -> str:
    """Give `client_id` back if it can stand in a header and a signature base.

    Raises:
        ValueError: it is empty, too long, or holds a space, a control character, a
            quotation mark or a `$`.
    """
    if not _CLIENT_ID.fullmatch(client_id):
        msg = (
            "a Client-Id is 1 to 128 visible ASCII characters, without spaces, "
            "quotation marks or $"
        )
        raise ValueError(msg)
    return client_id


def draft_request(*, target: str, client_id: str, time: str, body: bytes) -> Draft:
    """Begin a request: `body` is the plain JSON, as bytes, sent as it is.

    Raises:
        ValueError: the target, the Client-Id or the time cannot be sent.
    """
    return Draft(
        Direction.REQUEST,
        POST,
        check_target(target),
        check_client_id(client_id),
        _check_time(time),
        body,
    )


def draft_response(request: VerifiedRequest, *, time: str, body: bytes) -> Draft:
    """Begin the answer to a verified request: same method, target and Client-Id.

    Raises:
        ValueError: the time cannot be sent.
    """
    return Draft(
        Direction.RESPONSE,
        request.method,
        request.target,
        request.client_id,
        _check_time(time),
        body,
    )


def signature_base(draft: Draft) -> bytes:
    """Give the bytes that a signer has to sign for this draft."""
    return base_of(draft.method, draft.target, draft.client_id, draft.time, draft.body)


def attach_signature(
    draft: Draft, signature: bytes, *, key_version: str | None
) -> SignedMessage:
    """Put the signature to the draft it was made for.

    Args:
        draft: the message whose `signature_base` was signed.
        signature: the raw signature.
        key_version: the label AlipayHK knows the key by; None sends none.

    Raises:
        ValueError: the label cannot stand in a header.
    """
    if key_version is not None:
        check_key_version(key_version)
    return SignedMessage(draft, SignatureField(key_version, signature))


@lru_cache(maxsize=64)
def _check_time(time: str) -> str:
    if not _TIME.fullmatch(time):
        msg = "a time header is visible ASCII without spaces; see format_time"
        raise ValueError(msg)
    return time
