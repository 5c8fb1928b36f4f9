r"""Verify a captured message, and name what is wrong with it where it does not.

FILE is raw HTTP, as `curl -i` prints it: first line, headers, a blank line, and the
exact bytes of the body. What `curl -v` prints will do too, also through a proxy, with
chunks (--raw), or saved as UTF-16; its own request says then what was sent. A response is verified with AlipayHK's keys and needs the
target of its request, as that is signed too; a request of ours is verified with our
own. An old capture is as good as a new one: how fresh it is counts only with --now.

Where the signature does not hold, the usual mistakes are tried one by one and in
pairs (another key, a newline, JSON written again, the wrong target or time, ...) and
the one that explains it is named. Exit status 1 then, and for an unsigned refusal.

An encrypted body is tried too, where we are to read it: if the signature holds and the
body does not decrypt, the reason is named (wrapped with another key or with OAEP, CBC
mode, ...), also with exit status 1. The plain body is printed by `gateway decrypt`.

Examples:
  curl -i ... > answer.http
  gateway verify answer.http --target /api/open/alipay/v1/content/synchronize
  gateway verify answer.http --request request.http
  gateway verify seen.txt                          by curl -v ... > seen.txt 2>&1
  gateway verify request.http                      a request of ours
  gateway verify callback.http --from platform     a request of AlipayHK's
  gateway verify --body body.json --target /api/... \
      --time 2024-05-22T06:42:21+05:30 --signature 'algorithm=RSA256,...'
  gateway verify answer.http --target /api/... --json | jq .diagnoses
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TypeAlias

from gateway.cli._evidence import label
from gateway.cli._findings import REFUSED, of_envelope, of_signature
from gateway.cli._judgement import Case, add_message, case_of, judge
from gateway.errors import ExchangeError, SignatureInvalid
from gateway.keys.changes import Party
from gateway.keys.model import KeyInfo
from gateway.protocol import UnsignedRefusal, VerifiedRequest, VerifiedResponse
from gateway.protocol.diagnosis import Diagnosis

Verified: TypeAlias = VerifiedRequest | VerifiedResponse


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
        return _failed(arguments, case, REFUSED, detail)
    found = None if verdict.encrypt is None else of_envelope(arguments, case, verdict)
    print_verified = _print_json if arguments.json else _print_text
    print_verified(case, verdict, found)
    return 1 if found else 0


def _print_json(case: Case, message: Verified, found: list[Diagnosis] | None) -> None:
    key = _key(case, message.key_version)
    facts = {
        "verified": True,
        "section": case.party,
        "version": key.version,
        "state": key.state,
        "fingerprint": key.fingerprint,
        "client_id": message.client_id,
        "time": message.time_text,
        "encrypted": message.encrypt is not None,
        "decrypts": None if found is None else not found,
        "diagnoses": [asdict(each) for each in found or ()],
    }
    print(json.dumps(facts))


def _print_text(case: Case, message: Verified, found: list[Diagnosis] | None) -> None:
    key = _key(case, message.key_version)
    note = "" if message.encrypt is None else f", {_sealed(found)}"
    print(f"Verified: signed by {label(case.party, key.version)} ({key.state}).")
    print(f"  Client-Id  {message.client_id}")
    print(f"  time       {message.time_text}")
    print(f"  body       {len(message.body)} bytes{note}", flush=True)
    if found:
        text = "the signature holds, and the body does not decrypt"
        print(f"gateway: {text}: {found[0].code}", file=sys.stderr, flush=True)
        _print_found(found)


def _sealed(found: list[Diagnosis] | None) -> str:
    if found is None:
        return "encrypted to AlipayHK, which alone can tell whether it opens"
    return "encrypted" if found else "encrypted to us; `gateway decrypt` prints it"


def _print_found(found: Iterable[Diagnosis]) -> None:
    for each in found:
        print(f"{each.finding} ({each.code})\n  {each.advice}")


def _key(case: Case, version: str) -> KeyInfo:
    ours = case.party is Party.PARTNER
    verifiers = case.keys
    return next(
        info
        for info in (case.ring.partner if ours else case.ring.platform)
        if info.version == version and info.public in verifiers
    )


def _failed(arguments: argparse.Namespace, case: Case, code: str, detail: str) -> int:
    diagnoses = of_signature(arguments, case, code)
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
    _print_found(diagnoses)
    return 1
