"""The life of keys: each step takes a manifest and gives the next one.

    pre-active ──▶ active ◀──▶ deactivated
        │                          │
        └──────▶ destroyed ◀───────┴──── compromised

Steps are values: nothing is read or written here (`backends.folder` does that), so a
step may be tried before it is taken. Each raises the generation. A step that must
not be taken is refused with what to do instead; nothing returns from compromised or
destroyed. States are NIST SP 800-57's: see `KeyState`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import Final

from gateway.errors import KeyringError
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import PARTNER_USES, PLATFORM_USES, KeyState, Use


class Party(StrEnum):
    """Whose keys: the value is the name of their section in keyring.yaml."""

    PARTNER = "partner"
    PLATFORM = "platform"

    @property
    def uses(self) -> frozenset[Use]:
        """What this party's keys may be for."""
        return PARTNER_USES if self is Party.PARTNER else PLATFORM_USES


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one entry. `before` is None where it is new."""

    party: Party
    index: int
    before: Entry | None
    after: Entry


EMPTY: Final = Manifest(generation=1, partner=(), platform=())
"""The ring that every ring begins as."""

_NEEDS_ACTIVE: Final = frozenset({Use.SIGN, Use.ENCRYPT})
"""Uses that end with the active state; for the others a deactivated key will do."""

_GONE: Final = "no step leads back; generate or import another version"
_AGAINST: Final[Mapping[KeyState, Mapping[KeyState, str | None]]] = {
    KeyState.ACTIVE: {
        KeyState.PRE_ACTIVE: None,
        KeyState.ACTIVE: "there is nothing to do",
        KeyState.DEACTIVATED: None,
        KeyState.COMPROMISED: _GONE,
        KeyState.DESTROYED: _GONE,
    },
    KeyState.DEACTIVATED: {
        KeyState.PRE_ACTIVE: "it was never in use; destroy it if nobody wants it",
        KeyState.ACTIVE: None,
        KeyState.DEACTIVATED: "there is nothing to do",
        KeyState.COMPROMISED: "it is out of use already; destroy it if it may go",
        KeyState.DESTROYED: _GONE,
    },
    KeyState.DESTROYED: {
        KeyState.PRE_ACTIVE: None,
        KeyState.ACTIVE: "activate another version first, or deactivate this one",
        KeyState.DEACTIVATED: None,
        KeyState.COMPROMISED: None,
        KeyState.DESTROYED: "there is nothing to do",
    },
}
"""To a state, from a state: what speaks against it, None if nothing does."""


def section(manifest: Manifest, party: Party) -> tuple[Entry, ...]:
    """Give a party's entries, in the order of the file."""
    return manifest.partner if party is Party.PARTNER else manifest.platform


def next_version(manifest: Manifest, party: Party) -> str:
    """Give the next whole number that no version of the party has had."""
    numbers = [
        int(entry.version)
        for entry in section(manifest, party)
        if entry.version.isascii() and entry.version.isdigit()
    ]
    return str(max(numbers, default=0) + 1)


def add(manifest: Manifest, party: Party, entry: Entry) -> Manifest:
    """Take up a key, not in use yet.

    Args:
        manifest: the ring as it stands.
        party: whose key it is.
        entry: the key's entry; it must be pre-active, whatever comes next.

    Raises:
        KeyringError: the version is taken, or the use is not the party's.
    """
    if entry.state is not KeyState.PRE_ACTIVE:
        msg = f"a key begins as pre-active, not as {entry.state}; activate it then"
        raise KeyringError(msg)
    if foreign := _uses(party, entry) - party.uses:
        may = " and ".join(sorted(party.uses))
        msg = f"a {party} key cannot {' or '.join(sorted(foreign))}; it may {may}"
        raise KeyringError(msg)
    for other in section(manifest, party):
        if other.version == entry.version and _share_use(party, other, entry):
            msg = (
                f"{party} version {other.version} is there already ({other.state}); "
                f"the next free one is {next_version(manifest, party)}"
            )
            raise KeyringError(msg)
    return _with(manifest, party, (*section(manifest, party), entry))


