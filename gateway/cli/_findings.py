"""What is wrong with a captured message: its signature, then its envelope."""

import argparse
import asyncio
from collections.abc import Iterable
from dataclasses import asdict

from gateway.cli import DiagnosedError
from gateway.cli._evidence import capture_of, known_keys, known_pairs
from gateway.cli._judgement import Case
from gateway.cli._messages import header, length_problem, read_input
from gateway.errors import (
    ClientIdMismatch,
    DecryptionFailed,
    InvalidRequest,
    KeyVersionUnknown,
    SignatureInvalid,
    SignatureMissing,
)
from gateway.keys.changes import Party
from gateway.protocol import ReceivedResponse, VerifiedRequest, VerifiedResponse
from gateway.protocol.diagnosis import (
    Diagnosis,
    Envelope,
    diagnose,
    examine,
    other_protocol,
)

REFUSED = "unsigned_refusal"
_DIAGNOSED = {
    REFUSED,
    SignatureInvalid.code,
    SignatureMissing.code,
    KeyVersionUnknown.code,
    ClientIdMismatch.code,
}
"""Codes with causes to look for; each other one says itself what is wrong."""

_OF_THE_GATEWAY = Diagnosis(
    "gateway_answer",
    "This is a gateway's answer to its caller, not AlipayHK's: it has a "
    "Gateway-Exchange-Id, and no Signature any more.",
    "Capture what AlipayHK answers: `gateway sign FILE --target TARGET --curl URL` "
    "prints such a call.",
)

_PLAINTEXT_UNKNOWN = Diagnosis(
    "plaintext_unknown",
    "The message is encrypted, and its plain body is not known here.",
    "If it may have been signed before it was encrypted, give the plain body with "
    "`gateway verify --plaintext FILE`.",
)


def of_signature(
    arguments: argparse.Namespace, case: Case, code: str
) -> list[Diagnosis]:
    """Name why a message does not verify, as far as it can be told.

    Where a key of ours opens its envelope, the plain body is tried too: it may have
    been signed in place of the encrypted one. It is shown to nobody.
    """
    is_answer = isinstance(case.received, ReceivedResponse)
    if is_answer and header(case.received.headers, "Gateway-Exchange-Id"):
        return [_OF_THE_GATEWAY]
    found: list[Diagnosis] = []
    if code in _DIAGNOSED:
        envelope = _envelope(arguments, case)
        file = getattr(arguments, "plaintext", None)
        plaintext = read_input(file) if file else envelope.plaintext
        keys = known_keys(arguments, case)
        found += diagnose(capture_of(arguments, case, plaintext), keys)
        if envelope.opened:
            found += envelope.mistakes
        elif _is_encrypted(case) and plaintext is None and _bytes_differ(found):
            found.append(_PLAINTEXT_UNKNOWN)
    elif code == InvalidRequest.code:  # as for want of a Signature header
        found += other_protocol(case.received.body)
    if (problem := length_problem(case.received)) is not None:
        advice = "Capture the exact bytes; an editor may add a newline when it saves."
        found.append(Diagnosis("capture_inexact", problem, advice))
    return found


def of_envelope(
    arguments: argparse.Namespace,
    case: Case,
    message: VerifiedRequest | VerifiedResponse,
) -> list[Diagnosis] | None:
    """Name why a verified message does not decrypt; empty if it does.

    Gives None where nobody here can tell: what we encrypt to AlipayHK, it alone
    can open.
    """
    if case.party is Party.PARTNER:
        return list(_envelope(arguments, case).mistakes) or None
    try:
        asyncio.run(case.ring.decrypt(message))
    except (DecryptionFailed, KeyVersionUnknown) as error:
        found = list(_envelope(arguments, case).mistakes)
        advice = "Ask AlipayHK which of our public keys it encrypts to."
        return found or [Diagnosis(error.code, error.detail, advice)]
    return []


def diagnosed(code: str, detail: str, found: Iterable[Diagnosis]) -> DiagnosedError:
    """Give the error of a message, with what was found in the same line."""
    found = list(found)
    causes = " ".join(f"{each.finding} ({each.code})" for each in found)
    text = f"{detail} {causes}".rstrip()
    return DiagnosedError(text, code, [asdict(each) for each in found])


def _envelope(arguments: argparse.Namespace, case: Case) -> Envelope:
    if not _is_encrypted(case):
        return Envelope(())
    return examine(
        header(case.received.headers, "Encrypt"),
        case.received.body,
        known_pairs(arguments, case),
        to_us=case.party is Party.PLATFORM,
    )


def _is_encrypted(case: Case) -> bool:
    return bool(header(case.received.headers, "Encrypt"))


def _bytes_differ(found: Iterable[Diagnosis]) -> bool:
    return any(each.code == "bytes_differ" for each in found)
