"""How much is read, written and kept of a connection at once."""

from typing import Final

READ_BYTES: Final = 1 << 16
"""As much is read at once, and as much is kept of a body that nobody reads.

The libraries' own figures are four times as much, which connections hold, or can be
made to hold, each for itself.
"""


CHUNK_BYTES: Final = 20
"""What a chunk may have beside its bytes: a size of 16 digits, and two line ends."""


def pieces_of(body: bytes) -> list[memoryview]:
    """Give a body in pieces as large as one read; none of an empty one."""
    whole = memoryview(body)
    ends = range(0, len(body), READ_BYTES)
    return [whole[begin : begin + READ_BYTES] for begin in ends]


MANY: Final = 64
"""So many pieces are joined into one, see `condense`."""


def condense(pieces: list[bytes], done: int) -> int:
    """Join all pieces behind the first `done`. Gives how many need no more of it.

    Whoever sends a body two bytes at a time would have it held at 28 times its length;
    joined by the 64 it is a third more than it.
    """
    pieces[done:] = [b"".join(pieces[done:])]
    return done + 1
