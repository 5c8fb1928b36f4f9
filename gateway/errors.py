"""Every error the gateway knows, and what each lets its reader do.

Two families share one root:

* `ExchangeError`: one exchange did not end in AlipayHK's answer. Each class has
  the stable `code` of the public contract, an `outcome` (may the caller send
  again?) and a `fault` (whose move is it?). `gateway.edge.problems` gives each
  code its HTTP status.
* `SetupError`: a file, key or setting is wrong. An operator reads it, at start,
  at a reload or on the command line.

A class exists only where someone branches on it. A refusal by AlipayHK is a
response, not an error. No message holds a body, a key, a signature or a
credential.
"""

from enum import StrEnum
from typing import ClassVar


class Outcome(StrEnum):
    """What the caller of a failed exchange may assume.

    * `NOT_SENT`: AlipayHK never saw the request. Safe to send again.
    * `UNKNOWN`: AlipayHK may have acted. Inquire, or repeat with the same
      requestId.
    * `ANSWERED`: AlipayHK answered, and the answer could not be trusted.
    """

    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    ANSWERED = "answered"


class Fault(StrEnum):
    """Who has to act so that the error goes away."""

    CALLER = "caller"
    GATEWAY = "gateway"
    PLATFORM = "platform"
    NETWORK = "network"


class GatewayError(Exception):
    """Root of the taxonomy. `detail` is one sentence, safe to show and to log."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class SetupError(GatewayError):
    """A file, key or setting is wrong; the text says where and what to do.

    `places`: each problem's file, line, key and message, where that is known.
    """

    places: tuple[dict[str, str | int | None], ...] = ()


class KeyringError(SetupError):
    """A keyring folder cannot be used as it stands."""


class AuditError(SetupError):
    """The audit log, its head or its key cannot be used as it stands."""


class ExchangeError(GatewayError):
    """An exchange ended without an answer that may be passed on.

    `retry_after_s`: when the same call may do better, where that is known.
    `cause`: why AlipayHK could not be reached or did not answer, in a few words.
    `at_deadline`: whether the time that was given for it ran out.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    fault: ClassVar[Fault]
    outcome: Outcome

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: float | None = None,
        cause: str | None = None,
        at_deadline: bool = False,
    ) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.cause = cause
        self.at_deadline = at_deadline


# --- the caller's request is refused: nothing was sent -----------------------


class _CallerError(ExchangeError):
    fault = Fault.CALLER
    outcome = Outcome.NOT_SENT


class InvalidRequest(_CallerError):
    """No JSON object, a bad target, a reserved header, a legacy envelope."""

    code = "invalid_request"
    title = "The request is not valid"


class Unauthenticated(_CallerError):
    """The caller did not prove who it is."""

    code = "unauthenticated"
    title = "The caller is not known"


class Forbidden(_CallerError):
    """The caller is known and may not do this."""

    code = "forbidden"
    title = "The caller may not do this"


class UnknownRoute(_CallerError):
    """No route of the configuration has this path and client."""

    code = "unknown_route"
    title = "There is no such route"


class MethodNotAllowed(_CallerError):
    """Anything but POST."""

    code = "method_not_allowed"
    title = "Only POST is allowed"


class RequestTooLarge(_CallerError):
    """The body is over `inbound.max_body_bytes`."""

    code = "request_too_large"
    title = "The request is too large"


class TooManyRequests(_CallerError):
    """The caller is over its rate."""

    code = "too_many_requests"
    title = "The caller is over its rate"


class EncryptionRequired(_CallerError):
    """`Gateway-Encrypt: false` on a route that always encrypts."""

    code = "encryption_required"
    title = "This route always encrypts"


class EncryptionUnavailable(_CallerError):
    """`Gateway-Encrypt: true` on a route that never encrypts."""

    code = "encryption_unavailable"
    title = "This route does not encrypt"


# --- the gateway cannot send now: nothing was sent ---------------------------


class KeyUnavailable(ExchangeError):
    """No active key, or the place where it lives cannot be reached."""

    code = "key_unavailable"
    title = "A key is not available"
    fault = Fault.GATEWAY
    outcome = Outcome.NOT_SENT


