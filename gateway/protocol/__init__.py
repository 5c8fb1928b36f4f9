"""The AlipayHK wire protocol, both directions, without I/O, clock or randomness.

Usable as a library: see `outgoing` for what we send and `incoming` for what we
receive. Every rule and its source is in docs/protocol.md.
"""

from gateway.protocol.encryption import (
    CONTENT_KEY_BYTES,
    decrypt,
    encrypt,
    read_encryption,
    unwrap,
)
from gateway.protocol.fields import EncryptField, FieldError, SignatureField
from gateway.protocol.incoming import (
    read_date,
    read_tracer_id,
    verify_request,
    verify_response,
)
from gateway.protocol.keys import PublicKey, PublicKeys
from gateway.protocol.messages import (
    Direction,
    Draft,
    Headers,
    ReceivedRequest,
    ReceivedResponse,
    SignedMessage,
    UnsignedRefusal,
    VerifiedRequest,
    VerifiedResponse,
)
from gateway.protocol.outgoing import (
    attach_signature,
    draft_request,
    draft_response,
    signature_base,
)
from gateway.protocol.results import Result, check_request_body, read_result
from gateway.protocol.signature import sign
from gateway.protocol.timestamps import HONG_KONG, Freshness, format_time, parse_time

__all__ = [
    "CONTENT_KEY_BYTES",
    "HONG_KONG",
    "Direction",
    "Draft",
    "EncryptField",
    "FieldError",
    "Freshness",
    "Headers",
    "PublicKey",
    "PublicKeys",
    "ReceivedRequest",
    "ReceivedResponse",
    "Result",
    "SignatureField",
    "SignedMessage",
    "UnsignedRefusal",
    "VerifiedRequest",
    "VerifiedResponse",
    "attach_signature",
    "check_request_body",
    "decrypt",
    "draft_request",
    "draft_response",
    "encrypt",
    "format_time",
    "parse_time",
    "read_date",
    "read_encryption",
    "read_result",
    "read_tracer_id",
    "sign",
    "signature_base",
    "unwrap",
    "verify_request",
    "verify_response",
]
