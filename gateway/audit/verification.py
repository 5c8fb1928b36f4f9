"""Verification: the first line that is not as it was written, and what became of it.

Pure: it is given lines with their places, and the signed head. The chain shows a line
that was changed, removed, moved or added before the last one; the signed head shows
the same of the last, and that lines are missing at the end.

An unfinished line, which a writer left that was killed, is no fault if the next line
names its hash (`torn`): that line's writer has seen it, and signed that it did.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Final, NamedTuple

from gateway.audit.chain import BEGINNING, Link, Record, hash_of, read
from gateway.audit.seal import CHECKPOINT, Inspector

RESUMED: Final = "log_resumed"
"""The `what` of a line that took over what a killed writer, or a stranger, left."""


class Place(NamedTuple):
    """Where a line stands: the file, and its number in it, from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


class Kind(StrEnum):
    """What became of a line."""

    CHANGED = "changed"
    REMOVED = "removed"
    MOVED = "moved"
    CUT_OFF = "cut_off"
    UNSIGNED = "unsigned"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first bad line.

    Attributes:
        place: where it stands, or where it is missing; None for an empty log.
        seq: its number in the chain.
    """

    kind: Kind
    place: Place | None
    seq: int
    text: str


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        last: the last line that holds: it is as it was written, and signed for.
        lines: how many hold, all of them before the first that does not.
        checkpoints: how many of those are checkpoints.
        fault: the first that is not; None where all are.
        notes: what is no fault, and a reader should know of.
    """

    last: Link
    lines: int = 0
    checkpoints: int = 0
    fault: Fault | None = None
    notes: list[str] = field(default_factory=list)


def verify(
    lines: Iterable[tuple[Place, bytes]],
    head: Link,
    inspector: Inspector,
    *,
    expected: Mapping[int, str] | None = None,
    after: Link = BEGINNING,
) -> Report:
    """Judge a log.

    Args:
        lines: each with its place, in the order of the files, line ends included.
        head: the last line, as it was signed.
        inspector: judges checkpoints.
        expected: hashes of lines, by number, that were kept elsewhere.
        after: what the first line must follow; lines before it may be gone.
    """
    walk = _Walk(iter(lines), head, inspector, dict(expected or {}), after)
    walk.report.fault = walk.run()
    return walk.report


class _Count(NamedTuple):
    """The lines that hold, up to one of them."""

    last: Link
    lines: int
    checkpoints: int


