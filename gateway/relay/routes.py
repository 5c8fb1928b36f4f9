"""Which calls there are, and whether each is encrypted."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta, timezone

from gateway.errors import (
    EncryptionRequired,
    EncryptionUnavailable,
    InvalidRequest,
    UnknownRoute,
)
from gateway.protocol import HONG_KONG
from gateway.protocol.messages import JSON_UTF8
from gateway.relay.ports import Keyrings, Upstream


@dataclass(frozen=True, slots=True)
class Call:
    """What a service asks for: its own bytes, and two wishes.

    Attributes:
        target: the path, with the query string if there is one, as it was sent.
        client: the client's name, where several share a route.
        encrypt: whether to encrypt; None leaves it to the route.
    """

    target: str
    body: bytes = field(repr=False)
    client: str | None = None
    encrypt: bool | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """One Client-Id at one AlipayHK host.

    Attributes:
        clock_tolerance: how far a Response-Time may be from our clock.
        zone: of the Request-Time that is sent.
        send_key_version: whether headers name our key versions.
        encrypted_content_type: of an encrypted request.
        reuse_content_key: decrypt answers with the request's content key, not with
            the one in their own header (protocol.md 3: a setting, off by default).
    """

    name: str
    client_id: str
    keyrings: Keyrings
    upstream: Upstream
    clock_tolerance: timedelta = timedelta(seconds=300)
    zone: timezone = HONG_KONG
    send_key_version: bool = True
    encrypted_content_type: str = JSON_UTF8
    reuse_content_key: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A path that may be called for one client.

    Attributes:
        encrypts: True always, False never, None as the caller wishes.
        timeout_s: the total deadline of an exchange.
    """

    path: str
    client: Client
    encrypts: bool | None = None
    timeout_s: float = 10.0

    def encryption_for(self, wish: bool | None) -> bool:  # noqa: FBT001 - a header
        """Decide whether to encrypt.

        Raises:
            EncryptionRequired: the caller wants plain where all is encrypted.
            EncryptionUnavailable: the caller wants encryption where none is.
        """
        if self.encrypts is None:
            return bool(wish)
        if wish is False and self.encrypts:
            msg = "This route always encrypts; leave Gateway-Encrypt out."
            raise EncryptionRequired(msg)
        if wish is True and not self.encrypts:
            msg = "This route's encryption is off in the configuration."
            raise EncryptionUnavailable(msg)
        return self.encrypts


class Routes:
    """All routes, found by path and client. Immutable."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._by_path.setdefault(route.path, {})[route.client.name] = route

    def check_path(self, target: str) -> None:
        """Pass if some route has this target's path.

        Raises:
            UnknownRoute: none has.
        """
        if _path_of(target) not in self._by_path:
            raise _unknown()

    def find(self, call: Call) -> Route:
        """Find the route of a call: its path byte for byte, without the query.

        Raises:
            UnknownRoute: no route has this path and client.
            InvalidRequest: several clients share the path and none was named.
        """
        by_client = self._by_path.get(_path_of(call.target), {})
        if call.client is not None:
            route = by_client.get(call.client)
        elif len(by_client) > 1:
            msg = "Several clients share this route; name one with Gateway-Client."
            raise InvalidRequest(msg)
        else:
            route = next(iter(by_client.values()), None)
        if route is None:
            raise _unknown()
        return route


def _path_of(target: str) -> str:
    return target.partition("?")[0]


def _unknown() -> UnknownRoute:
    return UnknownRoute("No route of this gateway has this path and client.")
