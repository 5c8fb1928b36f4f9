"""aiohttp's parser of requests, with the bounds on memory that it leaves open."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import RequestPayloadError
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE

READ_BYTES: Final = 1 << 16
"""As much is read at once, and twice as much is kept of a body that nobody reads.

The libraries' own figures are four times as much, which connections hold, or can be
made to hold, each for itself.
"""

_FRAME_BYTES: Final = 64
"""What a head may have beside its target and its headers."""


def pieces_of(body: bytes) -> list[memoryview]:
    """Give a body in pieces as large as one read; none of an empty one."""
    whole = memoryview(body)
    ends = range(0, len(body), READ_BYTES)
    return [whole[begin : begin + READ_BYTES] for begin in ends]


class Parser(HttpRequestParser):
    """Keeps of a head or a trailer no more than a head may have.

    aiohttp bounds each header and their number: together that is a megabyte, which
    everybody could leave here before anything is known of who it is.

    Args:
        protocol: whose requests these are.
        loop: where it runs.
        max_head_bytes: gives how large a head may be.
    """

    def __init__(
        self,
        protocol: BaseProtocol,
        loop: AbstractEventLoop,
        max_head_bytes: Callable[[], int],
    ) -> None:
        super().__init__(
            protocol,
            loop,
            READ_BYTES,
            payload_exception=RequestPayloadError,
            auto_decompress=False,  # a body is the bytes that were sent
            max_msg_queue_size=MAX_MSG_QUEUE_SIZE,
        )
        self._max_head_bytes = max_head_bytes
        self._body: StreamReader = EMPTY_PAYLOAD
        self._in_chunks = False
        self._unfinished = 0
        """Bytes since the last that were the end of a head, or of a body."""

    def feed_data(  # type: ignore[override]  # the parser in C takes no more
        self, data: bytes
    ) -> tuple[Sequence[tuple[RawRequestMessage, StreamReader]], bool, bytes]:
        """Parse what has come.

        Raises:
            HttpProcessingError: it is no request, or what is not a body is too large.
        """
        body, before = self._body, self._body.total_bytes
        only_body = not body.is_eof() and not self._in_chunks
        messages, upgraded, tail = super().feed_data(data)
        if messages:
            self._in_chunks, self._body = messages[-1][0].chunked, messages[-1][1]
        if only_body or messages or body.total_bytes > before:
            self._unfinished = 0
        else:
            self._unfinished += len(data)
        if self._unfinished > self._max_head_bytes() + _FRAME_BYTES:
            raise LineTooLong(b"head", self._max_head_bytes())
        return messages, upgraded, tail
