"""What can be seen of a gateway from outside: its log, its admin pages, its audit log."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import aiohttp

from gateway.errors import GatewayError

Fields: TypeAlias = Mapping[str, object]

_LOOK_EVERY_S: Final = 0.05
_PATIENCE_S: Final = 30.0


class Log(io.StringIO):
    """Takes a log of JSON lines, and keeps what is in them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Fields] = []

    def write(self, text: str) -> int:
        """Take whole lines."""
        self.lines += map(json.loads, text.splitlines())
        return len(text)


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `/readyz` says."""

    status: int
    reasons: list[str]
    warnings: list[str]


class Admin:
    """The pages of a gateway's admin listener.

    Args:
        session: to ask with.
        url: of the listener.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def readiness(self) -> Readiness:
        """Ask whether it is ready, and what is wrong."""
        async with self._session.get(f"{self._url}/readyz") as answer:
            page = await answer.json()
            return Readiness(answer.status, page["reasons"], page["warnings"])

    async def metrics(self, *names: str) -> list[str]:
        """Give the samples of these metrics."""
        async with self._session.get(f"{self._url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return [line for line in lines if line.partition("{")[0] in names]

    async def state_of(self, section: str, version: str) -> str:
        """Give the state in which the gateway holds a key; empty where it has none."""
        async with self._session.get(f"{self._url}/keys") as answer:
            (client,) = (await answer.json())["clients"]
        for key in client["keys"]:
            if (key["section"], key["version"]) == (section, version):
                return str(key["state"])
        return ""


def audit_lines(file: Path, after: int) -> list[Fields]:
    """Give the whole lines of an audit log after so many of them."""
    lines = file.read_text("utf-8").splitlines(keepends=True)[after:]
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def until(seen: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until something is seen.

    Raises:
        GatewayError: it takes too long.
    """
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not await seen():  # noqa: ASYNC110 - files and pages are watched
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        msg = f"the demo waited {_PATIENCE_S:g} s in vain: {what}"
        raise GatewayError(msg) from None
