"""The services that may call: make a token for one.

A token is 256 random bits. It is shown once and kept nowhere: the configuration holds
its SHA-256, which is of no use to whoever reads it.

Examples:
  gateway callers new catalogue --client hk-sandbox
  gateway callers new catalogue --client hk-sandbox --json | jq -r .token

A new token for a caller that has one: write both hashes, as
`token_sha256: [OLD, NEW]`, reload (SIGHUP), let the service change over, take OLD out.

  gateway callers VERB --help            what a verb does, with its options
"""

import argparse
import json

from gateway.access.tokens import hash_token, new_token
from gateway.cli import Parser
from gateway.cli.options import add_json
from gateway.config.values import name

_TEXT = """\
The token of {name}, shown this once. Give it to the service as a secret:

  {token}

The service sends it with each call:

  Authorization: Bearer TOKEN

Put this under callers in config.yaml and reload (kill -HUP):

  - name: {name}
    token_sha256: {digest}
    clients: [{clients}]
"""


def add_arguments(parser: Parser) -> None:
    """Declare the verbs of `gateway callers`."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    new = verbs.add_parser("new", help="make a token, and the entry for config.yaml")
    new.explain(__doc__)
    new.add_argument(
        "name", metavar="NAME", type=_name, help="of the service, as logged"
    )
    new.add_argument(
        "--client",
        action="append",
        type=_name,
        metavar="CLIENT",
        help="a client whose routes it may call; may be repeated",
    )
    add_json(new)
    new.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show a traceback where it fails",
    )
    new.set_defaults(parser=new)


def run(arguments: argparse.Namespace) -> int:
    """Make a token and print it with its entry."""
    from gateway.plant import ENTROPY

    token = new_token(ENTROPY)
    digest = hash_token(token).hex()
    if arguments.json:
        facts = {"name": arguments.name, "token": token, "token_sha256": digest}
        print(json.dumps(facts))
        return 0
    clients = ", ".join(arguments.client or ["CLIENT"])
    print(
        _TEXT.format(name=arguments.name, token=token, digest=digest, clients=clients),
        end="",
    )
    return 0


def _name(text: str) -> str:
    try:
        return name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
