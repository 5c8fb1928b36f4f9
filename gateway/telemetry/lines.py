"""Lines for a reader who may be slow, gone, or a full disk: traffic never waits."""

import contextlib
import json
import os
import select
from collections.abc import Callable
from datetime import datetime
from typing import Final, TextIO

_LONGEST: Final = 3900
"""Bytes. A pipe that can take anything takes PIPE_BUF, 4096, at once (POSIX); so it
takes such a line together with the one that tells how many were dropped before."""

_MOST: Final = (400, 100, 20)
"""Characters of each text in a line that is too long; the first that fits is taken."""

_ITEM: Final = 20
"""Of those characters, what an item of a list takes: so many fewer items stay."""


class Lines:
    """Writes one JSON object per line, and drops one rather than wait.

    What was dropped is counted, and told in a line of its own once there is room.

    Args:
        stream: where the lines go.
        now: gives the time that each line begins with.
        on_dropped: is called for each line that was not, or not wholly, written.
    """

    def __init__(
        self,
        stream: TextIO,
        now: Callable[[], datetime],
        on_dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self._now = now
        self._on_dropped = on_dropped
        self._untold = 0
        self._torn = False
        self._descriptor: int | None = None
        with contextlib.suppress(OSError, ValueError):  # a stream without a file
            self._descriptor = stream.fileno()
            self._room = select.poll()
            self._room.register(self._descriptor, select.POLLOUT)

    def write(self, event: str, fields: dict[str, object]) -> None:
        """Write a line, or count it as dropped. Never raises, never waits."""
        time = self._now().isoformat(timespec="milliseconds")
        before = "\n" if self._torn else ""  # ends what was cut off
        if self._untold:
            told = {"event": "log_lines_dropped", "count": self._untold}
            before += _line({"time": time, **told})
        both = before + _line({"time": time, "event": event} | fields)
        written = self._put(both)
        if written >= len(before):
            self._untold = 0
        if written < len(both):
            self._untold += 1
            self._on_dropped()
        if written:
            self._torn = written < len(both)

    def _put(self, lines: str) -> int:
        """Write this at once. Gives how much of it was written."""
        try:
            if self._descriptor is None:
                return self._stream.write(lines)
            if self._room.poll(0):
                return os.write(self._descriptor, lines.encode())
        except (OSError, ValueError):
            pass
        return 0


def _line(fields: dict[str, object]) -> str:
    """Give a line of whole JSON, with its texts and lists cut where it is too long."""
    text = json.dumps(fields)
    named = {name: fields[name] for name in ("time", "event")}
    for most in _MOST:
        if len(text) <= _LONGEST:
            break
        short = {name: _shortened(value, most) for name, value in fields.items()}
        text = json.dumps({**short, **named, "shortened": True})
    if len(text) > _LONGEST:
        text = json.dumps({**named, "shortened": True})
    return text + "\n"


def _shortened(value: object, most: int) -> object:
    if isinstance(value, str):
        return value[:most]
    if isinstance(value, list | tuple):
        return [_shortened(each, most) for each in value[: most // _ITEM]]
    if isinstance(value, dict):
        return {name: _shortened(each, most) for name, each in value.items()}
    return value
