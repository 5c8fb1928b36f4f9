"""What the simulator does wrong on order: one table, one value per fault.

An answer is made in five steps, and a fault changes one of them, rarely two:

    result → draft → seal (where encrypted) → sign → finish → delivery

Faults of encryption encrypt the answer to a plain request too, so that they can be
tried with either. To add a fault, add a row; the tests walk the table.
"""

import base64
import difflib
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeAlias

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
from gateway.protocol import (
    Draft,
    PublicKey,
    SignatureField,
    encrypt,
    format_time,
    parse_time,
)
from gateway.simulator.answers import MAX_BODY_BYTES, Delivery, SimulatedResponse
from gateway.simulator.results import (
    CONTENT_RISKY,
    INVALID_SIGNATURE,
    UNDECIDED,
    UNKNOWN_EXCEPTION,
    ResultInfo,
    param_illegal,
)

VERIFIED: Final = "verified"
REFUSED: Final = "refused"

Seal: TypeAlias = Callable[[Draft, bytes, PublicKey, PublicKey], Draft]
"""Encrypts a draft: with a content key, to the partner's key; last AlipayHK's own."""


def _as_drafted(draft: Draft) -> Draft:
    return draft


def _seal(draft: Draft, content_key: bytes, partner: PublicKey, _: PublicKey) -> Draft:
    return encrypt(draft, content_key, partner)


def _as_made(answer: SimulatedResponse) -> SimulatedResponse:
    return answer


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to answer wrongly, or with a result that was ordered.

    Attributes:
        name: by which it is ordered.
        description: one line for people.
        expect: what a right gateway makes of it, as in the `code` of its metrics:
            `verified`, `refused` or the code of a problem.
        expect_encrypted: the same for an encrypted request; None if no different.
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
    expect_encrypted: str | None = None
    result: ResultInfo | None = None
    draft: Callable[[Draft], Draft] = _as_drafted
    encrypted: bool | None = None
    seal: Seal = _seal
    finish: Callable[[SimulatedResponse], SimulatedResponse] = _as_made
    delivery: Delivery = Delivery.AT_ONCE


NO_FAULT: Final = Fault("none", "a right answer, whatever else is ordered")

# --- signature, time and key version -----------------------------------------

_KEY_VERSION: Final = re.compile(r"keyVersion=[^,]*")


def _flip_signature(text: str) -> str:
    field = SignatureField.parse(text)
    flipped = bytes([field.signature[0] ^ 1]) + field.signature[1:]
    return replace(field, signature=flipped).format()


def _reorder(text: str) -> str:
    algorithm, version, signature = text.split(",")
    return f"{signature}, {version}, {algorithm.replace('RSA256', 'rsa256')}"


def _unsigned(answer: SimulatedResponse) -> SimulatedResponse:
    return answer.without("Signature", "Response-Time")


def _shifted(offset: timedelta) -> Callable[[Draft], Draft]:
    return lambda draft: replace(
        draft, time=format_time(parse_time(draft.time) + offset)
    )


def _in_milliseconds(draft: Draft) -> Draft:
    return replace(draft, time=f"{parse_time(draft.time).timestamp() * 1000:.0f}")


