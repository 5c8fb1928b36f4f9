"""What HTTP asks of the head of a request, whatever its method and whoever sent it.

The parser is strict; here is what it passes over, and what two readers of the same
bytes may see differently. Whatever fits neither is refused before anything else is
looked at.
"""

import re
from functools import lru_cache
from typing import Final

from gateway.access.sites import check_host, check_page
from gateway.edge.request import Request
from gateway.errors import InvalidRequest

_HOST: Final = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+;=-]*)(:[0-9]{0,5})?"
)
"""A Host (RFC 9112, 3.2). No commas, which RFC 3986 allows: no name has one, and a list
of two hosts does."""

_ABSOLUTE: Final = re.compile(r"(https?)://([^/?]+)(/[^?]*)?(\?.*)?", re.IGNORECASE)

_AMBIGUOUS: Final = {"Sec-WebSocket-Key1", "Transfer-Encoding"}

_OF_BROWSERS: Final = {"Origin", "Sec-Fetch-Site"}


def check_head(request: Request) -> None:
    """Check what HTTP asks of a request, whatever its method.

    The absolute form of a target (RFC 9112, 3.2.2) becomes the usual one where it names
    our own authority, which is the one in Host; any other is left as it is, and is no
    target of a route.

    Raises:
        InvalidRequest: another reader of the same bytes may understand it otherwise.
    """
    fields = request.fields
    host = _host_of(request)
    if not request.target.startswith("/"):
        scheme = "https" if request.wire.is_secure else "http"
        found = _ABSOLUTE.fullmatch(request.target)
        if found and (found[1].lower(), found[2].lower()) == (scheme, host.lower()):
            request.target = (found[3] or "/") + (found[4] or "")
    if fields.keys().isdisjoint(_AMBIGUOUS):
        return
    # The first WebSocket had eight bytes of body that no length declares.
    if "Sec-WebSocket-Key1" in fields:
        msg = "No WebSocket is spoken here; leave Sec-WebSocket-Key1 out."
        raise InvalidRequest(msg)
    codings = fields.get("Transfer-Encoding")
    if codings is not None and (
        _elements(codings) != ["chunked"]
        or "Content-Length" in fields
        or request.version == "1.0"  # RFC 9112, 6.1
    ):
        msg = "A body has a Content-Length, or is chunked, and nothing else."
        raise InvalidRequest(msg)


def check_site(request: Request, names: frozenset[str], setting: str) -> None:
    """Check that no web page of another origin sent a request, as far as it shows.

    Args:
        request: one that `check_head` passed.
        names: those that the listener is called by, beside `localhost`.
        setting: where names are added, for the error.

    Raises:
        Forbidden: one did, or may have.
    """
    local = request.wire.local_address
    if local is None:
        return  # no browser reaches a Unix socket
    fields = request.fields
    host = fields.get("Host", ("",))[0].lower()
    check_host(host_name(host) or "", names, local, setting)
    if not fields.keys().isdisjoint(_OF_BROWSERS):
        scheme = "https" if request.wire.is_secure else "http"
        check_page(
            f"{scheme}://{host}",
            fields.get("Origin", ()),
            fields.get("Sec-Fetch-Site", ()),
        )


def _host_of(request: Request) -> str:
    """Return the Host of a request; empty where it has none and needs none.

    Raises:
        InvalidRequest: it is missing, repeated, or no host.
    """
    hosts = request.fields.get("Host", ())
    if len(hosts) != 1:
        if not hosts and request.is_old:
            return ""
        msg = "One Host header is needed."
        raise InvalidRequest(msg)
    host = hosts[0]
    if host_name(host) is None:
        msg = "The Host header is not a host with or without a port."
        raise InvalidRequest(msg)
    return host


@lru_cache(maxsize=64)  # callers have the same few, and most have one
def host_name(host: str) -> str | None:
    """Return the name or address in a Host header, in small letters; None if it is none."""
    found = _HOST.fullmatch(host)
    return found["name"].lower() if found else None


def _elements(values: list[str]) -> list[str]:
    """Return what a list holds, in small letters, without empty elements (RFC 9110, 5.6.1)."""
    elements = (each.strip(" \t") for each in ",".join(values).lower().split(","))
    return [each for each in elements if each]
