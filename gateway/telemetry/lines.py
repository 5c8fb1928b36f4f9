"""Lines for a reader who may be slow, gone, or a full disk: traffic never waits."""

import contextlib
import json
import os
import select
from typing import Final, TextIO

_LONGEST: Final = 4000
"""Bytes. A pipe that can take anything takes PIPE_BUF, 4096, at once (POSIX)."""

_TEXT: Final = 400
"""Characters of a text in a line that was too long; six bytes each at the most."""


class Lines:
    """Writes one JSON object per line, and drops one rather than wait.

    What was dropped is counted, and told in a line of its own once there is room.
    """

    def __init__(self, stream: TextIO) -> None:
        self.dropped = 0
        self._stream = stream
        self._descriptor: int | None = None
        with contextlib.suppress(OSError, ValueError):  # a stream without a file
            self._descriptor = stream.fileno()
            self._room = select.poll()
            self._room.register(self._descriptor, select.POLLOUT)

    def write(self, fields: dict[str, object]) -> None:
        """Write a line, or count it as dropped. Never raises, never waits."""
        if self._descriptor is not None and not self._room.poll(0):
            self.dropped += 1
            return
        if self.dropped:
            told = {"event": "log_lines_dropped", "count": self.dropped}
            self.dropped = 0
            self._put(json.dumps(told))
        text = json.dumps(fields)
        self._put(text if len(text) <= _LONGEST else json.dumps(_shortened(fields)))

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._descriptor is None:
                self._stream.write(text + "\n")
            else:
                os.write(self._descriptor, text.encode() + b"\n")


def _shortened(fields: dict[str, object]) -> dict[str, object]:
    """Cut texts, so that the line stays whole JSON."""
    short = {
        name: value[:_TEXT] if isinstance(value, str) else value
        for name, value in fields.items()
    }
    return {**short, "shortened": True}
