"""Take a key out of use, with none in its place.

A deactivated key of ours still decrypts, one of AlipayHK's still verifies: what is
under way comes to its end. To change over from one key to the next, activate the
next: that deactivates this one in the same step. Without an active key nothing can
be signed, or encrypted, and such exchanges fail with key_unavailable.

Examples:
  gateway keys deactivate 1 --dry-run     what would change
  gateway keys deactivate 1               sign nothing until another is activated
  gateway keys deactivate 1 --platform    encrypt nothing to AlipayHK until then
"""

import argparse

from gateway.cli._keys_change import add_version, carry_out
from gateway.keys.changes import deactivate
from gateway.keys.model import KeyState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys deactivate`."""
    add_version(parser)


def run(arguments: argparse.Namespace) -> int:
    """Deactivate the key that is named."""
    return carry_out(arguments, deactivate, KeyState.DEACTIVATED)