_SIGNATURE: Final = (
    Fault(
        "bad_signature",
        "one bit of the signature is flipped",
        SignatureInvalid.code,
        finish=lambda answer: answer.changing("Signature", _flip_signature),
    ),
    Fault(
        "altered_body",
        "a line feed is added to the body after it was signed",
        SignatureInvalid.code,
        finish=lambda answer: replace(answer, body=answer.body + b"\n"),
    ),
    Fault(
        "other_target",
        "the signature is that of an answer to another target",
        SignatureInvalid.code,
        draft=lambda draft: replace(draft, target=f"{draft.target}/other"),
    ),
    Fault(
        "no_signature",
        "a success without Signature and Response-Time",
        SignatureMissing.code,
        finish=_unsigned,
    ),
    Fault(
        "unsigned_refusal",
        "a plain F without Signature and Response-Time, as AlipayHK's edge gives it",
        REFUSED,
        result=INVALID_SIGNATURE,
        encrypted=False,
        finish=_unsigned,
    ),
    Fault(
        "unsigned_unknown",
        "a plain U without Signature and Response-Time",
        REFUSED,
        result=UNDECIDED,
        encrypted=False,
        finish=_unsigned,
    ),
    Fault(
        "signature_without_time",
        "Response-Time is missing",
        SignatureMissing.code,
        finish=lambda answer: answer.without("Response-Time"),
    ),
    Fault(
        "time_without_signature",
        "Signature is missing",
        SignatureMissing.code,
        finish=lambda answer: answer.without("Signature"),
    ),
    Fault(
        "empty_signature",
        "the Signature header is empty",
        SignatureMissing.code,
        finish=lambda answer: answer.changing("Signature", lambda _: ""),
    ),
    Fault(
        "empty_signature_value",
        "the Signature header ends after signature=",
        SignatureInvalid.code,
        finish=lambda answer: answer.changing(
            "Signature", lambda text: text.partition("signature=")[0] + "signature="
        ),
    ),
    Fault(
        "unknown_key_version",
        "Signature names a keyVersion that nobody has",
        KeyVersionUnknown.code,
        finish=lambda answer: answer.changing(
            "Signature", lambda text: _KEY_VERSION.sub("keyVersion=unknown", text)
        ),
    ),
    Fault(
        "clock_ahead",
        "Response-Time, signed, is an hour ahead",
        ResponseStale.code,
        draft=_shifted(timedelta(hours=1)),
    ),
    Fault(
        "clock_behind",
        "Response-Time, signed, is an hour behind",
        ResponseStale.code,
        draft=_shifted(timedelta(hours=-1)),
    ),
    Fault(
        "no_key_version",
        "Signature names no keyVersion, which means the latest: no error",
        finish=lambda answer: answer.changing(
            "Signature", lambda text: _KEY_VERSION.sub("keyVersion=", text)
        ),
    ),
    Fault(
        "reordered_signature",
        "Signature in another order, with spaces, algorithm in lower case: no error",
        finish=lambda answer: answer.changing("Signature", _reorder),
    ),
    Fault(
        "time_in_milliseconds",
        "Response-Time in epoch milliseconds: no error",
        draft=_in_milliseconds,
    ),
)

# --- other headers -----------------------------------------------------------

_HEADERS: Final = (
    Fault(
        "other_client_id",
        "the answer names another Client-Id, and is signed so",
        ClientIdMismatch.code,
        draft=lambda draft: replace(draft, client_id="5Z000000000000000000"),
    ),
    Fault(
        "missing_client_id",
        "Client-Id is missing",
        ClientIdMismatch.code,
        finish=lambda answer: answer.without("Client-Id"),
    ),
    Fault(
        "repeated_signature",
        "Signature occurs twice",
        ResponseMalformed.code,
        finish=lambda answer: answer.repeating("Signature"),
    ),
    Fault(
        "repeated_response_time",
        "Response-Time occurs twice",
        ResponseMalformed.code,
        finish=lambda answer: answer.repeating("Response-Time"),
    ),
    Fault(
        "repeated_client_id",
        "Client-Id occurs twice",
        ResponseMalformed.code,
        finish=lambda answer: answer.repeating("Client-Id"),
    ),
    Fault(
        "repeated_encrypt",
        "Encrypt occurs twice",
        ResponseMalformed.code,
        encrypted=True,
        finish=lambda answer: answer.repeating("Encrypt"),
    ),
)

# --- encryption --------------------------------------------------------------


def _break_wrapped_key(
    draft: Draft, content_key: bytes, partner: PublicKey, _: PublicKey
) -> Draft:
    sealed = encrypt(draft, content_key, partner)
    assert sealed.encryption is not None  # noqa: S101 - `encrypt` sets it
    wrapped = sealed.encryption.wrapped_key
    broken = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
    return replace(sealed, encryption=replace(sealed.encryption, wrapped_key=broken))


def _wrap_for_ourselves(
    draft: Draft, content_key: bytes, partner: PublicKey, platform: PublicKey
) -> Draft:
    return encrypt(draft, content_key, replace(platform, version=partner.version))


def _cut_last_block(
    draft: Draft, content_key: bytes, partner: PublicKey, _: PublicKey
) -> Draft:
    # The new last byte is one of JSON's text, which is never valid as padding.
    sealed = encrypt(draft, content_key, partner)
    ciphertext = base64.b64decode(sealed.body)
    return replace(sealed, body=base64.b64encode(ciphertext[:-16]))


