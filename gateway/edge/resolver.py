"""Host names to addresses, so that one silent name server holds up nobody else.

The system's look-up blocks, for half a minute and longer where no name server answers.
The event loop's own has a few threads for all names, which its process waits for at the
end. Here each name has a thread of its own, and nothing waits for one that hangs.
"""

import asyncio
import socket
from typing import Any, Final, NamedTuple, TypeAlias

from gateway.threads import Threads

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""Family, type, protocol, canonical name and address, as `socket.getaddrinfo` has them."""

_FRESH_S: Final = 10.0
_STALE_S: Final = 3600.0
"""How long addresses serve on while no name server answers (RFC 8767). A host that took
one over meanwhile has no certificate for the name."""

_PATIENCE_S: Final = 1.8
"""Before they do (RFC 8767, 5: the client response timer)."""

_NO_ANSWER: Final = (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM)

_Name: TypeAlias = tuple[str, int]


class _Known(NamedTuple):
    addresses: list[AddressInfo]
    since: float


class _LookUp(NamedTuple):
    task: "asyncio.Task[list[AddressInfo]]"
    since: float


class Resolver:
    """Looks names up, each at most once at a time, and remembers what was found."""

    def __init__(self) -> None:
        self._known: dict[_Name, _Known] = {}
        self._under_way: dict[_Name, _LookUp] = {}
        self._threads = Threads()

    async def look_up(self, host: str, port: int) -> list[AddressInfo]:
        """Return the addresses of a host, for TCP.

        An address, in any form the system takes, is not looked up. What was found less
        than 10 s ago is returned at once. Where a later look-up gets no answer, what was
        found in the last hour is.

        Raises:
            socket.gaierror: there is no such name, or no name server answers.
        """
        if (literal := _literal(host, port)) is not None:
            return literal
        name = host, port
        now = asyncio.get_running_loop().time()
        known = self._known.get(name)
        if known is not None and now < known.since + _FRESH_S:
            return known.addresses
        if known is not None and now >= known.since + _STALE_S:
            known = None
        look_up = self._under_way.get(name) or self._begin(name, now)
        patience = None
        if known is not None:
            patience = max(0.0, look_up.since + _PATIENCE_S - now)
        await asyncio.wait({look_up.task}, timeout=patience)
        try:
            if look_up.task.done() or known is None:
                return look_up.task.result()
        except socket.gaierror as error:
            if known is None or error.errno not in _NO_ANSWER:
                raise socket.gaierror(*error.args) from None  # each waiter its own
        return known.addresses

    def _begin(self, name: _Name, now: float) -> _LookUp:
        task = asyncio.get_running_loop().create_task(self._look_up(name))
        look_up = self._under_way[name] = _LookUp(task, now)
        task.add_done_callback(lambda done: self._end(name, done))
        return look_up

    def _end(self, name: _Name, done: "asyncio.Task[list[AddressInfo]]") -> None:
        del self._under_way[name]
        if not done.cancelled():
            done.exception()  # those who waited may be gone

    async def _look_up(self, name: _Name) -> list[AddressInfo]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _ask_system, *name)
        self._known[name] = _Known(found, loop.time())
        return found


def _literal(host: str, port: int) -> list[AddressInfo] | None:
    """Return a host that is an address as look-ups return it; None if it is a name."""
    try:
        return _ask_system(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None


def _ask_system(
    host: str, port: int, flags: int = socket.AI_ADDRCONFIG
) -> list[AddressInfo]:
    return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)]
