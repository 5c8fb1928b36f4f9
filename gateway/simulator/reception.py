"""AlipayHK's edge: who sends a request, does the signature hold, can it be read.

What fails here is answered as the edge does: HTTP 200, resultStatus F, and neither
Signature nor Response-Time (protocol.md 4).
"""

import re
from dataclasses import replace
from typing import Final

from gateway.errors import (
    DecryptionFailed,
    ExchangeError,
    InvalidRequest,
    KeyVersionUnknown,
    MethodNotAllowed,
    SignatureInvalid,
    Unauthenticated,
)
from gateway.protocol import (
    FieldError,
    ReceivedRequest,
    SignatureField,
    VerifiedRequest,
    decrypt,
    read_encryption,
    unwrap,
    verify_request,
)
from gateway.protocol.incoming import single
from gateway.protocol.messages import POST
from gateway.simulator.registry import Registry
from gateway.simulator.results import INVALID_SIGNATURE, ResultInfo, param_illegal

_REFUSALS: Final[dict[type[ExchangeError], ResultInfo]] = {
    MethodNotAllowed: ResultInfo(
        "METHOD_NOT_SUPPORTED", "F", "The method is not POST."
    ),
    Unauthenticated: ResultInfo(
        "INVALID_CLIENT", "F", "No partner is registered under this Client-Id."
    ),
    SignatureInvalid: INVALID_SIGNATURE,
    KeyVersionUnknown: ResultInfo(
        "KEY_NOT_FOUND",
        "F",
        "The keyVersion of Signature or Encrypt is not registered.",
    ),
    DecryptionFailed: param_illegal(
        "the signature holds, but the body cannot be decrypted with the key of Encrypt"
    ),
}

# RFC 9112, 3.2.2: a server takes the absolute form too. The vendor's SDK sends it,
# and signs the path alone.
_ORIGIN: Final = re.compile(r"(?ai)^https?://[^/?]*(?=/)")


def receive(request: ReceivedRequest, registry: Registry) -> VerifiedRequest:
    """Verify a request over the exact bytes that arrived.

    Raises:
        ExchangeError: see `refusal` for what becomes of it.
    """
    if request.method != POST:
        raise MethodNotAllowed(request.method)
    client_id = single(request.headers, "Client-Id", InvalidRequest)
    keys = registry.verifiers(client_id) if client_id else ()
    origin_form = _ORIGIN.sub("", request.target)
    return verify_request(replace(request, target=origin_form), keys=keys)


def plain_body(request: VerifiedRequest, registry: Registry) -> bytes:
    """Give the body of a verified request, decrypted if it has an Encrypt header.

    Raises:
        ExchangeError: it cannot be decrypted.
    """
    if request.encrypt is None:
        return request.body
    field = read_encryption(request)
    for key in registry.unwrappers(field.key_version):
        try:
            return decrypt(request, unwrap(key, field.wrapped_key))
        except DecryptionFailed:
            continue
    raise DecryptionFailed


def refusal(error: ExchangeError) -> ResultInfo:
    """Give the result by which the edge refuses a request."""
    return _REFUSALS.get(type(error)) or param_illegal(error.detail.rstrip("."))


def claimed(request: ReceivedRequest, name: str) -> str | None:
    """Give a header as the request has it, believed or not; None if unreadable."""
    try:
        return single(request.headers, name, InvalidRequest)
    except InvalidRequest:
        return None


def claimed_version(request: ReceivedRequest) -> str | None:
    """Give the keyVersion that the request's Signature names, believed or not."""
    try:
        return SignatureField.parse(claimed(request, "Signature") or "").key_version
    except FieldError:
        return None
