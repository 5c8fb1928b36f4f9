"""Standard output and error as a command needs them: open, and named where they fail."""

import io
import os
import sys
from typing import TYPE_CHECKING

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NAME = "standard output"


class _Output(io.FileIO):
    """Standard output whose errors say that it is standard output."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write; an error has the stream's name where a file's would have the file's."""
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, _NAME) from None


def check_streams() -> None:
    """Make the process's own streams fit for use.

    Raises:
        GatewayError: standard output is closed; Python has None in its place.
    """
    if sys.stderr is None:  # `print` would take standard output in its place
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - to the end
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - to the end
        msg = f"{_NAME} is closed; send it to /dev/null if nobody reads it"
        raise GatewayError(msg)
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _named(sys.stdout)


def lost_output() -> OSError | None:
    """Give why standard output takes nothing more; what waits for it is dropped."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def _named(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Give the same stream, which keeps what it could not write for `lost_output`."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",  # as on standard error: not every locale has a →
        line_buffering=stream.line_buffering or stream.write_through,
    )
