"""Which calls there are, and whether each is encrypted."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta, timezone

from gateway.errors import (
    EncryptionRequired,
    EncryptionUnavailable,
    ExchangeError,
    InvalidRequest,
    UnknownRoute,
    UpstreamDisconnected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.protocol import HONG_KONG
from gateway.protocol.messages import JSON_UTF8
from gateway.protocol.results import SIGNATURE_REFUSALS
from gateway.relay.breaker import Breaker
from gateway.relay.canary import CanaryWatch
from gateway.relay.ports import UNCOUNTED, Keyrings, Memory, Upstream
from gateway.relay.replay import ReplayGuard


@dataclass(frozen=True, slots=True)
class Call:
    """What a service asks for: its own bytes, and its wishes.

    Attributes:
        target: the path, with the query string if there is one, as it was sent.
        encrypt: whether to encrypt; None leaves it to the route.
        deadline: the monotonic second at which the caller gives up; None if it
            leaves that to the route.
        memory: counts what is held for the exchange beside the body.
    """

    target: str
    body: bytes = field(repr=False)
    encrypt: bool | None = None
    deadline: float | None = None
    memory: Memory = field(default=UNCOUNTED, repr=False, compare=False)


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
        breaker: stops attempts while AlipayHK cannot be reached; None for none.
        repeats: how many times an exchange may be tried again.
        signature_refusal_codes: the resultCodes of AlipayHK's unsigned refusals that
            say that it does not accept the signature.
        canary: watches over a key of ours that is tried.
        replays: knows answers that are sent a second time.
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
    breaker: Breaker | None = None
    repeats: int = 0
    signature_refusal_codes: tuple[str, ...] = SIGNATURE_REFUSALS
    canary: CanaryWatch = field(default_factory=CanaryWatch, repr=False)
    replays: ReplayGuard = field(default_factory=ReplayGuard, repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """A path that may be called for one client.

    Attributes:
        encrypts: True always, False never, None as the caller wishes.
        timeout_s: the total deadline of an exchange.
        repeats_unknown: AlipayHK acts once on the same requestId here, so that a
            request whose outcome is unknown may be sent again.
    """

    path: str
    client: Client
    encrypts: bool | None = None
    timeout_s: float = 10.0
    repeats_unknown: bool = False

    def may_repeat(self, error: ExchangeError, *, sent: bool) -> bool:
        """Return whether an exchange may be tried again.

        Args:
            error: how its last attempt failed.
            sent: whether a byte of that attempt went out, whatever the error says.
        """
        if error.retry_after_s is not None:  # the breaker is open: not now
            return False
        if sent:
            lost = isinstance(error, UpstreamTimeout | UpstreamDisconnected)
            return lost and self.repeats_unknown
        return isinstance(error, UpstreamUnavailable)

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

    def has(self, target: str) -> bool:
        """Tell whether some route has this target's path."""
        return _path_of(target) in self._by_path

    def find(self, target: str, client: str | None = None) -> Route:
        """Find the route of a call.

        Args:
            target: the request-target; its path counts byte for byte, without the
                query.
            client: the client's name, where the caller gave one.

        Raises:
            UnknownRoute: no route has this path and client.
            InvalidRequest: several clients share the path and none was named.
        """
        by_client = self._by_path.get(target) or self._by_path.get(_path_of(target), {})
        if client is not None:
            route = by_client.get(client)
        elif len(by_client) > 1:
            msg = "Several clients share this route; name one with Gateway-Client."
            raise InvalidRequest(msg)
        else:
            route = next(iter(by_client.values()), None)
        if route is None:
            raise unknown_route()
        return route


def unknown_route() -> UnknownRoute:
    """Give the error for a call that no route has: the same words for all."""
    return UnknownRoute("No route of this gateway has this path and client.")


def _path_of(target: str) -> str:
    return target.partition("?")[0]