_ENCRYPTION: Final = (
    Fault(
        "plain_answer",
        "a plain success, signed, even to an encrypted request",
        VERIFIED,
        EncryptionDowngraded.code,
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
        seal=_break_wrapped_key,
    ),
    Fault(
        "wrong_recipient",
        "the content key is wrapped for AlipayHK's own key, not for the partner's",
        DecryptionFailed.code,
        encrypted=True,
        seal=_wrap_for_ourselves,
    ),
    Fault(
        "unknown_encrypt_version",
        "Encrypt names a keyVersion that nobody has",
        KeyVersionUnknown.code,
        encrypted=True,
        finish=lambda answer: answer.changing(
            "Encrypt", lambda text: _KEY_VERSION.sub("keyVersion=unknown", text)
        ),
    ),
    Fault(
        "bad_padding",
        "the last block of the ciphertext is missing",
        DecryptionFailed.code,
        encrypted=True,
        seal=_cut_last_block,
    ),
)

# --- what the answer is ------------------------------------------------------

_TEXT: Final = b"This is not JSON.\n"


def _page(status: int, text: str, *headers: tuple[str, str]) -> SimulatedResponse:
    kind = ("Content-Type", "text/html; charset=UTF-8")
    return SimulatedResponse(
        status, [kind, *headers], f"<html>{text}</html>\n".encode()
    )


def _compressed(answer: SimulatedResponse) -> SimulatedResponse:
    headers = [*answer.headers, ("Content-Encoding", "gzip")]
    return replace(answer, headers=headers, body=gzip.compress(answer.body, mtime=0))


def _with_large_header(answer: SimulatedResponse) -> SimulatedResponse:
    return replace(answer, headers=[*answer.headers, ("X-Padding", "x" * (1 << 20))])


_CONTENT: Final = (
    Fault(
        "not_json",
        "a text that is not JSON, signed",
        VERIFIED,
        DecryptionFailed.code,
        draft=lambda draft: replace(draft, body=_TEXT),
    ),
    Fault(
        "not_json_unsigned",
        "a text that is not JSON, without Signature and Response-Time",
        SignatureMissing.code,
        finish=lambda answer: replace(_unsigned(answer), body=_TEXT),
    ),
    Fault(
        "http_error",
        "HTTP 502 with a page of HTML, as a proxy on the way gives it",
        SignatureMissing.code,
        finish=lambda _: _page(502, "Bad Gateway"),
    ),
    Fault(
        "redirect",
        "HTTP 307 to /redirected on this host, where an arrival is recorded",
        SignatureMissing.code,
        finish=lambda _: _page(307, "Moved", ("Location", "/redirected")),
    ),
    Fault(
        "gzip",
        "compressed after it was signed, with Content-Encoding",
        SignatureInvalid.code,
        finish=_compressed,
    ),
    Fault(
        "huge",
        "a signed body of more than 8 MiB",
        ResponseTooLarge.code,
        draft=lambda draft: replace(
            draft, body=draft.body + b" " * (MAX_BODY_BYTES + (64 << 10))
        ),
    ),
    Fault(
        "huge_headers",
        "a header of 1 MiB",
        ResponseMalformed.code,
        finish=_with_large_header,
    ),
)

# --- how it arrives ----------------------------------------------------------

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
        "Content-Length says 1 GiB; the body comes, and then nothing for 90 s (--slow)",
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
        finish=lambda answer: replace(answer, body=b"AlipayHK says no\r\n\r\n"),
        delivery=Delivery.NOT_HTTP,
    ),
)

# --- results that are no fault of the protocol -------------------------------

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

FAULTS: Final = {
    fault.name: fault
    for fault in (
        NO_FAULT,
        *_SIGNATURE,
        *_HEADERS,
        *_ENCRYPTION,
        *_CONTENT,
        *_DELIVERY,
        *_RESULTS,
    )
}
"""Every fault, by name."""


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
    hint = f"did you mean {near[0]}?" if near else "GET /faults lists them"
    msg = f"there is no fault of this name; {hint}"
    raise UnknownFault(msg)
