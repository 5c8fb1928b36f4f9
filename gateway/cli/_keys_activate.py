"""Put a key in use: it signs and decrypts, or verifies and encrypts, from now on.

The key that was active for the same use is deactivated in the same step: ours then
still decrypts what AlipayHK encrypts to it, AlipayHK's still verifies. A deactivated
key may be activated again, which is the way back. A compromised or destroyed one
never returns. One that is active already is left as it is, with status 0.

Activate a key of ours only once AlipayHK has registered its public key: a running
gateway signs with it within a second.

Examples:
  gateway keys activate 2 --dry-run       what would change
  gateway keys activate 2                 our version 2 signs from now on
  gateway keys activate 2 --platform      AlipayHK's version 2 is encrypted to
  gateway keys activate 2 --use sign      where version 2 has a pair for each use
"""

import argparse

from gateway.cli._keys_change import add_version, carry_out
from gateway.keys.changes import activate
from gateway.keys.model import KeyState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys activate`."""
    add_version(parser)


def run(arguments: argparse.Namespace) -> int:
    """Activate the key that is named."""
    return carry_out(arguments, activate, KeyState.ACTIVE)
