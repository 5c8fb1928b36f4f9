"""Connections to one host: looked up, connected, shaken hands with, in a given time.

No proxy is taken from the environment. A name is looked up anew every ten seconds;
of several addresses each is tried (RFC 8305).
"""

import asyncio
import socket
import ssl
from ipaddress import ip_address
from typing import Final, NoReturn
from urllib.parse import urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from gateway.edge.outbound import Outbound
from gateway.edge.reasons import reason_of
from gateway.errors import UpstreamUnavailable

_DNS_S: Final = 10.0
_NEXT_ADDRESS_S: Final = 0.25
_PORTS: Final = {"http": 80, "https": 443}


class Dial:
    """Makes connections to one origin.

    Args:
        origin: scheme and host, such as `https://open.alipay.hk`.
        tls: from `gateway.edge.tls`; for an https origin.
        connect_timeout_s: for one connection, name look-up and handshake included.
        public_only: connect to addresses of the public internet alone, so that no
            name server can send requests into our own network.
    """

    def __init__(
        self,
        origin: str,
        *,
        tls: ssl.SSLContext,
        connect_timeout_s: float,
        public_only: bool = False,
    ) -> None:
        parts = urlsplit(origin)
        self.netloc = parts.netloc
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._tls = tls if parts.scheme == "https" else None
        self._connect_timeout_s = connect_timeout_s
        self._public_only = public_only
        self._addresses: list[AddrInfoType] = []
        self._looked_up_at = 0.0

    async def __call__(self) -> Outbound:
        """Make a connection.

        Raises:
            UpstreamUnavailable: none can be made.
        """
        waiting = asyncio.timeout(self._connect_timeout_s)
        try:
            async with waiting:
                return await self._connect()
        except OSError as error:
            late = isinstance(error, TimeoutError) and waiting.expired()
            _refuse("none within connect_timeout_s" if late else _reason(error), error)

    async def _connect(self) -> Outbound:
        sock = await start_connection(
            await self._look_up(), happy_eyeballs_delay=_NEXT_ADDRESS_S
        )
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                Outbound,
                sock=sock,
                ssl=self._tls,
                server_hostname=self._host if self._tls else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection

    async def _look_up(self) -> list[AddrInfoType]:
        loop = asyncio.get_running_loop()
        if self._addresses and loop.time() < self._looked_up_at + _DNS_S:
            return self._addresses
        looked_up = await loop.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        found: list[AddrInfoType] = [*looked_up]
        if self._public_only:
            found = [each for each in found if is_public(each[4][0])]
            if not found:
                msg = "the name has no public address (clients[].public_addresses_only)"
                raise OSError(None, msg)
        self._addresses, self._looked_up_at = found, loop.time()
        return found


def is_public(address: object) -> bool:
    """Tell whether an address, as a look-up gives it, is in the public internet."""
    return ip_address(str(address).partition("%")[0]).is_global


def _refuse(reason: str, cause: OSError) -> NoReturn:
    msg = f"No connection to AlipayHK could be made ({reason})."
    raise UpstreamUnavailable(msg) from cause


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its TLS certificate does not verify"
    return reason_of(error)
