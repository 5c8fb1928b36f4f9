"""Steps that are to be taken later: planned in a manifest, carried out by everyone.

A manifest carries times, so whoever has it knows its states at any moment, without
being told and without writing anything: `at` is a pure function of the two. The
steps are those of `gateway.keys.changes`, with the moment at which they were due as
their date. The generation stays: a due step is part of the manifest that planned it.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

from gateway.errors import KeyringError
from gateway.keys import changes
from gateway.keys.changes import Party, Which, section
from gateway.keys.manifest import Entry, Manifest, format_moment
from gateway.keys.model import KeyState, Use

FIRST_MOMENT: Final = datetime.min.replace(tzinfo=UTC)
"""Before every plan: the states are those that stand in the file."""


class _Plan(NamedTuple):
    """A kind of step that may be planned.

    Attributes:
        name: the key of an entry that has its moment.
        from_states: those from which it still makes sense.
    """

    name: str
    from_states: frozenset[KeyState]
    step: Callable[[Manifest, Party, str, Use | None], Manifest]


_PLANS: Final = (
    _Plan(
        "activate_at",
        frozenset({KeyState.PRE_ACTIVE, KeyState.DEACTIVATED}),
        changes.activate,
    ),
    _Plan("deactivate_at", frozenset({KeyState.ACTIVE}), changes.deactivate),
    _Plan(
        "destroy_at",
        frozenset({KeyState.PRE_ACTIVE, KeyState.DEACTIVATED}),
        partial(changes.destroy, early=True),
    ),
)
"""At one moment: the key to come first, so that nothing is left without one."""


class _Due(NamedTuple):
    """A planned step. Ordered by when it is to be taken."""

    moment: datetime
    rank: int
    party: Party
    place: int


def at(manifest: Manifest, now: datetime) -> Manifest:
    """Give the manifest with every step taken that was due by `now`.

    A step that has lost its sense is dropped: to deactivate what is deactivated, to
    destroy what was made active again.
    """
    while due := min(_planned(manifest), default=None):
        if due.moment > now:
            break
        manifest = _carried_out(manifest, due)
    return manifest


def moments(manifest: Manifest) -> list[datetime]:
    """Give every moment at which the states or a canary's share are to change."""
    shares = [step.at for entry in manifest.partner for step in entry.canary]
    return sorted({*(due.moment for due in _planned(manifest)), *shares})


def share_at(entry: Entry, now: datetime) -> float:
    """Give the share of the exchanges that a canary signs, from 0 to 1."""
    begun = shares_begun(entry, now)
    return begun[-1] if begun else 0.0


def shares_begun(entry: Entry, now: datetime) -> tuple[float, ...]:
    """Return the shares that a canary's schedule has come to by `now`, in their order."""
    steps = sorted(entry.canary, key=lambda step: step.at)
    return tuple(step.share / 100 for step in steps if step.at <= now)


def check(manifest: Manifest) -> None:
    """Pass if every plan can be carried out when its moment comes.

    Raises:
        KeyringError: which cannot, and why: it would leave nothing to sign, say.
    """
    canaries = [entry.version for entry in manifest.partner if entry.canary]
    if len(canaries) > 1:
        msg = f"versions {' and '.join(canaries)} are both canaries; one may be"
        raise KeyringError(msg)
    for moment in moments(manifest):
        try:
            manifest = at(manifest, moment)
        except KeyringError as error:
            msg = f"planned for {format_moment(moment)}: {error.detail}"
            raise KeyringError(msg) from None


