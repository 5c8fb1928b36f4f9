"""The life of keys: each step takes a manifest and gives the next one.

    pre-active ──▶ active ◀──▶ deactivated
        │                          │
        └──────▶ destroyed ◀───────┴──── compromised ◀── from anywhere

Steps are values: nothing is read or written here (`backends.folder` does that), so a
step may be tried before it is taken. Each raises the generation. A step that must
not be taken is refused with what to do instead; nothing returns from compromised or
destroyed. States are NIST SP 800-57's: see `KeyState`. A step that is to be taken
later is a plan, which `gateway.keys.schedule` makes and carries out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import zip_longest
from typing import Final, TypeAlias

from gateway.errors import KeyringError
from gateway.keys.manifest import (
    CANARY_STATES,
    PLANS,
    Entry,
    Manifest,
    Share,
    format_moment,
)
from gateway.keys.model import HELD, PARTNER_USES, PLATFORM_USES, KeyState, Use


class Party(StrEnum):
    """Whose keys: the value is the name of their section in keyring.yaml."""

    PARTNER = "partner"
    PLATFORM = "platform"

    @property
    def uses(self) -> frozenset[Use]:
        """What this party's keys may be for."""
        return PARTNER_USES if self is Party.PARTNER else PLATFORM_USES


Which: TypeAlias = tuple[Party, str, Use | None]
"""One key: whose, its version, and its use where a version has a key for each."""


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

_FACT_OF: Final = {
    KeyState.ACTIVE: "activated",
    KeyState.DEACTIVATED: "deactivated",
    KeyState.COMPROMISED: "compromised",
    KeyState.DESTROYED: "destroyed",
}
"""The fact that records when a key came into a state."""

