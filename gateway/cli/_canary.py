"""The options of a canary: which share of the exchanges, and when it grows."""

import argparse
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from gateway.cli import UsageError
from gateway.cli._ring import clock
from gateway.cli._times import duration
from gateway.errors import KeyringError
from gateway.keys.backends.halts import halt_reason, read_halt
from gateway.keys.changes import Change, Party, Which, find, start_canary
from gateway.keys.keyring import Keyring
from gateway.keys.manifest import (
    CANARY_STATES,
    Entry,
    Manifest,
    Share,
    format_moment,
)
from gateway.keys.model import KeyState, Use
from gateway.keys.schedule import share_at
from gateway.relay.canary import ENOUGH

_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%?")


def add_canary(parser: argparse.ArgumentParser) -> None:
    """Declare `--canary` and `--every`."""
    parser.add_argument(
        "--canary",
        type=_shares,
        metavar="SHARE[,SHARE...]",
        help="do not activate it: let it sign that share of the exchanges, such as 5%%",
    )
    parser.add_argument(
        "--every",
        type=duration,
        metavar="TIME",
        help="with several shares: how long each lasts until the next: 30s, 10m, 1h, 2d",
    )


def check_options(arguments: argparse.Namespace) -> None:
    """Pass if the options of a canary go together.

    Raises:
        UsageError: they do not.
    """
    several = arguments.canary is not None and len(arguments.canary) > 1
    if several is (arguments.every is None):
        msg = (
            "several shares of --canary need --every, the time between them, and "
            "--every needs several"
        )
        raise UsageError(msg)
    if arguments.canary and getattr(arguments, "overlap", None) is not None:
        msg = "--overlap is for the activation that completes the canary"
        raise UsageError(msg)


def tried(manifest: Manifest, key: Which, arguments: argparse.Namespace) -> Manifest:
    """Give the manifest in which a key is tried, with the shares that are asked for.

    Raises:
        KeyringError: it cannot be.
    """
    # To the microsecond: a canary that is tried anew is told from the halted one by it.
    first = getattr(arguments, "at", None) or clock()
    shares = [
        Share(share=share, at=first + number * arguments.every if number else first)
        for number, share in enumerate(arguments.canary)
    ]
    return start_canary(manifest, key, shares)


def told(change: Change, ring: Keyring, now: datetime) -> Iterator[str]:
    """Say what a change means for a canary, if it means anything."""
    before = change.before.canary if change.before else ()
    steps = change.after.canary
    if before and not steps and change.after.state in CANARY_STATES:
        yield "no longer a canary; it signs nothing"
    if steps and steps != before:
        if change.after.state is KeyState.DEACTIVATED:
            yield _was_active(change.after)
        for step in steps:
            when = "now" if step.at <= now else format_moment(step.at)
            yield f"signs {step.share:g} % of the exchanges from {when} on"
        if ring.active_signer is not None:
            earlier = ring.active_signer.public.version
            yield f"version {earlier} signs the rest, and all if AlipayHK refuses it"


def _was_active(entry: Entry) -> str:
    since = entry.deactivated
    when = "" if since is None else f" at {format_moment(since)}"
    return f"was active before, and deactivated{when}: it signs again"


def check_not_halted(
    folder: Path, manifest: Manifest, key: Which, *, despite: bool
) -> None:
    """Pass if a key may be put in use: it was not halted as a canary just before.

    Raises:
        KeyringError: it was, and nobody said that it is to be used despite that.
    """
    party, version, _ = key
    entry = find(manifest, *key)
    halt = read_halt(folder, manifest.generation)
    if despite or halt is None or Use.SIGN not in entry.uses(party.uses):
        return
    if party is Party.PARTNER and (halt.version == version or entry.canary):
        msg = (
            f"partner version {version} was tried as a canary, and that was halted: "
            f"{halt.reason}. See that AlipayHK has registered it, and try it again "
            f"(`gateway keys activate {version} --canary 5%`), or say --despite-halt"
        )
        raise KeyringError(msg)


def as_json(entry: Entry) -> list[dict[str, object]]:
    """Give the steps of an entry's canary; none if it has none."""
    return [
        {"share": step.share, "at": format_moment(step.at)} for step in entry.canary
    ]


def standing(folder: Path, manifest: Manifest) -> dict[str, object] | None:
    """Give how the ring's canary stands: what it signs, and why nothing, where that is.

    None where there is no canary.
    """
    for entry in manifest.partner:
        if entry.canary:
            halted = halt_reason(folder, manifest.generation)
            share = 0.0 if halted else share_at(entry, clock()) * 100
            return {
                "version": entry.version,
                "share": share,
                "steps": as_json(entry),
                "halted": halted,
            }
    return None


def as_text(canary: Mapping[str, object] | None) -> Iterator[str]:
    """Say what `standing` gives in a line; in none where there is no canary."""
    if canary is None:
        return
    name = f"partner version {canary['version']} is a canary"
    if canary["halted"] is not None:
        yield f"{name}, and over: {canary['halted']}; the active version signs all"
    else:
        yield f"{name}: it signs {canary['share']:g} % of the exchanges{_proviso(canary)}"


def _proviso(canary: Mapping[str, object]) -> str:
    """Say what a share that has grown depends on, beside the time."""
    steps = canary["steps"]
    first = steps[0]["share"] if isinstance(steps, list) and steps else None
    if canary["share"] in (0.0, first):
        return ""
    return f", where {ENOUGH} at each share before were verified"


def _shares(text: str) -> list[float]:
    shares = [_share(each) for each in text.split(",")]
    if any(later <= earlier for earlier, later in pairwise(shares)):
        msg = "each share must be greater than the one before"
        raise argparse.ArgumentTypeError(msg)
    return shares


def _share(text: str) -> float:
    found = _SHARE.fullmatch(text.strip())
    if found is None or not 0 < float(found[1]) <= 100:
        msg = "it must be per cent, over 0 and up to 100, such as 5% or 5%,25%,100%"
        raise argparse.ArgumentTypeError(msg)
    return float(found[1])
