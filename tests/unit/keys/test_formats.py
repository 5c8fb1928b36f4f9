"""RSA keys as text: the forms in the wild, and what is said of anything else."""

import base64
import hashlib
import shutil
import subprocess
import traceback
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.errors import KeyringError
from gateway.keys import formats
from gateway.keys.formats import read_private_key, read_public_key

OPENSSL = shutil.which("openssl")
with_openssl = pytest.mark.skipif(OPENSSL is None, reason="there is no openssl program")

PKCS8, PKCS1 = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL
SPKI, PKCS1_PUBLIC = PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1


def private(key, form=PKCS8, encoding=Encoding.PEM, encryption=None):
    return key.private_bytes(encoding, form, encryption or NoEncryption())


def public(key, form=SPKI, encoding=Encoding.PEM):
    return key.public_key().public_bytes(encoding, form)


def bare(pem):
    """Give a PEM's base64 on one line."""
    return b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))


def numbers(key):
    return key.private_numbers()


WAYS = {
    "as it is": lambda pem: pem,
    "with line ends of Windows": lambda pem: pem.replace(b"\n", b"\r\n"),
    "without a newline at its end": bytes.rstrip,
    "with text before it": lambda pem: b"Bag Attributes\n    x: y\n\n" + pem,
    "with text after it": lambda pem: pem + b"issued to nobody\n",
    "with a byte order mark": lambda pem: b"\xef\xbb\xbf" + pem,
    "indented": lambda pem: b"    " + pem.replace(b"\n", b"\n    "),
    "on one line": lambda pem: pem.replace(b"\n", b" "),
    "as bare base64": bare,
    "as bare base64 with a newline": lambda pem: bare(pem) + b"\n",
    "as bare base64 wrapped": lambda pem: b"\n".join(pem.splitlines()[1:-1]),
    "as bare base64 wrapped by Windows": lambda pem: b"\r\n".join(
        pem.splitlines()[1:-1]
    ),
}
in_every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


# --- forms that are read -----------------------------------------------------


@in_every_way
@pytest.mark.parametrize("form", [PKCS8, PKCS1])
def test_a_private_key_is_read(partner_key, form, way):
    found = read_private_key(way(private(partner_key, form)))
    assert numbers(found) == numbers(partner_key)


@in_every_way
@pytest.mark.parametrize("form", [SPKI, PKCS1_PUBLIC])
def test_a_public_key_is_read(platform_key, form, way):
    found = read_public_key(way(public(platform_key, form)))
    assert found.public_numbers() == platform_key.public_key().public_numbers()


def openssl(*arguments, text=b""):
    return subprocess.run(
        [OPENSSL, *arguments], input=text, capture_output=True, check=True, timeout=30
    ).stdout


@pytest.fixture(scope="module")
def genpkey():
    """A key pair that the openssl program made, as it wrote it."""
    return openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")


@with_openssl
@pytest.mark.parametrize("arguments", [["pkey"], ["rsa", "-traditional"], ["rsa"]])
def test_private_keys_of_the_openssl_program_are_read(genpkey, arguments):
    modulus = openssl("rsa", "-noout", "-modulus", text=genpkey)
    key = read_private_key(openssl(*arguments, text=genpkey))
    assert f"Modulus={key.public_key().public_numbers().n:X}\n".encode() == modulus


@with_openssl
@pytest.mark.parametrize(
    "arguments", [["pkey", "-pubout"], ["rsa", "-pubout"], ["rsa", "-RSAPublicKey_out"]]
)
def test_public_keys_of_the_openssl_program_are_read(genpkey, arguments):
    modulus = openssl("rsa", "-noout", "-modulus", text=genpkey)
    key = read_public_key(openssl(*arguments, text=genpkey))
    assert f"Modulus={key.public_numbers().n:X}\n".encode() == modulus


@with_openssl
def test_a_key_that_the_openssl_program_describes_in_words_is_read(genpkey):
    described = openssl("rsa", "-text", text=genpkey)
    assert not described.startswith(b"-----")
    assert numbers(read_private_key(described)) == numbers(read_private_key(genpkey))


@with_openssl
def test_a_longer_key_is_read():
    key = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072")
    assert read_private_key(key).key_size == 3072
    assert read_public_key(openssl("pkey", "-pubout", text=key)).key_size == 3072


# --- forms that are written --------------------------------------------------


def test_a_private_key_is_written_as_pkcs_8_and_read_back(partner_key):
    written = formats.private_pem(partner_key)
    assert written.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert numbers(read_private_key(written)) == numbers(partner_key)


