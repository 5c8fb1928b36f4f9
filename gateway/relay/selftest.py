"""The power-on self-test: a keyring is used only after it passed.

Our own active pair plays both parties, so that no key of AlipayHK's is needed:
what is signed verifies, what is encrypted decrypts; and a tampered, an unsigned
and a downgraded message go through the real verification. If one of those is
accepted, the ring, or this build, is not fit to be used.
"""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.errors import (
    EncryptionDowngraded,
    ExchangeError,
    KeyringError,
    KeyUnavailable,
    SignatureInvalid,
    SignatureMissing,
)
from gateway.keys.keyring import Keyring
from gateway.keys.ports import PrivateKey
from gateway.protocol import (
    CONTENT_KEY_BYTES,
    Draft,
    EncryptField,
    Freshness,
    ReceivedRequest,
    ReceivedResponse,
    SignedMessage,
    VerifiedRequest,
    VerifiedResponse,
    attach_signature,
    decrypt,
    draft_request,
    draft_response,
    encrypt,
    format_time,
    read_encryption,
    signature_base,
    verify_request,
    verify_response,
)
from gateway.relay.ports import Entropy

_WHEN: Final = datetime(2024, 5, 22, 6, 42, 21, tzinfo=UTC)
_TIME: Final = format_time(_WHEN)
_BODY: Final = b'{"resultInfo": {"resultCode":"SUCCESS","resultStatus":"S"}}\r\n'
_TAMPERED: Final = _BODY.replace(b"SUCCESS", b"SUCCES5")


async def self_test(ring: Keyring, entropy: Entropy) -> None:
    """Pass if the ring's keys do what they are for. Skips a ring that has no signer.

    A key that only decrypts and is out of reach is passed over: while an HSM is gone,
    a ring that signs with another key must be taken up.

    Raises:
        KeyringError: what failed. The ring must not be used.
    """
    signer = ring.active_signer
    if signer is None:
        return
    try:
        request = await _test_request(signer)
        response = await _test_response(signer, request)
        for key in ring.decrypters:
            # Out of reach is not broken.
            passing = suppress(KeyUnavailable) if key is not signer else nullcontext()
            with passing:
                await _test_decryption(signer, key, entropy)
        if ring.canary is not None:
            tried = ring.canary.key
            await _test_response(tried, await _test_request(tried))
        if ring.active_recipient is not None:
            encrypt(request.draft, entropy(CONTENT_KEY_BYTES), ring.active_recipient)
    except (ExchangeError, ValueError) as error:
        msg = f"self-test failed: the keys do not work ({type(error).__name__})"
        raise KeyringError(msg) from error
    _test_refusals(signer, request, response)


async def _test_request(signer: PrivateKey) -> SignedMessage:
    draft = draft_request(
        target="/self-test?a=1", client_id="T", time=_TIME, body=_BODY
    )
    return await _signed(signer, draft)


async def _test_response(
    signer: PrivateKey, request: SignedMessage
) -> ReceivedResponse:
    verified = _verified_request(signer, request)
    answer = await _signed(signer, draft_response(verified, time=_TIME, body=_BODY))
    response = ReceivedResponse(200, answer.headers, answer.body)
    _verify(signer, request, response)
    return response


async def _test_decryption(
    signer: PrivateKey, unwrapper: PrivateKey, entropy: Entropy
) -> None:
    """Encrypt to one of our own keys and read it back, both ways."""
    draft = draft_request(target="/self-test", client_id="T", time=_TIME, body=_BODY)
    draft = encrypt(draft, entropy(CONTENT_KEY_BYTES), unwrapper.public)
    verified = _verified_request(signer, await _signed(signer, draft))
    wrapped_key = read_encryption(verified).wrapped_key
    if decrypt(verified, await unwrapper.unwrap(wrapped_key)) != _BODY:
        msg = "decryption gave other bytes"
        raise ValueError(msg)


def _verified_request(signer: PrivateKey, request: SignedMessage) -> VerifiedRequest:
    received = ReceivedRequest("POST", request.target, request.headers, request.body)
    return verify_request(received, keys=[signer.public])


def _test_refusals(
    signer: PrivateKey, request: SignedMessage, response: ReceivedResponse
) -> None:
    """See that nothing false is believed, through the real verification."""
    mark = EncryptField(None, bytes(signer.public.size_bytes))
    encrypted = replace(request, draft=replace(request.draft, encryption=mark))
    unsigned = replace(response, headers=[("Client-Id", "T")])
    tampered = replace(response, body=_TAMPERED)
    _expect(SignatureInvalid, lambda: _verify(signer, request, tampered))
    _expect(SignatureMissing, lambda: _verify(signer, request, unsigned))
    _expect(EncryptionDowngraded, lambda: _verify(signer, encrypted, response))


def _verify(
    signer: PrivateKey, request: SignedMessage, response: ReceivedResponse
) -> None:
    verified = verify_response(
        response,
        request=request,
        keys=[signer.public],
        freshness=Freshness(_WHEN, timedelta(0)),
    )
    if not isinstance(verified, VerifiedResponse) or verified.body != _BODY:
        msg = "verification gave something else"
        raise ValueError(msg)


def _expect(error: type[ExchangeError], verification: Callable[[], None]) -> None:
    try:
        verification()
    except error:
        return
    except (ExchangeError, ValueError):
        pass
    msg = f"self-test failed: a message that is {error.code} was not refused as such"
    raise KeyringError(msg)


async def _signed(signer: PrivateKey, draft: Draft) -> SignedMessage:
    signature = await signer.sign(signature_base(draft))
    return attach_signature(draft, signature, key_version=signer.public.version)
