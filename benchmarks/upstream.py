"""AlipayHK for a benchmark: reads a request to its end and gives a canned answer.

    python -m benchmarks.upstream FOLDER

The folder has the keys. The answer is as large as the request, and encrypted where
the request was: so the length of a request alone says which one it gets.
"""

import asyncio
import re
import sys
from pathlib import Path

from benchmarks.sample import SIZES, Canned, Keys, request

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, each with a Content-Length."""

    def __init__(self, answers: dict[int, Canned]) -> None:
        self._answers = answers
        self._begun = bytearray()
        self._length = self._missing = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._begun += data
            end = self._begun.find(b"\r\n\r\n")
            if end < 0:
                return
            self._length = int(_LENGTH.search(self._begun)[1])
            self._missing = self._length + end + 4 - len(self._begun)
            self._begun.clear()
        else:
            self._missing -= len(data)
        if not self._missing:
            self._transport.write(bytes(self._answers[self._length]))


def all_answers(keys: Keys) -> dict[int, Canned]:
    """Give the answer to each request, by the length of the request's body."""
    return {
        len(request(keys, size, encrypted=encrypted).body): Canned(
            keys, size, encrypted=encrypted
        )
        for size in SIZES
        for encrypted in (False, True)
    }


async def serve(folder: Path) -> None:
    answers = all_answers(Keys.read(folder))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(Path(sys.argv[1])))
    else:
        uvloop.run(serve(Path(sys.argv[1])))
