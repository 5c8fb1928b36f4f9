"""The types: what they refuse to be, and what they refuse to show."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from gateway.errors import UntrustedAnswer
from gateway.protocol import (
    EncryptField,
    ReceivedRequest,
    ReceivedResponse,
    Result,
    SignatureField,
    SignedMessage,
    UnsignedRefusal,
    VerifiedRequest,
    VerifiedResponse,
    verify_request,
    verify_response,
)
from gateway.protocol.messages import IndexedHeaders, Proof, Verified, by_name
from tests import peer

CANARY = b'{"canary":"CANARY-4711","resultInfo":{"resultStatus":"F"}}'


@pytest.fixture
def verified_response(platform_key, partner_public, platform_public):
    answer = peer.sealed_answer(platform_key, partner_public.rsa, CANARY)
    return verify_response(
        answer,
        request=peer.sent_request(),
        keys=[platform_public],
        freshness=peer.FRESH,
    )


@pytest.fixture
def verified_request(partner_key, partner_public):
    return verify_request(peer.call(partner_key, CANARY), keys=[partner_public])


@pytest.mark.parametrize("proof", [None, object(), Proof, True, "proof"])
@pytest.mark.parametrize("kind", [Verified, VerifiedRequest, VerifiedResponse])
def test_a_verified_message_cannot_be_made_without_proof(kind, proof):
    parts = {part.name: None for part in fields(kind)}
    with pytest.raises(TypeError, match="made by verifying"):
        kind(**(parts | {"proof": proof}))


def test_a_subclass_of_the_proof_is_no_proof():
    class Forged(Proof):
        pass

    parts = {part.name: None for part in fields(VerifiedResponse)}
    with pytest.raises(TypeError, match="made by verifying"):
        VerifiedResponse(**(parts | {"proof": Forged()}))


def test_a_received_response_is_not_a_verified_one(verified_response):
    assert isinstance(verified_response, Verified)
    assert not isinstance(ReceivedResponse(200, [], b""), Verified)
    assert not issubclass(UnsignedRefusal, Verified)


@pytest.mark.parametrize("name", ["body", "client_id", "encrypt", "headers", "status"])
def test_a_verified_response_cannot_be_changed(name, verified_response):
    with pytest.raises(FrozenInstanceError):
        setattr(verified_response, name, None)


@pytest.mark.parametrize("name", ["body", "client_id", "method", "target"])
def test_a_verified_request_cannot_be_changed(name, verified_request):
    with pytest.raises(FrozenInstanceError):
        setattr(verified_request, name, None)


@pytest.mark.parametrize(
    "value",
    [
        peer.sent_request(),
        peer.sent_request().draft,
        ReceivedRequest("POST", "/a", [], b""),
        ReceivedResponse(200, [], b""),
        UnsignedRefusal(200, [], b"", Result("F", "C")),
        Result("F", "C"),
        SignatureField("1", b"x"),
        EncryptField("1", b"x"),
        peer.FRESH,
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_can_be_changed(value):
    for part in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, part.name, None)


def test_a_key_cannot_be_changed(platform_public):
    with pytest.raises(FrozenInstanceError):
        platform_public.version = "2"


SIGNATURE = bytes(range(256))
WRAPPED_KEY = bytes(range(255, -1, -1))


@pytest.mark.parametrize(
    "message",
    [
        SignatureField("1", SIGNATURE),
        EncryptField("1", WRAPPED_KEY),
        peer.sent_request(body=CANARY),
        peer.sent_request(body=CANARY).draft,
        replace(peer.sent_request().draft, encryption=EncryptField("1", WRAPPED_KEY)),
        SignedMessage(peer.sent_request().draft, SignatureField("1", SIGNATURE)),
        ReceivedRequest("POST", "/a", [("X", "CANARY-4711")], CANARY),
        ReceivedResponse(200, [("X", "CANARY-4711")], CANARY),
        UnsignedRefusal(200, [("X", "CANARY-4711")], CANARY, Result("F", "C")),
    ],
    ids=lambda message: type(message).__name__,
)
def test_no_repr_shows_a_body_a_header_a_signature_or_a_key(message):
    shown = repr(message)
    assert "CANARY" not in shown
    for secret in (SIGNATURE, WRAPPED_KEY):
        assert repr(secret)[10:50] not in shown
        assert secret.hex() not in shown
        assert peer.signature_header(secret)[40:80] not in shown


def test_no_repr_of_a_verified_message_shows_its_body_or_headers(
    verified_request, verified_response
):
    for message in (verified_request, verified_response):
        assert "CANARY" not in repr(message)
        assert "signature=" not in repr(message)
        assert "symmetricKey" not in repr(message)
        assert message.body.decode() not in repr(message)


@pytest.mark.parametrize("name", ["Signature", "Response-Time", "Client-Id"])
@pytest.mark.parametrize(
    "values", [["CANARY-4711"], ["CANARY-4711"] * 2, ["CANARY-4711\x00"], []]
)
def test_no_error_shows_a_body_or_a_header(name, values, platform_key, platform_public):
    body = CANARY.replace(b'"F"', b'"S"')
    answer = peer.answer(platform_key, body)
    headers = peer.with_header(answer.headers, name, *values)
    with pytest.raises(UntrustedAnswer) as caught:
        verify_response(
            ReceivedResponse(200, headers, body),
            request=peer.sent_request(),
            keys=[platform_public],
            freshness=peer.FRESH,
        )
    assert "CANARY" not in caught.value.detail
    assert "signature=" not in caught.value.detail
    assert caught.value.__cause__ is None


HEADERS = [("B", "1"), ("a", "2"), ("b", "3"), ("A-b", ""), ("B", "1")]


def test_indexed_headers_are_the_same_pairs_in_their_order():
    assert list(IndexedHeaders(HEADERS)) == HEADERS
    assert list(IndexedHeaders(iter(HEADERS))) == HEADERS
    assert IndexedHeaders(()) == ()


@pytest.mark.parametrize("headers", [HEADERS, IndexedHeaders(HEADERS)])
def test_headers_are_found_in_any_case_with_all_repeats(headers):
    assert by_name(headers) == {"b": ["1", "3", "1"], "a": ["2"], "a-b": [""]}


def test_headers_that_are_indexed_are_not_indexed_again():
    headers = IndexedHeaders(HEADERS)
    assert by_name(headers) is headers.by_name


def test_the_lines_of_a_message_are_its_headers(platform_public):
    for message in (peer.sent_request(), peer.sent_encrypted_request(platform_public)):
        lines = [f"{name}: {value}\r\n" for name, value in message.headers]
        assert message.header_lines == "".join(lines)
