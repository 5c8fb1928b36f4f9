"""Moments and durations as they are typed on a command line."""

import argparse
import re
from datetime import datetime, timedelta
from typing import Final

from gateway.keys.manifest import parse_moment

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")


def moment(text: str) -> datetime:
    """Read a time with its zone, such as 2026-12-01T02:00:00Z."""
    try:
        return parse_moment(text)
    except ValueError as error:
        msg = f"it {error}"
        raise argparse.ArgumentTypeError(msg) from None


def duration(text: str) -> timedelta:
    """Read a whole number with a unit: 30s, 10m, 48h, 7d."""
    found = _DURATION.fullmatch(text)
    if found is None:
        msg = "it must be a number and a unit, such as 30s, 10m, 48h or 7d"
        raise argparse.ArgumentTypeError(msg)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
