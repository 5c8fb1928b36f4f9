"""AlipayHK as an object in memory. Not for production.

    ReceivedRequest ─ receive ─ plain_body ─ decide ─ answer ─▶ SimulatedResponse
                        └──────────┴─ refusal, unsigned ─▶ SimulatedResponse

Decided here, as nothing public says it of AlipayHK:

* An unknown path is answered `INVALID_API`, F, signed.
* A requestId that comes again with another body is `PARAM_ILLEGAL`.
* An answer is encrypted to the partner's key that signed the request.
* A request that cannot be decrypted is refused by the edge, unsigned.
* A Request-Time far from its clock is remarked on, not refused.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from gateway.errors import ExchangeError
from gateway.protocol import (
    CONTENT_KEY_BYTES,
    ReceivedRequest,
    ReceivedResponse,
    SignedMessage,
    VerifiedRequest,
    draft_response,
    format_time,
)
from gateway.protocol.messages import JSON_UTF8
from gateway.simulator import calls
from gateway.simulator.answers import SimulatedResponse
from gateway.simulator.exchanges import Exchange, Record, remarks_on
from gateway.simulator.faults import NO_FAULT, Fault, UnknownFault
from gateway.simulator.memory import RequestIdReused, RequestKey, ResultMemory
from gateway.simulator.reception import (
    claimed,
    claimed_version,
    plain_body,
    receive,
    refusal,
)
from gateway.simulator.registry import Registry
from gateway.simulator.results import ResultInfo, param_illegal
from gateway.simulator.selection import StandingOrder, fault_for

Clock: TypeAlias = Callable[[], datetime]
Entropy: TypeAlias = Callable[[int], bytes]

_REMEMBERED: Final = 1000
_TRACER_BYTES: Final = 14


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a request is answered, before the answer is made."""

    result: ResultInfo
    fault: Fault = NO_FAULT
    repeated: bool = False


class AlipayHK:
    """The simulator. Also an `Upstream` of the relay, by its `send`.

    Args:
        keys: its private keys, by version. All of them decrypt.
        active: the version that signs.
        partners: the registered public keys: by Client-Id, then by version. All of
            them verify, the last registered first.
        clock: gives its time, aware.
        entropy: gives so many random bytes.

    Attributes:
        registry: the keys; change them here.
        standing: the fault for requests that name none; see `selection`.
    """

    def __init__(
        self,
        *,
        keys: Mapping[str, RSAPrivateKey],
        active: str,
        partners: Mapping[str, Mapping[str, RSAPublicKey]],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.registry = Registry(keys, active, partners)
        self.standing = StandingOrder()
        self._clock = clock
        self._entropy = entropy
        self._memory = ResultMemory()
        self._records: deque[Record] = deque(maxlen=_REMEMBERED)

    @property
    def records(self) -> tuple[Record, ...]:
        """The last 1000 exchanges, the oldest first."""
        return tuple(self._records)

    def respond(self, request: ReceivedRequest) -> SimulatedResponse:
        """Answer a request."""
        return self.exchange(request).response

    async def send(
        self,
        request: SignedMessage,
        *,
        timeout_s: float,
        on_write: Callable[[], None],
        memory: object = None,  # noqa: ARG002 - the port's: nothing is held here
    ) -> ReceivedResponse:
        """Answer a request of ours at once, as the relay's upstream.

        Raises:
            ExchangeError: where a client with a socket would end so.
        """
        del timeout_s  # in memory an answer comes at once or never
        on_write()
        method = request.draft.method
        received = ReceivedRequest(
            method, request.target, request.headers, request.body
        )
        return self.respond(received).received()

    def exchange(self, request: ReceivedRequest) -> Exchange:
        """Answer a request, and tell all about it."""
        tracer_id = self._entropy(_TRACER_BYTES).hex()
        try:
            verified = receive(request, self.registry)
            body = plain_body(verified, self.registry)
        except ExchangeError as error:
            version = claimed_version(request)
            decision = _Decision(refusal(error))
            response = _refuse(request, decision.result, tracer_id)
        else:
            version = verified.key_version
            decision = self._decide(verified, body)
            response = self._answer(verified, decision, tracer_id)
        record = self._record(request, version, decision, response, tracer_id)
        self._records.append(record)
        return Exchange(record, request, response)

    def _decide(self, request: VerifiedRequest, body: bytes) -> _Decision:
        value = calls.members_of(body)
        try:
            fault = fault_for(request.target, value, self.standing)
        except UnknownFault as error:
            return _Decision(param_illegal(str(error)))
        key = _request_key(request, value)
        if fault.result is not None:
            self._memory.keep(key, body, fault.result)
            return _Decision(fault.result, fault)
        try:
            remembered = self._memory.recall(key, body)
        except RequestIdReused as error:
            return _Decision(param_illegal(str(error)), fault)
        result = remembered or calls.process(request.target, body)
        self._memory.keep(key, body, result)
        return _Decision(result, fault, repeated=remembered is not None)

    def _answer(
        self, request: VerifiedRequest, decision: _Decision, tracer_id: str
    ) -> SimulatedResponse:
        fault, registry = decision.fault, self.registry
        time = format_time(self._clock())
        body = decision.result.body(calls.envelope_of(request.target))
        draft = fault.draft(draft_response(request, time=time, body=body))
        encrypted = fault.encrypted
        if encrypted is None:
            encrypted = request.encrypt is not None
        if encrypted:
            content_key = self._entropy(CONTENT_KEY_BYTES)
            recipient = registry.recipient(request)
            draft = fault.seal(draft, content_key, recipient, registry.active)
        signed = registry.sign(draft)
        headers = [*signed.headers, ("Tracer-Id", tracer_id)]
        return fault.finish(
            SimulatedResponse(200, headers, signed.body, fault.delivery)
        )

    def _record(
        self,
        request: ReceivedRequest,
        version: str | None,
        decision: _Decision,
        response: SimulatedResponse,
        tracer_id: str,
    ) -> Record:
        now = self._clock()
        return Record(
            time=format_time(now),
            method=request.method,
            target=request.target,
            client_id=claimed(request, "Client-Id"),
            key_version=version,
            encrypted=claimed(request, "Encrypt") is not None,
            body_sha256=hashlib.sha256(request.body).hexdigest(),
            result=decision.result.code,
            status=decision.result.status,
            signed=any(name.lower() == "signature" for name, _ in response.headers),
            fault=decision.fault.name,
            repeated=decision.repeated,
            remarks=tuple(remarks_on(request, now)),
            tracer_id=tracer_id,
        )


def _refuse(
    request: ReceivedRequest, result: ResultInfo, tracer_id: str
) -> SimulatedResponse:
    headers = [("Content-Type", JSON_UTF8), ("Tracer-Id", tracer_id)]
    body = result.body(calls.envelope_of(request.target))
    return SimulatedResponse(200, headers, body)


def _request_key(
    request: VerifiedRequest, value: calls.JsonObject
) -> RequestKey | None:
    request_id = value.get("requestId")
    if not isinstance(request_id, str):
        return None
    return request.client_id, calls.path_of(request.target), request_id
