"""Known answers under the key pair that AlipayHK's documentation prints."""

import base64
import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
)

from gateway.protocol import (
    Freshness,
    PublicKey,
    ReceivedRequest,
    ReceivedResponse,
    attach_signature,
    decrypt,
    draft_request,
    encrypt,
    parse_time,
    read_encryption,
    sign,
    signature_base,
    unwrap,
    verify_request,
    verify_response,
)
from gateway.protocol.encoding import decode_value, encode_value
from tests import peer

KAT = json.loads(Path(__file__).with_name("alipayhk_kat.json").read_text("utf-8"))


def named(entries):
    return [pytest.param(entry, id=entry["name"]) for entry in entries]


SIGNATURES = named(KAT["signatures"])
REQUESTS = named(
    entry for entry in KAT["signatures"] if entry["name"].startswith("req_")
)
RESPONSES = named(
    entry for entry in KAT["signatures"] if entry["name"].startswith("rsp_")
)


@pytest.fixture(scope="module")
def private_key():
    der = base64.b64decode(KAT["private_key_pkcs8_base64"])
    return load_der_private_key(der, password=None)


@pytest.fixture(scope="module")
def public_key():
    der = base64.b64decode(KAT["public_key_spki_base64"])
    return PublicKey("1", load_der_public_key(der))


def draft_of(known):
    return draft_request(
        target=known["uri"],
        client_id=known["client_id"],
        time=known["time"],
        body=known["body"].encode("utf-8"),
    )


def test_no_kind_of_known_answer_is_missing():
    assert len(REQUESTS) == 4
    assert len(RESPONSES) == 1
    assert len(KAT["aes_ecb"]) == 3
    assert len(KAT["rsa_wrapped_keys"]) == 2


@pytest.mark.parametrize("known", SIGNATURES)
def test_the_signature_base_is_the_known_one(known):
    base = signature_base(draft_of(known))
    assert known["method"] == "POST"
    assert base == known["content_to_be_signed"].encode("utf-8")
    assert hashlib.sha256(base).hexdigest() == known["content_sha256"]


@pytest.mark.parametrize("known", SIGNATURES)
def test_the_signature_and_its_header_are_the_known_ones(known, private_key):
    draft = draft_of(known)
    signature = sign(private_key, signature_base(draft))
    assert signature == base64.b64decode(known["signature_base64"])
    assert encode_value(signature) == known["signature_urlencoded"]
    signed = attach_signature(draft, signature, key_version="1")
    assert dict(signed.headers)["Signature"] == known["header"]


@pytest.mark.parametrize("known", REQUESTS)
def test_a_known_request_is_verified(known, public_key):
    received = ReceivedRequest(
        known["method"],
        known["uri"],
        [
            ("client-id", known["client_id"]),
            ("request-time", known["time"]),
            ("signature", known["header"]),
        ],
        known["body"].encode("utf-8"),
    )
    verified = verify_request(received, keys=[public_key])
    assert verified.body == received.body
    assert verified.time_text == known["time"]


@pytest.mark.parametrize("known", SIGNATURES)
def test_a_known_answer_is_verified(known, public_key):
    """Requests too: the signature base has the same form both ways."""
    received = ReceivedResponse(
        200,
        [
            ("Client-Id", known["client_id"]),
            ("Response-Time", known["time"]),
            ("Signature", known["header"]),
        ],
        known["body"].encode("utf-8"),
    )
    verified = verify_response(
        received,
        request=peer.sent_request(target=known["uri"], client_id=known["client_id"]),
        keys=[public_key],
        freshness=Freshness(parse_time(known["time"]), timedelta(0)),
    )
    assert verified.body == received.body


@pytest.fixture
def encrypted_answer(platform_key, platform_public):
    """Give a function that verifies an answer with a known encrypted body."""

    def verify(body, header):
        return verify_response(
            peer.answer(platform_key, body, encrypt=header),
            request=peer.sent_request(),
            keys=[platform_public],
            freshness=peer.FRESH,
        )

    return verify


@pytest.mark.parametrize("known", named(KAT["aes_ecb"]))
def test_a_known_ciphertext_is_decrypted(known, encrypted_answer):
    message = encrypted_answer(known["ciphertext_base64"].encode("ascii"), "x")
    content_key = bytes.fromhex(known["aes_key_hex"])
    assert decrypt(message, content_key) == known["plaintext"].encode("utf-8")


@pytest.mark.parametrize(
    "known", named(entry for entry in KAT["aes_ecb"] if "256" in entry["name"])
)
def test_encrypting_gives_the_known_ciphertext(known, public_key):
    draft = peer.sent_request(body=known["plaintext"].encode("utf-8")).draft
    encrypted = encrypt(draft, bytes.fromhex(known["aes_key_hex"]), public_key)
    assert encrypted.body.decode("ascii") == known["ciphertext_base64"]


@pytest.mark.parametrize("known", named(KAT["rsa_wrapped_keys"]))
def test_a_known_wrapped_key_is_unwrapped(known, private_key, encrypted_answer):
    content_key = bytes.fromhex(known["aes_key_hex"])
    for spelling in ("symmetricKey_base64", "symmetricKey_urlencoded"):
        header = f"algorithm=RSA_AES,keyVersion=1,symmetricKey={known[spelling]}"
        wrapped = read_encryption(encrypted_answer(b"", header)).wrapped_key
        assert wrapped == decode_value(known["symmetricKey_base64"])
        assert unwrap(private_key, wrapped) == content_key
    assert encode_value(wrapped) == known["symmetricKey_urlencoded"]
