"""AlipayHK as an object in memory. Not for production.

It reads a request in the order in which AlipayHK must: who sends it, does the
signature hold over the exact bytes, can it be decrypted, what does it ask. What
fails before the last step is answered as AlipayHK's edge does: HTTP 200, resultStatus
F, without Signature and Response-Time. Everything later is signed, and encrypted if
the request was.

Decided here, as nothing says it of AlipayHK:

* An unknown path is a signed `INVALID_API`, F.
* A requestId that comes again with another body is `PARAM_ILLEGAL`.
* An answer is encrypted to the partner's key that signed the request.
* A Request-Time far from its clock is remarked on, not refused.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from gateway.errors import (
    DecryptionFailed,
    ExchangeError,
    InvalidRequest,
    KeyVersionUnknown,
    MethodNotAllowed,
    SignatureInvalid,
    Unauthenticated,
)
from gateway.protocol import (
    CONTENT_KEY_BYTES,
    Draft,
    FieldError,
    PublicKey,
    ReceivedRequest,
    ReceivedResponse,
    SignatureField,
    SignedMessage,
    VerifiedRequest,
    attach_signature,
    decrypt,
    draft_response,
    format_time,
    read_encryption,
    sign,
    signature_base,
    unwrap,
    verify_request,
)
from gateway.protocol.incoming import single
from gateway.protocol.messages import JSON_UTF8, POST
from gateway.simulator import calls
from gateway.simulator.answers import SimulatedResponse
from gateway.simulator.exchanges import Exchange, Record, remarks_on
from gateway.simulator.faults import NO_FAULT, Fault, UnknownFault
from gateway.simulator.memory import RequestIdReused, RequestKey, ResultMemory
from gateway.simulator.results import (
    INVALID_SIGNATURE,
    SUCCESS,
    ResultInfo,
    param_illegal,
)
from gateway.simulator.selection import StandingOrder, fault_for

Clock = Callable[[], datetime]
Entropy = Callable[[int], bytes]

_REMEMBERED: Final = 1000
_TRACER_BYTES: Final = 14
_REFUSALS: Final[dict[type[ExchangeError], ResultInfo]] = {
    MethodNotAllowed: ResultInfo(
        "METHOD_NOT_SUPPORTED", "F", "The method must be POST."
    ),
    Unauthenticated: ResultInfo(
        "INVALID_CLIENT", "F", "No partner is registered under this Client-Id."
    ),
    SignatureInvalid: INVALID_SIGNATURE,
    KeyVersionUnknown: ResultInfo(
        "KEY_NOT_FOUND", "F", "The keyVersion of a header is not registered."
    ),
    DecryptionFailed: param_illegal(
        "the body cannot be decrypted with the key that Encrypt names"
    ),
}


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
        self._keys = dict(keys)
        self._active = active
        self._partners = {name: dict(theirs) for name, theirs in partners.items()}
        self._clock = clock
        self._entropy = entropy
        self._memory = ResultMemory()
        self._records: deque[Record] = deque(maxlen=_REMEMBERED)
        self.standing = StandingOrder()

    @property
    def records(self) -> tuple[Record, ...]:
        """The last 1000 exchanges, the oldest first."""
        return tuple(self._records)

    @property
    def public_keys(self) -> Mapping[str, RSAPublicKey]:
        """Its public keys, by version: what partners verify and encrypt with."""
        return {version: key.public_key() for version, key in self._keys.items()}

    def register(self, client_id: str, version: str, key: RSAPublicKey) -> None:
        """Register a partner's public key, as on AlipayHK's console."""
        self._partners.setdefault(client_id, {})[version] = key

    def rotate(self, version: str, key: RSAPrivateKey) -> None:
        """Sign with a new key from now on; the earlier ones still decrypt."""
        self._keys[version] = key
        self._active = version

    def respond(self, request: ReceivedRequest) -> SimulatedResponse:
        """Answer a request."""
        return self.exchange(request).response

    async def send(
        self, request: SignedMessage, *, timeout_s: float
    ) -> ReceivedResponse:
        """Answer a request of ours at once, as the relay's upstream.

        Raises:
            ExchangeError: where a client with a socket would end so.
        """
        del timeout_s  # an answer in memory is never late, or for ever
        return self.respond(
            ReceivedRequest(
                request.draft.method, request.target, request.headers, request.body
            )
        ).received()

    def exchange(self, request: ReceivedRequest) -> Exchange:
        """Answer a request, and tell all about it."""
        tracer_id = self._entropy(_TRACER_BYTES).hex()
        try:
            verified = self._verify(request)
            body = self._open(verified)
        except ExchangeError as error:
            key_version = _claimed_version(request)
            decision = _Decision(_refusal(error))
            response = _unsigned(request, decision.result, tracer_id)
        else:
            key_version = verified.key_version
            decision = self._decide(verified, body)
            response = self._answer(verified, decision, tracer_id)
        record = Record(
            time=format_time(self._clock()),
            method=request.method,
            target=request.target,
            client_id=_claimed(request, "Client-Id"),
            key_version=key_version,
            encrypted=_claimed(request, "Encrypt") is not None,
            body_sha256=hashlib.sha256(request.body).hexdigest(),
            result=decision.result.code,
            status=decision.result.status,
            signed=any(name == "Signature" for name, _ in response.headers),
            fault=decision.fault.name,
            repeated=decision.repeated,
            remarks=tuple(remarks_on(request, self._clock())),
            tracer_id=tracer_id,
        )
        self._records.append(record)
        return Exchange(record, request, response)

    def _verify(self, request: ReceivedRequest) -> VerifiedRequest:
        if request.method != POST:
            raise MethodNotAllowed(request.method)
        client_id = single(request.headers, "Client-Id", InvalidRequest)
        if client_id is not None and client_id not in self._partners:
            raise Unauthenticated(client_id)
        theirs = self._partners.get(client_id or "", {})
        keys = [PublicKey(version, key) for version, key in theirs.items()]
        return verify_request(request, keys=keys[::-1])

    def _open(self, request: VerifiedRequest) -> bytes:
        """Give the plain body of a verified request."""
        if request.encrypt is None:
            return request.body
        field = read_encryption(request)
        if field.key_version is None:
            candidates = [self._keys[self._active], *self._keys.values()]
        elif field.key_version in self._keys:
            candidates = [self._keys[field.key_version]]
        else:
            raise KeyVersionUnknown(field.key_version)
        for key in candidates:
            try:
                return decrypt(request, unwrap(key, field.wrapped_key))
            except DecryptionFailed:
                continue
        raise DecryptionFailed

    def _decide(self, request: VerifiedRequest, body: bytes) -> _Decision:
        problem = None
        try:
            value = calls.read_body(body)
        except InvalidRequest as error:
            value, problem = {}, error.detail.rstrip(".")
        try:
            fault = fault_for(request.target, value, self.standing)
        except UnknownFault as error:
            return _Decision(param_illegal(str(error)))
        key = _request_key(request, value)
        if fault.result is not None:
            self._memory.keep(key, body, fault.result)
            return _Decision(fault.result, fault)
        if problem is not None:
            return _Decision(param_illegal(problem), fault)
        try:
            remembered = self._memory.recall(key, body)
        except RequestIdReused as error:
            return _Decision(param_illegal(str(error)), fault)
        result = remembered or _process(request.target, value)
        self._memory.keep(key, body, result)
        return _Decision(result, fault, repeated=remembered is not None)

    def _answer(
        self, request: VerifiedRequest, decision: _Decision, tracer_id: str
    ) -> SimulatedResponse:
        fault = decision.fault
        draft = fault.draft(
            draft_response(
                request,
                time=format_time(self._clock()),
                body=decision.result.body(calls.envelope_of(request.target)),
            )
        )
        encrypted = request.encrypt is not None
        if encrypted if fault.encrypted is None else fault.encrypted:
            draft = self._seal(fault, draft, request)
        key = self._keys[self._active]
        signature = sign(key, signature_base(draft))
        signed = attach_signature(draft, signature, key_version=self._active)
        headers = [*signed.headers, ("Tracer-Id", tracer_id)]
        return fault.finish(
            SimulatedResponse(200, headers, signed.body, fault.delivery)
        )

    def _seal(self, fault: Fault, draft: Draft, request: VerifiedRequest) -> Draft:
        version = request.key_version
        partner = PublicKey(version, self._partners[request.client_id][version])
        ours = PublicKey(self._active, self._keys[self._active].public_key())
        return fault.seal(draft, self._entropy(CONTENT_KEY_BYTES), partner, ours)


def _process(target: str, value: calls.JsonObject) -> ResultInfo:
    call = calls.CALLS.get(calls.path_of(target))
    if call is None:
        return ResultInfo("INVALID_API", "F", "There is no such API.")
    problems = "; ".join(call.problems(value))
    return param_illegal(problems) if problems else SUCCESS


def _request_key(request: VerifiedRequest, value: calls.JsonObject) -> RequestKey:
    request_id = value.get("requestId")
    path = calls.path_of(request.target)
    return request.client_id, path, request_id if isinstance(request_id, str) else ""


def _refusal(error: ExchangeError) -> ResultInfo:
    return _REFUSALS.get(type(error)) or param_illegal(error.detail.rstrip("."))


def _unsigned(
    request: ReceivedRequest, result: ResultInfo, tracer_id: str
) -> SimulatedResponse:
    headers = [("Content-Type", JSON_UTF8), ("Tracer-Id", tracer_id)]
    return SimulatedResponse(
        200, headers, result.body(calls.envelope_of(request.target))
    )


def _claimed(request: ReceivedRequest, name: str) -> str | None:
    try:
        return single(request.headers, name, InvalidRequest)
    except InvalidRequest:
        return None


def _claimed_version(request: ReceivedRequest) -> str | None:
    try:
        return SignatureField.parse(_claimed(request, "Signature") or "").key_version
    except FieldError:
        return None
