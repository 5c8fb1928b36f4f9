"""Print the audit log for people: a line for each event, and below it what it says.

Whether the lines are as they were written is for `gateway audit verify`; this prints
what stands there, the oldest first, all segments of the log.

Examples:
  gateway audit show                                   as config.yaml says
  gateway audit show --file audit.jsonl                of a copy
  gateway audit show --since 7d                        of the last seven days
  gateway audit show --since 2026-11-01T00:00:00Z --event keys_changed
  gateway audit show --client hk-sandbox --json        for a program: the lines

Exit status 1 if a line cannot be read.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from gateway.audit.chain import read
from gateway.audit.segments import lines_of, opened
from gateway.cli._audit_log import add_file, file_of
from gateway.cli._ring import clock
from gateway.cli._times import duration, moment
from gateway.keys.manifest import parse_moment

_HEAD: Final = ("seq", "time", "what", "who", "previous")
"""What the first line of an event has, and what tells people nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway audit show`."""
    parser.add_argument(
        "--since",
        type=_since,
        metavar="TIME",
        help="from then on: 2026-11-01T00:00:00Z, or 30s, 10m, 48h, 7d ago",
    )
    parser.add_argument(
        "--event",
        action="append",
        metavar="WHAT",
        help="such as keys_changed or keyring_loaded; may be repeated",
    )
    parser.add_argument("--client", metavar="NAME", help="of one client alone")
    add_file(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the log. Exit status 1 if a line cannot be read."""
    unread = 0
    with opened(file_of(arguments)) as (segments, _):
        for place, raw in lines_of(segments):
            record = read(raw.removesuffix(b"\n"))
            if record is None:
                unread += 1
                text = "not a line of an audit log; see `gateway audit verify`"
                print(f"gateway: {place}: {text}", file=sys.stderr)
            elif _is_wanted(arguments, record.fields):
                line = raw.decode("ascii").rstrip("\n")
                print(line if arguments.json else _as_text(record.fields))
    return 1 if unread else 0


def _is_wanted(arguments: argparse.Namespace, fields: Mapping[str, object]) -> bool:
    if arguments.event and fields.get("what") not in arguments.event:
        return False
    if arguments.client not in (None, fields.get("client")):
        return False
    since: datetime | None = arguments.since
    try:
        return since is None or parse_moment(fields.get("time")) >= since
    except ValueError:  # it is shown: nobody can tell when it was
        return True


def _as_text(fields: Mapping[str, object]) -> str:
    first = "  ".join(_plain(fields.get(name, "?")) for name in _HEAD[:-1])
    rest = (name for name in fields if name not in _HEAD)
    return "\n".join([first, *(f"    {name}: {_said(fields[name])}" for name in rest)])


def _said(value: object) -> str:
    """Return a value in one line, its parts without quotation marks and braces."""
    if isinstance(value, Mapping):
        if "section" in value and "version" in value:
            return _key(value)
        return "; ".join(f"{name} {_said(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value)) or "none"
    return _plain(value)


def _key(value: Mapping[str, object]) -> str:
    """Return a key by what people call it, then all else that is noted of it."""
    named = " ".join(_plain(value[name]) for name in ("section", "version"))
    known = ("section", "version", "state")
    rest = [
        f"{name} {_said(each)}" for name, each in value.items() if name not in known
    ]
    state = _plain(value.get("state", "?"))
    return f"{named} is {state} ({', '.join(rest)})" if rest else f"{named} is {state}"


def _plain(value: object) -> str:
    """Return text as a terminal may be given it, and anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _since(text: str) -> datetime:
    try:
        ago: timedelta = duration(text)
    except argparse.ArgumentTypeError:
        return moment(text)
    return clock() - ago
