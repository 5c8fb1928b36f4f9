"""A change of a keyring's states: tried or made, and what it means in words."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from gateway.cli import _canary
from gateway.cli._governing import homes_of
from gateway.cli._ring import (
    add_ring,
    add_which,
    clock,
    folder_of,
    manifest_of,
    this_second,
)
from gateway.cli._times import moment
from gateway.cli._witness import witness_of
from gateway.cli.options import add_json
from gateway.errors import KeyringError
from gateway.keys import schedule
from gateway.keys.backends import folder as folders
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.changes import Change, Party, Which, dated, difference, find
from gateway.keys.keyring import Keyring
from gateway.keys.locations import name_in_folder
from gateway.keys.manifest import Entry, Manifest, format_moment
from gateway.keys.model import KeyInfo, KeyState, Use

Step: TypeAlias = Callable[[Manifest], Manifest]
"""Takes a manifest in which everything due was done, and gives the next one."""

_DOES: Final = {
    Use.SIGN: "signs",
    Use.DECRYPT: "decrypts",
    Use.VERIFY: "verifies",
    Use.ENCRYPT: "encrypts",
}
_PLANS: Final = {
    "activate_at": "activated",
    "deactivate_at": "deactivated",
    "destroy_at": "destroyed",
}


@dataclass(frozen=True, slots=True)
class Changed:
    """What a step made of a ring, or would make of it."""

    folder: Path
    before: Manifest
    after: Manifest
    ring: Keyring
    dry_run: bool

    @property
    def changes(self) -> list[Change]:
        """What became of each entry, what comes into use first."""
        return sorted(difference(self.before, self.after), key=_coming_first)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name one key and how to go about it."""
    parser.add_argument(
        "version", metavar="VERSION", help="as `gateway keys list` has it"
    )
    add_which(parser)
    add_change(parser)


def add_change(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every change."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would change, and change nothing",
    )
    add_ring(parser)
    add_json(parser)


def add_at(parser: argparse._ActionsContainer) -> None:
    """Declare `--at TIME`."""
    parser.add_argument(
        "--at",
        type=moment,
        metavar="TIME",
        help="plan it for then, such as 2026-12-01T02:00:00Z: every gateway does it "
        "by itself, to the second",
    )


def which(arguments: argparse.Namespace) -> Which:
    """Give the key that is named."""
    return arguments.party, arguments.version, arguments.use


def carry_out(
    arguments: argparse.Namespace, step: Step, goal: KeyState | None = None
) -> int:
    """Take a step, or try it, and say what it means.

    A key that is in the state `goal` already is left as it is: a script that is run
    again ends like the first time.
    """
    done = change(arguments, _unless_taken(arguments, step, goal) if goal else step)
    if arguments.json:
        print(json.dumps(_as_json(done)))
        return 0
    if goal is not None and not done.changes:
        name = f"{arguments.party} version {arguments.version}"
        print(f"{name} is {goal} already: nothing was changed.")
    elif not done.changes:
        print("Nothing is to be done: nothing was changed.")
    print("\n".join(_lines(done)))
    return 0


def change(arguments: argparse.Namespace, step: Step) -> Changed:
    """Take a step with the ring that is meant, or try it, after what is due.

    Raises:
        KeyringError: the step must not be taken, or the gateway would refuse the ring.
    """
    folder, now = folder_of(arguments), this_second()
    homes = homes_of(arguments, folder)
    if arguments.dry_run:
        before = manifest_of(folder)
        after = _after(before, step, now)
        ring = folders.preview(folder, after, now, homes)
        return Changed(folder, before, after, ring, dry_run=True)
    with folders.locked(
        folder, witness=witness_of(arguments, folder), homes=homes
    ) as locked:
        before = locked.manifest
        after = _after(before, step, now)
        if after == before:
            ring = KeyringFolder(folder, homes).read(now)
        else:
            ring = locked.replace(after, now=now)
    return Changed(folder, before, after, ring, dry_run=False)


