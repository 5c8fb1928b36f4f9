"""Connections to one host: looked up, connected, shaken hands with, in a given time.

No proxy is taken from the environment. Of several addresses each is tried, the next
while the one before it still hangs (RFC 8305), until one has carried out the whole
handshake. The loop's own `sock_connect` is not used: uvloop's looks each address up.
"""

import asyncio
import errno
import os
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, TypeAlias
from urllib.parse import urlsplit

from gateway.addresses import is_public
from gateway.edge.certificates import ShownChain
from gateway.edge.outbound import Outbound
from gateway.edge.reasons import reason_of
from gateway.edge.resolver import AddressInfo, Resolver
from gateway.edge.tls import chain_of
from gateway.errors import UpstreamUnavailable

_NEXT_ADDRESS_S: Final = 0.25
"""Without a TCP connection, before the next address is tried (RFC 8305, 8)."""

_HANDSHAKE_S: Final = 1.0
"""With one and without TLS: a round trip that takes longer was lost (RFC 6298, 2)."""

_TLS: Final = "TLS handshake"
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(slots=True)
class _Attempt:
    """An address that is tried, and how far that has come."""

    step: str


_Try: TypeAlias = "asyncio.Task[Outbound | OSError]"


class Dial:
    """Makes connections to one origin.

    Args:
        origin: scheme and host, such as `https://open.alipay.hk`.
        tls: from `gateway.edge.tls`; for an https origin.
        connect_timeout_s: for one connection, name look-up and handshake included.
        public_only: connect to addresses of the public internet alone, so that no
            name server can send requests into our own network.
        resolver: looks its name up.
        shown: is given the certificates that the host shows.

    Attributes:
        host: what the Host header says: without a final dot, and without the zone of an
            address, which means something on this machine alone (RFC 6874, 4).
    """

    def __init__(
        self,
        origin: str,
        *,
        tls: ssl.SSLContext,
        connect_timeout_s: float,
        public_only: bool = False,
        resolver: Resolver | None = None,
        shown: ShownChain | None = None,
    ) -> None:
        parts = urlsplit(origin)
        address, _, zone = (parts.hostname or "").partition("%")
        zone = zone.removeprefix("25") or zone  # "%25" is an escaped "%": RFC 6874
        self._looked_up = f"{address}%{zone}" if zone else address
        self._port = parts.port or _PORTS[parts.scheme]
        self._name = address.removesuffix(".")
        self.host = f"[{address}]" if ":" in address else self._name
        if parts.port is not None:
            self.host += f":{parts.port}"
        self._tls = tls if parts.scheme == "https" else None
        self._connect_timeout_s = connect_timeout_s
        self._public_only = public_only
        self._resolver = resolver or Resolver()
        self._shown = shown

    async def __call__(self) -> Outbound:
        """Make a connection.

        Raises:
            UpstreamUnavailable: none can be made; its `cause` says why.
        """
        waiting = asyncio.timeout(self._connect_timeout_s)
        attempts = [_Attempt("name look-up")]
        try:
            async with waiting:
                return await self._first_of(await self._addresses(), attempts)
        except OSError as error:
            reason = reason_of(error)
            if isinstance(error, TimeoutError) and waiting.expired():
                within = f"{self._connect_timeout_s:g} s (clients[].connect_timeout_s)"
                reason = f"timed out: no {attempts[-1].step} within {within}"
            _refuse(reason, error)

    async def _addresses(self) -> list[AddressInfo]:
        found = await self._resolver.look_up(self._looked_up, self._port)
        if self._public_only:
            found = [each for each in found if is_public(str(each[4][0]))]
            if not found:
                msg = "the name has no public address (clients[].public_addresses_only)"
                raise OSError(None, msg)
        return found

    async def _first_of(
        self, addresses: list[AddressInfo], attempts: list[_Attempt]
    ) -> Outbound:
        """Return the first connection that is made to one of these addresses.

        Raises:
            OSError: none is.
        """
        tried: list[_Try] = []
        kept: Outbound | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._race(addresses, attempts, tried, tasks)
                for each in tried:
                    each.cancel()
            kept = next(iter(_made_of(tried)), None)
        finally:
            for made in _made_of(tried):
                if made is not kept:
                    made.end()
        if kept is None:
            errors = [each.result() for each in tried]
            reasons = [reason_of(each) for each in errors if isinstance(each, OSError)]
            raise OSError(None, "; ".join(dict.fromkeys(reasons)))
        return kept

    async def _race(
        self,
        addresses: list[AddressInfo],
        attempts: list[_Attempt],
        tried: list[_Try],
        tasks: asyncio.TaskGroup,
    ) -> None:
        """Try the addresses until there is a connection, or none can be made."""
        for address in _alternating(addresses):
            attempts.append(newest := _Attempt("TCP connection"))
            tried.append(tasks.create_task(self._try(address, newest)))
            await _one_more(tried, _NEXT_ADDRESS_S)
            if newest.step == _TLS and not _made_of(tried):
                await _one_more(tried, _HANDSHAKE_S)
            if _made_of(tried):
                return
        while not _made_of(tried) and not all(each.done() for each in tried):
            await _one_more(tried)

    async def _try(self, address: AddressInfo, attempt: _Attempt) -> Outbound | OSError:
        try:
            return await self._connect(address, attempt)
        except OSError as error:
            return error

    async def _connect(self, address: AddressInfo, attempt: _Attempt) -> Outbound:
        sock = await _reach(address)
        attempt.step = _TLS
        try:
            transport, connection = await asyncio.get_running_loop().create_connection(
                Outbound,
                sock=sock,
                ssl=self._tls,
                server_hostname=self._name if self._tls else None,
            )
        except BaseException:
            sock.close()
            raise
        if self._shown is not None and self._tls is not None:
            tls = transport.get_extra_info("ssl_object")
            self._shown(tls.getpeercert(binary_form=True), partial(chain_of, tls))
        return connection


async def _one_more(tried: list[_Try], timeout_s: float | None = None) -> None:
    """Wait until one more attempt has ended, or this time has passed."""
    running = [each for each in tried if not each.done()]
    if running:
        await asyncio.wait(
            running, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )


def _made_of(tried: list[_Try]) -> list[Outbound]:
    """Return the connections that were made."""
    ended = [each.result() for each in tried if each.done() and not each.cancelled()]
    return [each for each in ended if isinstance(each, Outbound)]


async def _reach(address: AddressInfo) -> socket.socket:
    """Return a socket that is connected to an address, which is not looked up."""
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(0)
        number = sock.connect_ex(where)
        if number == errno.EINPROGRESS:
            await _writable(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except BaseException:
        sock.close()
        raise
    if number:
        sock.close()
        raise OSError(number, os.strerror(number))
    return sock


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    loop.add_writer(sock, writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(sock)


def _alternating(addresses: list[AddressInfo]) -> list[AddressInfo]:
    """Return the addresses with their two families in turns (RFC 8305, 4)."""
    first = addresses[0][0]
    one = [each for each in addresses if each[0] == first]
    other = [each for each in addresses if each[0] != first]
    mixed = [each for pair in zip(one, other, strict=False) for each in pair]
    return mixed + one[len(other) :] + other[len(one) :]


def _refuse(reason: str, error: OSError) -> NoReturn:
    msg = f"No connection to AlipayHK could be made ({reason})."
    raise UpstreamUnavailable(msg, cause=reason) from error
