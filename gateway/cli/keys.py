"""The life of keys in a keyring: make them, take them up, put them in use, end them.

The keyring is named by its folder (--keyring), or by a client of config.yaml.
Each change is taken up by a running gateway within a second, whole or not at all.

A new ring:
  gateway keys generate                          our key pair, version 1
  gateway keys public 1                          to register with AlipayHK
  gateway keys import alipayhk.pem --activate    the public key AlipayHK gave us
  gateway keys activate 1                        sign with ours from now on

A rotation of our key:
  gateway keys generate                          version 2, not in use yet
  gateway keys public 2                          to register with AlipayHK
  gateway keys activate 2 --dry-run              what would change
  gateway keys activate 2 --canary 5%            2 signs a share, 1 the rest
  gateway keys activate 2                        2 signs; 1 still decrypts
  gateway keys destroy 1                         once nothing needs it any more

  gateway keys VERB --help                       what a verb does, with examples
"""

import argparse
from typing import Final

from gateway.cli import Parser
from gateway.cli._verbs import add_verbs, run_verb

_VERBS: Final = {
    "generate": "make a key pair of ours, not in use yet",
    "import": "take up a key from a file, not in use yet",
    "list": "show every key version, its state and what is wrong with it",
    "public": "print a public key, to register it with AlipayHK",
    "activate": "put a key in use; the one before it is deactivated",
    "stage": "let a key decrypt or verify before it is in use",
    "deactivate": "take a key out of use; it still decrypts or verifies",
    "destroy": "delete a key for good",
    "compromise": "refuse a key for everything, at once",
    "rollback": "return to the ring as it was before its last change",
    "settle": "write down the planned steps that are due",
}


def add_arguments(parser: Parser) -> None:
    """Declare the verbs of `gateway keys`; each has a module `_keys_VERB`."""
    add_verbs(parser, "keys", _VERBS)


def run(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    return run_verb(arguments)
