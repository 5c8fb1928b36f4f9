"""RSA_AES: encrypt, read the header, unwrap, decrypt."""

import base64

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gateway.errors import DecryptionFailed
from gateway.protocol import (
    CONTENT_KEY_BYTES,
    EncryptField,
    PublicKey,
    decrypt,
    draft_request,
    encrypt,
    read_encryption,
    unwrap,
    verify_request,
    verify_response,
)
from tests import peer

PLAINTEXT = '{"mobileNo":"+852-12345678","name":"陳大文"}'.encode()


@pytest.fixture
def verified(platform_key, platform_public):
    """Give a function that verifies an answer with this body and Encrypt header."""

    def verify(body, header="algorithm=RSA_AES,symmetricKey=AAAA"):
        return verify_response(
            peer.answer(platform_key, body, encrypt=header),
            request=peer.sent_request(),
            keys=[platform_public],
            freshness=peer.FRESH,
        )

    return verify


def test_a_body_is_encrypted_with_aes_256_ecb_as_base64_on_one_line(platform_public):
    body = b'{"contentInfo":"' + b"x" * 1000 + b'"}'
    draft = encrypt(
        peer.sent_request(body=body).draft, peer.CONTENT_KEY, platform_public
    )
    assert draft.body == peer.seal(body)
    assert draft.body.decode("ascii").isprintable()


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 32])
def test_a_body_of_any_length_is_padded(length, platform_public):
    body = b"x" * length
    draft = encrypt(
        peer.sent_request(body=body).draft, peer.CONTENT_KEY, platform_public
    )
    assert len(base64.b64decode(draft.body)) == (length // 16 + 1) * 16
    assert peer.unseal(draft.body) == body


def test_the_content_key_is_wrapped_to_the_recipient(platform_key, platform_public):
    draft = encrypt(peer.sent_request().draft, peer.CONTENT_KEY, platform_public)
    wrapped = draft.encryption.wrapped_key
    assert platform_key.decrypt(wrapped, padding.PKCS1v15()) == peer.CONTENT_KEY


def test_encrypting_changes_only_body_content_type_and_encryption(platform_key):
    plain = peer.sent_request().draft
    recipient = PublicKey("9", platform_key.public_key())
    draft = encrypt(plain, peer.CONTENT_KEY, recipient)
    for name in ("direction", "method", "target", "client_id", "time"):
        assert getattr(draft, name) == getattr(plain, name)
    assert draft.content_type == "application/json; charset=UTF-8"
    assert draft.encryption.key_version == "9"
    assert plain.body == peer.REQUEST_BODY
    assert plain.encryption is None


def test_the_content_type_of_an_encrypted_message_is_a_setting(platform_public):
    draft = encrypt(
        peer.sent_request().draft,
        peer.CONTENT_KEY,
        platform_public,
        content_type="text/plain; charset=UTF-8",
    )
    assert draft.content_type == "text/plain; charset=UTF-8"


def test_the_key_version_of_an_encrypted_message_may_be_left_out(platform_public):
    draft = encrypt(
        peer.sent_request().draft,
        peer.CONTENT_KEY,
        platform_public,
        send_key_version=False,
    )
    assert draft.encryption.key_version is None
    assert draft.encryption.format().startswith("algorithm=RSA_AES,symmetricKey=")


@pytest.mark.parametrize("length", [0, 1, 16, 24, 31, 33, 64])
def test_only_a_content_key_of_32_bytes_encrypts(length, platform_public):
    assert CONTENT_KEY_BYTES == 32
    with pytest.raises(ValueError, match="a content key is 32 bytes long"):
        encrypt(peer.sent_request().draft, bytes(length), platform_public)


def test_the_encrypt_header_of_a_verified_message_is_read(verified):
    message = verified(b"{}", peer.encrypt_header(b"\x01\x02\x03", "7"))
    assert read_encryption(message) == EncryptField("7", b"\x01\x02\x03")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "x",
        "algorithm=RSA_AES,keyVersion=1",
        "algorithm=RSA_AES,keyVersion=1,symmetricKey=",
        "algorithm=RSA_AES,keyVersion=1,symmetricKey=****",
        "algorithm=RSA,keyVersion=1,symmetricKey=AAAA",
        "algorithm=rsa, keyVersion=2",
        "algorithm=RSA_AES,symmetricKey=AAAA,symmetricKey=AAAA",
    ],
)
def test_an_encrypt_header_that_cannot_be_read_is_the_one_error(header, verified):
    with pytest.raises(DecryptionFailed) as caught:
        read_encryption(verified(b"{}", header))
    assert caught.value.detail == DecryptionFailed().detail
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("length", [16, 24, 32])
def test_a_wrapped_key_is_unwrapped(length, partner_key, partner_public):
    content_key = bytes(range(length))
    assert unwrap(partner_key, peer.wrap(partner_public.rsa, content_key)) == (
        content_key
    )


