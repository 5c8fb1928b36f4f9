"""Why a captured body does not decrypt: one test per mistake of protocol.md 9.

Each envelope is made with `cryptography` as the mistake would make it.
"""

import base64
import hashlib
import itertools

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


OAEP_SHA1 = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)


def oaep_padded(message, seed):
    """Pad by RFC 8017, 7.1.1, with a seed of one's own: no library takes one."""
    empty = hashlib.sha1(b"").digest()
    data = empty + bytes(256 - len(message) - 42) + b"\1" + message
    masked = xor(data, mgf1(seed, len(data)))
    return b"\0" + xor(seed, mgf1(masked, len(seed))) + masked


def mgf1(seed, length):
    parts = (hashlib.sha1(seed + n.to_bytes(4)).digest() for n in range(length))
    return b"".join(itertools.islice(parts, length // 20 + 1))[:length]


def xor(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def test_oaep_that_looks_like_the_other_padding_is_told_as_oaep(partner_key, pairs):
    """One in some hundred does, by chance: 00 02, no zero for a while, then one."""
    public = partner_key.public_key().public_numbers()
    body = peer.seal(BODY, bytes(32))
    for seed in range(100_000):
        padded = oaep_padded(peer.CONTENT_KEY, seed.to_bytes(20))
        if padded[:2] == b"\0\2" and 0 not in padded[2:10] and 0 in padded[10:]:
            break
    wrapped = pow(int.from_bytes(padded), public.e, public.n).to_bytes(256)
    assert partner_key.decrypt(wrapped, OAEP_SHA1) == peer.CONTENT_KEY
    header = peer.encrypt_header(wrapped)
    envelope = examine(header, body, pairs, to_us=True)
    assert codes(envelope) == ["wrapped_oaep", "cipher_unknown"]


# --- what is wrapped ---------------------------------------------------------


@pytest.mark.parametrize(
    "content_key", [b"", b"short", bytes(31), bytes(33), bytes(range(100))]
)
def test_a_key_of_another_length_is_named(content_key, partner_key, pairs):
    """It is wrapped for us: its padding shows that, and no wrong key gives it."""
    header = peer.encrypt_header(peer.wrap(partner_key.public_key(), content_key))
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_length"]
    finding = envelope.mistakes[0].finding
    assert f"our own key version 1 has {len(content_key)} bytes" in finding
    assert envelope.opened


def test_a_key_of_another_length_under_oaep_is_both(partner_key, pairs):
    wrapping = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    wrapped = partner_key.public_key().encrypt(bytes(31), wrapping)
    header = peer.encrypt_header(wrapped)
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_oaep", "wrapped_length"]


ENCODED = [
    (base64.b64encode, "base64"),
    (lambda key: base64.b64encode(key).rstrip(b"="), "base64"),
    (base64.urlsafe_b64encode, "base64"),
    (lambda key: base64.b64encode(key) + b"\n", "base64"),
    (lambda key: key.hex().encode(), "hexadecimal"),
    (lambda key: key.hex().upper().encode(), "hexadecimal"),
]


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize(("encode", "says"), ENCODED)
def test_a_content_key_that_was_wrapped_as_text_is_named(
    size, encode, says, partner_key, pairs
):
    key = bytes(range(0xE0, 0xE0 + size))
    header = peer.encrypt_header(peer.wrap(partner_key.public_key(), encode(key)))
    envelope = examine(header, peer.seal(BODY, key), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_text"]
    assert says in envelope.mistakes[0].finding
    assert envelope.plaintext == BODY


def test_a_text_is_known_also_where_the_body_does_not_open(partner_key, pairs):
    text = base64.b64encode(peer.CONTENT_KEY)
    header = peer.encrypt_header(peer.wrap(partner_key.public_key(), text))
    envelope = examine(header, peer.seal(BODY, bytes(32)), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_text", "cipher_unknown"]


def test_a_content_key_that_looks_like_text_is_one(partner_key, pairs):
    """32 hexadecimal digits are 32 bytes too, and some take them for the key."""
    key = bytes(range(16)).hex().encode()
    header = peer.encrypt_header(peer.wrap(partner_key.public_key(), key))
    envelope = examine(header, peer.seal(BODY, key), pairs, to_us=True)
    assert (codes(envelope), envelope.plaintext) == ([], BODY)
    envelope = examine(header, peer.seal(BODY, bytes(32)), pairs, to_us=True)
    assert codes(envelope) == ["cipher_unknown"]


def test_what_a_wrong_key_unwraps_is_never_taken_for_a_content_key(pairs):
    """OpenSSL gives random bytes of random length then: some have 16, 24 or 32."""
    other = rsa.generate_private_key(65537, 2048).public_key()
    for _ in range(20):
        header = peer.encrypt_header(peer.wrap(other))
        envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
        assert codes(envelope) == ["wrapped_for_another"]


def test_of_several_keys_the_one_it_was_wrapped_with_is_named(other_key, pairs):
    pairs = [*pairs, Pair("our own key version 2", "2", Standing.PRE_ACTIVE, other_key)]
    header = peer.encrypt_header(peer.wrap(other_key.public_key(), bytes(31)), "2")
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_pre_active", "wrapped_length"]


# --- the ciphertext ----------------------------------------------------------


@pytest.mark.parametrize("write", [bytes.hex, lambda data: data.hex().upper() + "\n"])
def test_a_body_in_hexadecimal_is_named(write, header, pairs):
    body = write(base64.b64decode(peer.seal(BODY))).encode()
    envelope = examine(header, body, pairs, to_us=True)
    assert codes(envelope) == ["ciphertext_hex"]
    assert envelope.plaintext == BODY


def test_a_body_in_hexadecimal_is_named_also_where_nothing_opens_it(
    platform_key, pairs
):
    body = base64.b64decode(peer.seal(BODY)).hex().encode()
    header = peer.encrypt_header(peer.wrap(platform_key.public_key()))
    envelope = examine(header, body, pairs, to_us=True)
    assert codes(envelope) == ["ciphertext_hex", "wrapped_for_another"]
    envelope = examine(header, body, pairs, to_us=False)
    assert codes(envelope) == ["ciphertext_hex"]


def padded(fill):
    missing = -len(BODY) % 16
    assert missing > 1
    return BODY + fill(missing)


PADDED = [
    (padded(lambda count: b" " * count), "spaces"),
    (padded(bytes), "zero bytes"),
    (padded(lambda count: bytes(count - 1) + bytes([count])), "ANSI X9.23"),
    (padded(lambda count: b"\xa5" * (count - 1) + bytes([count])), "ISO 10126"),
]


@pytest.mark.parametrize(("blocks", "says"), PADDED)
def test_another_padding_of_the_body_is_named(blocks, says, header, pairs):
    envelope = examine(header, peer.seal_padded(blocks), pairs, to_us=True)
    assert codes(envelope) == ["cipher_padding"]
    assert says in envelope.mistakes[0].finding
    assert envelope.plaintext == BODY


def test_no_padding_is_named(header, pairs):
    whole = b'{"id": "012345"}'
    assert len(whole) == 16
    envelope = examine(header, peer.seal_padded(whole), pairs, to_us=True)
    assert codes(envelope) == ["cipher_padding"]
    assert "no padding" in envelope.mistakes[0].finding
    assert envelope.plaintext == whole


def test_cbc_with_another_padding_is_both(header, pairs):
    encryptor = Cipher(
        algorithms.AES(peer.CONTENT_KEY), modes.CBC(bytes(16))
    ).encryptor()
    body = base64.b64encode(encryptor.update(PADDED[0][0]))
    envelope = examine(header, body, pairs, to_us=True)
    assert codes(envelope) == ["cipher_cbc", "cipher_padding"]


@pytest.mark.parametrize("size", [2048, 3072])
def test_an_envelope_for_another_is_named(size, pairs):
    other = rsa.generate_private_key(65537, size)
    header = peer.encrypt_header(peer.wrap(other.public_key()))
    envelope = examine(header, peer.seal(BODY), pairs, to_us=True)
    assert codes(envelope) == ["wrapped_for_another"]
    assert "AlipayHK's own" in envelope.mistakes[0].advice
    assert not envelope.opened


def test_another_content_key_than_the_bodys_is_not_told_from_another_mode(
    header, pairs
):
    envelope = examine(header, peer.seal(BODY, bytes(32)), pairs, to_us=True)
    assert codes(envelope) == ["cipher_unknown"]
    (found,) = envelope.mistakes
    assert "wrapped with our own key version 1" in found.finding
    assert "under another content key" in found.advice
    assert "that is not tried here" in found.advice


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
