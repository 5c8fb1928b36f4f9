"""The simulator on the network: an API listener and a control listener.

Not for production: it answers anyone, and breaks connections on order. Requests come
in untouched: raw target, raw header pairs, exact body, nothing decompressed.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web

from gateway.errors import SetupError
from gateway.protocol import ReceivedRequest
from gateway.simulator.alipayhk import AlipayHK
from gateway.simulator.control import control_application
from gateway.simulator.delivery import deliver
from gateway.simulator.exchanges import Exchange

Address: TypeAlias = tuple[str, int]
OnExchange: TypeAlias = Callable[[Exchange], None]

SLOW_S: Final = 90.0
_ANY_PORT: Final[Address] = ("127.0.0.1", 0)
_SHUTDOWN_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Running:
    """Where a running simulator listens: (host, port), the real port."""

    listen: Address
    control: Address

    @property
    def url(self) -> str:
        """The API's origin, as for an `upstream` setting."""
        return f"http://{shown(self.listen)}"

    @property
    def control_url(self) -> str:
        """The control listener's origin."""
        return f"http://{shown(self.control)}"


@asynccontextmanager
async def running(
    simulator: AlipayHK,
    *,
    listen: Address = _ANY_PORT,
    control: Address = _ANY_PORT,
    slow_s: float = SLOW_S,
    on_exchange: OnExchange | None = None,
) -> AsyncIterator[Running]:
    """Run a simulator on two listeners, until the end of the `async with`.

    Args:
        simulator: what answers; its `standing`, `registry` and `records` may be used
            meanwhile.
        listen: where the API listens. Port 0 takes a free one.
        control: where the control listener listens.
        slow_s: how long the slow faults take.
        on_exchange: is told of each exchange before its answer is delivered.

    Raises:
        SetupError: an address cannot be bound.
    """
    api = _Api(simulator, slow_s, on_exchange)
    server = web.Server(
        api, handler_cancellation=True, auto_decompress=False, access_log=None
    )
    application = web.AppRunner(
        control_application(simulator), access_log=None, shutdown_timeout=_SHUTDOWN_S
    )
    async with AsyncExitStack() as stack:
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        bound = await _bind(stack, runner, listen)
        yield Running(bound, await _bind(stack, application, control))


def shown(address: Address) -> str:
    """Give an address as HOST:PORT."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Api:
    """Turns HTTP into exchanges of the simulator, and delivers its answers."""

    def __init__(
        self, simulator: AlipayHK, slow_s: float, on_exchange: OnExchange | None
    ) -> None:
        self._simulator = simulator
        self._slow_s = slow_s
        self._on_exchange = on_exchange

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = self._simulator.exchange(await _received(request))
        if self._on_exchange is not None:
            self._on_exchange(exchange)
        if request.transport is None:  # the client is gone
            return web.Response()
        return await deliver(exchange.response, request.transport, self._slow_s)


async def _received(request: web.BaseRequest) -> ReceivedRequest:
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.raw_headers
    ]
    body = await request.content.read()
    return ReceivedRequest(request.method, request.raw_path, headers, body)


async def _bind(
    stack: AsyncExitStack, runner: web.BaseRunner, address: Address
) -> Address:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, *address).start()
    except OSError as error:
        place = shown(address)
        msg = f"{place}: {_reason(error)}. Choose another address to listen on."
        raise SetupError(msg) from error
    host, port = runner.addresses[0][:2]
    return host, port


def _reason(error: OSError) -> str:
    """Give the system's words, which asyncio's text says twice."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else f"{error.strerror}"