@pytest.mark.parametrize("length", [0, 1, 24, 255, 257, 512])
def test_a_wrapped_key_of_another_length_is_the_one_error(length, partner_key):
    with pytest.raises(DecryptionFailed) as caught:
        unwrap(partner_key, b"\x01" * length)
    assert caught.value.__cause__ is None


def test_a_wrapped_number_over_the_modulus_is_the_one_error(partner_key):
    with pytest.raises(DecryptionFailed):
        unwrap(partner_key, b"\xff" * 256)


def oaep(public_key):
    scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    return public_key.encrypt(peer.CONTENT_KEY, scheme)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(oaep, id="OAEP"),
        pytest.param(lambda public: peer.wrap(public, b"k" * 31), id="31 bytes"),
        pytest.param(lambda public: peer.wrap(public, b"k" * 33), id="33 bytes"),
        pytest.param(lambda public: peer.wrap(public, b""), id="no bytes"),
        pytest.param(
            lambda public: peer.wrap(public, base64.b64encode(peer.CONTENT_KEY)),
            id="base64 of the key",
        ),
        pytest.param(
            lambda public: peer.wrap(public, peer.CONTENT_KEY.hex().encode()),
            id="hex of the key",
        ),
        pytest.param(lambda public: peer.wrap(public, bytes(32)), id="another key"),
        pytest.param(lambda public: bytes(255) + b"\x02", id="no padding at all"),
    ],
)
def test_a_key_wrapped_in_another_way_is_the_one_error(
    wrap, partner_key, partner_public, verified
):
    message = verified(peer.seal(PLAINTEXT))
    with pytest.raises(DecryptionFailed):
        decrypt(message, unwrap(partner_key, wrap(partner_public.rsa)))


def test_a_key_wrapped_to_another_party_is_the_one_error(
    other_key, partner_public, verified
):
    wrapped = peer.wrap(partner_public.rsa)
    message = verified(peer.seal(PLAINTEXT))
    with pytest.raises(DecryptionFailed):
        decrypt(message, unwrap(other_key, wrapped))


@pytest.mark.parametrize("length", [16, 24, 32])
def test_a_body_is_decrypted_under_each_length_of_aes_key(length, verified):
    content_key = bytes(range(length))
    body = peer.seal(PLAINTEXT, content_key)
    assert decrypt(verified(body), content_key) == PLAINTEXT


@pytest.mark.parametrize(
    "spell",
    [
        pytest.param(lambda body: body, id="as it is sent"),
        pytest.param(
            lambda body: base64.encodebytes(base64.b64decode(body)), id="76 columns"
        ),
        pytest.param(
            lambda body: body.replace(b"\n", b"\r\n") + b"\r\n", id="a CR LF last"
        ),
        pytest.param(lambda body: body.rstrip(b"="), id="no padding"),
        pytest.param(
            lambda body: body.translate(bytes.maketrans(b"+/", b"-_")), id="base64url"
        ),
    ],
)
def test_a_body_is_read_in_every_spelling_of_base64(spell, verified):
    plaintext = b'{"a":"' + b"x" * 200 + b'"}'
    body = spell(peer.seal(plaintext))
    assert decrypt(verified(body), peer.CONTENT_KEY) == plaintext


@pytest.mark.parametrize(
    "plaintext",
    [b"{}", b' {"a" : 1.0 }\r\n', b'{"b":1,"a":2,"b":3}', b'{"n":1e999}', PLAINTEXT],
)
def test_the_plaintext_is_given_byte_for_byte(plaintext, verified):
    assert decrypt(verified(peer.seal(plaintext)), peer.CONTENT_KEY) == plaintext


