"""Lines for a reader who may be slow, gone, or a full disk: traffic never waits."""

import contextlib
import json
import os
import select
import stat
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final, TextIO

import orjson

_LONGEST: Final = 3900
"""Bytes. A pipe that can take anything takes PIPE_BUF, 4096, at once (POSIX); so it
takes such a line together with the one that tells how many were dropped before."""

_MOST: Final = (400, 100, 20)
"""Characters of each text in a line that is too long; the first that fits is taken."""

_CALM: Final = timedelta(seconds=10)
"""Without a line dropped, and the stream works again. A reader that is a little too slow
makes lines fail and go through in turns."""

_ITEM: Final = 20
"""Of those characters, what an item of a list takes: so many fewer items stay."""


class Lines:
    """Writes one JSON object per line, and drops one rather than wait.

    What was dropped is counted, and told in a line of its own once there is room.

    Args:
        stream: where the lines go.
        now: gives the time that each line begins with.
        on_dropped: is called for each line that was not, or not wholly, written.
        on_problem: is called with the reason once lines are dropped, and with None
            once they were written again for a while.
    """

    def __init__(
        self,
        stream: TextIO,
        now: Callable[[], datetime],
        on_dropped: Callable[[], None] = lambda: None,
        on_problem: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self.problem: str | None = None
        """Why lines were dropped of late; None if none was."""
        self._on_problem = on_problem
        self._reason = ""
        self._failed_at: datetime
        self._stream = stream
        self._now = now
        self._on_dropped = on_dropped
        self._untold = 0
        self._torn = False
        self._descriptor: int | None = None
        with contextlib.suppress(OSError, ValueError):  # a stream without a file
            descriptor = stream.fileno()
            # A file has room at all times, and saves a call of the kernel's per write.
            self._may_wait = not stat.S_ISREG(os.fstat(descriptor).st_mode)
            self._room = select.poll()
            self._room.register(descriptor, select.POLLOUT)
            self._descriptor = descriptor

    def write(self, event: str, fields: dict[str, object]) -> None:
        """Write a line, or count it as dropped. Never raises, never waits."""
        self.write_all(event, [fields])

    def write_all(self, event: str, every: Iterable[dict[str, object]]) -> None:
        """Write lines of one time, as many at once as a pipe takes whole."""
        begin = {"time": text_of(self._now()), "event": event}
        self.put(line_of({**begin, **fields}) for fields in every)

    def put(self, lines: Iterable[bytes]) -> None:
        """Write these, of `line_of`, as `write_all` does."""
        together: list[bytes] = []
        size = 0
        for line in lines:
            if together and size + len(line) > _LONGEST:
                self._write(together)
                together, size = [], 0
            together.append(line)
            size += len(line)
        if together:
            self._write(together)

    def _write(self, lines: list[bytes]) -> None:
        before = b"\n" if self._torn else b""  # ends what was cut off
        if self._untold:
            told = {
                "event": "log_lines_dropped",
                "level": "warning",
                "count": self._untold,
            }
            before += line_of({"time": text_of(self._now()), **told})
        both = before + b"".join(lines)
        written = self._put(both)
        if written == len(both):  # as nearly always
            self._untold, self._torn = 0, False
            if self.problem is not None:
                self._recover()
            return
        if written >= len(before):
            self._untold = 0
        whole = both[len(before) : max(written, len(before))].count(b"\n")
        for _ in lines[whole:]:
            self._untold += 1
            self._on_dropped()
        if written:
            self._torn = both[written - 1 : written] != b"\n"
        self._fail()

    def _fail(self) -> None:
        works, self.problem = self.problem is None, self._reason
        self._failed_at = self._now()
        if works:
            self._on_problem(self._reason)

    def _recover(self) -> None:
        # A clock that was set back must not hold this up.
        if not self._failed_at <= self._now() < self._failed_at + _CALM:
            self.problem = None
            self._on_problem(None)

    def _put(self, lines: bytes) -> int:
        """Write this at once. Gives how much of it was written."""
        self._reason = "whoever reads it takes too little"
        try:
            if self._descriptor is None:
                return self._stream.write(lines.decode())  # it is ASCII
            if not self._may_wait or self._room.poll(0):
                return os.write(self._descriptor, lines)
        except OSError as error:
            self._reason = error.strerror or type(error).__name__
        except ValueError:
            self._reason = "it is closed"
        return 0


def text_of(time: datetime) -> str:
    """Give a time as lines have it, to the millisecond."""
    if not time.microsecond:
        return time.isoformat(timespec="milliseconds")
    text = orjson.dumps(time)  # with microseconds, in a third of isoformat's time
    return (text[1:24] + text[27:-1]).decode()


def line_of(fields: dict[str, object]) -> bytes:
    """Give a line of whole JSON, with its texts and lists cut where it is too long.

    Args:
        fields: `time` and `event` first.
    """
    text = _text(fields)
    if len(text) > _LONGEST:
        text = _cut(fields)
    return text + b"\n"


def _cut(fields: dict[str, object]) -> bytes:
    named = {name: fields[name] for name in ("time", "event")}
    for most in _MOST:
        short = {name: _shortened(value, most) for name, value in fields.items()}
        text = _text({**short, **named, "shortened": True})
        if len(text) <= _LONGEST:
            return text
    return _text({**named, "shortened": True})


def _text(fields: dict[str, object]) -> bytes:
    """Give JSON in ASCII: a terminal that shows a log obeys no other characters."""
    try:
        data = orjson.dumps(fields)
    except TypeError:  # half of a surrogate pair, of a name in the file system
        return json.dumps(fields).encode()
    return data if data.isascii() else json.dumps(fields).encode()


def _shortened(value: object, most: int) -> object:
    if isinstance(value, str):
        return value[:most]
    if isinstance(value, list | tuple):
        return [_shortened(each, most) for each in value[: most // _ITEM]]
    if isinstance(value, dict):
        return {name: _shortened(each, most) for name, each in value.items()}
    return value
