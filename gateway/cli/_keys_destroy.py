"""Delete a key for good. Its entry stays, as a record that there was one.

The active key is refused: activate another first. A destroyed key of ours decrypts
nothing any more, one of AlipayHK's verifies nothing, so wait until AlipayHK has said
that it uses the old key no longer. A key whose overlap still runs is refused too,
without --early. The file is deleted from the ring's folder; copies elsewhere, and in
backups, are yours to delete. So is what lies elsewhere from the start, as a key in a
token does: the ring gives it up, and says so. With --at no gateway uses the key from
then on, and the next change of the ring, or `gateway keys settle`, deletes the file.

Examples:
  gateway keys destroy 1 --dry-run        what would change
  gateway keys destroy 1                  delete our version 1
  gateway keys destroy 1 --platform       delete AlipayHK's version 1
  gateway keys destroy 3 --at 2031-12-03T02:00:00Z
"""

import argparse
from functools import partial

from gateway.cli._keys_change import (
    add_at,
    add_version,
    carry_out,
    refuse_past,
    which,
)
from gateway.keys.changes import destroy
from gateway.keys.manifest import Manifest
from gateway.keys.model import KeyState
from gateway.keys.schedule import plan_destruction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys destroy`."""
    add_version(parser)
    when = parser.add_mutually_exclusive_group()
    add_at(when)
    when.add_argument(
        "--early", action="store_true", help="also before its overlap has passed"
    )


def run(arguments: argparse.Namespace) -> int:
    """Destroy the key that is named, or plan to."""
    refuse_past(arguments)
    key = which(arguments)
    if arguments.at is not None:
        step = partial(plan_destruction, which=key, moment=arguments.at)
        return carry_out(arguments, step)

    def taken(before: Manifest) -> Manifest:
        return destroy(before, *key, early=arguments.early)

    return carry_out(arguments, taken, KeyState.DESTROYED)
