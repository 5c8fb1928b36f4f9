"""A captured message before the judge: what is known of it, and the verdict.

`gateway verify` and `gateway decrypt` share it, so that nothing is printed decrypted
that did not verify.
"""

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from gateway.cli import UsageError
from gateway.cli._choices import add_choice
from gateway.cli._governing import homes_of
from gateway.cli._messages import Capture, Received, header, parse_capture, read_input
from gateway.cli._ring import add_ring, clock, folder_of, sender_of
from gateway.cli.options import add_json
from gateway.errors import ClientIdMismatch
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.changes import Party
from gateway.keys.keyring import Keyring
from gateway.keys.model import PROCESSES, Use
from gateway.protocol import (
    Direction,
    Draft,
    EncryptField,
    Freshness,
    PublicKeys,
    ReceivedRequest,
    ReceivedResponse,
    SignatureField,
    SignedMessage,
    UnsignedRefusal,
    VerifiedRequest,
    VerifiedResponse,
    parse_time,
    verify_request,
    verify_response,
)
from gateway.protocol.messages import POST
from gateway.protocol.outgoing import check_client_id, check_target

Verdict: TypeAlias = VerifiedRequest | VerifiedResponse | UnsignedRefusal

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Case:
    """A captured message with what is needed to judge it.

    Attributes:
        party: who must have signed it.
        request: what a response answers; None for a request.
        sent: the captured request that it answers, where it was given.
        client_id: whose message it must be; None where nothing says so.
    """

    received: Received
    party: Party
    ring: Keyring
    request: SignedMessage | None
    sent: ReceivedRequest | None
    client_id: str | None
    freshness: Freshness

    @property
    def keys(self) -> PublicKeys:
        """The keys that may have signed it, the active one first."""
        if self.party is Party.PLATFORM:
            return self.ring.verifiers
        return [
            info.public
            for state in PROCESSES
            for info in self.ring.partner
            if info.state is state and Use.SIGN in info.uses and info.public is not None
        ]


