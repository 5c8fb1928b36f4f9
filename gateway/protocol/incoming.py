"""Their side of a message: what may be believed, and what may not.

The verdict table for responses (protocol.md 4; empty counts as missing):

    Signature         Response-Time  resultStatus    verdict
    present, valid    present        any             VerifiedResponse
    present, invalid  any            any             SignatureInvalid
    present           missing        any             SignatureMissing
    missing           present        any             SignatureMissing
    missing           missing        F or U          UnsignedRefusal
    missing           missing        anything else   SignatureMissing

It holds for encrypted exchanges too; there, a verified plain answer that is not a
refusal is EncryptionDowngraded (protocol.md 3). A verified plain answer is a JSON object,
and no S under a status that is not 2xx; else it is ResponseMalformed. One that is too far
from our clock, or older than its request, is ResponseStale.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from gateway.errors import (
    ClientIdMismatch,
    EncryptionDowngraded,
    ExchangeError,
    InvalidRequest,
    KeyVersionUnknown,
    ResponseMalformed,
    ResponseStale,
    SignatureInvalid,
    SignatureMissing,
)
from gateway.protocol.fields import FieldError, read_signature
from gateway.protocol.keys import PublicKeys, named
from gateway.protocol.messages import (
    Direction,
    Headers,
    Proof,
    ReceivedRequest,
    ReceivedResponse,
    SignedMessage,
    UnsignedRefusal,
    VerifiedRequest,
    VerifiedResponse,
    by_name,
)
from gateway.protocol.results import (
    REFUSALS,
    Result,
    check_status,
    outline,
    read_result,
    result_of,
)
from gateway.protocol.signature import base_of, matches
from gateway.protocol.timestamps import Freshness, parse_http_date, parse_time

CRITICAL_HEADERS: Final = (
    "Signature",
    "Response-Time",
    "Client-Id",
    "Encrypt",
    "Content-Type",
)
"""Headers of a response that may occur once: two readers may take two values."""

_CRITICAL: Final = {name.lower(): name for name in CRITICAL_HEADERS}
_TRACERS: Final = ("tracer-id", "tracerid", "trace-id")
_MAX_TRACER_ID: Final = 128

_PROOF: Final = Proof()


def verify_response(
    received: ReceivedResponse,
    *,
    request: SignedMessage,
    keys: PublicKeys,
    freshness: Freshness,
) -> VerifiedResponse | UnsignedRefusal:
    """Decide what a response to `request` is worth.

    Args:
        received: the answer as it came.
        request: what we sent; its method, target and Client-Id are what the
            signature must cover, whatever the answer says of itself.
        keys: AlipayHK's keys that may verify, the active one first.
        freshness: which Response-Times are taken.

    Raises:
        UntrustedAnswer: one of its kinds; see the table above.
    """
    signature, time_text, client_id, encrypt, _ = _critical(received.headers)
    sent = request.draft
    if signature is None or time_text is None:
        _check_client_id(client_id or sent.client_id, sent.client_id)
        half_signed = (signature is None) != (time_text is None)
        return _refusal(received, half_signed=half_signed)
    _check_client_id(client_id, sent.client_id)
    base = base_of(sent.method, sent.target, sent.client_id, time_text, received.body)
    version, raw = _verify(signature, base, keys)
    try:
        time = parse_time(time_text)
    except ValueError as error:
        msg = f"Response-Time cannot be read: {error}."
        raise ResponseMalformed(msg) from None
    try:
        freshness.check(time)
    except ResponseStale as error:
        error.signature = raw
        raise
    result = None
    if encrypt is None:
        result = _plain_result(received, encrypted_request=sent.encryption is not None)
    return VerifiedResponse(
        sent.client_id,
        time,
        time_text,
        received.body,
        encrypt,
        version,
        _PROOF,
        received.status,
        received.headers,
        raw,
        result,
    )


def verify_request(received: ReceivedRequest, *, keys: PublicKeys) -> VerifiedRequest:
    """Verify a request that came to us signed by the other party.

    Which methods, targets, Client-Ids and times it serves is the receiver's policy.

    Raises:
        InvalidRequest: the request line or a header cannot be what was signed.
        SignatureInvalid: the signature does not hold.
        KeyVersionUnknown: it names a key version that `keys` does not have.
    """
    if not _is_plain(received.method) or not _is_plain(received.target):
        msg = "The request line holds characters that must be escaped."
        raise InvalidRequest(msg)
    signature, time_text, client_id = (
        _required(received.headers, name)
        for name in ("Signature", Direction.REQUEST.value, "Client-Id")
    )
    encrypt = single(received.headers, "Encrypt", InvalidRequest)
    base = base_of(
        received.method, received.target, client_id, time_text, received.body
    )
    version, _ = _verify(signature, base, keys)
    try:
        time = parse_time(time_text)
    except ValueError as error:
        msg = f"Request-Time cannot be read: {error}."
        raise InvalidRequest(msg) from None
    return VerifiedRequest(
        client_id,
        time,
        time_text,
        received.body,
        encrypt,
        version,
        _PROOF,
        received.method,
        received.target,
    )


def _critical(headers: Headers) -> list[str | None]:
    """Give the values of the critical headers, None where one is missing or empty.

    Raises:
        ResponseMalformed: one is repeated, or is not printable ASCII.
    """
    found = by_name(headers)
    return [
        _only(name, found[lower], ResponseMalformed) if lower in found else None
        for lower, name in _CRITICAL.items()
    ]


def single(
    headers: Headers, name: str, error: type[ExchangeError] = ResponseMalformed
) -> str | None:
    """Give a header's value; None where it is missing or empty.

    Raises:
        ExchangeError: of the class `error`, where the header is repeated (two
            readers may take two values) or is not printable ASCII.
    """
    values = by_name(headers).get(name.lower())
    return None if values is None else _only(name, values, error)


def _only(name: str, values: Sequence[str], error: type[ExchangeError]) -> str | None:
    if len(values) > 1:
        msg = f"The header {name} occurs {len(values)} times; it may occur once."
        raise error(msg)
    value = values[0].strip(" \t")
    if not value.isascii() or not (
        value.isprintable() or value.replace("\t", " ").isprintable()
    ):
        msg = f"The header {name} holds characters that are not printable ASCII."
        raise error(msg)
    return value or None


def read_tracer_id(headers: Headers) -> str | None:
    """Find AlipayHK's name for an exchange, under the first of its names that has one.

    The names are those of protocol.md 5.
    It proves nothing and is never judged: it is for asking AlipayHK's support.
    """
    found = by_name(headers)
    for name in _TRACERS:
        for value in found.get(name, ()):
            if 0 < len(value) <= _MAX_TRACER_ID and _is_plain(value):
                return value
    return None


def read_date(headers: Headers) -> datetime | None:
    """Give the time of the Date header, if there is one.

    It proves nothing and is never judged: it is for noticing a clock that is off.
    """
    dates = by_name(headers).get("date")
    return parse_http_date(dates[0]) if dates else None


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _required(headers: Headers, name: str) -> str:
    value = single(headers, name, InvalidRequest)
    if value is None:
        msg = f"The header {name} is missing or empty."
        raise InvalidRequest(msg)
    return value


def _verify(signature: str, base: bytes, keys: PublicKeys) -> tuple[str, bytes]:
    """Return the version of the key under which the signature holds, and its bytes."""
    try:
        version, raw = read_signature(signature)
    except FieldError as error:
        msg = f"The Signature header cannot be used: {error}."
        raise SignatureInvalid(msg) from None
    if not keys:
        msg = "The keyring holds no key of AlipayHK's that may verify. Import it."
        raise KeyVersionUnknown(msg)
    candidates = named(keys, version)
    if not candidates:
        msg = (
            "The Signature header names a keyVersion that the keyring does not hold "
            "as active or deactivated. Import that public key of AlipayHK's."
        )
        raise KeyVersionUnknown(msg)
    for key in candidates:
        if matches(key, raw, base):
            return key.version, raw
    msg = (
        "The signature does not hold over the bytes received. Run `gateway verify` "
        "on a captured exchange: it names the usual causes."
    )
    raise SignatureInvalid(msg)


def _check_client_id(theirs: str | None, ours: str) -> None:
    if theirs != ours:
        what = "has no Client-Id" if theirs is None else "names another Client-Id"
        msg = f"The answer {what}; it must be the one of the request."
        raise ClientIdMismatch(msg)


def _refusal(received: ReceivedResponse, *, half_signed: bool) -> UnsignedRefusal:
    if half_signed:
        msg = "Of Signature and Response-Time one is missing; they come together."
        raise SignatureMissing(msg)
    result = read_result(received.body)
    if result is None or result.status not in REFUSALS:
        msg = (
            f"HTTP {received.status} without Signature and Response-Time, and not a "
            "plain refusal (resultStatus F or U)."
        )
        raise SignatureMissing(msg)
    return UnsignedRefusal(received.status, received.headers, received.body, result)


def _plain_result(
    received: ReceivedResponse, *, encrypted_request: bool
) -> Result | None:
    """Return the result of a verified plain answer, if it may be one.

    Raises:
        EncryptionDowngraded: the request was encrypted, and it is no refusal.
        ResponseMalformed: it is no JSON object, or a success under a wrong status.
    """
    try:
        result, problem = result_of(outline(received.body)), None
    except ValueError as error:
        result, problem = None, str(error)
    if encrypted_request and (result is None or result.status not in REFUSALS):
        msg = "The request was encrypted, and the answer came plain and is no refusal."
        raise EncryptionDowngraded(msg)
    if problem is not None:
        msg = f"A verified answer must be a JSON object: {problem}."
        raise ResponseMalformed(msg)
    check_status(received.status, result)
    return result