_RETURNS: Final = ("staged", "canary", *PLANS)
"""What returns with the state of an earlier manifest: its plans."""

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
    KeyState.COMPROMISED: {
        KeyState.PRE_ACTIVE: None,
        KeyState.ACTIVE: None,
        KeyState.DEACTIVATED: None,
        KeyState.COMPROMISED: "there is nothing to do",
        KeyState.DESTROYED: None,
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
        KeyringError: there is no such key, its state forbids it, AlipayHK cannot know
            it yet, or a use would be left without an active key.
    """
    chosen = find(manifest, party, version, use)
    _check_step(party, chosen, KeyState.ACTIVE)
    _check_exported(party, chosen)

    def step(entry: Entry) -> Entry:
        if entry is chosen:
            return _turned(entry, KeyState.ACTIVE)
        if entry.state is KeyState.ACTIVE and _share_use(party, entry, chosen):
            _check_no_gap(party, entry, chosen)
            return _turned(entry, KeyState.DEACTIVATED)
        return entry

    return _stepped(manifest, party, step)


def stage(
    manifest: Manifest, party: Party, version: str, use: Use | None = None
) -> Manifest:
    """Let a key that is not active yet decrypt, or verify, before it is needed.

    When the other side begins to use it is the other side's to choose.

    Arguments are those of `activate`.

    Raises:
        KeyringError: there is no such key, or it is past that.
    """
    chosen = find(manifest, party, version, use)
    if chosen.state is not KeyState.PRE_ACTIVE:
        msg = (
            f"{_name(party, chosen)} is {chosen.state}; only a pre-active key is staged"
        )
        raise KeyringError(msg)
    if not _uses(party, chosen) - _NEEDS_ACTIVE:
        msg = f"{_name(party, chosen)} neither decrypts nor verifies: nothing to stage"
        raise KeyringError(msg)
    return _replaced(manifest, party, chosen, staged=True)


def start_canary(manifest: Manifest, which: Which, shares: Iterable[Share]) -> Manifest:
    """Let a key of ours that is not active sign a share of the exchanges, or another.

    One that was active before may be tried again: then it stays to be destroyed by
    hand, as one that is activated again does.

    Raises:
        KeyringError: there is no such key, it is past that, AlipayHK cannot know it
            yet, or nothing signs the rest.
    """
    party, version, _ = which
    chosen = find(manifest, *which)
    name = _name(party, chosen)
    if party is not Party.PARTNER or Use.SIGN not in _uses(party, chosen):
        msg = f"{name} does not sign; a canary is for a key of ours that signs"
        raise KeyringError(msg)
    if chosen.state not in CANARY_STATES:
        msg = f"{name} is {chosen.state}; a canary begins as pre-active or deactivated"
        raise KeyringError(msg)
    if chosen.activate_at is not None:
        msg = (
            f"{name} is to be activated at {format_moment(chosen.activate_at)}, whatever "
            f"becomes of a canary: `gateway keys rollback` first, and let the last share "
            "of the canary be 100 %"
        )
        raise KeyringError(msg)
    _check_exported(party, chosen)
    if not _active_for(manifest, party, Use.SIGN):
        msg = f"nothing else signs, so there is no rest: activate {version} without"
        raise KeyringError(msg)
    for entry in section(manifest, party):
        if entry.canary and entry is not chosen:
            msg = f"{_name(party, entry)} is a canary already; roll that back first"
            raise KeyringError(msg)
    returns = chosen.state is KeyState.DEACTIVATED
    end = None if returns else chosen.destroy_at
    return _replaced(manifest, party, chosen, canary=tuple(shares), destroy_at=end)


def deactivate(
    manifest: Manifest,
    party: Party,
    version: str,
    use: Use | None = None,
    *,
    leave_none: bool = False,
) -> Manifest:
    """Take a key out of use; it still decrypts or verifies what is under way.

    Arguments are those of `activate`. Nothing takes the key's place; `leave_none`
    lets the last one go all the same.

    Raises:
        KeyringError: there is no such key, its state forbids it, or it is the last
            that signs or that is encrypted to.
    """
    chosen = find(manifest, party, version, use)
    _check_step(party, chosen, KeyState.DEACTIVATED)
    for each in sorted(_uses(party, chosen) & _NEEDS_ACTIVE):
        if _active_for(manifest, party, each) == [chosen] and not leave_none:
            msg = (
                f"{_name(party, chosen)} is the only active key to {each}: activate "
                "another, which deactivates this one, or say --leave-none"
            )
            raise KeyringError(msg)
    return _turn(manifest, party, chosen, KeyState.DEACTIVATED)


def destroy(
    manifest: Manifest,
    party: Party,
    version: str,
    use: Use | None = None,
    *,
    early: bool = False,
) -> Manifest:
    """Give up a key for good: its entry stays, as a record, and names no file.

    Arguments are those of `activate`; `early` lets it go before its `destroy_at`.

    Raises:
        KeyringError: there is no such key, its state forbids it, or its overlap runs.
    """
    chosen = find(manifest, party, version, use)
    _check_step(party, chosen, KeyState.DESTROYED)
    if chosen.destroy_at is not None and not early:
        msg = (
            f"{_name(party, chosen)} is kept until {format_moment(chosen.destroy_at)}, "
            "the end of its overlap, and destroyed then by itself; --early does it now"
        )
        raise KeyringError(msg)
    staying = making_way_no_more(manifest, party, chosen)
    return _turn(staying, party, chosen, KeyState.DESTROYED)


def compromise(
    manifest: Manifest, party: Party, version: str, use: Use | None = None
) -> Manifest:
    """Refuse a key for everything from now on, whatever depends on it.

    Arguments are those of `activate`.

    Raises:
        KeyringError: there is no such key, or it is known for that already.
    """
    chosen = find(manifest, party, version, use)
    _check_step(party, chosen, KeyState.COMPROMISED)
    staying = making_way_no_more(manifest, party, chosen)
    return _turn(staying, party, chosen, KeyState.COMPROMISED)


def making_way_no_more(manifest: Manifest, party: Party, coming: Entry) -> Manifest:
    """Have the keys stay that were to make way for one that does not come as planned.

    The generation stays: this is a part of a step.
    """

    def stays(entry: Entry) -> Entry:
        if entry is coming or None in (coming.activate_at, entry.deactivate_at):
            return entry
        if entry.deactivate_at != coming.activate_at:
            return entry
        return entry.model_copy(update={"deactivate_at": None, "destroy_at": None})

    after = _stepped(manifest, party, stays)
    return after.model_copy(update={"generation": manifest.generation})


def mark_exported(manifest: Manifest, which: Which, now: datetime) -> Manifest:
    """Note that a key's public half was given out, to be registered.

    Raises:
        KeyringError: there is no such key.
    """
    return _replaced(manifest, which[0], find(manifest, *which), exported=now)


def roll_back(manifest: Manifest, earlier: Manifest, now: datetime) -> Manifest:
    """Give every key the state that it had in an earlier manifest, where it may.

    Nothing is lost and nothing returns that must not: a key that is compromised or
    destroyed stays so; one that the earlier manifest does not know, or knows as not
    in use yet, is out of use and still decrypts or verifies if it ever was in use.
    Of the plans those return that are still to come.

    Raises:
        KeyringError: nothing would change, or a use would be left without an active
            key.
    """
    after = manifest
    for party in Party:
        known = {_identity(each): each for each in section(earlier, party)}
        entries = tuple(
            _returned(entry, known.get(_identity(entry)), now)
            for entry in section(manifest, party)
        )
        after = after.model_copy(update={party.value: entries})
    if after == manifest:
        msg = "nothing would change: every key is as it was before, or past return"
        raise KeyringError(msg)
    _check_none_lost(manifest, after)
    return after.model_copy(update={"generation": manifest.generation + 1})


def dated(before: Manifest, after: Manifest, now: datetime) -> Manifest:
    """Note in `after` when each step was taken that led to it."""
    for change in difference(before, after):
        old = change.before
        if old is not None and old.state is change.after.state:
            continue
        fact = "created" if old is None else _FACT_OF.get(change.after.state)
        facts = {} if fact is None else {fact: now}
        if old is None and change.after.state is KeyState.ACTIVE:
            facts["activated"] = now
        if old is not None and old.state is KeyState.DESTROYED and not old.destroyed:
            facts["destroyed"] = now  # at the latest: there was a time of no dates
        after = _replaced(after, change.party, change.after, raise_it=False, **facts)
    return after


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


def _turn(manifest: Manifest, party: Party, chosen: Entry, state: KeyState) -> Manifest:
    return _stepped(
        manifest,
        party,
        lambda entry: _turned(entry, state) if entry is chosen else entry,
    )


def _replaced(
    manifest: Manifest,
    party: Party,
    chosen: Entry,
    *,
    raise_it: bool = True,
    **update: object,
) -> Manifest:
    """Change one entry without turning its state."""
    after = _stepped(
        manifest,
        party,
        lambda entry: entry.model_copy(update=update) if entry is chosen else entry,
    )
    if raise_it:
        return after
    return after.model_copy(update={"generation": manifest.generation})


def _stepped(
    manifest: Manifest, party: Party, step: Callable[[Entry], Entry]
) -> Manifest:
    return _with(manifest, party, tuple(map(step, section(manifest, party))))


def _with(manifest: Manifest, party: Party, entries: tuple[Entry, ...]) -> Manifest:
    update = {"generation": manifest.generation + 1, party.value: entries}
    return manifest.model_copy(update=update)


def _turned(entry: Entry, state: KeyState) -> Entry:
    """Give an entry in another state, without the plans that ends."""
    update: dict[str, object] = {
        "state": state,
        "staged": False,
        "canary": (),
        "activate_at": None,
        "deactivate_at": None,
    }
    if state is not KeyState.DEACTIVATED:
        update["destroy_at"] = None
    if state is KeyState.DESTROYED:
        update |= {"key": None, "passphrase": None}
    return entry.model_copy(update=update)


def _returned(entry: Entry, earlier: Entry | None, now: datetime) -> Entry:
    """Give an entry as it was, or as near to it as it may come."""
    if entry.state not in HELD:
        return entry
    if earlier is None or earlier.state is KeyState.PRE_ACTIVE:
        if entry.state is not KeyState.PRE_ACTIVE:
            return _turned(entry, KeyState.DEACTIVATED)
        if earlier is None:
            return _turned(entry, KeyState.PRE_ACTIVE)
    if earlier.state not in HELD:
        return entry
    update = {name: getattr(earlier, name) for name in ("state", *_RETURNS)}
    for name in PLANS:
        moment: datetime | None = update[name]
        if moment is not None and moment <= now:
            update[name] = None
    return entry.model_copy(update=update)


def _identity(entry: Entry) -> tuple[str, tuple[Use, ...] | None]:
    return entry.version, entry.use


def _name(party: Party, entry: Entry) -> str:
    return f"{party} version {entry.version}"


def _active_for(manifest: Manifest, party: Party, use: Use) -> list[Entry]:
    return [
        entry
        for entry in section(manifest, party)
        if entry.state is KeyState.ACTIVE and use in _uses(party, entry)
    ]


def _check_exported(party: Party, entry: Entry) -> None:
    """Refuse a pair of ours that AlipayHK cannot have been given.

    An entry without `created` was written by hand: nothing is known of it.
    """
    if party is Party.PARTNER and entry.created and not entry.exported:
        msg = (
            f"the public key of {_name(party, entry)} was never given out, so AlipayHK "
            f"cannot know it: `gateway keys public {entry.version}`, and register it"
        )
        raise KeyringError(msg)


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


def _check_none_lost(before: Manifest, after: Manifest) -> None:
    """Refuse to leave a use without an active key that has one."""
    for party in Party:
        for use in sorted(party.uses & _NEEDS_ACTIVE):
            had = _active_for(before, party, use)
            if had and not _active_for(after, party, use):
                msg = (
                    f"nothing of the {party} would be active to {use}: the key that "
                    "was is past return; activate another one instead"
                )
                raise KeyringError(msg)


def _uses(party: Party, entry: Entry) -> frozenset[Use]:
    return entry.uses(party.uses)


def _share_use(party: Party, one: Entry, other: Entry) -> bool:
    return bool(_uses(party, one) & _uses(party, other))