def add_message(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name a captured message, whole or in parts."""
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="raw HTTP; - is standard input")
    add("--target", metavar="TARGET", help="path and query of the request it answers")
    add("--client-id", metavar="ID", help="ours (default: the configuration's)")
    add("--request", metavar="FILE", help="the request it answers, as raw HTTP")
    add("--encrypted", action="store_true", help="the request was encrypted")
    add(
        "--body", metavar="FILE", help="in place of FILE: its body; - is standard input"
    )
    add("--signature", metavar="TEXT", help="with --body: its Signature header")
    add("--time", metavar="TEXT", help="with --body: its time header")
    add("--encrypt", metavar="TEXT", help="with --body: its Encrypt header")
    add_choice(
        parser,
        "--from",
        Party,
        dest="party",
        help="who signed it (default: partner for a request, platform otherwise)",
    )
    add("--now", type=moment, metavar="TIME", help="judge freshness as of this time")
    add_ring(parser)
    add_json(parser)


def moment(text: str) -> datetime:
    """Read a time given on the command line."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def case_of(arguments: argparse.Namespace) -> Case:
    """Put together what the command line says of a message.

    Raises:
        UsageError: something is missing or does not fit together.
        SetupError: a file is not what it should be.
    """
    _check_form(arguments)
    folder = folder_of(arguments)
    ring = KeyringFolder(folder, homes_of(arguments, folder)).read(clock())
    capture = _capture(arguments)
    sent = _sent(arguments, capture)
    client_id = _client_id(arguments, sent)
    received = (
        _from_parts(arguments, sent, client_id) if capture is None else capture.message
    )
    is_request = isinstance(received, ReceivedRequest)
    party = arguments.party or (Party.PARTNER if is_request else Party.PLATFORM)
    request = None if is_request else _request(arguments, sent, client_id)
    freshness = _freshness(arguments, received)
    return Case(received, party, ring, request, sent, client_id, freshness)


def judge(case: Case) -> Verdict:
    """Give what the message is worth.

    Raises:
        ExchangeError: it cannot be believed.
    """
    if isinstance(case.received, ReceivedResponse):
        assert case.request is not None  # noqa: S101 - `case_of` sees to it
        return verify_response(
            case.received,
            request=case.request,
            keys=case.keys,
            freshness=case.freshness,
        )
    verified = verify_request(case.received, keys=case.keys)
    if case.client_id not in (None, verified.client_id):
        msg = "The request is signed, and names another Client-Id than ours."
        raise ClientIdMismatch(msg)
    case.freshness.check(verified.time)
    return verified


def _check_form(arguments: argparse.Namespace) -> None:
    parts = (arguments.body, arguments.signature, arguments.time)
    whole = arguments.file is not None
    if (whole and any(parts)) or (not whole and None in parts):
        msg = (
            "name a captured message (FILE, or - for standard input), or else its "
            "parts: --body, --signature and --time"
        )
        raise UsageError(msg)


def _capture(arguments: argparse.Namespace) -> Capture | None:
    if arguments.file is None:
        return None
    return parse_capture(read_input(arguments.file))


def _sent(
    arguments: argparse.Namespace, capture: Capture | None
) -> ReceivedRequest | None:
    """Give the request that a response answers: named, or captured with it."""
    if arguments.request is None:
        if capture is None or capture.response is None:
            return None
        return capture.request
    sent = parse_capture(read_input(arguments.request)).request
    if sent is None:
        msg = f"--request {arguments.request} is a response: FILE is the place for it"
        raise UsageError(msg)
    return sent


def _from_parts(
    arguments: argparse.Namespace, sent: ReceivedRequest | None, client_id: str | None
) -> Received:
    body = read_input(arguments.body)
    if arguments.party is not Party.PARTNER:
        headers = _part_headers(arguments, Direction.RESPONSE, client_id)
        return ReceivedResponse(200, headers, body)
    headers = _part_headers(arguments, Direction.REQUEST, client_id)
    return ReceivedRequest(POST, _target(arguments, sent), headers, body)


def _part_headers(
    arguments: argparse.Namespace, direction: Direction, client_id: str | None
) -> list[tuple[str, str]]:
    headers = [
        ("Client-Id", _required(client_id)),
        (direction.value, arguments.time),
        ("Signature", arguments.signature),
    ]
    if arguments.encrypt is not None:
        headers.append(("Encrypt", arguments.encrypt))
    return headers


def _request(
    arguments: argparse.Namespace, sent: ReceivedRequest | None, client_id: str | None
) -> SignedMessage:
    """Give the request that a response must answer; its own signature is blank."""
    encrypted = arguments.encrypted or (
        sent is not None and bool(header(sent.headers, "Encrypt"))
    )
    draft = Draft(
        Direction.REQUEST,
        POST if sent is None else sent.method,
        _target(arguments, sent),
        _required(client_id),
        time="",
        body=b"",
        encryption=EncryptField(None, b"") if encrypted else None,
    )
    return SignedMessage(draft, SignatureField(None, b""))


def _target(arguments: argparse.Namespace, sent: ReceivedRequest | None) -> str:
    target: str | None = arguments.target or (sent.target if sent else None)
    if target is None:
        msg = (
            "a response is signed with the target of its request: give it with "
            "--target, or the request itself with --request"
        )
        raise UsageError(msg)
    try:
        return check_target(target)
    except ValueError as error:
        msg = f"--target: {error}"
        raise UsageError(msg) from None


def _client_id(
    arguments: argparse.Namespace, sent: ReceivedRequest | None
) -> str | None:
    named = "" if sent is None else header(sent.headers, "Client-Id")
    if arguments.client_id is None and named:
        return named
    return sender_of(arguments).client_id or None


def _required(client_id: str | None) -> str:
    if client_id is None:
        msg = "say with --client-id whose message it must be"
        raise UsageError(msg)
    try:
        return check_client_id(client_id)
    except ValueError as error:
        msg = f"--client-id: {error}"
        raise UsageError(msg) from None


def _freshness(arguments: argparse.Namespace, received: Received) -> Freshness:
    """Judge by the time that was given, else by the message's own: any age will do."""
    if arguments.now is not None:
        tolerance = timedelta(seconds=sender_of(arguments).clock_tolerance_s)
        return Freshness(arguments.now, tolerance)
    direction = (
        Direction.REQUEST
        if isinstance(received, ReceivedRequest)
        else Direction.RESPONSE
    )
    try:
        own = parse_time(header(received.headers, direction.value))
    except ValueError:
        own = _NEVER  # never compared: an unreadable time is an error of its own
    return Freshness(own, timedelta(0))
