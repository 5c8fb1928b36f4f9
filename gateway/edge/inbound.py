"""Where services call: AlipayHK's answer, or a problem, for every request.

How a request is read is in `gateway.edge.request`.
"""

import asyncio
import hashlib
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from gateway.access.admission import Account, Admission, Place, Quota
from gateway.access.policy import Policy
from gateway.edge.connection import NotHttp
from gateway.edge.problems import PROBLEM_TYPE, problem
from gateway.edge.request import (
    Arriving,
    Bounds,
    Head,
    Request,
    check_body,
    credentials_of,
    read_body,
    read_head,
    too_late,
)
from gateway.edge.response import Response
from gateway.edge.rules import check_head, check_site
from gateway.errors import (
    ExchangeError,
    InvalidRequest,
    MethodNotAllowed,
    ResponseMalformed,
    Unauthenticated,
)
from gateway.events import ExchangeRecord, Observer
from gateway.protocol import Headers
from gateway.protocol.messages import POST, by_name
from gateway.relay.exchange import Relay
from gateway.relay.outcome import Answer, Attempts
from gateway.relay.ports import Clock, Entropy
from gateway.relay.routes import Call, Route

_NOT_POST: Final = "Every call of this gateway is a POST."
_EXCHANGE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PASSED_ON: Final = {
    "content-type": "Content-Type",
    "response-time": "Response-Time",
}
"""AlipayHK's headers that go back, beside its trace header."""


@dataclass(frozen=True, slots=True)
class Service:
    """What answers requests: one configuration's, replaced whole at a reload.

    `hosts`: the names that it may be called by without callers, beside `localhost`.
    """

    policy: Policy
    relay: Relay
    bounds: Bounds
    hosts: frozenset[str] = frozenset()


