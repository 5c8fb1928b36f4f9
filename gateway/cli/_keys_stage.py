"""Let a key decrypt, or verify, before it is in use.

When AlipayHK begins to sign with its new key, or to encrypt to ours, is AlipayHK's to
choose. A staged key takes what comes in from now on; nothing of ours is signed with
it or encrypted to it until it is activated. The first answer that such a key of
AlipayHK's verifies is told in the log.

Examples:
  gateway keys stage 3 --platform --dry-run    what would change
  gateway keys stage 3 --platform              answers by AlipayHK's version 3 verify
  gateway keys stage 3                         answers encrypted to ours decrypt
"""

import argparse

from gateway.cli._keys_change import add_version, carry_out, which
from gateway.keys.changes import stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys stage`."""
    add_version(parser)


def run(arguments: argparse.Namespace) -> int:
    """Stage the key that is named."""
    return carry_out(arguments, lambda before: stage(before, *which(arguments)))
