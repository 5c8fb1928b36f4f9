"""Messages as files: captured ones to read, our own to print.

A captured message is raw HTTP: a first line, headers, a blank line, and then the
exact bytes of the body, to the end of the file. That is what `curl -i` prints. What
tools and proxies put around it is taken off: see `parse_capture`.
"""

import codecs
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from gateway.cli._curl import is_verbose, unmarked
from gateway.errors import SetupError
from gateway.protocol import Headers, ReceivedRequest, ReceivedResponse

Received: TypeAlias = ReceivedRequest | ReceivedResponse

MAX_BYTES: Final = 16 << 20
"""Twice what a gateway accepts of an answer by default; a device never ends."""

_STATUS_LINE: Final = re.compile(r"HTTP/[0-9.]+ ([1-5][0-9][0-9])(?: .*)?")
_REQUEST_LINE: Final = re.compile(r"([A-Z]+) (\S+)(?: HTTP/[0-9.]+)?")
_ABSOLUTE: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_HEAD: Final = re.compile(rb"(.*?)(?:\r?\n){2}(.*)", re.DOTALL)
_NEXT_HEAD: Final = re.compile(rb"HTTP/[0-9.]+ [1-5][0-9][0-9][ \r\n]")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]*?)?\r?\n")
_TRAILER: Final = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n)*(?:\r?\n)*")
_LINE_END: Final = re.compile(rb"\r?\n")


class Capture(NamedTuple):
    """What a file holds: a request, a response, or as `curl -v` prints it both."""

    request: ReceivedRequest | None
    response: ReceivedResponse | None

    @property
    def message(self) -> Received:
        """The response where there is one, else the request."""
        message = self.response or self.request
        assert message is not None  # noqa: S101 - one of them is there
        return message


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


def parse_capture(data: bytes) -> Capture:
    """Read a captured request or response. The body's bytes stay as they are.

    Passed over are interim responses (`100 Continue`), a proxy's answer to CONNECT, and
    a byte order mark. UTF-16, in which PowerShell saves output, becomes UTF-8; the marks
    of `curl -v` are taken off, and so are chunks (`curl --raw`) and the scheme and host
    of a target that a proxy was sent.

    Raises:
        SetupError: it is not raw HTTP; the text says where it is not.
    """
    text, recoded = _as_utf8(data)
    if not is_verbose(text):
        parts = [_parse(text)]
    else:
        parts = [_parse(part) for part in unmarked(text) if part is not None]
    if recoded:
        parts = [replace(part, body=_without_added_line(part)) for part in parts]
    requests = [part for part in parts if isinstance(part, ReceivedRequest)]
    responses = [part for part in parts if isinstance(part, ReceivedResponse)]
    return Capture(next(iter(requests), None), next(iter(responses), None))


def _parse(data: bytes) -> Received:
    """Read raw HTTP."""
    first, headers, body = _split(data)
    while (found := _STATUS_LINE.fullmatch(first)) and (
        found[1].startswith("1") or _NEXT_HEAD.match(body)
    ):
        first, headers, body = _split(body)
    if header(headers, "Transfer-Encoding").lower().endswith("chunked"):
        body = _without_chunks(body)
    if found is not None:
        return ReceivedResponse(int(found[1]), headers, body)
    if (found := _REQUEST_LINE.fullmatch(first)) is not None:
        return ReceivedRequest(found[1], _origin_form(found[2]), headers, body)
    msg = (
        "line 1 of the message is neither a request's (POST /path HTTP/1.1) nor a "
        "response's (HTTP/1.1 200 OK): give raw HTTP, as `curl -i` prints it"
    )
    raise SetupError(msg)


def _as_utf8(data: bytes) -> tuple[bytes, bool]:
    """Return the data as UTF-8 without a byte order mark, and whether it was UTF-16."""
    if data.startswith(codecs.BOM_UTF8):
        return data.removeprefix(codecs.BOM_UTF8), False
    charset = None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        charset = "utf-16"
    elif data[1:4:2] == b"\0\0":
        charset = "utf-16-le"
    elif data[0:3:2] == b"\0\0":
        charset = "utf-16-be"
    if charset is None:
        return data, False
    try:
        return data.decode(charset).encode(), True
    except UnicodeError:
        msg = "the message begins as UTF-16 and is not: capture it again, as bytes"
        raise SetupError(msg) from None


def _without_added_line(message: Received) -> bytes:
    """Return a body without the line end with which a shell saved it."""
    declared = header(message.headers, "Content-Length")
    length = int(declared) if declared.isascii() and declared.isdigit() else -1
    if length >= 0 and _LINE_END.fullmatch(message.body[length:]):
        return message.body[:length]
    return message.body


def _without_chunks(body: bytes) -> bytes:
    """Return a body without its chunks; as it is where it does not consist of them.

    curl takes them off itself and leaves the header, unless it is told --raw.
    """
    chunks: list[bytes] = []
    position = 0
    while found := _CHUNK_SIZE.match(body, position):
        end = found.end() + int(found[1], 16)
        if end == found.end():
            whole = _TRAILER.fullmatch(body, end) is not None
            return b"".join(chunks) if whole else body
        chunks.append(body[found.end() : end])
        line_end = _LINE_END.match(body, end)
        if line_end is None:
            break
        position = line_end.end()
    return body


def _origin_form(target: str) -> str:
    """Return path and query of a target in absolute form (RFC 9112, 3.2.2)."""
    rest = _ABSOLUTE.sub("", target, count=1) if _ABSOLUTE.match(target) else target
    return rest if rest.startswith("/") or rest == target else f"/{rest}"


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
