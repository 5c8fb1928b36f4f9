r"""Encrypt a body as it goes on the wire: its Encrypt header, then the ciphertext.

The content key is fresh, wrapped to AlipayHK's active key, and never printed. The
ciphertext is what has to be signed: `gateway sign --encrypt` does both. Content-Type
and key version are those of the configuration.

Examples:
  gateway encrypt order.json
  gateway encrypt order.json --json | jq -r .body
  gateway encrypt answer.json --to partner        as AlipayHK encrypts to us
"""

import argparse
import json

from gateway.cli._choices import add_choice
from gateway.cli._governing import homes_of
from gateway.cli._messages import header_lines, print_message
from gateway.cli._outgoing import encrypted, read_body
from gateway.cli._ring import add_ring, clock, sender_of
from gateway.cli.options import add_json
from gateway.errors import KeyUnavailable
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.changes import Party
from gateway.keys.keyring import Keyring
from gateway.protocol import Direction, Draft, PublicKey
from gateway.protocol.messages import POST


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway encrypt`."""
    parser.add_argument(
        "file", metavar="FILE", help="the plain JSON body; - is standard input"
    )
    add_choice(
        parser,
        "--to",
        Party,
        default=Party.PLATFORM,
        help="who is to read it (default: %(default)s)",
    )
    parser.set_defaults(client_id=None)
    add_ring(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Encrypt, and print header and ciphertext."""
    client = sender_of(arguments)
    ring = KeyringFolder(client.keyring, homes_of(arguments, client.keyring)).read(
        clock()
    )
    recipient = _recipient(ring, arguments.to)
    draft = Draft(Direction.REQUEST, POST, "/", "", "", read_body(arguments.file))
    draft = encrypted(draft, recipient, client)
    assert draft.encryption is not None  # noqa: S101 - that is what encrypting does
    headers = [
        ("Content-Type", draft.content_type),
        ("Encrypt", draft.encryption.format()),
    ]
    if arguments.json:
        print(json.dumps({"headers": dict(headers), "body": draft.body.decode()}))
    else:
        print_message(header_lines(headers), draft.body)
    return 0


def _recipient(ring: Keyring, party: Party) -> PublicKey:
    if party is Party.PLATFORM:
        return ring.recipient
    if not ring.decrypters:
        msg = "No partner key may decrypt. Activate one in the keyring."
        raise KeyUnavailable(msg)
    return ring.decrypters[0].public