def plan_activation(
    manifest: Manifest, which: Which, moment: datetime, overlap: timedelta | None
) -> Manifest:
    """Have a key activated at a moment, and those before it destroyed after an overlap.

    Raises:
        KeyringError: the step could not be taken then.
    """
    party, chosen = which[0], changes.find(manifest, *which)
    if chosen.canary:
        msg = (
            f"{party} version {chosen.version} is a canary, and a plan would activate it "
            "though it was halted: let its last share be 100 % (--canary 5%,100% "
            "--every TIME), and activate it then"
        )
        raise KeyringError(msg)
    end = None if overlap is None else _later(moment, overlap)
    staying = changes.making_way_no_more(manifest, party, chosen)
    returns = chosen.state is KeyState.DEACTIVATED
    kept_for = None if returns else chosen.destroy_at
    cleared = _updated(staying, party, chosen, activate_at=None, destroy_at=kept_for)
    before = at(cleared, moment)
    after = changes.activate(before, *which)
    planned = cleared
    for change in changes.difference(before, after):
        entry = section(cleared, party)[change.index]
        plans: dict[str, datetime | None] = {"activate_at": moment}
        if change.after.state is not KeyState.ACTIVE:
            plans = {"deactivate_at": moment, "destroy_at": end}
        planned = _updated(planned, party, entry, **plans)
    return planned.model_copy(update={"generation": manifest.generation + 1})


def plan(manifest: Manifest, which: Which, **moments: datetime | None) -> Manifest:
    """Write moments into one entry: `deactivate_at`, `destroy_at`.

    Raises:
        KeyringError: there is no such key.
    """
    after = _updated(manifest, which[0], changes.find(manifest, *which), **moments)
    return after.model_copy(update={"generation": manifest.generation + 1})


def plan_destruction(manifest: Manifest, which: Which, moment: datetime) -> Manifest:
    """Have a key destroyed at a moment.

    Raises:
        KeyringError: there is no such key, or it would still be in use then.
    """
    after = plan(manifest, which, destroy_at=moment)
    if changes.find(at(after, moment), *which).state is not KeyState.DESTROYED:
        now = changes.find(manifest, *which).state
        msg = (
            f"{which[0]} version {which[1]} is {now} and would not be destroyed at "
            f"{format_moment(moment)}: plan for another to be activated before"
        )
        raise KeyringError(msg)
    return after


def keep_for(
    before: Manifest, after: Manifest, now: datetime, overlap: timedelta
) -> Manifest:
    """Have the keys that a step took out of use destroyed after an overlap.

    Raises:
        KeyringError: there is no such time.
    """
    for change in changes.difference(before, after):
        if change.after.state is KeyState.DEACTIVATED:
            end = _later(now, overlap)
            after = _updated(after, change.party, change.after, destroy_at=end)
    return after


def _later(moment: datetime, overlap: timedelta) -> datetime:
    try:
        return moment + overlap
    except OverflowError:
        msg = f"{format_moment(moment)} is too late for an overlap: no year is beyond"
        raise KeyringError(msg) from None


def _planned(manifest: Manifest) -> Iterator[_Due]:
    for party in Party:
        for index, entry in enumerate(section(manifest, party)):
            for rank, plan in enumerate(_PLANS):
                moment: datetime | None = getattr(entry, plan.name)
                if moment is not None:
                    yield _Due(moment, rank, party, index)


def _carried_out(manifest: Manifest, due: _Due) -> Manifest:
    """Take one due step, or drop it where it has lost its sense.

    Plans that come after it stay: a person's step would end them.
    """
    plan = _PLANS[due.rank]
    entry = section(manifest, due.party)[due.place]
    after = _updated(manifest, due.party, entry, **{plan.name: None})
    if entry.state in plan.from_states:
        use = entry.use[0] if entry.use else None
        after = plan.step(after, due.party, entry.version, use)
        after = changes.dated(manifest, after, due.moment)
    if plan.name == "activate_at":
        taken = section(after, due.party)[due.place]
        later = {name: getattr(entry, name) for name in ("deactivate_at", "destroy_at")}
        after = _updated(after, due.party, taken, **later)
    return after.model_copy(update={"generation": manifest.generation})


def _updated(
    manifest: Manifest, party: Party, chosen: Entry, **update: object
) -> Manifest:
    entries = tuple(
        each.model_copy(update=update) if each is chosen else each
        for each in section(manifest, party)
    )
    return manifest.model_copy(update={party.value: entries})
