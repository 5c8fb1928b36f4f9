"""Write down the planned steps that are due, and delete what they gave up.

Gateways take planned steps by themselves and write nothing: they may read the ring
from a mount. Every change of the ring settles it too; this is for a ring that nothing
else changes, so that the file of a key whose time is over does not stay.

Examples:
  gateway keys settle --dry-run     what is due
  gateway keys settle               write it down
"""

import argparse

from gateway.cli._keys_change import add_change, carry_out
from gateway.cli._ring import folder_of, manifest_of
from gateway.keys.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys settle`."""
    add_change(parser)


def run(arguments: argparse.Namespace) -> int:
    """Settle the ring."""
    written = manifest_of(folder_of(arguments))

    def settled(manifest: Manifest) -> Manifest:
        if manifest == written:
            return manifest
        return manifest.model_copy(update={"generation": manifest.generation + 1})

    return carry_out(arguments, settled)
