"""What the simulator does wrong on order: one table, one value per fault.

An answer is made in six steps, and a fault changes one or two of them:

    result → draft → seal (where encrypted) → sign → finish → delivery

Faults of encryption encrypt the answer to a plain request too, so that they can be
tried with either. To add a fault, add a row; the tests walk the table.
"""

import difflib
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.errors import (
    ClientIdMismatch,
    DecryptionFailed,
    EncryptionDowngraded,
    KeyVersionUnknown,
    ResponseMalformed,
    ResponseStale,
    ResponseTooLarge,
    SignatureInvalid,
    SignatureMissing,
    UpstreamDisconnected,
    UpstreamTimeout,
)
from gateway.simulator import defects
from gateway.simulator.answers import Delivery
from gateway.simulator.results import (
    CONTENT_RISKY,
    INVALID_SIGNATURE,
    SUCCESS,
    UNDECIDED,
    UNKNOWN_EXCEPTION,
    ResultInfo,
    param_illegal,
)

VERIFIED: Final = "verified"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to answer wrongly, or with a result that was ordered.

    Attributes:
        name: by which it is ordered.
        description: one line for people.
        expect: what a right gateway makes of it, in the words of its metrics:
            `verified`, `refused` or the code of a problem.
        expect_encrypted: the same for an encrypted request; empty if no different.
        result: the result to give, whatever the request holds.
        draft: changes the answer before it is encrypted and signed.
        encrypted: whether the answer is encrypted; None: as the request was.
        seal: encrypts it.
        finish: changes it after it was signed.
        delivery: how its bytes reach the client.
    """

    name: str
    description: str
    expect: str = VERIFIED
    expect_encrypted: str = ""
    result: ResultInfo | None = None
    draft: defects.Redraft = defects.as_drafted
    encrypted: bool | None = None
    seal: defects.Seal = defects.seal
    finish: defects.Finish = defects.as_made
    delivery: Delivery = Delivery.AT_ONCE


class UnknownFault(ValueError):
    """No fault has this name; the text suggests one."""


def fault_named(name: str) -> Fault:
    """Find a fault.

    Raises:
        UnknownFault: there is none of that name.
    """
    if fault := FAULTS.get(name):
        return fault
    near = difflib.get_close_matches(name, FAULTS, n=1)
    hint = f"did you mean {near[0]}?" if near else "the control listener lists them"
    msg = f"there is no fault of this name; {hint}"
    raise UnknownFault(msg)


NO_FAULT: Final = Fault("none", "a right answer, whatever else is ordered")

_RESULTS: Final = (
    Fault("content_risky", "the result CONTENT_RISKY, F", result=CONTENT_RISKY),
    Fault(
        "unknown_exception", "the result UNKNOWN_EXCEPTION, F", result=UNKNOWN_EXCEPTION
    ),
    Fault(
        "param_illegal",
        "the result PARAM_ILLEGAL, F",
        result=param_illegal("refused on order"),
    ),
)

_SIGNATURE: Final = (
    Fault(
        "bad_signature",
        "one bit of the signature is flipped",
        SignatureInvalid.code,
        finish=defects.flip_signature,
    ),
    Fault(
        "altered_body",
        "a line feed is added to the body after it was signed",
        SignatureInvalid.code,
        finish=defects.with_line_feed,
    ),
    Fault(
        "other_target",
        "the signature is that of an answer to another target",
        SignatureInvalid.code,
        draft=defects.for_other_target,
    ),
    Fault(
        "empty_signature",
        "the Signature header is empty",
        SignatureMissing.code,
        finish=defects.empty_signature,
    ),
    Fault(
        "empty_signature_value",
        "the Signature header ends after signature=",
        SignatureInvalid.code,
        finish=defects.cut_signature,
    ),
    Fault(
        "unknown_key_version",
        "Signature names a keyVersion that nobody has",
        KeyVersionUnknown.code,
        finish=defects.naming_version("Signature", "unknown"),
    ),
    Fault(
        "no_key_version",
        "Signature names no keyVersion, which means the latest: no error",
        finish=defects.naming_version("Signature", ""),
    ),
    Fault(
        "reordered_signature",
        "Signature in another order, with spaces, algorithm in lower case: no error",
        finish=defects.reorder_signature,
    ),
)

_UNSIGNED: Final = (
    Fault(
        "no_signature",
        "a success without Signature and Response-Time",
        SignatureMissing.code,
        result=SUCCESS,
        finish=defects.unsigned,
    ),
    Fault(
        "unsigned_refusal",
        "a plain F without Signature and Response-Time, as AlipayHK's edge gives it",
        REFUSED,
        result=INVALID_SIGNATURE,
        encrypted=False,
        finish=defects.unsigned,
    ),
    Fault(
        "unsigned_unknown",
        "a plain U without Signature and Response-Time",
        REFUSED,
        result=UNDECIDED,
        encrypted=False,
        finish=defects.unsigned,
    ),
    Fault(
        "signature_without_time",
        "Response-Time is missing",
        SignatureMissing.code,
        finish=defects.without("Response-Time"),
    ),
    Fault(
        "time_without_signature",
        "Signature is missing",
        SignatureMissing.code,
        finish=defects.without("Signature"),
    ),
)

_HEADERS: Final = (
    Fault(
        "clock_ahead",
        "Response-Time, signed, is an hour ahead",
        ResponseStale.code,
        draft=defects.shifted(timedelta(hours=1)),
    ),
    Fault(
        "clock_behind",
        "Response-Time, signed, is an hour behind",
        ResponseStale.code,
        draft=defects.shifted(timedelta(hours=-1)),
    ),
    Fault(
        "time_in_milliseconds",
        "Response-Time in epoch milliseconds: no error",
        draft=defects.in_milliseconds,
    ),
    Fault(
        "lower_case_headers",
        "the names of all headers in lower case: no error",
        finish=defects.in_lower_case,
    ),
    Fault(
        "other_client_id",
        "the answer names another Client-Id, and is signed so",
        ClientIdMismatch.code,
        draft=defects.for_other_client,
    ),
    Fault(
        "missing_client_id",
        "Client-Id is missing",
        ClientIdMismatch.code,
        finish=defects.without("Client-Id"),
    ),
    Fault(
        "repeated_signature",
        "Signature occurs twice",
        ResponseMalformed.code,
        finish=defects.repeating("Signature"),
    ),
    Fault(
        "repeated_response_time",
        "Response-Time occurs twice",
        ResponseMalformed.code,
        finish=defects.repeating("Response-Time"),
    ),
    Fault(
        "repeated_client_id",
        "Client-Id occurs twice",
        ResponseMalformed.code,
        finish=defects.repeating("Client-Id"),
    ),
    Fault(
        "repeated_encrypt",
        "Encrypt occurs twice",
        ResponseMalformed.code,
        encrypted=True,
        finish=defects.repeating("Encrypt"),
    ),
)

_ENCRYPTION: Final = (
    Fault(
        "plain_answer",
        "a plain success, signed, even to an encrypted request",
        VERIFIED,
        EncryptionDowngraded.code,
        result=SUCCESS,
        encrypted=False,
    ),
    Fault(
        "encrypted_refused_plainly",
        "a plain F, signed, even to an encrypted request: no error",
        result=param_illegal("refused on order"),
        encrypted=False,
    ),
    Fault(
        "wrong_content_key",
        "one bit of the wrapped content key is flipped",
        DecryptionFailed.code,
        encrypted=True,
        seal=defects.break_wrapped_key,
    ),
    Fault(
        "wrong_recipient",
        "the content key is wrapped for AlipayHK's own key, not for the partner's",
        DecryptionFailed.code,
        encrypted=True,
        seal=defects.seal_to_ourselves,
    ),
    Fault(
        "unknown_encrypt_version",
        "Encrypt names a keyVersion that nobody has: whose label it is, is not known",
        VERIFIED,
        encrypted=True,
        finish=defects.naming_version("Encrypt", "unknown"),
    ),
    Fault(
        "bad_padding",
        "the last block of the ciphertext is missing",
        DecryptionFailed.code,
        encrypted=True,
        seal=defects.cut_last_block,
    ),
)

_CONTENT: Final = (
    Fault(
        "not_json",
        "a text that is not JSON, signed",
        ResponseMalformed.code,
        DecryptionFailed.code,
        draft=defects.as_text,
    ),
    Fault(
        "not_json_unsigned",
        "a text that is not JSON, without Signature and Response-Time",
        SignatureMissing.code,
        finish=defects.unsigned_text,
    ),
    Fault(
        "http_error",
        "HTTP 502 with a page of HTML, as a proxy on the way gives it",
        SignatureMissing.code,
        finish=defects.page(502, "Bad Gateway"),
    ),
    Fault(
        "redirect",
        "HTTP 307 to /redirected on this host, where an arrival is recorded",
        SignatureMissing.code,
        finish=defects.page(307, "Moved", ("Location", "/redirected")),
    ),
    Fault(
        "gzip",
        "compressed after it was signed, with Content-Encoding",
        ResponseMalformed.code,
        finish=defects.compressed,
    ),
    Fault(
        "huge",
        "a signed body of more than 8 MiB",
        ResponseTooLarge.code,
        draft=defects.padded,
    ),
    Fault(
        "huge_headers",
        "a header of 1 MiB",
        ResponseMalformed.code,
        finish=defects.with_large_header,
    ),
)

_DELIVERY: Final = (
    Fault(
        "slow",
        "nothing for 90 s (--slow), then a right answer",
        UpstreamTimeout.code,
        delivery=Delivery.SLOW,
    ),
    Fault(
        "slow_body",
        "a right head at once, then the body byte by byte over 90 s (--slow)",
        UpstreamTimeout.code,
        delivery=Delivery.SLOW_BODY,
    ),
    Fault(
        "huge_declared",
        "Content-Length says 1 GiB; the body comes, then nothing for 90 s (--slow)",
        ResponseTooLarge.code,
        delivery=Delivery.STALLED,
    ),
    Fault(
        "truncated",
        "the connection ends before as many bytes as Content-Length says",
        UpstreamDisconnected.code,
        delivery=Delivery.TRUNCATED,
    ),
    Fault(
        "reset_before",
        "the connection is reset once the request was read and acted on",
        UpstreamDisconnected.code,
        delivery=Delivery.RESET_BEFORE,
    ),
    Fault(
        "reset_during",
        "the connection is reset in the middle of the answer",
        UpstreamDisconnected.code,
        delivery=Delivery.RESET_DURING,
    ),
    Fault(
        "bad_http",
        "something that is not HTTP at all",
        ResponseMalformed.code,
        finish=defects.no_http,
        delivery=Delivery.NOT_HTTP,
    ),
)

FAULTS: Final = {
    fault.name: fault
    for fault in (
        NO_FAULT,
        *_RESULTS,
        *_SIGNATURE,
        *_UNSIGNED,
        *_HEADERS,
        *_ENCRYPTION,
        *_CONTENT,
        *_DELIVERY,
    )
}
"""Every fault, by name."""