def cbc(plaintext):
    padded = plaintext + bytes([16 - len(plaintext) % 16]) * (16 - len(plaintext) % 16)
    cipher = Cipher(algorithms.AES(peer.CONTENT_KEY), modes.CBC(b"\x01" * 16))
    return base64.b64encode(cipher.encryptor().update(padded))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(PLAINTEXT, id="not encrypted"),
        pytest.param(b"{}", id="not encrypted, short"),
        pytest.param(b"****", id="not base64"),
        pytest.param(peer.seal(PLAINTEXT) + b"*", id="not base64 at the end"),
        pytest.param(
            peer.seal(PLAINTEXT).replace(b"=", b"%3D") + b"%3D", id="escaped base64"
        ),
        pytest.param("香港".encode(), id="not ASCII"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(peer.seal(PLAINTEXT)[:-4], id="cut short"),
        pytest.param(base64.b64encode(b"x" * 15), id="less than a block"),
        pytest.param(base64.b64encode(b"x" * 16), id="a random block"),
        pytest.param(cbc(PLAINTEXT), id="CBC"),
        pytest.param(peer.seal(b"[]"), id="not an object"),
        pytest.param(peer.seal(b""), id="no text"),
        pytest.param(peer.seal(b"\xff"), id="no UTF-8 within"),
        pytest.param(peer.seal(b"\xef\xbb\xbf{}"), id="a byte order mark within"),
        pytest.param(peer.seal(b'{"a":NaN}'), id="NaN within"),
        pytest.param(peer.seal(b'{"a":' * 5000), id="deep nesting within"),
        pytest.param(peer.seal(peer.seal(PLAINTEXT)), id="encrypted twice"),
        pytest.param(peer.seal_padded(b'{"a":"123456"}  '), id="no padding"),
        pytest.param(
            peer.seal_padded(b'{"a":"123456"}' + b"\x00\x02"), id="padding not uniform"
        ),
        pytest.param(
            peer.seal_padded(b'{"a":"12345678"}' + bytes(16)), id="padding of nought"
        ),
        pytest.param(
            peer.seal_padded(b'{"a":"12345678"}' + b"\x11" * 16), id="padding over 16"
        ),
        pytest.param(
            peer.seal_padded(b'{"a":"123"}' + bytes(5)), id="padded with noughts"
        ),
        pytest.param(
            peer.seal_padded(b'{"a":"123"}' + bytes(4) + b"\x05"), id="ANSI X9.23"
        ),
    ],
)
def test_a_body_that_does_not_decrypt_is_the_one_error(body, verified):
    with pytest.raises(DecryptionFailed) as caught:
        decrypt(verified(body), peer.CONTENT_KEY)
    assert caught.value.detail == DecryptionFailed().detail
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("length", [0, 1, 8, 15, 17, 31, 33, 56, 64, 245])
def test_a_content_key_of_another_length_is_the_one_error(length, verified):
    with pytest.raises(DecryptionFailed) as caught:
        decrypt(verified(peer.seal(PLAINTEXT)), bytes(length))
    assert caught.value.detail == DecryptionFailed().detail


@pytest.mark.parametrize("length", [16, 24, 32])
def test_a_wrong_content_key_is_the_one_error(length, verified):
    with pytest.raises(DecryptionFailed):
        decrypt(verified(peer.seal(PLAINTEXT)), b"\x5a" * length)


def test_an_encrypted_request_is_decrypted_by_its_receiver(
    partner_key, partner_public, platform_key, platform_public
):
    header = peer.encrypt_header(peer.wrap(platform_public.rsa), "3")
    call = peer.call(partner_key, peer.seal(peer.REQUEST_BODY), encrypt=header)
    request = verify_request(call, keys=[partner_public])
    encryption = read_encryption(request)
    assert encryption.key_version == "3"
    content_key = unwrap(platform_key, encryption.wrapped_key)
    assert decrypt(request, content_key) == peer.REQUEST_BODY


def test_a_draft_is_not_encrypted_twice(platform_public):
    draft = draft_request(target="/a", client_id="C", time="t", body=b"{}")
    once = encrypt(draft, bytes(32), platform_public)
    with pytest.raises(ValueError, match="encrypted already"):
        encrypt(once, bytes(32), platform_public)
