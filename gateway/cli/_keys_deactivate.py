"""Take a key out of use, with none in its place.

A deactivated key of ours still decrypts, one of AlipayHK's still verifies: what is
under way comes to its end. To change over from one key to the next, activate the
next: that deactivates this one in the same step. The last active key to sign, or to
encrypt to, does not go by accident: without one such exchanges fail with
key_unavailable. --leave-none takes it out of use all the same.

Examples:
  gateway keys deactivate 1 --leave-none --dry-run    what would change
  gateway keys deactivate 1 --leave-none              sign nothing until another key
                                                      is activated
  gateway keys deactivate 1 --platform --leave-none   encrypt nothing to AlipayHK
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
from gateway.keys.changes import deactivate
from gateway.keys.manifest import Manifest
from gateway.keys.model import KeyState
from gateway.keys.schedule import plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys deactivate`."""
    add_version(parser)
    when = parser.add_mutually_exclusive_group()
    add_at(when)
    when.add_argument(
        "--leave-none",
        action="store_true",
        help="also where nothing signs, or is encrypted to, from then on",
    )


def run(arguments: argparse.Namespace) -> int:
    """Deactivate the key that is named, or plan to."""
    refuse_past(arguments)
    key = which(arguments)
    if arguments.at is not None:
        return carry_out(
            arguments, partial(plan, which=key, deactivate_at=arguments.at)
        )

    def taken(before: Manifest) -> Manifest:
        return deactivate(before, *key, leave_none=arguments.leave_none)

    return carry_out(arguments, taken, KeyState.DEACTIVATED)
