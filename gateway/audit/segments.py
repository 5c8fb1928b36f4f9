"""The files of a log: the one that is written, those before it, and what is beside them.

`audit.jsonl` is written; when it is full it becomes `audit.jsonl.1`, the next time
`.2`, and so on. Whatever renamed a segment, its place is told by the number of its
first line and not by its name: so logrotate may have its own way.
"""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from gateway.audit.chain import read
from gateway.audit.verification import Place
from gateway.errors import AuditError

_LONGEST: Final = 1 << 20
"""Bytes of a line that is read: none that the gateway wrote comes near."""

_LONGEST_HEAD: Final = 1 << 12

_BESIDE: Final = (".head", ".head.new", ".lock")
_LOOK: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_LAST: Final = 1 << 62
_PATIENCE: Final = 500
_PAUSE_S: Final = 0.01
"""For the lock: 5 s. Whoever holds it longer is stopped or stuck."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of a log, as far as it was written when it was opened."""

    name: str
    stream: BinaryIO
    size: int


def head_file(log: Path) -> Path:
    """Give the file with the signed end of a log."""
    return log.with_name(log.name + ".head")


def lock_file(log: Path) -> Path:
    """Give the file whose lock is held by whoever writes the log or looks at its end."""
    return log.with_name(log.name + ".lock")


def read_head_file(log: Path) -> bytes | None:
    """Read the signed end of a log; None if there is none.

    Whatever lies there, this neither waits for it nor reads it without end.

    Raises:
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(head_file(log), _LOOK)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, _LONGEST_HEAD)
    finally:
        os.close(descriptor)


def lock(descriptor: int, mode: int, log: Path) -> None:
    """Lock an open lock file; closing it gives the lock up.

    Raises:
        AuditError: somebody else has held it for seconds.
    """
    for _ in range(_PATIENCE):
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        else:
            return
    msg = f"{log}: another process has held its lock for seconds; is it stopped?"
    raise AuditError(msg)


def next_segment(log: Path) -> Path:
    """Give the name under which the file that is written is put away."""
    number = re.compile(re.escape(log.name) + r"\.(\d+)", re.ASCII)
    taken = [number.fullmatch(each.name) for each in log.parent.iterdir()]
    last = max((int(found[1]) for found in taken if found), default=0)
    return log.with_name(f"{log.name}.{last + 1}")


@contextmanager
def opened(log: Path) -> Iterator[tuple[list[Segment], bytes | None]]:
    """Open a log for reading: its files in the order of their lines, and its head.

    They are of one moment: the lock is held while they are opened, and no longer, so
    that a reader who takes his time holds up no writer. A copy has no lock.

    Raises:
        AuditError: a writer has held the lock for seconds.
        OSError: a file cannot be opened.
    """
    with ExitStack() as files:
        with ExitStack() as locked:
            if lock_file(log).exists():
                held = os.open(lock_file(log), _LOOK)
                locked.callback(os.close, held)
                lock(held, fcntl.LOCK_SH, log)
            head = read_head_file(log)
            streams = [files.enter_context(each.open("rb")) for each in _names(log)]
            found = [
                Segment(Path(each.name).name, each, os.fstat(each.fileno()).st_size)
                for each in streams
            ]
        # Where no line can be read, the file that is written comes last.
        found.sort(key=lambda each: (_first_seq(each), each.name == log.name))
        yield found, head


def lines_of(segments: list[Segment]) -> Iterator[tuple[Place, bytes]]:
    """Give the lines of these files, one after another, line ends included.

    Raises:
        OSError: one of them cannot be read.
    """
    for segment in segments:
        for number, line in enumerate(_raw_lines(segment), start=1):
            yield Place(segment.name, number), line


def _names(log: Path) -> list[Path]:
    """Give the files that may be segments: `audit.jsonl`, `audit.jsonl.1`, `-2026…`."""
    pattern = re.compile(re.escape(log.name) + "([.-].+)?")
    found = [each for each in log.parent.iterdir() if pattern.fullmatch(each.name)]
    return sorted(
        each for each in found if not each.name.endswith(_BESIDE) and each.is_file()
    )


def _raw_lines(segment: Segment) -> Iterator[bytes]:
    segment.stream.seek(0)
    left = segment.size
    while line := segment.stream.readline(min(_LONGEST, left)):
        left -= len(line)
        yield line


def _first_seq(segment: Segment) -> int:
    """Give the number of the first line that can be read."""
    records = (read(line.removesuffix(b"\n")) for line in _raw_lines(segment))
    return next((each.link.seq for each in records if each is not None), _LAST)
