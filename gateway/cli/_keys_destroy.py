"""Delete a key for good. Its entry stays, as a record that there was one.

The active key is refused: activate another first. A destroyed key of ours decrypts
nothing any more, one of AlipayHK's verifies nothing, so wait until AlipayHK has said
that it uses the old key no longer. The file is deleted from the ring's folder;
copies elsewhere, and in backups, are yours to delete. So is what lies elsewhere from the
start, as a key in a token does: the ring gives it up, and says so.

Examples:
  gateway keys destroy 1 --dry-run        what would change
  gateway keys destroy 1                  delete our version 1
  gateway keys destroy 1 --platform       delete AlipayHK's version 1
"""

import argparse

from gateway.cli._keys_change import add_version, carry_out
from gateway.keys.changes import destroy
from gateway.keys.model import KeyState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys destroy`."""
    add_version(parser)


def run(arguments: argparse.Namespace) -> int:
    """Destroy the key that is named."""
    return carry_out(arguments, destroy, KeyState.DESTROYED)
