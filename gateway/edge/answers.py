"""Reads one HTTP answer from bytes as they come: no I/O, and no leniency.

The parser is llhttp, by `httptools`, in its strict mode: no bare LF, no folded header,
no space where none belongs. What it lets pass and two readers may see differently is
refused here: a length that is declared twice, a coding other than plain chunks, a
content coding that nobody asked for, headers behind the body.
"""

import re
from math import inf
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.edge.pieces import CHUNK_BYTES, MANY, condense
from gateway.errors import (
    ExchangeError,
    ResponseMalformed,
    ResponseTooLarge,
    UpstreamDisconnected,
)
from gateway.protocol.messages import IndexedHeaders

_KEEP_ALIVE: Final = re.compile(
    r"(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE | re.ASCII
)
"""RFC 2068, 19.7.1.1: what is left of its Keep-Alive header in use."""

_MAX_FIELD_BYTES: Final = 8190
_MAX_HEAD_BYTES: Final = 64 << 10
_MAX_HEADERS: Final = 128
_INFORMATIONAL: Final = range(100, 200)
_SWITCHING: Final = 101
_FINAL: Final = range(200, 600)  # RFC 9110, 15
_BODILESS: Final = (204, 304)
_NO_HEADERS: Final = IndexedHeaders(())
_FRAMING: Final = (b"content-length", b"transfer-encoding", b"content-encoding")