def activate(
    manifest: Manifest, party: Party, version: str, use: Use | None = None
) -> Manifest:
    """Put a key in use; the one active for the same use is deactivated with it.

    Args:
        manifest: the ring as it stands.
        party: whose key it is.
        version: its version.
        use: which key is meant, where one version has a key for each use.

    Raises:
        KeyringError: there is no such key, its state forbids it, or a use would be
            left without an active key.
    """
    chosen = find(manifest, party, version, use)
    _check_step(party, chosen, KeyState.ACTIVE)

    def step(entry: Entry) -> Entry:
        if entry is chosen:
            return _turned(entry, KeyState.ACTIVE)
        if entry.state is KeyState.ACTIVE and _share_use(party, entry, chosen):
            _check_no_gap(party, entry, chosen)
            return _turned(entry, KeyState.DEACTIVATED)
        return entry

    return _stepped(manifest, party, step)


def deactivate(
    manifest: Manifest, party: Party, version: str, use: Use | None = None
) -> Manifest:
    """Take a key out of use; it still decrypts or verifies what is under way.

    Arguments are those of `activate`. Nothing takes the key's place.

    Raises:
        KeyringError: there is no such key, or its state forbids it.
    """
    return _turn(manifest, party, version, use, KeyState.DEACTIVATED)


def destroy(
    manifest: Manifest, party: Party, version: str, use: Use | None = None
) -> Manifest:
    """Give up a key for good: its entry stays, as a record, and names no file.

    Arguments are those of `activate`.

    Raises:
        KeyringError: there is no such key, or its state forbids it.
    """
    return _turn(manifest, party, version, use, KeyState.DESTROYED)


def find(
    manifest: Manifest, party: Party, version: str, use: Use | None = None
) -> Entry:
    """Give the one entry that is meant.

    Raises:
        KeyringError: there is none, or there are several.
    """
    entries = section(manifest, party)
    found = [
        entry
        for entry in entries
        if entry.version == version and (use is None or use in _uses(party, entry))
    ]
    if len(found) == 1:
        return found[0]
    name = f"{party} version {version}" + (f" to {use}" if use else "")
    if found:
        uses = " and one to ".join(
            sorted(use for e in found for use in _uses(party, e))
        )
        msg = f"{name} is one key to {uses}; say which use is meant"
        raise KeyringError(msg)
    there = ", ".join(dict.fromkeys(entry.version for entry in entries))
    hint = f"the ring has {there}" if there else "generate or import one first"
    msg = f"there is no {name}: {hint}"
    raise KeyringError(msg)


def difference(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    """Give what steps made of one manifest when they led to the other."""
    return tuple(
        Change(party, index, old, new)
        for party in Party
        for index, (old, new) in enumerate(
            zip_longest(section(before, party), section(after, party))
        )
        if old != new
    )


def _turn(
    manifest: Manifest, party: Party, version: str, use: Use | None, state: KeyState
) -> Manifest:
    chosen = find(manifest, party, version, use)
    _check_step(party, chosen, state)
    return _stepped(
        manifest,
        party,
        lambda entry: _turned(entry, state) if entry is chosen else entry,
    )


def _stepped(
    manifest: Manifest, party: Party, step: Callable[[Entry], Entry]
) -> Manifest:
    return _with(manifest, party, tuple(map(step, section(manifest, party))))


def _with(manifest: Manifest, party: Party, entries: tuple[Entry, ...]) -> Manifest:
    update = {"generation": manifest.generation + 1, party.value: entries}
    return manifest.model_copy(update=update)


def _turned(entry: Entry, state: KeyState) -> Entry:
    update: dict[str, KeyState | None] = {"state": state}
    if state is KeyState.DESTROYED:
        update |= {"key": None, "passphrase": None}
    return entry.model_copy(update=update)


def _check_step(party: Party, entry: Entry, state: KeyState) -> None:
    against = _AGAINST[state][entry.state]
    if against is not None:
        msg = f"{party} version {entry.version} is {entry.state}: {against}"
        raise KeyringError(msg)


def _check_no_gap(party: Party, leaving: Entry, coming: Entry) -> None:
    """Refuse to end a use with the key that had it along with another one.

    Where a combined pair gives way to two, the pair that signs or encrypts goes
    first: the old key goes on decrypting and verifying without being active.
    """
    lost = (_uses(party, leaving) - _uses(party, coming)) & _NEEDS_ACTIVE
    for use in lost:
        msg = (
            f"{party} version {leaving.version} is also the one to {use}, which version "
            f"{coming.version} is not for; activate a key to {use} first"
        )
        raise KeyringError(msg)


def _uses(party: Party, entry: Entry) -> frozenset[Use]:
    return entry.uses(party.uses)


def _share_use(party: Party, one: Entry, other: Entry) -> bool:
    return bool(_uses(party, one) & _uses(party, other))
