"""Answers to those who call: whole, in memory, with the headers that HTTP needs."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

_BODILESS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class Response:
    """An answer.

    Args:
        status: the HTTP status.
        body: all of it.
        headers: without those that say how long it is and what becomes of the
            connection.
        closes: whether the connection ends behind it.
    """

    __slots__ = ("body", "closes", "headers", "status")

    def __init__(
        self,
        *,
        status: int = HTTPStatus.OK,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        closes: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        self.closes = closes

    def head(self, date: str, *, is_old: bool, keeps_open: bool) -> bytes:
        """Give status line and headers, with the empty line behind them.

        Args:
            date: for the header of that name.
            is_old: whether the request was HTTP/1.0's.
            keeps_open: whether another request may follow.

        Raises:
            ValueError: a header has a line's end in it.
        """
        status, count = int(self.status), len(self.headers)
        headers = "".join(
            [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        )
        if headers.count("\n") != count or headers.count("\r") != count:
            msg = "a header of the answer has a line's end in it"
            raise ValueError(msg)
        length, connection = f"Content-Length: {len(self.body)}\r\n", ""
        if status in _BODILESS:
            length = ""
        if keeps_open and is_old:
            connection = "Connection: keep-alive\r\n"
        elif not (keeps_open or is_old):
            connection = "Connection: close\r\n"
        return (
            f"HTTP/1.{0 if is_old else 1} {status} {_REASONS.get(status, '')}\r\n"
            f"{headers}Date: {date}\r\n{length}{connection}\r\n"
        ).encode("latin-1")

    def content(self, method: str) -> bytes:
        """Give what follows the head, as an answer to this method."""
        if method == "HEAD" or self.status in _BODILESS:
            return b""
        return self.body