def test_a_public_key_is_written_as_spki_and_read_back(partner_key):
    key = partner_key.public_key()
    pem, line = formats.public_pem(key), formats.public_base64(key)
    assert pem.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert "\n" not in line
    assert bare(pem.encode()) == line.encode()
    for written in (pem, line):
        assert (
            read_public_key(written.encode()).public_numbers() == key.public_numbers()
        )


def test_a_fingerprint_is_the_hash_of_the_spki(partner_key, other_key):
    der = public(partner_key, encoding=Encoding.DER)
    found = formats.fingerprint(partner_key.public_key())
    assert found == hashlib.sha256(der).hexdigest()
    assert found != formats.fingerprint(other_key.public_key())


def test_a_fingerprint_does_not_depend_on_the_form(partner_key):
    forms = (public(partner_key), bare(public(partner_key, PKCS1_PUBLIC)))
    assert len({formats.fingerprint(read_public_key(form)) for form in forms}) == 1


# --- what is refused, and what is said ---------------------------------------


def certificate(key):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder(
        name,
        name,
        key.public_key(),
        1,
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


EC = ec.generate_private_key(ec.SECP256R1())
PASSPHRASE = BestAvailableEncryption(b"x")
BOTH = {
    "nothing": (b"", "it is empty"),
    "white space": (b" \r\n\t", "it is empty"),
    "other text": (b"hello world", "it is neither PEM nor base64"),
    "other bytes": (b"\x00\xff\xfe", "it is neither PEM nor base64"),
    "a PEM without its end": (
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n",
        "it is PEM without an end: it was cut short",
    ),
    "a PEM with two names": (
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "it is PEM without an end: it was cut short",
    ),
    "many beginnings": (
        b"-----BEGIN A-----" * 4000,
        "it is PEM without an end: it was cut short",
    ),
    "a PEM of something": (
        b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n",
        "it is PEM, but not an RSA key",
    ),
    "an EC key of the openssl program": (
        private(EC, PKCS1),
        "it is PEM, but not an RSA key",
    ),
}


@pytest.mark.parametrize(("data", "message"), BOTH.values(), ids=BOTH.keys())
@pytest.mark.parametrize("read", [read_private_key, read_public_key])
def test_what_is_no_key_is_told_as_what_it_is(read, data, message):
    with pytest.raises(KeyringError) as caught:
        read(data)
    assert caught.value.detail == message


@pytest.mark.parametrize("second", ["partner", "platform"])
def test_a_file_of_two_keys_is_refused(partner_key, platform_key, second):
    """Which of the two was meant is not for us to guess."""
    keys = {"partner": partner_key, "platform": platform_key}
    with pytest.raises(KeyringError, match="more than one PEM block"):
        read_private_key(private(partner_key) + private(keys[second]))
    with pytest.raises(KeyringError, match="more than one PEM block"):
        read_public_key(public(platform_key) + public(keys[second]))


PRIVATE = {
    "base64 of something": (
        lambda _: base64.b64encode(b"something"),
        "it is not an RSA private key in PKCS#8 or PKCS#1",
    ),
    "a damaged PEM": (
        lambda key: private(key).replace(b"MII", b"M!I"),
        "it is neither PEM nor base64",
    ),
    "a key with something behind it": (
        lambda key: base64.b64encode(private(key, encoding=Encoding.DER) + b"x"),
        "it is not an RSA private key in PKCS#8 or PKCS#1",
    ),
    "an EC key": (
        lambda _: private(EC),
        "it is not an RSA private key in PKCS#8 or PKCS#1",
    ),
    "an Ed25519 key": (
        lambda _: private(ed25519.Ed25519PrivateKey.generate()),
        "it is not an RSA private key in PKCS#8 or PKCS#1",
    ),
    "a certificate": (
        certificate,
        "it is a certificate; take its key out: openssl x509 -pubkey -noout -in FILE > KEY.pem",
    ),
    "a public key": (public, "it is a public key; a private key belongs here"),
    "a PKCS#1 public key": (
        lambda key: public(key, PKCS1_PUBLIC),
        "it is a public key; a private key belongs here",
    ),
    "a public key in bare base64": (
        lambda key: bare(public(key)),
        "it is a public key; a private key belongs here",
    ),
    "a public key under another name": (
        lambda key: public(key).replace(b"PUBLIC", b"PRIVATE"),
        "it is a public key; a private key belongs here",
    ),
    "an encrypted key": (
        lambda key: private(key, encryption=PASSPHRASE),
        "it is encrypted with a passphrase, and no passphrase is named for it",
    ),
    "an encrypted PKCS#1 key": (
        lambda key: private(key, PKCS1, encryption=PASSPHRASE),
        "it is encrypted with a passphrase; an unencrypted key belongs here",
    ),
    "an encrypted key in bare base64": (
        lambda key: bare(private(key, encryption=PASSPHRASE)),
        "it is not an RSA private key in PKCS#8 or PKCS#1",
    ),
}


@pytest.mark.parametrize(("write", "message"), PRIVATE.values(), ids=PRIVATE.keys())
def test_what_stands_where_a_private_key_belongs_is_told(partner_key, write, message):
    with pytest.raises(KeyringError) as caught:
        read_private_key(write(partner_key))
    assert caught.value.detail == message


NEVER_YOURS = (
    "it is a private key; AlipayHK's public key belongs here. If this is AlipayHK's "
    "private key, you should not have it"
)
PUBLIC = {
    "base64 of something": (
        lambda _: base64.b64encode(b"something"),
        "it is not an RSA public key in SPKI or PKCS#1",
    ),
    "an EC key": (
        lambda _: public(EC),
        "it is not an RSA public key in SPKI or PKCS#1",
    ),
    "a certificate": (
        certificate,
        "it is a certificate; take its key out: openssl x509 -pubkey -noout -in FILE > KEY.pem",
    ),
    "a private key": (private, "it is a private key; a public key belongs here"),
    "a PKCS#1 private key": (
        lambda key: private(key, PKCS1),
        "it is a private key; a public key belongs here",
    ),
    "a private key in bare base64": (lambda key: bare(private(key)), NEVER_YOURS),
    "a PKCS#1 private key in bare base64": (
        lambda key: bare(private(key, PKCS1)),
        NEVER_YOURS,
    ),
    "an encrypted private key": (
        lambda key: private(key, encryption=PASSPHRASE),
        "it is encrypted with a passphrase; an unencrypted key belongs here",
    ),
}


@pytest.mark.parametrize(("write", "message"), PUBLIC.values(), ids=PUBLIC.keys())
def test_what_stands_where_a_public_key_belongs_is_told(platform_key, write, message):
    with pytest.raises(KeyringError) as caught:
        read_public_key(write(platform_key))
    assert caught.value.detail == message


@pytest.mark.parametrize("bits", [1024, 2047])
def test_a_short_key_is_refused(bits):
    key = rsa.generate_private_key(65537, bits)
    for read, data in (
        (read_private_key, private(key)),
        (read_public_key, public(key)),
    ):
        with pytest.raises(KeyringError) as caught:
            read(data)
        message = f"it has {bits} bits; at least 2048 are needed"
        assert caught.value.detail == message


def test_a_small_exponent_is_refused():
    key = rsa.generate_private_key(3, 2048)
    for read, data in (
        (read_private_key, private(key)),
        (read_public_key, public(key)),
    ):
        with pytest.raises(KeyringError) as caught:
            read(data)
        assert caught.value.detail == (
            "its public exponent is 3; at least 65537 is needed"
        )


def test_a_greater_exponent_is_read(platform_key):
    of_theirs = platform_key.public_key().public_numbers()
    key = rsa.RSAPublicNumbers(65539, of_theirs.n).public_key()
    pem = key.public_bytes(Encoding.PEM, SPKI)
    assert read_public_key(pem).public_numbers().e == 65539


@pytest.mark.parametrize("part", range(2, 9))
def test_a_private_key_whose_parts_do_not_fit_is_refused(partner_key, part):
    """One bit changed in d, p, q or what speeds up their use; or in the modulus."""
    der = bytearray(private(partner_key, PKCS1, Encoding.DER))
    der[len(der) * part // 9 - 8] ^= 1
    with pytest.raises(KeyringError, match="it is not an RSA private key"):
        read_private_key(base64.b64encode(der))


DAMAGES = {
    "bare and cut": lambda pem: bare(pem)[:-9],
    "PEM and cut": lambda pem: pem[:-9],
    "a wrong character": lambda pem: pem.replace(b"MII", b"M!I"),
    "a wrong byte": lambda pem: pem.replace(b"MII", b"MIJ"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("read", [read_private_key, read_public_key])
def test_no_refusal_shows_a_byte_of_the_file(read, damage, partner_key):
    pem = private(partner_key)
    with pytest.raises(KeyringError) as caught:
        read(damage(pem))
    shown = "".join(traceback.format_exception(caught.value))
    assert not [line for line in pem.splitlines()[1:-1] if line[:8].decode() in shown]
