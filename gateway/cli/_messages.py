"""Messages as files: captured ones to read, our own to print.

A captured message is raw HTTP: a first line, headers, a blank line, and then the
exact bytes of the body, to the end of the file. That is what `curl -i` prints.
"""

import re
import sys
from pathlib import Path
from typing import Final, TypeAlias

from gateway.errors import SetupError
from gateway.protocol import Headers, ReceivedRequest, ReceivedResponse

Received: TypeAlias = ReceivedRequest | ReceivedResponse

MAX_BYTES: Final = 16 << 20
"""Twice what a gateway accepts of an answer by default; a device never ends."""

_STATUS_LINE: Final = re.compile(r"HTTP/[0-9.]+ ([1-5][0-9][0-9])(?: .*)?")
_REQUEST_LINE: Final = re.compile(r"([A-Z]+) (\S+)(?: HTTP/[0-9.]+)?")
_HEAD: Final = re.compile(rb"(.*?)(?:\r?\n){2}(.*)", re.DOTALL)


def read_input(name: str, limit: int = MAX_BYTES) -> bytes:
    """Read a file, or standard input where the name is `-`.

    Raises:
        SetupError: it has more than `limit` bytes, or standard input is closed.
    """
    if name != "-":
        with Path(name).open("rb") as stream:
            data = stream.read(limit + 1)
    elif sys.stdin is None:
        msg = "-: standard input is closed"
        raise SetupError(msg)
    else:
        data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        msg = f"{name}: it is over {limit >> 10} KiB, which is more than is read here"
        raise SetupError(msg)
    return data


def write_output(data: bytes) -> None:
    """Write bytes to standard output as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def parse_message(data: bytes) -> Received:
    """Read a captured request or response. The body's bytes stay as they are.

    Interim responses (`100 Continue`), which `curl -i` prints too, are passed over.

    Raises:
        SetupError: it is not raw HTTP; the text says where it is not.
    """
    first, headers, body = _split(data)
    while (found := _STATUS_LINE.fullmatch(first)) and found[1].startswith("1"):
        first, headers, body = _split(body)
    if found is not None:
        return ReceivedResponse(int(found[1]), headers, body)
    if (found := _REQUEST_LINE.fullmatch(first)) is not None:
        return ReceivedRequest(found[1], found[2], headers, body)
    msg = (
        "line 1 of the message is neither a request's (POST /path HTTP/1.1) nor a "
        "response's (HTTP/1.1 200 OK): give raw HTTP, as `curl -i` prints it"
    )
    raise SetupError(msg)


def header(headers: Headers, name: str) -> str:
    """Give the first value of a header; empty where there is none."""
    wanted = name.lower()
    values = (value.strip() for key, value in headers if key.lower() == wanted)
    return next(values, "")


def header_lines(headers: Headers) -> str:
    """Give headers as lines, as they are pasted into a request."""
    return "".join(f"{name}: {value}\n" for name, value in headers)


def print_message(head: str, body: bytes) -> None:
    """Print a head, a blank line and a body, which keeps its exact bytes."""
    print(head)
    write_output(body)


def length_problem(message: Received) -> str | None:
    """Say in what a captured body is not the one that was sent, if that shows."""
    declared = header(message.headers, "Content-Length")
    if declared.isascii() and declared.isdigit() and int(declared) != len(message.body):
        return (
            f"Content-Length says {declared} bytes, and the capture has "
            f"{len(message.body)} after the blank line: it is not exact."
        )
    return None


def _split(data: bytes) -> tuple[str, Headers, bytes]:
    """Give first line, headers and body. Lines end in LF or CR LF."""
    found = _HEAD.fullmatch(data)
    if found is None:
        msg = "the message has no blank line between its headers and its body"
        raise SetupError(msg)
    lines = found[1].decode("latin-1").split("\n")
    headers = [_header(number, line) for number, line in enumerate(lines[1:], start=2)]
    return lines[0].strip(), headers, found[2]


def _header(number: int, line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        msg = f"line {number} of the message is not a header (Name: value)"
        raise SetupError(msg)
    return name, value.strip()