class _Names:
    """Names of exchanges, 128 random bits each, drawn from the system by the hundred."""

    _DIGITS: Final = 32
    _AT_ONCE: Final = 256

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._drawn: list[str] = []

    def next(self) -> str:
        """Give one that was never given before."""
        if not self._drawn:
            text = self._entropy(self._AT_ONCE * self._DIGITS // 2).hex()
            starts = range(0, len(text), self._DIGITS)
            self._drawn = [text[at : at + self._DIGITS] for at in starts]
        return self._drawn.pop()


class _Exchange:
    """What a request has until its caller has taken the answer.

    Attributes:
        started: the monotonic second at which its head had come.
        account: the bytes that are held for it beside the request.
        attempts: what was sent to AlipayHK.
        place: the caller's own.
    """

    __slots__ = ("account", "attempts", "place", "started")

    def __init__(self, started: float, account: Account) -> None:
        self.started = started
        self.account = account
        self.attempts = Attempts()
        self.place: Place = ()


class Inbound:
    """The handler of the inbound listener.

    Args:
        service: what answers requests, until `use` gives another.
        admission: the places for exchanges.
        memory: the bytes of bodies that may be held.
        observer: is told of each exchange, also of those refused here.
        clock: for measuring.
        entropy: for the names of exchanges.
    """

    def __init__(
        self,
        service: Service,
        admission: Admission,
        memory: Quota,
        *,
        observer: Observer,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.in_flight = 0
        self.draining = False
        self.arriving = Arriving(memory)
        self.requests = 0
        """Those under way, be it that their body still arrives."""
        self._service = service
        self._admission = admission
        self._memory = memory
        self._observer = observer
        self._clock = clock
        self._names = _Names(entropy)
        self._reserve: Callable[[], None] = lambda: None
        self._digests = False
        self._ended = asyncio.Event()

    @property
    def max_head_bytes(self) -> int:
        """How large a request's head may be."""
        return self._service.bounds.max_header_bytes

    def use(self, service: Service) -> None:
        """Take this for requests from now on; those under way keep what they have."""
        self._service = service

    def audit(self, reserve: Callable[[], None], *, digests: bool) -> None:
        """Do what the audit log asks for.

        Args:
            reserve: is called before each exchange; raises ExchangeError where nothing
                may be sent.
            digests: whether records get the SHA-256 of both bodies; that of the
                request says that `reserve` was called and raised nothing.
        """
        self._reserve = reserve
        self._digests = digests

    async def idle(self) -> None:
        """Wait until no request is under way, be it that its body still arrives."""
        while self.requests:
            self._ended.clear()
            await self._ended.wait()

    async def handle(self, request: Request) -> None:
        """Answer one request. Never raises for what a caller or AlipayHK did."""
        record = ExchangeRecord(self._exchange_id(request))
        service = self._service
        exchange = _Exchange(self._clock.monotonic(), Account(self._memory))
        response: Response | None = None
        self.requests += 1
        try:
            try:
                response = await self._serve(service, request, record, exchange)
            except Exception as error:  # noqa: BLE001 - the last resort: fail closed
                record.peer = request.wire.peer
                response = _problem_of(error, record, exchange.attempts)
            record.seconds = self._clock.monotonic() - exchange.started
            if self.draining:
                response.closes = True
            request.body.drop()
            exchange.account.keep(len(response.body))
            record.delivered = False
            record.delivered = await request.wire.deliver(
                request, response, service.bounds.write_timeout_s
            )
        finally:
            self._end(exchange)
            if response is None:  # cut off, because the gateway ends
                self._cut_off(record, exchange)
            self._observer(record)

    def _end(self, exchange: _Exchange) -> None:
        """Hold nothing for a request any more."""
        exchange.account.keep(0)
        self.arriving.under_way.pop(exchange.account, None)
        self._admission.leave(exchange.place)
        self.requests -= 1
        if not self.requests:
            self._ended.set()

    def _cut_off(self, record: ExchangeRecord, exchange: _Exchange) -> None:
        _failed(exchange.attempts.told(asyncio.CancelledError()), record)
        record.delivered = False
        record.seconds = self._clock.monotonic() - exchange.started

    def refuse(self, cause: NotHttp) -> Response:
        """Answer what was not HTTP at all."""
        error: ExchangeError = MethodNotAllowed(_NOT_POST)
        if cause.status is not HTTPStatus.METHOD_NOT_ALLOWED:
            error = InvalidRequest(f"The request is not HTTP as it must be: {cause}.")
        record = ExchangeRecord(self._names.next(), peer=cause.peer)
        record.code, record.outcome = error.code, str(error.outcome)
        response = _finished(problem(error, record.exchange_id, cause.status), record)
        self._observer(record)
        return response

    async def _serve(
        self,
        service: Service,
        request: Request,
        record: ExchangeRecord,
        exchange: _Exchange,
    ) -> Response:
        """Find out who calls what; then read it, and carry out the exchange.

        The caller's own place is kept until it has taken the answer: else one with few
        places could have any number of answers held that it does not read.
        """
        head, route = _admitted(service, request, record)
        deadline = None
        if head.timeout_s is not None:
            deadline = exchange.started + head.timeout_s
        place = self._enter_now(request, service.bounds, record)
        if place is None:
            place = await self._enter(request, service.bounds, record, deadline)
        exchange.place = place[:1]
        self.in_flight += 1
        self.arriving.under_way[exchange.account] = record.caller, request.body
        try:
            body = request.body.whole()
            self._reserve()
            if self._digests:
                record.request_sha256 = hashlib.sha256(body).hexdigest()
            call = Call(head.target, body, head.encrypt, deadline, exchange.account)
            answer = await service.relay.exchange(
                route, call, record, exchange.attempts
            )
        finally:
            self.in_flight -= 1
            self._admission.leave(place[1:])
        if self._digests:
            record.response_sha256 = hashlib.sha256(answer.body).hexdigest()
        return _passed_on(answer, record)

    def _enter_now(
        self, request: Request, bounds: Bounds, record: ExchangeRecord
    ) -> Place | None:
        """Return a place, if the body came with its head and a place is free."""
        if not request.body.is_whole or "Expect" in request.fields:
            return None
        check_body(request.body, bounds, record.caller, self.arriving)
        record.request_bytes = request.body.size
        return self._admission.enter_now(record.caller, record.client)

    async def _enter(
        self,
        request: Request,
        bounds: Bounds,
        record: ExchangeRecord,
        deadline: float | None,
    ) -> Place:
        """Wait for the body, and then for a place, no longer than the caller does.

        A place is taken only once the body is there: else callers that send slowly
        would hold them all, and send nothing.
        """
        body, arriving = request.body, self.arriving
        with suppress(TimeoutError):
            async with arriving.one(
                record.caller, body, bounds.body_timeout_s
            ) as pending:
                await read_body(request, bounds, pending, arriving)
                record.request_bytes = body.size
                place = await self._queue_up(deadline, record)
                if not pending.gave_way:
                    return place
                self._admission.leave(place)
        raise too_late(pending, arriving, bounds)

    async def _queue_up(self, deadline: float | None, record: ExchangeRecord) -> Place:
        """Wait for a place, no longer than the caller does."""
        patience_s = None
        if deadline is not None:
            patience_s = deadline - self._clock.monotonic()
        return await self._admission.enter(record.caller, record.client, patience_s)

    def _exchange_id(self, request: Request) -> str:
        given = request.fields.get("Gateway-Exchange-Id", ())
        if len(given) == 1 and _EXCHANGE_ID.fullmatch(given[0]):
            return given[0]
        return self._names.next()


def _admitted(
    service: Service, request: Request, record: ExchangeRecord
) -> tuple[Head, Route]:
    """Give what the head of a request says, and its route, if the policy has it pass."""
    policy = service.policy
    check_head(request)
    if policy.knows_callers:
        policy.identify(credentials_of(request), record)
    else:
        check_site(request, service.hosts, "inbound.hosts")
    if request.method != POST:
        policy.check_method(request.method, request.target, record)
    head = read_head(request)
    route = policy.route(head.target, head.client, record)
    record.client, record.route = route.client.name, route.path
    policy.take(record)
    return head, route


def _passed_on(answer: Answer, record: ExchangeRecord) -> Response:
    headers = _chosen(answer.headers)
    _check_type(headers.get("Content-Type", ""), record)
    if record.tracer_id is not None:
        headers["Tracer-Id"] = record.tracer_id
    headers["Gateway-Verified"] = "true" if answer.refusal is None else "false"
    response = Response(status=answer.status, body=answer.body, headers=headers)
    record.response_bytes = len(answer.body)
    return _finished(response, record)


def _check_type(content_type: str, record: ExchangeRecord) -> None:
    """Refuse what a caller could take for a problem of ours.

    The type is what callers tell a problem by, and the problem's `outcome` says
    whether to send again: only the gateway may say that. So a verified answer is
    refused too, since no signature covers its type; whoever could change the type
    on the way could as well have spoiled the signature.
    """
    if PROBLEM_TYPE in content_type.lower():
        record.result_code = None
        msg = f"The answer's Content-Type is {PROBLEM_TYPE}, which is the gateway's."
        raise ResponseMalformed(msg)


def _chosen(headers: Headers) -> dict[str, str]:
    """Pick the headers that go back; of a repeated one, the first."""
    found = by_name(headers)
    chosen: dict[str, str] = {}
    for name, passed in _PASSED_ON.items():
        for value in found.get(name, ()):
            if value.isascii() and value.isprintable():
                chosen.setdefault(passed, value)
    return chosen


def _problem_of(
    error: Exception, record: ExchangeRecord, attempts: Attempts
) -> Response:
    """Return the answer to whatever ended an exchange."""
    told = attempts.told(error)
    if told is not error:
        record.error = _place_of(error)
    response = _failed(told, record)
    # Whoever sent what is invalid may see its end, and what is behind, elsewhere. A
    # stranger has nothing more of what it sends held, or read.
    response.closes = isinstance(error, InvalidRequest | Unauthenticated)
    return response


def _failed(error: ExchangeError, record: ExchangeRecord) -> Response:
    record.code, record.outcome = error.code, str(error.outcome)
    if error.cause is not None:
        record.cause = error.cause
    return _finished(problem(error, record.exchange_id), record)


def _finished(response: Response, record: ExchangeRecord) -> Response:
    response.headers["Gateway-Exchange-Id"] = record.exchange_id
    response.headers["Server"] = "alipayhk-gateway"
    record.status = response.status
    return response


def _place_of(error: Exception) -> str:
    """Name the class and the place of a defect, without its text or values."""
    frames = traceback.extract_tb(error.__traceback__)
    place = (
        f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    )
    return f"{type(error).__name__}{place}"
