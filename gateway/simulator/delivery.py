"""Brings an answer to the client as its delivery plan says.

By aiohttp where it can; byte by byte where a fault needs what no HTTP library would
write. Then the connection ends, and aiohttp finds it closed.
"""

import asyncio
import socket
import struct
from http import HTTPStatus
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from gateway.simulator.answers import Delivery, SimulatedResponse

_SERVER: Final = ("Server", "AlipayHK-simulator (not for production)")
_GIBIBYTE: Final = 1 << 30
_MISSING_BYTES: Final = 64
_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""SO_LINGER for no time: closing sends RST, not FIN."""


async def deliver(  # noqa: C901 - one case for each delivery
    response: SimulatedResponse, transport: asyncio.Transport, slow_s: float
) -> web.Response:
    """Deliver an answer, or give the one that aiohttp is to deliver.

    Args:
        response: the answer and its plan.
        transport: of the connection that the request came on.
        slow_s: how long the slow plans take.
    """
    match response.delivery:
        case Delivery.AT_ONCE:
            return _whole(response)
        case Delivery.SLOW:
            await asyncio.sleep(slow_s)
            return _whole(response)
        case Delivery.SLOW_BODY:
            await _trickle(response, transport, slow_s)
        case Delivery.STALLED:
            transport.write(_head(response, _GIBIBYTE) + response.body)
            await asyncio.sleep(slow_s)
        case Delivery.TRUNCATED:
            declared = len(response.body) + _MISSING_BYTES
            transport.write(_head(response, declared) + response.body)
        case Delivery.RESET_BEFORE:
            _reset(transport)
        case Delivery.RESET_DURING:
            half = len(response.body) // 2
            transport.write(_head(response, len(response.body)) + response.body[:half])
            _reset(transport)
        case Delivery.NOT_HTTP:
            transport.write(response.body)
    transport.close()
    return web.Response()  # for a connection that is closed: never written


def _whole(response: SimulatedResponse) -> web.Response:
    headers = CIMultiDict([*response.headers, _SERVER])
    return web.Response(status=response.status, body=response.body, headers=headers)


async def _trickle(
    response: SimulatedResponse, transport: asyncio.Transport, slow_s: float
) -> None:
    body = response.body
    transport.write(_head(response, len(body)))
    for index in range(len(body)):
        await asyncio.sleep(slow_s / len(body))
        transport.write(body[index : index + 1])


def _head(response: SimulatedResponse, declared: int) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    ending = (_SERVER, ("Content-Length", str(declared)), ("Connection", "close"))
    lines += [f"{name}: {value}" for name, value in (*response.headers, *ending)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _reset(transport: asyncio.Transport) -> None:
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
