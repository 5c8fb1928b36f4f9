"""Why a captured body does not decrypt: one test per mistake of protocol.md 9.

Each envelope is made with `cryptography` as the mistake would make it.
"""

import base64

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from gateway.protocol.diagnosis import Pair, Standing, examine
from tests import peer

BODY = '{"id":"1","name":"A/B 香港 <x>","price":1.5,"list":[1,2]}'.encode()


@pytest.fixture
def pairs(partner_key):
    return [Pair("our own key version 1", "1", Standing.TRUSTED, partner_key)]


@pytest.fixture
def header(partner_key):
    """The Encrypt header of an envelope that is right."""
    return peer.encrypt_header(peer.wrap(partner_key.public_key()))


def oaep(key, digest, mask):
    wrapping = padding.OAEP(padding.MGF1(mask), digest, None)
    return peer.encrypt_header(key.public_key().encrypt(peer.CONTENT_KEY, wrapping))


def cbc(plaintext, iv, *, key=peer.CONTENT_KEY):
    padder = PKCS7(128).padder()
    padded = padder.update(plaintext) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


def codes(envelope):
    return [each.code for each in envelope.mistakes]


def test_a_right_envelope_has_no_mistake(header, pairs):
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert (envelope.mistakes, envelope.opened) == ((), True)
    assert envelope.plaintext == BODY


@pytest.mark.parametrize(
    ("digest", "mask", "says"),
    [
        (hashes.SHA1(), hashes.SHA1(), "OAEP (SHA-1, MGF1 with SHA-1)"),
        (hashes.SHA256(), hashes.SHA256(), "OAEP (SHA-256, MGF1 with SHA-256)"),
        (hashes.SHA256(), hashes.SHA1(), "OAEP (SHA-256, MGF1 with SHA-1)"),
    ],
)
def test_oaep_is_named(digest, mask, says, partner_key, pairs):
    header = oaep(partner_key, digest, mask)
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_oaep"]
    assert says in envelope.mistakes[0].finding
    assert envelope.plaintext == BODY


IV = bytes(range(100, 116))


@pytest.mark.parametrize(
    ("ciphertext", "says", "known"),
    [
        (cbc(BODY, bytes(16)), "with an IV of zeros", True),
        (IV + cbc(BODY, IV), "with the IV before the ciphertext", True),
        (cbc(BODY, peer.CONTENT_KEY[:16]), "content key's first bytes", True),
        (cbc(BODY, IV), "with an IV that is not in the message", False),
    ],
)
def test_cbc_is_named(ciphertext, says, known, header, pairs):
    envelope = examine(header, base64.b64encode(ciphertext), pairs, to_us=True)
    assert codes(envelope) == ["cipher_cbc"]
    assert says in envelope.mistakes[0].finding
    assert envelope.plaintext == (BODY if known else None)


def test_oaep_and_cbc_are_both_named(partner_key, pairs):
    header = oaep(partner_key, hashes.SHA1(), hashes.SHA1())
    body = base64.b64encode(cbc(BODY, bytes(16)))
    envelope = examine(header, body, pairs, to_us=True)
    assert codes(envelope) == ["wrapped_oaep", "cipher_cbc"]


def test_a_cipher_that_nothing_explains_is_said_to_be_unknown(partner_key, pairs):
    header = oaep(partner_key, hashes.SHA1(), hashes.SHA1())
    body = peer.seal(BODY, bytes(32))
    envelope = examine(header, body, pairs, to_us=True)
    assert codes(envelope) == ["wrapped_oaep", "cipher_unknown"]
    assert envelope.plaintext is None


def test_a_key_of_another_length_is_no_content_key(partner_key, pairs):
    header = peer.encrypt_header(peer.wrap(partner_key.public_key(), b"short"))
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_for_another"]


@pytest.mark.parametrize("size", [2048, 3072])
def test_an_envelope_for_another_is_named(size, pairs):
    other = rsa.generate_private_key(65537, size)
    header = peer.encrypt_header(peer.wrap(other.public_key()))
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_for_another"]
    assert "AlipayHK's own" in envelope.mistakes[0].advice
    assert not envelope.opened


def test_a_mode_that_is_not_tried_is_not_blamed_on_the_key_alone(header, pairs):
    """Under PKCS#1 v1.5 a wrong key and a wrong mode look the same."""
    envelope = examine(header, peer.seal(BODY, bytes(32)), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_for_another"]
    assert "a mode that is not tried" in envelope.mistakes[0].advice


def test_a_message_of_ours_need_not_open(platform_key, pairs):
    header = peer.encrypt_header(peer.wrap(platform_key.public_key()))
    envelope = examine(header, peer.seal(BODY), pairs, to_us=False)
    assert (envelope.mistakes, envelope.opened) == ((), False)


@pytest.mark.parametrize(
    ("standing", "code"),
    [
        (Standing.OWN, "wrapped_own_key"),
        (Standing.PRE_ACTIVE, "wrapped_pre_active"),
        (Standing.OTHER_USE, "wrapped_other_use"),
        (Standing.COMPROMISED, "wrapped_compromised"),
        (Standing.OTHER_CLIENT, "wrapped_other_client"),
    ],
)
def test_a_key_that_it_should_not_be_wrapped_with_is_named(
    standing, code, other_key, pairs
):
    pairs = [*pairs, Pair("our own key version 2", "1", standing, other_key)]
    header = peer.encrypt_header(peer.wrap(other_key.public_key()))
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == [code]
    assert envelope.mistakes[0].finding.startswith(
        "The content key is wrapped with our own key version 2, "
    )


@pytest.mark.parametrize(
    ("named", "says"), [("2", "names keyVersion 2."), ("\x1b[2J", "cannot be one.")]
)
def test_a_key_under_another_version_is_named(named, says, header, pairs):
    header = header.replace("keyVersion=1", f"keyVersion={named}")
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_version"]
    assert envelope.mistakes[0].finding.endswith(says)


def test_the_version_of_a_message_of_ours_is_alipayhks(partner_key, header):
    pairs = [Pair("our own key version 7", "7", Standing.OWN, partner_key)]
    envelope = examine(header, peer.seal(BODY), pairs, to_us=False)
    assert codes(envelope) == ["wrapped_own_key"]


def test_a_header_that_cannot_be_read_is_named(pairs):
    envelope = examine("algorithm=RSA_AES", peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == ["encrypt_unreadable"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (BODY, "the body is not base64."),
        (b"", "has not the length of whole AES blocks."),
        (base64.b64encode(bytes(17)), "has not the length of whole AES blocks."),
    ],
)
def test_a_body_that_is_no_ciphertext_is_named(body, says, header, pairs):
    envelope = examine(header, body, pairs, to_us=True)
    assert codes(envelope) == ["ciphertext_unreadable"]
    assert envelope.mistakes[0].finding.endswith(says)


def test_nothing_that_is_found_shows_a_secret(header, pairs):
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    shown = repr(envelope) + repr(pairs)
    assert "香港" not in shown
    assert "RSAPrivateKey" not in shown
    assert str(peer.CONTENT_KEY) not in shown