class _Walk:
    def __init__(
        self,
        lines: Iterator[tuple[Place, bytes]],
        head: Link,
        inspector: Inspector,
        expected: dict[int, str],
        after: Link,
    ) -> None:
        self.report = Report(after)
        self._lines = lines
        self._head = head
        self._inspector = inspector
        self._expected = {s: h for s, h in expected.items() if s > after.seq}
        self._place: Place | None = None
        self._torn: tuple[Place, bytes] | None = None
        self._unsigned: Fault | None = None
        self._before = self._signed = _Count(after, 0, 0)

    def run(self) -> Fault | None:
        fault = self._first_fault()
        if self._unsigned is not None:
            self._go_back(self._signed)
        return fault

    def _first_fault(self) -> Fault | None:
        after = self.report.last
        if after.seq >= self._head.seq and after != self._head:
            text = f"is the signed end, and {after} was to come before it"
            return Fault(Kind.CUT_OFF, None, self._head.seq, text)
        for place, raw in self._lines:
            if fault := self._step(place, raw):
                return fault
        return self._end()

    def _step(self, place: Place, raw: bytes) -> Fault | None:
        line = raw.removesuffix(b"\n")
        record = read(line) if raw.endswith(b"\n") else None
        if record is None:
            if self._torn is not None:
                return self._spoilt()
            self._torn = place, line
            return None
        torn = None if self._torn is None else hash_of(self._torn[1])
        if record.fields.get("torn") != torn:
            return self._spoilt() if self._torn else self._untorn(place, record)
        self._torn = None
        if not record.follows(self.report.last):
            return self._misfit(place, record)
        return self._take(place, record)

    def _take(self, place: Place, record: Record) -> Fault | None:
        """Go on to a line that fits, and see whether it is the one it should be."""
        seq = record.link.seq
        report = self.report
        self._before = _Count(report.last, report.lines, report.checkpoints)
        if seq == self._head.seq and record.link != self._head:
            return Fault(Kind.CHANGED, place, seq, "is not the line that was signed")
        if self._expected.pop(seq, record.link.hash) != record.link.hash:
            return Fault(Kind.CHANGED, place, seq, "is not the line that was expected")
        if record.fields.get("what") == CHECKPOINT:
            if not self._inspector.checkpoint_holds(record):
                text = "is a checkpoint whose signature does not hold"
                return Fault(Kind.CHANGED, place, seq, text)
            self.report.checkpoints += 1
        if record.fields.get("what") == RESUMED:
            self.report.notes.append(_resumed(place, record))
        if seq == self._head.seq + 1:
            text = (
                "comes after the signed end: its writer was killed before it could "
                "sign, or somebody else added it"
            )
            self._unsigned = Fault(Kind.UNSIGNED, place, seq, text)
            self._signed = self._before
        self.report.last, self._place = record.link, place
        self.report.lines += 1
        return None

    def _end(self) -> Fault | None:
        last = self.report.last.seq
        if self._torn is not None and last >= self._head.seq:
            text = "is unfinished: its writer was killed, or the disk was full"
            return Fault(Kind.UNSIGNED, self._torn[0], last + 1, text)
        if last < self._head.seq:
            return self._cut_off(self._head.seq)
        if self._expected:
            return self._cut_off(max(self._expected))
        return self._unsigned

    def _go_back(self, count: "_Count") -> None:
        """Take back the count of lines that turn out not to hold."""
        report = self.report
        report.last, report.lines, report.checkpoints = count

    def _cut_off(self, until: int) -> Fault:
        last = self.report.last.seq
        if self._torn is not None:
            text = f"was changed or cut off inside; the signed end is line {until}"
            return Fault(Kind.CUT_OFF, self._torn[0], last + 1, text)
        text = f"and what follows, up to line {until}, was cut off"
        return Fault(Kind.CUT_OFF, self._place, last + 1, text)

    def _spoilt(self) -> Fault:
        place = self._torn[0] if self._torn else self._place
        text = "was changed: it is not a line as the gateway writes it"
        return Fault(Kind.CHANGED, place, self.report.last.seq + 1, text)

    def _untorn(self, place: Place, record: Record) -> Fault:
        text = "names an unfinished line before it that is not there"
        return Fault(Kind.REMOVED, place, record.link.seq, text)

    def _misfit(self, place: Place, record: Record) -> Fault:
        """Name what is wrong around the first line that does not fit."""
        last, wanted = self.report.last, self.report.last.seq + 1
        following = (read(raw.removesuffix(b"\n")) for _, raw in self._lines)
        after = next(following, None)
        if record.link.seq == wanted:
            proved = after.previous if after else self._proved(wanted)
            if proved == record.link.hash and self._place is not None:
                self._go_back(self._before)
                return Fault(Kind.CHANGED, self._place, last.seq, "was changed")
            return Fault(Kind.CHANGED, place, wanted, "was changed")
        rest = {each.link.seq for each in chain([after], following) if each}
        next_seq = after.link.seq if after else self._head.seq + 1
        if wanted not in rest and next_seq == wanted + 1:
            return Fault(Kind.CHANGED, place, wanted, "was changed, in its number")
        if wanted in rest or record.link.seq < wanted:
            text = f"stands where line {wanted} belongs: lines were moved or repeated"
            return Fault(Kind.MOVED, place, record.link.seq, text)
        until = record.link.seq - 1
        missing = f"line {wanted}" if until == wanted else f"lines {wanted} to {until}"
        text = f"follows line {last.seq}: {missing} before it removed"
        return Fault(Kind.REMOVED, place, record.link.seq, text)

    def _proved(self, seq: int) -> str | None:
        """Give the hash that the last line must have, where the head says so."""
        return self._head.hash if self._head.seq == seq else None


def _resumed(place: Place, record: Record) -> str:
    facts = record.fields
    return (
        f"{place} (line {record.link.seq}) took over what was not signed: "
        f"{facts.get('reason')}, {facts.get('unsigned')} lines before it"
    )