class AuditUnavailable(ExchangeError):
    """The audit log cannot be written, and `audit.required` lets nothing go without."""

    code = "audit_unavailable"
    title = "The audit log cannot be written"
    fault = Fault.GATEWAY
    outcome = Outcome.NOT_SENT


class Overloaded(ExchangeError):
    """The gateway is at its limit of exchanges."""

    code = "overloaded"
    title = "The gateway is at its limit"
    fault = Fault.GATEWAY
    outcome = Outcome.NOT_SENT


class UpstreamUnavailable(ExchangeError):
    """No connection to AlipayHK could be made, or the breaker is open."""

    code = "upstream_unavailable"
    title = "AlipayHK could not be reached"
    fault = Fault.NETWORK
    outcome = Outcome.NOT_SENT


# --- sent, and no whole answer came back -------------------------------------


class UpstreamTimeout(ExchangeError):
    """The route's deadline passed after the request was sent."""

    code = "upstream_timeout"
    title = "AlipayHK did not answer in time"
    fault = Fault.NETWORK
    outcome = Outcome.UNKNOWN


class UpstreamDisconnected(ExchangeError):
    """The connection ended before the answer was whole."""

    code = "upstream_disconnected"
    title = "The connection to AlipayHK ended early"
    fault = Fault.NETWORK
    outcome = Outcome.UNKNOWN


# --- answered, and the answer cannot be trusted ------------------------------


class UntrustedAnswer(ExchangeError):
    """AlipayHK, or something in its place, gave an answer that proves nothing.

    `blames_key`: whether it was verified, and what is wrong with it is what happens
    where AlipayHK encrypts to a key that we do not hold. It is told to no caller.
    """

    blames_key = False
    fault = Fault.PLATFORM
    outcome = Outcome.ANSWERED


class SignatureMissing(UntrustedAnswer):
    """Signature, Response-Time or both are absent, and it is no plain refusal."""

    code = "signature_missing"
    title = "The answer is not signed"


class SignatureInvalid(UntrustedAnswer):
    """The signature is not one of the platform's over these bytes."""

    code = "signature_invalid"
    title = "The answer's signature is not valid"


class KeyVersionUnknown(UntrustedAnswer):
    """A header names a key version that the keyring does not hold."""

    code = "key_version_unknown"
    title = "The answer names a key version that is not held"


class ClientIdMismatch(UntrustedAnswer):
    """The answer's Client-Id is not ours."""

    code = "client_id_mismatch"
    title = "The answer is for another Client-Id"


class ResponseStale(UntrustedAnswer):
    """Response-Time is too far from our clock, or the answer is an earlier one.

    `skew_s`: by how much that time is ahead of our clock.
    `signature`: the answer's, verified; empty where nobody asks for it.
    """

    code = "response_stale"
    title = "The answer is not of this moment"
    signature = b""

    def __init__(self, detail: str, skew_s: float) -> None:
        super().__init__(detail)
        self.skew_s = skew_s


class ResponseMalformed(UntrustedAnswer):
    """Not HTTP as we accept it, a repeated critical header, no readable time."""

    code = "response_malformed"
    title = "The answer is malformed"


class ResponseTooLarge(UntrustedAnswer):
    """The answer is over the client's `max_response_bytes`."""

    code = "response_too_large"
    title = "The answer is too large"


class DecryptionFailed(UntrustedAnswer):
    """The one error for every way in which decryption fails."""

    code = "decryption_failed"
    title = "The answer could not be decrypted"

    def __init__(self, *, blames_key: bool = False) -> None:
        super().__init__(
            "The answer's signature is valid, but its body does not decrypt with "
            "the keys held. Ask AlipayHK which of our public keys it encrypts to."
        )
        self.blames_key = blames_key


class EncryptionDowngraded(UntrustedAnswer):
    """An encrypted request was given a plain answer that is no refusal."""

    code = "encryption_downgraded"
    title = "An encrypted request got a plain answer"


class InternalError(ExchangeError):
    """A defect of the gateway. `outcome` is unknown unless nothing was sent."""

    code = "internal_error"
    title = "The gateway failed"
    fault = Fault.GATEWAY

    def __init__(self, detail: str, outcome: Outcome = Outcome.UNKNOWN) -> None:
        super().__init__(detail)
        self.outcome = outcome
