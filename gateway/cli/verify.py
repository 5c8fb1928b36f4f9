r"""Verify a captured message, and name what is wrong with it where it does not.

FILE is raw HTTP, as `curl -i` prints it: first line, headers, a blank line, and the
exact bytes of the body. A response is verified with AlipayHK's keys and needs the
target of its request, as that is signed too; a request of ours is verified with our
own. An old capture is as good as a new one: how fresh it is counts only with --now.

Where the signature does not hold, the usual mistakes are tried one by one and in
pairs (another key, a newline, JSON written again, the wrong target or time, ...) and
the one that explains it is named. Exit status 1 then, and for an unsigned refusal.

Examples:
  curl -i ... > answer.http
  gateway verify answer.http --target /api/open/alipay/v1/content/synchronize
  gateway verify answer.http --request request.http
  gateway verify request.http                      a request of ours
  gateway verify callback.http --from platform     a request of AlipayHK's
  gateway verify --body body.json --target /api/... \
      --time 2024-05-22T06:42:21+05:30 --signature 'algorithm=RSA256,...'
  gateway verify answer.http --target /api/... --json | jq .diagnoses
"""

import argparse
import json
import sys
from dataclasses import asdict
from typing import Final

from gateway.cli._evidence import capture_of, known_keys, label
from gateway.cli._judgement import Case, add_message, case_of, judge
from gateway.cli._messages import length_problem, read_input
from gateway.errors import (
    ClientIdMismatch,
    ExchangeError,
    KeyVersionUnknown,
    SignatureInvalid,
    SignatureMissing,
)
from gateway.keys.changes import Party
from gateway.keys.model import KeyInfo
from gateway.protocol import UnsignedRefusal, VerifiedRequest, VerifiedResponse
from gateway.protocol.diagnosis import Diagnosis, diagnose

_REFUSED: Final = "unsigned_refusal"
_DIAGNOSED: Final = {
    _REFUSED,
    SignatureInvalid.code,
    SignatureMissing.code,
    KeyVersionUnknown.code,
    ClientIdMismatch.code,
}
"""Codes with causes to look for; each other one says itself what is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway verify`."""
    add_message(parser)
    parser.add_argument(
        "--plaintext", metavar="FILE", help="what the body decrypts to, for a diagnosis"
    )


def run(arguments: argparse.Namespace) -> int:
    """Verify, and say who signed it or why that cannot be said."""
    case = case_of(arguments)
    try:
        verdict = judge(case)
    except SignatureInvalid as error:
        detail = "The signature does not hold over these bytes."
        return _failed(arguments, case, error.code, detail)
    except ExchangeError as error:
        return _failed(arguments, case, error.code, error.detail)
    if isinstance(verdict, UnsignedRefusal):
        detail = "It is not signed, and proves nothing."
        return _failed(arguments, case, _REFUSED, detail)
    return _verified(arguments, case, verdict)


def _verified(
    arguments: argparse.Namespace,
    case: Case,
    message: VerifiedRequest | VerifiedResponse,
) -> int:
    key = _key(case, message.key_version)
    encrypted = message.encrypt is not None
    if arguments.json:
        facts = {
            "verified": True,
            "section": case.party,
            "version": key.version,
            "state": key.state,
            "fingerprint": key.fingerprint,
            "client_id": message.client_id,
            "time": message.time_text,
            "encrypted": encrypted,
        }
        print(json.dumps(facts))
        return 0
    print(f"Verified: signed by {label(case.party, key.version)} ({key.state}).")
    print(f"  Client-Id  {message.client_id}")
    print(f"  time       {message.time_text}")
    print(f"  body       {len(message.body)} bytes{', encrypted' if encrypted else ''}")
    return 0


def _key(case: Case, version: str) -> KeyInfo:
    ours = case.party is Party.PARTNER
    verifiers = case.keys
    return next(
        info
        for info in (case.ring.partner if ours else case.ring.platform)
        if info.version == version and info.public in verifiers
    )


def _failed(arguments: argparse.Namespace, case: Case, code: str, detail: str) -> int:
    diagnoses = _diagnoses(arguments, case, code)
    if arguments.json:
        facts = {
            "verified": False,
            "code": code,
            "detail": detail,
            "diagnoses": [asdict(each) for each in diagnoses],
        }
        print(json.dumps(facts))
        return 1
    print(f"gateway: not verified: {code}: {detail}", file=sys.stderr, flush=True)
    for each in diagnoses:
        print(f"{each.finding} ({each.code})\n  {each.advice}")
    return 1


def _diagnoses(arguments: argparse.Namespace, case: Case, code: str) -> list[Diagnosis]:
    found: list[Diagnosis] = []
    if code in _DIAGNOSED:
        plaintext = read_input(arguments.plaintext) if arguments.plaintext else None
        keys = known_keys(arguments, case)
        found += diagnose(capture_of(arguments, case, plaintext), keys)
    if (problem := length_problem(case.received)) is not None:
        advice = "Capture the exact bytes; an editor may add a newline when it saves."
        found.append(Diagnosis("capture_inexact", problem, advice))
    return found
