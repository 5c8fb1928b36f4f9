"""Print a public key, and nothing else: to register it, or to compare it.

Without a version it is our key that signs, else the newest that is not in use yet.
That a key of ours was given out is noted in the ring: only then can it be activated.

Examples:
  gateway keys public                       our active key, as PEM
  gateway keys public 2 --format base64     version 2 as one line, for the console
  gateway keys public 2 > ours-2.pem
  gateway keys public 1 --platform          AlipayHK's version 1
  gateway keys public --json | jq -r .fingerprint
"""

import argparse
import json
import sys
from pathlib import Path

from gateway.cli._governing import homes_of
from gateway.cli._keys_add import facts_of
from gateway.cli._ring import (
    add_ring,
    add_which,
    folder_of,
    held,
    manifest_of,
    this_second,
)
from gateway.cli._witness import witness_of
from gateway.cli.options import add_json
from gateway.errors import KeyringError, SetupError
from gateway.keys.backends.folder import locked
from gateway.keys.changes import Party, Which, find, mark_exported, section
from gateway.keys.formats import public_base64, public_pem
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import KeyState, Use


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys public`."""
    parser.add_argument(
        "version", nargs="?", metavar="VERSION", help="(default: the active one)"
    )
    parser.add_argument(
        "--format",
        choices=("pem", "base64"),
        default="pem",
        help="PEM, or base64 on one line (default: %(default)s)",
    )
    add_which(parser)
    add_ring(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the public key that is meant."""
    folder = folder_of(arguments)
    homes = homes_of(arguments, folder)
    ring = manifest_of(folder)
    party: Party = arguments.party
    chosen = _chosen(ring, party, arguments.version, arguments.use)
    found = next(each for each in held(folder, ring, homes) if each.entry is chosen)
    if found.public is None:
        why = found.problem or f"it is {chosen.state} and has no file"
        msg = f"{party} version {chosen.version}: {why}"
        raise KeyringError(msg)
    key = found.public.rsa
    if party is Party.PARTNER and chosen.created and not chosen.exported:
        _note_export(arguments, folder, (party, chosen.version, arguments.use))
    if arguments.json:
        print(json.dumps(facts_of(folder, ring.generation, party, chosen, key)))
    elif arguments.format == "pem":
        print(public_pem(key), end="")
    else:
        print(public_base64(key))
    return 0


def _note_export(arguments: argparse.Namespace, folder: Path, which: Which) -> None:
    """Note it where the ring can be written; whoever prints a key has it all the same."""
    now = this_second()
    try:
        witness, homes = witness_of(arguments, folder), homes_of(arguments, folder)
        with locked(folder, witness=witness, homes=homes) as ring:
            ring.replace(mark_exported(ring.manifest, which, now), now=now)
    except (OSError, SetupError) as error:
        text = error.detail if isinstance(error, SetupError) else error.strerror
        print(f"gateway: not noted in the ring: {text}", file=sys.stderr)


def _chosen(
    ring: Manifest, party: Party, version: str | None, use: Use | None
) -> Entry:
    """Give the entry that is meant.

    Raises:
        KeyringError: there is none, or several.
    """
    if version is not None:
        return find(ring, party, version, use)
    wanted = use or (Use.SIGN if party is Party.PARTNER else Use.VERIFY)
    for state in (KeyState.ACTIVE, KeyState.PRE_ACTIVE):
        for entry in reversed(section(ring, party)):
            if entry.state is state and wanted in entry.uses(party.uses):
                return entry
    msg = f"no {party} key is active or about to be; name a version"
    raise KeyringError(msg)
