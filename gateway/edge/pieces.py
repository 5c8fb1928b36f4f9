"""How much is read, written and kept of a connection at once."""

from typing import Final

READ_BYTES: Final = 1 << 16
"""As much is read at once, and as much is kept of a body that nobody reads.

The libraries' own figures are four times as much, which connections hold, or can be
made to hold, each for itself.
"""


def pieces_of(body: bytes) -> list[memoryview]:
    """Give a body in pieces as large as one read; none of an empty one."""
    whole = memoryview(body)
    ends = range(0, len(body), READ_BYTES)
    return [whole[begin : begin + READ_BYTES] for begin in ends]
