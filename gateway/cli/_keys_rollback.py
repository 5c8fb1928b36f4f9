"""Return to the ring as it was before its last change, as a new generation.

Refused where the last change was not made here: the ring was copied without its
`.history`, or edited by hand. --to says then which generation is meant.

Every key gets the state and the plans that it had then. Nothing is lost by it: keys
that were added since stay, out of use; and nothing returns that must not, neither a
compromised key nor a destroyed one. A second rollback undoes the first.

Examples:
  gateway keys rollback --dry-run       what would change
  gateway keys rollback                 undo the last change
  gateway keys rollback --to 5          return to generation 5
"""

import argparse

from gateway.cli._keys_change import add_change, carry_out
from gateway.cli._ring import clock, folder_of, manifest_of
from gateway.keys.backends.history import recall
from gateway.keys.changes import roll_back
from gateway.keys.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys rollback`."""
    parser.add_argument(
        "--to",
        type=int,
        metavar="GENERATION",
        help="an earlier generation (default: the last before this one)",
    )
    add_change(parser)


def run(arguments: argparse.Namespace) -> int:
    """Return to an earlier ring."""
    folder = folder_of(arguments)

    def back(before: Manifest) -> Manifest:
        present = manifest_of(folder)
        return roll_back(before, recall(folder, present, arguments.to), clock())

    return carry_out(arguments, back)
