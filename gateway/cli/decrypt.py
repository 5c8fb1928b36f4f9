"""Decrypt a captured message whose signature holds, and print the plain body.

FILE is raw HTTP, as for `gateway verify`, which see. The signature is verified first,
always: the encryption has no integrity of its own. AlipayHK encrypts to one of our
keys; what we encrypt to AlipayHK, AlipayHK alone can decrypt. Where it cannot be
decrypted the reason is named; `gateway verify` says what to do about it.

Examples:
  gateway decrypt answer.http --target /api/open/alipay/v1/content/synchronize
  gateway decrypt answer.http --request request.http
  gateway decrypt callback.http --from platform    a request of AlipayHK's
  gateway decrypt answer.http --target /api/... | jq .resultInfo
"""

import argparse
import asyncio
import json

from gateway.cli._findings import diagnosed, of_envelope, of_signature
from gateway.cli._judgement import add_message, case_of, judge
from gateway.cli._messages import write_output
from gateway.errors import DecryptionFailed, ExchangeError, GatewayError, SetupError
from gateway.keys.changes import Party
from gateway.protocol import UnsignedRefusal
from gateway.protocol.diagnosis import Diagnosis


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway decrypt`."""
    add_message(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify, decrypt and print."""
    case = case_of(arguments)
    try:
        message = judge(case)
    except ExchangeError as error:
        found = of_signature(arguments, case, error.code)
        raise diagnosed(error.code, error.detail, found) from error
    if isinstance(message, UnsignedRefusal):
        msg = "The message is a refusal without a signature: it is plain already."
        raise SetupError(msg)
    if message.encrypt is None:
        msg = "The message has no Encrypt header: its body is plain already."
        raise SetupError(msg)
    if case.party is Party.PARTNER:
        raise _ours(of_envelope(arguments, case, message))
    try:
        body = asyncio.run(case.ring.decrypt(message))
    except ExchangeError as error:
        found = of_envelope(arguments, case, message) or []
        raise diagnosed(error.code, error.detail, found) from error
    if arguments.json:
        facts = {"verified_by": message.key_version, "body": body.decode()}
        print(json.dumps(facts))
    else:
        write_output(body)
    return 0


def _ours(found: list[Diagnosis] | None) -> GatewayError:
    if found:
        msg = "The message is ours, and AlipayHK cannot decrypt it."
        return diagnosed(DecryptionFailed.code, msg, found)
    msg = "The message is ours, encrypted to AlipayHK: it alone can decrypt it."
    return SetupError(msg)
