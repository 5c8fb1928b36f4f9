"""The chain: records as canonical lines, each with the hash of the line before it.

Pure. A line is a JSON object with sorted keys, no spaces and ASCII alone, so one
record has one form and any other byte is a change. `seq` counts from 1 and `previous`
is the SHA-256, in hex, of the line before without its line end.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, NamedTuple

_TEXT: Final = 1000
_ITEMS: Final = 100
_DEPTH: Final = 6
"""What a value of a record may have at most; more of it is cut, so lines stay short."""

_HEX: Final = frozenset("0123456789abcdef")


class Link(NamedTuple):
    """A place in the chain: a line's number and its hash. `str` and `parse` agree."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> "Link":
        """Read `SEQ:HASH`.

        Raises:
            ValueError: it is something else.
        """
        seq, colon, digest = text.partition(":")
        if not (colon and seq.isascii() and seq.isdecimal() and is_hash(digest)):
            msg = "must be SEQ:HASH, as `gateway audit head` prints it"
            raise ValueError(msg)
        return cls(int(seq), digest)


BEGINNING: Final = Link(0, "0" * 64)
"""What the first line of a chain follows."""


@dataclass(frozen=True, slots=True)
class Record:
    """A line that is in its one form.

    Attributes:
        fields: all of them, `seq` and `previous` too.
        link: its own number and hash.
        previous: the hash of the line before it.
    """

    fields: Mapping[str, Any]
    link: Link
    previous: str

    def follows(self, link: Link) -> bool:
        """Tell whether this is the line right after `link`."""
        return self.link.seq == link.seq + 1 and self.previous == link.hash


class Tail(NamedTuple):
    """The end of a file, against what was signed last.

    Attributes:
        last: what the next line follows.
        unsigned: whole lines that fit and come after the signed one.
        torn: an unfinished line at the end, which belongs to nobody.
        open: whether the file ends without a line end.
        fits: False where the signed line is not there, or what follows does not fit.
    """

    last: Link
    unsigned: int
    torn: bytes
    open: bool
    fits: bool


def is_hash(value: object) -> bool:
    """Tell whether this is a SHA-256 as this package writes it."""
    return isinstance(value, str) and len(value) == 64 and _HEX.issuperset(value)


def hash_of(line: bytes) -> str:
    """Give the hash of a line, which has no line end here."""
    return hashlib.sha256(line).hexdigest()


def canonical(fields: Mapping[str, object]) -> bytes:
    """Give the one form of a record, without a line end."""
    return json.dumps(
        fields, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


def line_after(link: Link, fields: Mapping[str, object]) -> bytes:
    """Make the line that follows `link`, without a line end."""
    own = {"seq": link.seq + 1, "previous": link.hash}
    return canonical({**fields, **own})


def read(line: bytes) -> Record | None:
    """Read a line without its line end; None if it is not a record in its one form."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict) or canonical(fields) != line:
            return None
    except (ValueError, RecursionError):
        return None
    seq, previous = fields.get("seq"), fields.get("previous")
    if type(seq) is not int or seq < 1 or not is_hash(previous):
        return None
    return Record(fields, Link(seq, hash_of(line)), str(previous))


def bounded(value: object, depth: int = _DEPTH) -> object:
    """Give a value as JSON has it, its texts and lists cut where they are long."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, Mapping) and depth:
        items = [*value.items()][:_ITEMS]
        return {str(key)[:_TEXT]: bounded(each, depth - 1) for key, each in items}
    if isinstance(value, list | tuple) and depth:
        return [bounded(each, depth - 1) for each in value[:_ITEMS]]
    return str(value)[:_TEXT]


def has(data: bytes, link: Link) -> bool | None:
    """Tell whether the end of a file has a line; None if it begins after its number."""
    lines = data.split(b"\n")
    if link.hash in map(hash_of, lines):
        return True
    first = next((each for each in map(read, lines) if each is not None), None)
    return False if first and first.link.seq <= link.seq else None


def tail_of(data: bytes, signed: Link, *, whole: bool) -> Tail | None:
    """Find where a chain goes on, from the last bytes of its file.

    Args:
        data: the end of the file.
        signed: the line that was signed last.
        whole: whether `data` is all of the file.

    Gives None if more of the file has to be seen.
    """
    *lines, rest = data.split(b"\n")
    hashes = [hash_of(line) for line in lines]
    if signed.hash in hashes:
        return _walked(lines[hashes.index(signed.hash) + 1 :], rest, signed)
    if not whole:
        return None
    first = read(lines[0]) if lines else None
    if lines and (first is None or not first.follows(signed)):
        return Tail(signed, 0, rest, bool(rest), fits=False)
    return _walked(lines, rest, signed)


def _walked(lines: list[bytes], rest: bytes, signed: Link) -> Tail:
    last = signed
    for line in lines:
        record = read(line)
        if record is None or not record.follows(last):
            return Tail(last, last.seq - signed.seq, rest, bool(rest), fits=False)
        last = record.link
    unfinished = read(rest) if rest else None
    if unfinished is not None and unfinished.follows(last):  # all but its line end
        last, rest = unfinished.link, b""
        return Tail(last, last.seq - signed.seq, rest, open=True, fits=True)
    return Tail(last, last.seq - signed.seq, rest, bool(rest), fits=True)
