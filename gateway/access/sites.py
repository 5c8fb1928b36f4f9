"""Where nobody is named, a browser on the machine is a caller: what web pages may not do.

A page may have its browser send requests to loopback, also by a name of its own that it
lets point there (DNS rebinding). Such a request says so: by its Host, its Origin or its
Sec-Fetch-Site. Programs send the first alone, and none of a stranger's.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from gateway.errors import Forbidden

_OWN: Final = frozenset({"none", "same-origin"})
"""What a browser says of its user and of a page of ours. One of another port of this
machine is of the same site, and may be anybody's."""


def check_host(host: str, names: frozenset[str], local: str, setting: str) -> None:
    """Check that a request was not led here by a name of somebody else's.

    Args:
        host: the name or address in Host, in small letters, without the port; empty for
            none, which no browser sends.
        names: those that the listener is called by, beside `localhost`.
        local: the address that the connection came in on.
        setting: where names are added, for the error.

    Raises:
        Forbidden: the host is none of these, and no address of this machine's loopback.
    """
    if _is_loopback(host) or host in names:
        return
    address = _address(host)
    if address is None or address != _address(local.partition("%")[0]):  # its zone
        msg = (
            "Host names neither this machine nor the address that was called, as if a "
            "web page had led its browser here. If programs call the gateway by this "
            f"name, add it to {setting}."
        )
        raise Forbidden(msg)


def check_page(origin: str, origins: Sequence[str], sites: Sequence[str]) -> None:
    """Check that no web page of another origin sent a request.

    Args:
        origin: of the request's own target, such as `http://localhost:8080`.
        origins: its Origin headers.
        sites: its Sec-Fetch-Site headers.

    Raises:
        Forbidden: one did.
    """
    is_own = all(each.lower() == origin for each in origins)
    if not (is_own and _OWN.issuperset(sites)):
        msg = (
            "A web page of another origin sent this (Origin, Sec-Fetch-Site): none may "
            "call a gateway that has no callers."
        )
        raise Forbidden(msg)


@lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host in ("", "localhost") if address is None else address.is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is, an IPv4 one also where it is written as IPv6."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
