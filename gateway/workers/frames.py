"""Messages on a stream of bytes: each with its length before it. No I/O."""

import struct
from collections.abc import Iterator
from typing import Final

_LENGTH: Final = struct.Struct("!I")

LONGEST: Final = 1 << 26
"""Bytes of a message: far more than the metrics of the greatest configuration."""


class FrameError(Exception):
    """What came is no message of ours."""


def frame(message: bytes) -> bytes:
    """Give a message as it goes over the stream.

    Raises:
        FrameError: it is too long.
    """
    if len(message) > LONGEST:
        msg = f"a message has {len(message)} bytes"
        raise FrameError(msg)
    return _LENGTH.pack(len(message)) + message


class Frames:
    """Finds the messages in what comes, in whatever pieces."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what came; give each message that is whole now.

        Raises:
            FrameError: a message is announced that is too long.
        """
        self._begun += data
        while len(self._begun) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._begun)
            if length > LONGEST:
                msg = f"a message of {length} bytes is announced"
                raise FrameError(msg)
            end = _LENGTH.size + length
            if len(self._begun) < end:
                return
            message = bytes(self._begun[_LENGTH.size : end])
            del self._begun[:end]
            yield message
