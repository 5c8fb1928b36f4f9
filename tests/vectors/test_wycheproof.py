"""Project Wycheproof: RSA signatures and RSA decryption, RSA 2048.

The files are not part of this project; README.md says where they are looked for.
"""

import json
import os
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
)

from gateway.errors import DecryptionFailed
from gateway.protocol import PublicKey, decrypt, unwrap, verify_response
from gateway.protocol.signature import matches
from tests import peer

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("GATEWAY_SHARED") or CHECKOUT.parent / "shared")
FOLDER = SHARED / "vectors" / "wycheproof"

if not FOLDER.is_dir():
    pytest.skip(
        "no Wycheproof files: set GATEWAY_SHARED to a folder that has "
        "vectors/wycheproof (tests/vectors/README.md)",
        allow_module_level=True,
    )


def cases(name, key_field, *, valid):
    """Give (key, test) for each test of a file that is valid, or for the others."""
    content = json.loads((FOLDER / name).read_text("utf-8"))
    return [
        pytest.param(group[key_field], test, id=f"{test['tcId']}")
        for group in content["testGroups"]
        for test in group["tests"]
        if (test["result"] == "valid") is valid
    ]


SIGNATURES = ("rsa_signature_2048_sha256_test.json", "publicKeyDer")
CIPHERTEXTS = ("rsa_pkcs1_2048_test.json", "privateKeyPkcs8")


@cache
def public_key(der):
    return PublicKey("1", load_der_public_key(bytes.fromhex(der)))


@cache
def private_key(der):
    return load_der_private_key(bytes.fromhex(der), password=None)


def test_the_files_have_what_they_had():
    assert len(cases(*SIGNATURES, valid=True)) == 9
    assert len(cases(*SIGNATURES, valid=False)) == 250
    assert len(cases(*CIPHERTEXTS, valid=True)) == 42
    assert len(cases(*CIPHERTEXTS, valid=False)) == 25


@pytest.mark.parametrize(("key", "known"), cases(*SIGNATURES, valid=True))
def test_a_valid_signature_matches(key, known):
    signature, message = bytes.fromhex(known["sig"]), bytes.fromhex(known["msg"])
    assert matches(public_key(key), signature, message)


@pytest.mark.parametrize(("key", "known"), cases(*SIGNATURES, valid=False))
def test_no_other_signature_matches(key, known):
    """Those that Wycheproof calls acceptable neither: the encoding is exact."""
    signature, message = bytes.fromhex(known["sig"]), bytes.fromhex(known["msg"])
    assert not matches(public_key(key), signature, message)


@pytest.mark.parametrize(("key", "known"), cases(*CIPHERTEXTS, valid=True))
def test_a_valid_ciphertext_is_unwrapped(key, known):
    wrapped = bytes.fromhex(known["ct"])
    assert unwrap(private_key(key), wrapped) == bytes.fromhex(known["msg"])


@pytest.mark.parametrize(("key", "known"), cases(*CIPHERTEXTS, valid=False))
def test_an_invalid_ciphertext_never_decrypts_anything(
    key, known, platform_key, platform_public
):
    """It is an error, or random bytes (implicit rejection) that decrypt nothing."""
    message = verify_response(
        peer.answer(platform_key, peer.seal(peer.SUCCESS), encrypt="x"),
        request=peer.sent_request(),
        keys=[platform_public],
        freshness=peer.FRESH,
    )
    unwrapped = []

    def read():
        unwrapped.append(unwrap(private_key(key), bytes.fromhex(known["ct"])))
        decrypt(message, unwrapped[0])

    with pytest.raises(DecryptionFailed):
        read()
    assert bytes.fromhex(known["msg"]) not in unwrapped
