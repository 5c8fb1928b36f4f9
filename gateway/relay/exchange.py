"""The exchange: a service's bytes in, AlipayHK's verified bytes out.

    prepare → encrypt → sign → send → verify → decrypt

`Relay.exchange` is those lines; everything else here serves them. Which key signs is
`gateway.relay.trial`'s to say, and `gateway.relay.delivery` signs, sends and repeats.
The bytes that are signed are the bytes that are sent, and the bytes that were verified
are the bytes that are passed back.
"""

from functools import partial
from typing import Final

from gateway.errors import (
    DecryptionFailed,
    ExchangeError,
    InvalidRequest,
    KeyUnavailable,
    ResponseStale,
)
from gateway.events import REFUSED, VERIFIED, ExchangeRecord
from gateway.keys.keyring import Keyring
from gateway.keys.ports import PrivateKey
from gateway.protocol import (
    CONTENT_KEY_BYTES,
    Draft,
    Freshness,
    ReceivedResponse,
    Result,
    SignedMessage,
    UnsignedRefusal,
    VerifiedResponse,
    check_request_body,
    draft_request,
    encrypt,
    format_time,
    verify_response,
)
from gateway.protocol.encryption import decrypt_object
from gateway.protocol.fields import check_key_version
from gateway.protocol.outgoing import check_target
from gateway.relay.delivery import Delivery
from gateway.relay.lots import Lots
from gateway.relay.outcome import Answer, Attempts
from gateway.relay.ports import Clock, Entropy
from gateway.relay.routes import Call, Client, Route
from gateway.relay.trial import Terms, carry_out

_REPEATED: Final = (
    "The answer was accepted before, for an earlier request: something between this "
    "gateway and AlipayHK repeats answers."
)


class Relay:
    """Carries out exchanges. Holds nothing that belongs to one of them."""

    def __init__(self, clock: Clock, entropy: Entropy, lots: Lots) -> None:
        self._clock = clock
        self._entropy = entropy
        self._lots = lots

    async def exchange(
        self, route: Route, call: Call, record: ExchangeRecord, attempts: Attempts
    ) -> Answer:
        """Bring a call to AlipayHK and its verified answer back.

        Args:
            route: where the call goes.
            call: what the service sent.
            record: filled in as the exchange goes, also where it fails.
            attempts: the exchange's own; says afterwards whether any was written.

        Raises:
            ExchangeError: no answer may be passed on; its outcome says whether
                AlipayHK may have acted.
        """
        client = route.client
        record.client, record.route = client.name, route.path
        record.encrypted = route.encryption_for(call.encrypt)
        check_call_target(call.target)
        check_request_body(call.body)
        ring = _ring_of(client)
        draft = draft_request(
            target=call.target,
            client_id=client.client_id,
            time=format_time(self._clock.now(), client.zone),
            body=call.body,
        )
        content_key = None
        if record.encrypted:
            content_key = self._entropy(CONTENT_KEY_BYTES)
            draft = _encrypted(draft, content_key, ring, client)
            record.encrypted_to = ring.recipient.version
            call.memory.add(len(draft.body))
        delivery = Delivery(
            self._clock, self._entropy, route, call, record, attempts=attempts
        )
        asked = ring, draft, content_key
        try:
            if ring.canary is None:
                answer = await self._attempt(delivery, *asked, ring.signer)
            else:
                attempt = partial(self._attempt, delivery, *asked)
                lot = self._lots(record.exchange_id)
                terms = Terms(client.signature_refusal_codes, attempts, lot)
                answer = await carry_out(attempt, ring, client.canary, terms, record)
        except ExchangeError as error:
            answer = attempts.settle(error)
        finally:
            attempts.last = None
        record.code = VERIFIED if answer.refusal is None else REFUSED
        return answer

    async def _attempt(
        self,
        delivery: Delivery,
        ring: Keyring,
        draft: Draft,
        content_key: bytes | None,
        signer: PrivateKey,
    ) -> Answer:
        """Sign with this key, send, and give the answer, verified and decrypted."""
        client, record = delivery.route.client, delivery.record
        request, received = await delivery(signer, draft)
        response = self._verify(delivery, ring, request, received)
        if isinstance(response, UnsignedRefusal):
            refused = delivery.attempts.last = _refused(response, record)
            return refused
        if response.encrypt is None:
            body, result = response.body, response.result
        else:
            body, result = await _decrypt(client, ring, response, content_key, record)
            delivery.memory.add(len(body))
        if result is not None:
            record.result_code = result.code
        return Answer(response.status, response.headers, body)

    def _verify(
        self,
        delivery: Delivery,
        ring: Keyring,
        request: SignedMessage,
        received: ReceivedResponse,
    ) -> VerifiedResponse | UnsignedRefusal:
        client, record = delivery.route.client, delivery.record
        replays, sent = client.replays, delivery.started_at
        now = self._clock.now()
        try:
            response = verify_response(
                received,
                request=request,
                keys=ring.verifiers,
                freshness=Freshness(
                    now, client.clock_tolerance, replays.earliest(sent)
                ),
            )
        except ResponseStale as error:
            record.clock_skew_s = error.skew_s
            if abs(error.skew_s) <= client.clock_tolerance.total_seconds():
                replays.refuse(error.signature)
                replays.learn(now.timestamp() + error.skew_s, delivery.received_at)
            raise
        if isinstance(response, VerifiedResponse):
            skew_s = record.clock_skew_s = (response.time - now).total_seconds()
            if not replays.admits(response.signature, sent, delivery.received_at):
                raise ResponseStale(_REPEATED, skew_s)
            replays.learn(response.time.timestamp(), delivery.received_at)
            record.verified_by = response.key_version
        return response


