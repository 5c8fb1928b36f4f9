"""Refuse a key for everything, at once: others may have it.

From any state, whatever depends on it: a running gateway signs, decrypts, verifies
and encrypts with it no more within a second. Without another active key, exchanges
fail with key_unavailable, which is the point. Nothing returns from here, also not by
`rollback`. The file stays in the folder, so that the key is known again should
somebody import it; delete it when the incident is over.

Examples:
  gateway keys compromise 3 --dry-run      what would change
  gateway keys compromise 3                nothing is signed or decrypted by it
  gateway keys compromise 3 --platform     no answer is believed by it
"""

import argparse

from gateway.cli._keys_change import add_version, carry_out, which
from gateway.keys.changes import compromise
from gateway.keys.model import KeyState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys compromise`."""
    add_version(parser)


def run(arguments: argparse.Namespace) -> int:
    """Mark the key that is named as compromised."""
    key = which(arguments)
    return carry_out(
        arguments, lambda before: compromise(before, *key), KeyState.COMPROMISED
    )
