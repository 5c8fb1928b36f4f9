"""The file: lines are appended whole, synced, and signed, by one process at a time.

An append holds the lock and takes these steps, each on the disk before the next:

1. the lines, behind what is there;
2. the signed head beside the file, replaced by a rename.

Only then has it succeeded. If a step fails, the lines are taken back. If the writer is
killed, its lines are there and not signed: the next one goes on behind them and says
so in a line (`log_resumed`). An unfinished line is closed and stays. Where the file is
not what was signed, the chain goes on from what was signed, so that verification finds
the gap for ever.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from gateway.audit.chain import (
    BEGINNING,
    Link,
    Tail,
    has,
    hash_of,
    line_after,
    tail_of,
)
from gateway.audit.seal import Seal
from gateway.audit.segments import (
    head_file,
    lock,
    lock_file,
    next_segment,
    read_head_file,
)
from gateway.audit.verification import RESUMED
from gateway.errors import AuditError
from gateway.keys.backends.access import others_may_write

Fields: TypeAlias = Mapping[str, object]

_LOOKS: Final = (1 << 16, 1 << 22, 1 << 62)
"""Bytes from the end of the file in which the signed line is looked for."""

_ROOM: Final = 1 << 16
"""Bytes that must be free for the log to be fit to be written."""

_OPEN: Final = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Signed(NamedTuple):
    """What was signed last, and whether the file beside the log says so itself."""

    link: Link
    told: bool


class AuditFile:
    """A log that this process appends to. Not for several threads at once.

    Args:
        file: the file; its folder must be there.
        seal: signs checkpoints and the head.
        max_bytes: beyond this a new segment begins.
        checkpoint_every: a line is a checkpoint if its number is a multiple of this.
        who: who writes, for the lines that are added here.
        now: gives the time of those lines and of the head.
    """

    def __init__(
        self,
        file: Path,
        seal: Seal,
        *,
        max_bytes: int,
        checkpoint_every: int,
        who: str,
        now: Callable[[], datetime],
    ) -> None:
        self.file = file
        self._seal = seal
        self._max_bytes = max_bytes
        self._every = checkpoint_every
        self._who = who
        self._now = now
        self._last = BEGINNING
        self._seen: tuple[int, int] | None = None

    def append(self, entries: Sequence[Fields], *, checkpoint: bool = False) -> Link:
        """Append entries as lines. Gives the last line: it is on the disk and signed.

        Blocks for as long as the disk does, and for another writer.

        Args:
            entries: each one's fields but `seq` and `previous`.
            checkpoint: whether to end with one, even if none is due.

        Raises:
            AuditError: nothing was appended; the text says why.
        """
        with self._opened() as log:
            return self._append(log, entries, checkpoint=checkpoint)

    def probe(self) -> None:
        """Pass if an append would most likely succeed; appends nothing.

        Raises:
            AuditError: it would not; the text says why.
        """
        with self._opened() as log:
            self._signed(os.fstat(log).st_size)
            room = os.fstatvfs(log)
            free = room.f_bavail if os.geteuid() else room.f_bfree
            if free * room.f_frsize < _ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _append(self, log: int, entries: Sequence[Fields], *, checkpoint: bool) -> Link:
        status = os.fstat(log)
        signed = self._signed(status.st_size)
        if self._is_rewritten(log, status.st_size, signed.link):
            signed = Signed(self._last, told=False)
        tail = self._tail(log, status, signed.link)
        entries = [*self._resumption(tail, signed), *entries]
        lines, last = self._lines(entries, tail.last, checkpoint=checkpoint)
        if not lines:
            return last
        data = b"".join(line + b"\n" for line in lines)
        if tail.open:
            data = b"\n" + data
        elif status.st_size and status.st_size + len(data) > self._max_bytes:
            self._put_away(log)
        self._write(log, data, last)
        status = os.fstat(log)
        self._last, self._seen = last, (status.st_ino, status.st_size)
        return last

    def _lines(
        self, entries: Sequence[Fields], last: Link, *, checkpoint: bool
    ) -> tuple[list[bytes], Link]:
        lines: list[bytes] = []
        for fields in entries:
            last = _added(lines, last, fields)
            if (last.seq + 1) % self._every == 0:
                last = _added(lines, last, self._checkpoint(last))
        if checkpoint:
            last = _added(lines, last, self._checkpoint(last))
        return lines, last

    def _checkpoint(self, last: Link) -> Fields:
        return {**self._own(), **self._seal.checkpoint(last)}

    def _own(self) -> Fields:
        return {"time": time_of(self._now()), "who": self._who}

    def _resumption(self, tail: Tail, signed: Signed) -> list[Fields]:
        """Say what was found that a writer who came to its end does not leave."""
        reasons = {
            "unsigned lines": tail.unsigned > 0,
            "an unfinished line": tail.torn != b"",
            "the file is not what was signed": not tail.fits,
            "the signed end was gone, or older": not signed.told,
        }
        found = [reason for reason, applies in reasons.items() if applies]
        if not found:
            return []
        facts: dict[str, object] = {
            "what": RESUMED,
            "reason": "; ".join(found),
            "unsigned": tail.unsigned,
            "from": str(signed.link),
            "to": str(tail.last),
        }
        if tail.torn:
            facts["torn"] = hash_of(tail.torn)
        return [{**self._own(), **facts}]

    def _write(self, log: int, data: bytes, last: Link) -> None:
        before = os.fstat(log).st_size
        try:
            _write_all(log, data)
            os.fsync(log)
            self._sign(last)
        except OSError:
            # Else the same lines, tried again, would stand there twice.
            with suppress(OSError):
                os.ftruncate(log, before)
            raise

    def _sign(self, last: Link) -> None:
        head = head_file(self.file)
        new = head.with_name(head.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_TRUNC | _OPEN, 0o600)
        try:
            self._give_to_owner(descriptor)
            _write_all(descriptor, self._seal.head(last, time_of(self._now())))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.rename(head)
        # Without this a power cut may bring the older head back, which is found.
        with suppress(OSError):
            _sync(self.file.parent)

    def _signed(self, size: int) -> Signed:
        """Give what was signed last: what this process signed, or another one after it.

        Raises:
            AuditError: there are lines, and nothing says up to where they are whole.
        """
        data = read_head_file(self.file)
        if data is None:
            if self._last == BEGINNING and not size:
                # First of all, so that lines without a head are never a beginning.
                self._sign(BEGINNING)
                return Signed(BEGINNING, told=True)
            return self._remembered("is gone")
        try:
            head = self._seal.public.read_head(data).link
        except AuditError as error:
            return self._remembered(f"cannot be believed: {error.detail}")
        if head.seq < self._last.seq:
            return Signed(self._last, told=False)
        return Signed(head, told=True)

    def _remembered(self, reason: str) -> Signed:
        if self._last != BEGINNING:
            return Signed(self._last, told=False)
        msg = (
            f"{head_file(self.file)} {reason}. Find out why; then put it back, or keep "
            "it with the log elsewhere, so that a new chain begins here"
        )
        raise AuditError(msg)

    def _is_rewritten(self, log: int, size: int, head: Link) -> bool:
        """Tell whether what this process signed last does not come before `head`.

        Another writer may have signed more. One that began with an older head, and with
        what a stranger put behind it, has not got our line.
        """
        if self._last in (BEGINNING, head):
            return False
        starts = (max(0, size - look) for look in _LOOKS)
        answers = (
            has(os.pread(log, size - start, start), self._last) for start in starts
        )
        known = next((each for each in answers if each is not None), True)
        return head.seq == self._last.seq or not known

    def _tail(self, log: int, status: os.stat_result, signed: Link) -> Tail:
        if self._seen == (status.st_ino, status.st_size) and signed == self._last:
            return Tail(signed, 0, b"", open=False, fits=True)
        starts = (max(0, status.st_size - look) for look in _LOOKS)
        tails = (
            tail_of(
                os.pread(log, status.st_size - start, start), signed, whole=not start
            )
            for start in starts
        )
        return next(tail for tail in tails if tail is not None)

    def _put_away(self, log: int) -> None:
        """Begin a new segment: `log` is another file from here."""
        self.file.rename(next_segment(self.file))
        fresh = os.open(self.file, os.O_RDWR | os.O_APPEND | _OPEN, 0o600)
        os.dup2(fresh, log, inheritable=False)
        os.close(fresh)
        self._give_to_owner(log)
        _sync(self.file.parent)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the file under its lock; what the system refuses becomes ours."""
        descriptors: list[int] = []
        try:
            locked = os.open(lock_file(self.file), os.O_RDWR | _OPEN, 0o600)
            descriptors.append(locked)
            self._give_to_owner(locked)
            lock(locked, fcntl.LOCK_EX, self.file)
            log = os.open(self.file, os.O_RDWR | os.O_APPEND | _OPEN, 0o600)
            descriptors.append(log)
            self._give_to_owner(log)
            self._check(os.fstat(log))
            yield log
        except OSError as error:
            msg = f"{self.file}: {error.strerror or error}"
            raise AuditError(msg) from error
        finally:
            for descriptor in reversed(descriptors):
                os.close(descriptor)

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            msg = f"{self.file}: it is not a file"
            raise AuditError(msg)
        if others_may_write(status):
            msg = f"{self.file}: others may write to it; chmod 600 it"
            raise AuditError(msg)

    def _give_to_owner(self, descriptor: int) -> None:
        """Leave what root makes to the folder's owner, who is to go on with it."""
        folder = self.file.parent.stat()
        if os.geteuid() == 0 and os.fstat(descriptor).st_uid != folder.st_uid:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)


def time_of(moment: datetime) -> str:
    """Give a moment as it stands in lines."""
    return moment.isoformat(timespec="milliseconds")


def _added(lines: list[bytes], last: Link, fields: Fields) -> Link:
    """Add the line that follows `last`, and give its link."""
    lines.append(line_after(last, fields))
    return Link(last.seq + 1, hash_of(lines[-1]))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