def check_call_target(target: str) -> str:
    """Give `target` back if it can be sent and signed as it stands.

    Raises:
        InvalidRequest: it is no path, or holds what must be escaped.
    """
    try:
        return check_target(target)
    except ValueError as error:
        msg = f"The request-target is not valid: {error}."
        raise InvalidRequest(msg) from None


def _encrypted(
    draft: Draft, content_key: bytes, ring: Keyring, client: Client
) -> Draft:
    return encrypt(
        draft,
        content_key,
        ring.recipient,
        content_type=client.encrypted_content_type,
        send_key_version=client.send_key_version,
    )


def _ring_of(client: Client) -> Keyring:
    """Take the ring in use, once per exchange.

    Raises:
        KeyUnavailable: there is none, or no answer could be verified by it: AlipayHK
            would act, and nobody would know.
    """
    ring = client.keyrings.current
    if not ring.verifiers:
        msg = "No platform key may verify the answer, so nothing was sent."
        raise KeyUnavailable(msg)
    return ring


async def _decrypt(
    client: Client,
    ring: Keyring,
    response: VerifiedResponse,
    request_key: bytes | None,
    record: ExchangeRecord,
) -> tuple[bytes, Result | None]:
    """Give the plain body of an encrypted response, and what it says of the request."""
    if client.reuse_content_key and request_key is not None:
        try:
            return decrypt_object(response, request_key)
        except DecryptionFailed:
            raise DecryptionFailed from None  # no key of ours had a part in it
    opened = await ring.opened(response)
    record.decrypted_by = opened.version
    if opened.named not in (None, opened.version):
        record.decryption_label = _shown(opened.named)
    return opened.body, opened.result


def _shown(label: str) -> str:
    """Return a key version as a log may show it: no signature covers it."""
    try:
        return check_key_version(label)
    except ValueError:
        return "(not readable)"


def _refused(response: UnsignedRefusal, record: ExchangeRecord) -> Answer:
    record.result_code = response.result.code
    return Answer(response.status, response.headers, response.body, response.result)
