"""A change of a keyring's states: tried or made, and what it means in words."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from gateway.cli._ring import add_ring, add_which, folder_of, manifest_of
from gateway.cli.options import add_json
from gateway.keys.backends import folder as folders
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.changes import Change, Party, difference, find
from gateway.keys.keyring import Keyring
from gateway.keys.locations import name_in_folder
from gateway.keys.manifest import Manifest
from gateway.keys.model import KeyInfo, KeyState, Use

Step: TypeAlias = Callable[[Manifest, Party, str, Use | None], Manifest]
"""One of `gateway.keys.changes`: activate, deactivate or destroy."""

_DOES: Final = {
    Use.SIGN: "signs",
    Use.DECRYPT: "decrypts",
    Use.VERIFY: "verifies",
    Use.ENCRYPT: "encrypts",
}


def add_version(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name one key and how to go about it."""
    parser.add_argument(
        "version", metavar="VERSION", help="as `gateway keys list` has it"
    )
    add_which(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would change, and change nothing",
    )
    add_ring(parser)
    add_json(parser)


def carry_out(arguments: argparse.Namespace, step: Step, goal: KeyState) -> int:
    """Take a step with the key that is named, or try it, and say what it means.

    A key that is in the state `goal` already is left as it is: a script that is run
    again ends like the first time.
    """
    folder = folder_of(arguments)
    party: Party = arguments.party
    chosen = (party, arguments.version, arguments.use)
    if arguments.dry_run:
        before = manifest_of(folder)
        taken = find(before, *chosen).state is goal
        after = before if taken else step(before, *chosen)
        ring = folders.preview(folder, after, arguments.homes)
    else:
        with folders.locked(folder, homes=arguments.homes) as locked:
            before = locked.manifest
            taken = find(before, *chosen).state is goal
            after = before if taken else step(before, *chosen)
            ring = (
                KeyringFolder(folder, arguments.homes).read()
                if taken
                else locked.replace(after)
            )
    changes = sorted(difference(before, after), key=_coming_first)
    if arguments.json:
        print(json.dumps(_as_json(folder, changes, ring, dry_run=arguments.dry_run)))
        return 0
    if taken:
        name = f"{party} version {arguments.version}"
        print(f"{name} is {goal} already: nothing was changed.")
    lines = _lines(folder, changes, ring, dry_run=arguments.dry_run and not taken)
    print("\n".join(lines))
    return 0


def meaning(change: Change, ring: Keyring) -> str:
    """Say what a key does now that it did not, or does no more."""
    does = " and ".join(_DOES[use] for use in _duties(change, ring))
    if change.after.state is KeyState.ACTIVE:
        return f"it {does} from now on"
    if change.after.state is KeyState.DEACTIVATED:
        return f"it still {does}" if does else "it does nothing more"
    gone = change.before.key if change.before else None
    if gone is not None and name_in_folder(gone) is None:
        return f"{gone} is not touched: destroy the key where it is"
    return f"{gone} is deleted; copies in backups are yours to delete"


def _coming_first(change: Change) -> bool:
    return change.after.state is not KeyState.ACTIVE


def _duties(change: Change, ring: Keyring) -> list[Use]:
    """Give what a key does in a ring: the ring knows, the state only allows."""
    info = _info(change, ring)
    signer, recipient = ring.active_signer, ring.active_recipient
    does = {
        Use.SIGN: signer is not None and signer.public is info.public,
        Use.DECRYPT: any(key.public is info.public for key in ring.decrypters),
        Use.VERIFY: any(key is info.public for key in ring.verifiers),
        Use.ENCRYPT: recipient is not None and recipient is info.public,
    }
    return [use for use, applies in does.items() if applies]


def _info(change: Change, ring: Keyring) -> KeyInfo:
    ours = change.party is Party.PARTNER
    return (ring.partner if ours else ring.platform)[change.index]


def _lines(
    folder: Path, changes: Sequence[Change], ring: Keyring, *, dry_run: bool
) -> Iterator[str]:
    if dry_run:
        yield "Dry run, nothing was changed. The change would be:"
    for change in changes:
        before = change.before.state if change.before else "new"
        yield (
            f"{change.party} version {change.after.version}: {before} -> "
            f"{change.after.state}; {meaning(change, ring)}"
        )
    if not dry_run:
        yield f"{folder} is at generation {ring.generation}."
    if lacks := ring.missing():
        yield f"Still missing: {'; '.join(lacks)}."


def _as_json(
    folder: Path, changes: Sequence[Change], ring: Keyring, *, dry_run: bool
) -> dict[str, object]:
    return {
        "keyring": str(folder),
        "generation": ring.generation,
        "dry_run": dry_run,
        "changes": [
            {
                "section": change.party,
                "version": change.after.version,
                "before": change.before.state if change.before else None,
                "after": change.after.state,
                "does": _duties(change, ring),
            }
            for change in changes
        ],
        "missing": ring.missing(),
    }