def meaning(change: Change, ring: Keyring) -> str:
    """Say what a key does now that it did not, or does no more."""
    does = " and ".join(_DOES[use] for use in _duties(change, ring))
    if change.after.state is KeyState.ACTIVE:
        return f"it {does} from now on"
    if change.after.state is KeyState.DEACTIVATED:
        return f"it still {does}" if does else "it does nothing more"
    if change.after.state is KeyState.PRE_ACTIVE:
        return f"it {does} already" if does else "it does nothing yet"
    return _end(change)


def _end(change: Change) -> str:
    """Say what becomes of a key that does nothing any more."""
    if change.after.state is KeyState.COMPROMISED:
        return "it is refused for everything; its file stays, for you to delete"
    gone = change.before.key if change.before else None
    if gone is not None and name_in_folder(gone) is None:
        return f"{gone} is not touched: destroy the key where it is"
    return f"{gone} is deleted; copies in backups are yours to delete"


def _after(before: Manifest, step: Step, now: datetime) -> Manifest:
    settled = schedule.at(before, now)
    after = step(settled)
    if after == settled:  # then what is due is left for the next change, too
        return before
    return dated(settled, after, now)


def _unless_taken(arguments: argparse.Namespace, step: Step, goal: KeyState) -> Step:
    def taken_or(manifest: Manifest) -> Manifest:
        if find(manifest, *which(arguments)).state is goal:
            return manifest
        return step(manifest)

    return taken_or


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


def _lines(done: Changed) -> Iterator[str]:
    if done.dry_run and done.changes:
        yield "Dry run, nothing was changed. The change would be:"
    for change in done.changes:
        name = f"{change.party} version {change.after.version}"
        before = change.before.state if change.before else "new"
        if before != change.after.state or _is_staged(change):
            state = "staged" if _is_staged(change) else change.after.state
            says = meaning(change, done.ring)
            yield f"{name}: {before} -> {state}; {says}"
        yield from (f"{name}: {plan}" for plan in _planned(change))
        canary = _canary.told(change, done.ring, clock())
        yield from (f"{name}: {line}" for line in canary)
    if not (done.dry_run and done.changes):
        yield f"{done.folder} is at generation {done.ring.generation}."
    if lacks := done.ring.missing():
        yield f"Still missing: {'; '.join(lacks)}."


def _is_staged(change: Change) -> bool:
    return change.before is not None and change.after.staged > change.before.staged


def _planned(change: Change) -> Iterator[str]:
    """Say which plans a change made, and which it dropped."""
    for key, verb in _PLANS.items():
        before, after = _plan(change.before, key), _plan(change.after, key)
        if after is not None and after != before:
            yield f"to be {verb} at {format_moment(after)}, by every gateway itself"
        elif after is None and before is not None and before > this_second():
            yield f"no longer to be {verb} at {format_moment(before)}"


def _plan(entry: Entry | None, key: str) -> datetime | None:
    moment: datetime | None = getattr(entry, key, None)
    return moment


def _as_json(done: Changed) -> dict[str, object]:
    return {
        "keyring": str(done.folder),
        "generation": done.ring.generation,
        "dry_run": done.dry_run,
        "changes": [
            {
                "section": change.party,
                "version": change.after.version,
                "before": change.before.state if change.before else None,
                "after": change.after.state,
                "does": _duties(change, done.ring),
                "planned": _plans(change.after),
                "canary": _canary.as_json(change.after),
            }
            for change in done.changes
        ],
        "missing": done.ring.missing(),
    }


def _plans(entry: Entry) -> dict[str, str]:
    return {
        key: format_moment(moment)
        for key in _PLANS
        if (moment := _plan(entry, key)) is not None
    }


def refuse_past(arguments: argparse.Namespace) -> None:
    """Pass if a planned moment, where there is one, is still to come.

    Raises:
        KeyringError: it has passed.
    """
    if arguments.at is not None and arguments.at <= this_second():
        msg = f"{format_moment(arguments.at)} has passed; leave --at out to do it now"
        raise KeyringError(msg)
