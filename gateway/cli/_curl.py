"""What `curl -v` prints, back into raw HTTP.

It marks lines of a request with `> `, of a response with `< `, and its own with `* `,
and puts the body behind them unmarked. Without -s there is a progress meter too.
"""

import re
from typing import Final, NamedTuple

_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+")
_REQUEST: Final = re.compile(rb"> [A-Z]+ \S+ HTTP/")
_RESPONSE: Final = re.compile(rb"< HTTP/")
_BEGINNING: Final = re.compile(rb"^(?:> [A-Z]+ \S+|<) HTTP/", re.MULTILINE)
_OWN_LINES: Final = re.compile(
    rb"(?:(?:\* |[{}] \[[0-9]+ bytes data\]|\r* *[0-9]+ .*--:--:--)[^\n]*\n)*"
)
_LAST_WORDS: Final = re.compile(
    rb"\r?\n?\* (?:Connection #[0-9]+ to host|Closing connection)[^\n]*\n?\Z"
)


class Exchange(NamedTuple):
    """The last request, without its body, and the last response; None where missing."""

    request: bytes | None
    response: bytes | None


def is_verbose(data: bytes) -> bool:
    """Return whether this is what `curl -v` prints."""
    return _BEGINNING.search(data) is not None


def unmarked(data: bytes) -> Exchange:
    """Return the raw HTTP of the last request and the last response."""
    heads: dict[bytes, list[bytes]] = {}
    mark, end, position = b"", len(data), 0
    for line in _LINE.findall(data):
        position += len(line)
        if _REQUEST.match(line) or _RESPONSE.match(line):
            mark = line[:1]
            heads[mark] = []
        if not mark or line[:1] != mark:
            continue
        text = line[2:].rstrip(b"\r\n")
        heads[mark].append(text + b"\r\n")
        if not text:
            mark, end = b"", position
    own = _OWN_LINES.match(data, end)
    body = data[own.end() if own else end :]
    return Exchange(
        _joined(heads.get(b">"), b""),
        _joined(heads.get(b"<"), _LAST_WORDS.sub(b"", body)),
    )


def _joined(head: list[bytes] | None, body: bytes) -> bytes | None:
    return None if head is None else b"".join(head) + body
