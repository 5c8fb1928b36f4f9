"""Put a key in use: it signs and decrypts, or verifies and encrypts, from now on.

The key that was active for the same use is deactivated in the same step: ours then
still decrypts what AlipayHK encrypts to it, AlipayHK's still verifies. A deactivated
key may be activated again, which is the way back. A compromised or destroyed one
never returns. One that is active already is left as it is, with status 0.

Activate a key of ours only once AlipayHK has registered its public key: a running
gateway signs with it within a second. With --at it is planned: every gateway that has
the ring by then changes over at that second, by itself. --overlap says how long the
key before is kept from then on: it is destroyed by itself at the end.

With --canary it is not active yet: it signs only a share of the exchanges, and where
AlipayHK does not take its signature the gateway goes back by itself. Without --canary,
the same command completes it; where the canary was halted, only with --despite-halt.

Examples:
  gateway keys activate 2 --dry-run       what would change
  gateway keys activate 2                 our version 2 signs from now on
  gateway keys activate 2 --overlap 48h   and version 1 is destroyed in two days
  gateway keys activate 2 --at 2031-12-01T02:00:00Z --overlap 48h
                                          the same, from that moment on
  gateway keys activate 2 --canary 5%     2 signs 5 % of the exchanges, 1 the rest
  gateway keys activate 2 --canary 5%,25%,100% --every 1h
                                          and more of them each hour
  gateway keys activate 2 --platform      AlipayHK's version 2 is encrypted to
  gateway keys activate 2 --use sign      where version 2 has a pair for each use
"""

import argparse

from gateway.cli._canary import add_canary, check_not_halted, check_options, tried
from gateway.cli._keys_change import (
    add_at,
    add_version,
    carry_out,
    refuse_past,
    which,
)
from gateway.cli._ring import folder_of, this_second
from gateway.cli._times import duration
from gateway.keys.changes import activate
from gateway.keys.manifest import Manifest
from gateway.keys.model import KeyState
from gateway.keys.schedule import keep_for, plan_activation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys activate`."""
    add_version(parser)
    add_at(parser)
    add_canary(parser)
    parser.add_argument(
        "--despite-halt",
        action="store_true",
        help="activate it although it was halted as a canary",
    )
    parser.add_argument(
        "--overlap",
        type=duration,
        metavar="TIME",
        help="destroy the key before after so long: 30s, 10m, 48h, 7d "
        "(default: keep it until it is destroyed by hand)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Activate the key that is named, or plan to."""
    refuse_past(arguments)
    check_options(arguments)
    key, overlap = which(arguments), arguments.overlap

    def check(before: Manifest) -> None:
        check_not_halted(
            folder_of(arguments), before, key, despite=arguments.despite_halt
        )

    def planned(before: Manifest) -> Manifest:
        check(before)
        return plan_activation(before, key, arguments.at, overlap)

    def taken(before: Manifest) -> Manifest:
        check(before)
        after = activate(before, *key)
        return (
            after
            if overlap is None
            else keep_for(before, after, this_second(), overlap)
        )

    if arguments.canary is not None:
        return carry_out(arguments, lambda before: tried(before, key, arguments))
    if arguments.at is not None:
        return carry_out(arguments, planned)
    return carry_out(arguments, taken, KeyState.ACTIVE)