class AnswerReader:
    """One answer, as far as it has come; `renew` makes it ready for the next.

    It lives as long as its connection: the parser knows its callbacks by then, and
    each answer would leave a circle of references behind.

    Args:
        max_body_bytes: the greatest body that is read.

    Attributes:
        status: of the answer; 0 until its head is whole.
        headers: all of them, in their order, as they were sent; none until its head
            is whole.
        complete: whether all of it is here.
        error: what is wrong with it; None if nothing is. The rest is not read then.
        ended: whether nothing more is awaited: it is complete, or wrong.
    """

    __slots__ = (
        *("status", "headers", "complete", "error", "ended"),
        *("_fields", "_body", "_size", "_count", "_in_body", "_to_end"),
        *("_attributed", "_overhead"),
        *("_condensed", "_keeps_open", "_max_body_bytes", "_parser"),
    )

    def __init__(self, max_body_bytes: int) -> None:
        self._parser = HttpResponseParser(self)
        self.renew(max_body_bytes)

    def renew(self, max_body_bytes: int) -> None:
        """Read the next answer, behind one that `keeps_open`."""
        self.status = 0
        self.headers = _NO_HEADERS
        self.complete = False
        self.error: ExchangeError | None = None
        self.ended = False
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._condensed = 0
        self._count = 0
        self._size = 0
        self._attributed = 0
        self._overhead = 0
        """Bytes of no body: heads, what frames chunks, and headers behind the body."""
        self._in_body = False
        self._to_end = False
        self._keeps_open = False
        self._max_body_bytes = max_body_bytes

    @property
    def keep_alive_s(self) -> float:
        """How long the connection is kept open idle, by `Keep-Alive`; else infinity."""
        for value in self.headers.by_name.get("keep-alive", ()):
            if found := _KEEP_ALIVE.search(value):
                return float(found[1])
        return inf

    @property
    def keeps_open(self) -> bool:
        """Whether the connection may be used for another exchange."""
        return self.complete and self._keeps_open and self.error is None

    def take_body(self) -> bytes:
        """Give what has come of the body, and keep none of it.

        This lives on with its connection: the pool held the last answer of each, and
        an answer was held twice for as long as its caller took it.
        """
        pieces, self._body = self._body, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def feed(self, data: bytes | memoryview) -> None:
        """Read on. Never raises: see `error`."""
        if self.ended:
            self._keeps_open = False  # what comes behind an answer is no other's
            return
        self._attributed = 0
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail("The answer is not HTTP as it must be.", error)
        self._overhead = max(0, self._overhead - self._attributed)
        if self._overhead > _MAX_HEAD_BYTES and not self.ended:
            self._fail("The answer's headers, or what frames its body, are too long.")

    def end(self) -> None:
        """Note that nothing more will come."""
        self._keeps_open = False
        if self._to_end:
            self.complete = self.ended = True
        elif not self.ended:
            msg = "The connection ended before the answer was whole."
            self.fail(UpstreamDisconnected(msg))

    def fail(self, error: ExchangeError) -> None:
        """Read no more of it: this is what is wrong with it."""
        self.error, self.ended = error, True

    def take_error(self) -> ExchangeError | None:
        """Give what is wrong with it, and keep it no more; None if nothing is.

        Raised, it leads to whoever holds this: a circle, which would keep the bodies of
        a failed exchange until garbage is looked for.
        """
        error, self.error = self.error, None
        if error is not None:
            self._keeps_open = False
        return error

    # --- what the parser calls -------------------------------------------------

    def on_message_begin(self) -> None:
        """See that there is one answer and no other behind it."""
        if self.complete:
            self._keeps_open = False

    def on_status(self, reason: bytes) -> None:
        """Bound the status line."""
        if len(reason) > _MAX_FIELD_BYTES:
            self._fail("The answer's status line is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. One behind the body vouches for nothing, but it counts."""
        self._count += 1
        if self._count >= _MAX_HEADERS:
            self._fail("The answer has too many headers.")
        elif not self._in_body:
            self._fields.append((name, value))
        else:
            self._check_lengths([(name, value)])
            if name.lower() in _FRAMING:
                self._fail("The answer declares its length behind its body.")

    def on_headers_complete(self) -> None:
        """Judge the head, before anything of the body is read."""
        if self._overhead > _MAX_FIELD_BYTES:  # else no header can be as long
            self._check_lengths(self._fields)
        if self.ended:
            return  # of what comes behind it
        status = self._parser.get_status_code()
        if status in _INFORMATIONAL and status != _SWITCHING:
            self._fields.clear()
            return
        self.status = status
        self.headers = IndexedHeaders(
            [
                (name.decode("latin-1"), value.decode("latin-1").rstrip(" \t"))
                for name, value in self._fields  # RFC 9110, 5.5
            ]
        )
        self._in_body = True
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            self._fail("The answer is not HTTP/1.1 or HTTP/1.0.")
        elif status not in _FINAL:
            self._fail(f"The answer's status is {status}, which ends no exchange.")
        else:
            self._check_framing()

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        if self.ended:
            return
        self._size += len(data)
        self._attributed += len(data)
        if self._size > self._max_body_bytes:
            self._refuse_size()
        else:
            self._body.append(data)
            if len(self._body) == self._condensed + MANY:
                self._condensed = condense(self._body, self._condensed)

    def on_chunk_header(self) -> None:
        """Note that a chunk begins."""
        self._attributed += CHUNK_BYTES

    def on_message_complete(self) -> None:
        """Note that all of it is here, unless it is only a word in between."""
        if self._in_body and not self.ended:
            self._fields.clear()
            self.complete = self.ended = True
            self._keeps_open = self._parser.should_keep_alive()

    def _check_lengths(self, headers: list[tuple[bytes, bytes]]) -> None:
        if any(len(name) + len(value) > _MAX_FIELD_BYTES for name, value in headers):
            self._fail("A header of the answer is too long.")

    def _check_framing(self) -> None:
        found = self.headers.by_name
        lengths = found.get("content-length", ())
        codings = found.get("transfer-encoding", ())
        for value in found.get("content-encoding", ()):
            if value.lower() not in ("", "identity"):
                self._fail("The answer is compressed, which was not asked for.")
                return
        if len(lengths) + len(codings) > 1:
            self._fail("The answer declares its length more than once.")
        elif codings and codings[0].lower() != "chunked":
            self._fail("The answer's transfer coding is not plain chunks.")
        elif lengths and int(lengths[0]) > self._max_body_bytes:
            self._refuse_size()
        else:
            self._to_end = not (lengths or codings or self.status in _BODILESS)

    def _refuse_size(self) -> None:
        most = self._max_body_bytes
        msg = f"The answer is over {most} bytes (max_response_bytes)."
        self.fail(ResponseTooLarge(msg))

    def _fail(self, message: str, cause: Exception | None = None) -> None:
        """Note what is wrong first; what is wrong behind an answer is none of its."""
        self._keeps_open = False
        if not self.ended:
            error = ResponseMalformed(message)
            error.__cause__ = cause
            self.fail(error)
