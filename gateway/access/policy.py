"""The policy: whether a caller may make a call, decided before its body is read.

Under `enforce` a refusal ends the call. Under `report` it is decided and counted all
the same, and the call goes on: so a policy can be tried on live traffic.

A refusal teaches nothing: what a caller may not use and what does not exist are the
same `forbidden`, in the same words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from gateway.access.callers import Callers, Credentials
from gateway.access.rates import Bucket, Rate
from gateway.errors import (
    ExchangeError,
    Forbidden,
    MethodNotAllowed,
    TooManyRequests,
    Unauthenticated,
    UnknownRoute,
)
from gateway.events import ExchangeRecord
from gateway.relay.routes import Route, Routes, unknown_route

_NOT_ITS_OWN: Final = "This caller may not make this call."


class Mode(StrEnum):
    """What becomes of a refusal."""

    ENFORCE = "enforce"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Permits:
    """What one caller may do.

    Attributes:
        routes: those of its paths and clients, and no others.
        rate: how often it may call; None for no limit.
    """

    routes: Routes
    rate: Rate | None = None


class Taking(Protocol):
    """A bucket: this process's own, or one that several share."""

    rate: Rate

    def take(self, now: float) -> float:
        """Take one. Gives 0, or after how many seconds there will be one."""
        ...


NewBucket: TypeAlias = Callable[[str, Rate], Taking]
"""Makes the bucket of a caller's rate, and keeps by itself what a reload does not
change."""


class Policy:
    """Who may call what, and how often.

    Args:
        routes: all routes.
        callers: who is known; empty for a gateway that only this machine reaches.
        permits: what each caller may do, by its name.
        mode: whether refusals end calls.
        monotonic: gives seconds that never go back.
        before: the policy this one replaces: rates that stay the same go on from
            where they are.
        new_bucket: makes buckets, where they are not this process's own.

    Attributes:
        knows_callers: whether callers are told apart.
    """

    def __init__(  # noqa: PLR0913 - its ports
        self,
        routes: Routes,
        callers: Callers,
        permits: Mapping[str, Permits],
        *,
        mode: Mode,
        monotonic: Callable[[], float],
        before: "Policy | None" = None,
        new_bucket: NewBucket | None = None,
    ) -> None:
        self.knows_callers: Final = bool(callers)
        self._routes = routes
        self._callers = callers
        self._permits = permits
        self._enforced = mode is Mode.ENFORCE
        self._monotonic = monotonic
        self._buckets: dict[str, Taking] = {
            name: (
                new_bucket(name, each.rate)
                if new_bucket
                else _bucket(name, each.rate, monotonic(), before)
            )
            for name, each in permits.items()
            if each.rate is not None
        }

    def identify(self, credentials: Credentials, record: ExchangeRecord) -> None:
        """Find out who calls, and note it.

        Raises:
            Unauthenticated: no caller shows such credentials.
        """
        if not self.knows_callers:
            return
        try:
            record.caller = self._callers.identify(credentials).name
        except Unauthenticated as error:
            self._refuse(error, record)

    def route(self, target: str, client: str | None, record: ExchangeRecord) -> Route:
        """Find the route of a call among those the caller may use.

        Args:
            target: the call's.
            client: the client's name, where the caller gave one.
            record: as `identify` left it.

        Raises:
            Forbidden: the caller may use no such route, or there is none.
            UnknownRoute: there is none, and callers are not told apart.
            InvalidRequest: several clients share the path and none was named.
        """
        permits = self._permits.get(record.caller)
        if permits is None:
            return self._routes.find(target, client)
        try:
            return permits.routes.find(target, client)
        except UnknownRoute:
            self._refuse(Forbidden(_NOT_ITS_OWN), record)
            return self._routes.find(target, client)

    def check_method(self, method: str, target: str, record: ExchangeRecord) -> None:
        """Pass if a call is a POST.

        Raises:
            Forbidden: it is not, and the caller has no route with such a path.
            UnknownRoute: it is not, and no route has such a path.
            MethodNotAllowed: it is not.
        """
        if method == "POST":
            return
        permits = self._permits.get(record.caller)
        if permits is not None and not permits.routes.has(target):
            self._refuse(Forbidden(_NOT_ITS_OWN), record)
        if not self._routes.has(target):
            raise unknown_route()
        msg = "Every call of this gateway is a POST."
        raise MethodNotAllowed(msg)

    def take(self, record: ExchangeRecord) -> None:
        """Count a call against the caller's rate.

        Raises:
            TooManyRequests: it is over it.
        """
        bucket = self._buckets.get(record.caller)
        if bucket is None:
            return
        wait_s = bucket.take(self._monotonic())
        if wait_s:
            msg = "This caller is over its rate. Send again later."
            self._refuse(TooManyRequests(msg, retry_after_s=wait_s), record)

    def _refuse(self, error: ExchangeError, record: ExchangeRecord) -> None:
        record.denied = record.denied or error.code
        if self._enforced:
            raise error


def _bucket(name: str, rate: Rate, now: float, before: Policy | None) -> Taking:
    known = before._buckets.get(name) if before else None  # noqa: SLF001 - its own kind
    return known if known is not None and known.rate == rate else Bucket(rate, now)
