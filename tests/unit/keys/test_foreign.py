"""Key files of other makers: each is named, and the way that is named leads to a key."""

import base64
import os
import re
import shlex
import shutil
import subprocess
import traceback

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.errors import KeyringError
from gateway.keys.foreign import recognise
from gateway.keys.formats import read_private_key, read_public_key

PKCS8, PKCS1 = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL
SPKI, PKCS1_PUBLIC = PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1
DER, PEM = Encoding.DER, Encoding.PEM


def private(key, form=PKCS8, encoding=PEM):
    return key.private_bytes(encoding, form, NoEncryption())


def public(key, form=SPKI, encoding=PEM):
    return key.public_key().public_bytes(encoding, form)


def url_safe(der):
    """Write base64url that has a sign of its own in it, with its padding or without."""
    text = base64.urlsafe_b64encode(der)
    assert b"-" in text or b"_" in text
    return text


PRIVATE = {
    "OpenSSH": (
        lambda key: private(key, PrivateFormat.OpenSSH),
        "an OpenSSH private key",
    ),
    "PKCS#8 in DER": (lambda key: private(key, PKCS8, DER), "a private key in DER"),
    "PKCS#1 in DER": (lambda key: private(key, PKCS1, DER), "a private key in DER"),
    "base64 of PEM": (
        lambda key: base64.encodebytes(private(key)),
        "base64 of a PEM file",
    ),
    "base64 of PEM with Windows' line ends": (
        lambda key: base64.b64encode(b"\xef\xbb\xbf" + private(key, PKCS1)),
        "base64 of a PEM file",
    ),
    "base64 of base64": (
        lambda key: base64.b64encode(base64.b64encode(private(key, PKCS8, DER))),
        "base64 of base64",
    ),
    "line ends as JSON has them": (
        lambda key: private(key).replace(b"\n", b"\\n"),
        "PEM whose line ends are written as \\n",
    ),
    "a JSON string": (
        lambda key: b'"' + private(key).replace(b"\n", b"\\r\\n") + b'"\n',
        "PEM whose line ends are written as \\n",
    ),
    "UTF-16 of Windows": (
        lambda key: private(key).decode().encode("utf-16"),
        "UTF-16 text",
    ),
    "UTF-16 without a mark": (
        lambda key: private(key).decode().encode("utf-16-le"),
        "UTF-16LE text",
    ),
    "UTF-16 the other way round": (
        lambda key: private(key).decode().encode("utf-16-be"),
        "UTF-16BE text",
    ),
    "base64url": (lambda key: url_safe(private(key, PKCS8, DER)), "base64url"),
    "base64url without padding": (
        lambda key: url_safe(private(key, PKCS1, DER)).rstrip(b"="),
        "base64url",
    ),
}
PUBLIC = {
    "OpenSSH": (
        lambda key: public(key, PublicFormat.OpenSSH, Encoding.OpenSSH) + b" me@here\n",
        "an OpenSSH public key",
    ),
    "SPKI in DER": (lambda key: public(key, SPKI, DER), "a public key in DER"),
    "PKCS#1 in DER": (
        lambda key: public(key, PKCS1_PUBLIC, DER),
        "a public key in DER",
    ),
    "base64 of PEM": (
        lambda key: base64.b64encode(public(key)),
        "base64 of a PEM file",
    ),
    "line ends as JSON has them": (
        lambda key: public(key).replace(b"\n", b"\\n"),
        "PEM whose line ends are written as \\n",
    ),
    "UTF-16": (lambda key: public(key).decode().encode("utf-16"), "UTF-16 text"),
    "base64url": (lambda key: url_safe(public(key, SPKI, DER)), "base64url"),
    "base64url without padding": (
        lambda key: url_safe(public(key, PKCS1_PUBLIC, DER)).rstrip(b"="),
        "base64url",
    ),
}
CASES = [
    pytest.param(read, write, begins, id=f"{what} {name}")
    for read, what, cases in (
        (read_private_key, "private", PRIVATE),
        (read_public_key, "public", PUBLIC),
    )
    for name, (write, begins) in cases.items()
]


def refusal(read, data):
    with pytest.raises(KeyringError) as caught:
        read(data)
    shown = "".join(traceback.format_exception(caught.value))
    for part in re.findall(rb"[A-Za-z0-9+/]{12,}", data):
        assert part[:12].decode() not in shown.replace("KEY.pem", "")
    assert caught.value.detail.isprintable()
    return caught.value.detail


@pytest.mark.parametrize(("read", "write", "begins"), CASES)
def test_the_form_is_named_and_the_command_that_is_named_converts_it(
    read, write, begins, partner_key, tmp_path
):
    data = write(partner_key)
    told = refusal(read, data)
    assert told.startswith(f"it is {begins}")
    command = told.partition(": ")[2]
    program = re.match(r"\(?([a-z0-9-]+)", command)[1]
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    file, pem = tmp_path / "key file", tmp_path / "key.pem"
    file.touch(0o600)
    file.write_bytes(data)
    command = command.replace("KEY.pem", shlex.quote(str(pem)))
    command = re.sub(r"\bFILE\b", shlex.quote(str(file)), command)
    subprocess.run(
        ["/bin/sh", "-c", command],
        check=True,
        capture_output=True,
        timeout=60,
        env=os.environ,
    )
    converted = read((pem if pem.exists() else file).read_bytes())
    numbers = partner_key.public_key().public_numbers()
    found = (
        converted.public_numbers
        if read is read_public_key
        else (converted.public_key().public_numbers)
    )
    assert found() == numbers


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="there is no ssh-keygen")
@pytest.mark.parametrize("passphrase", ["", "some-PASS"])
def test_what_ssh_keygen_made_is_named(tmp_path, passphrase):
    file = tmp_path / "id_rsa"
    options = ("-q", "-t", "rsa", "-b", "2048", "-N", passphrase, "-f", str(file))
    subprocess.run(["ssh-keygen", *options], check=True, timeout=60)
    assert "an OpenSSH private key" in refusal(read_private_key, file.read_bytes())
    of_public = (tmp_path / "id_rsa.pub").read_bytes()
    assert "an OpenSSH public key" in refusal(read_public_key, of_public)
    exported = subprocess.run(
        ["ssh-keygen", "-e", "-f", str(file) + ".pub"],
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    assert "an SSH2 public key" in refusal(read_public_key, exported)


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl program")
def test_a_key_for_another_padding_is_refused(tmp_path):
    """OpenSSL would sign PKCS#1 v1.5 with it all the same."""
    pss, out = tmp_path / "pss.pem", tmp_path / "pss.pub"
    make = ("genpkey", "-quiet", "-algorithm", "RSA-PSS", "-out", str(pss))
    openssl(*make, "-pkeyopt", "rsa_keygen_bits:2048")
    openssl("pkey", "-in", str(pss), "-pubout", "-out", str(out))
    for read, file in ((read_private_key, pss), (read_public_key, out)):
        data = file.read_bytes()
        assert refusal(read, data).startswith("it is for RSASSA-PSS, and AlipayHK's")
        bare = b"".join(data.splitlines()[1:-1])
        assert refusal(read, bare).startswith("it is for RSASSA-PSS, and AlipayHK's")
    old = openssl("rsa", "-in", str(pss), "-traditional")
    assert refusal(read_private_key, old).startswith("it is for RSASSA-PSS")


def openssl(*arguments):
    return subprocess.run(
        ["openssl", *arguments], check=True, capture_output=True, timeout=60
    ).stdout


OTHERS = {
    "PuTTY": (b"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n", "a PuTTY key"),
    "a Java keystore": (b"\xfe\xed\xfe\xed\0\0\0\2\0\0\0\1", "a Java keystore"),
    "a JSON Web Key": (b'{"kty": "RSA", "n": "AQAB"}', "JSON"),
    "XML of .NET": (b"<RSAKeyValue><Modulus>AA</Modulus>", "an XML key"),
    "OpenPGP": (
        b"-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n",
        "of OpenPGP",
    ),
    "a request": (
        b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
        "a request for a certificate",
    ),
    "binary of some kind": (b"\x30\x82\xff\xff\x02\x01\x03", "DER, or another binary"),
    "an Ed25519 key of SSH": (
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "an OpenSSH public key, and not an RSA key",
    ),
}


@pytest.mark.parametrize(("data", "begins"), OTHERS.values(), ids=OTHERS.keys())
def test_others_are_named_too(data, begins):
    for read in (read_private_key, read_public_key):
        assert refusal(read, data).startswith(f"it is {begins}")


def test_a_key_that_only_lost_its_padding_is_told(platform_key):
    numbers = rsa.RSAPublicNumbers(
        (1 << 24) + 1, platform_key.public_key().public_numbers().n
    )
    der = numbers.public_key().public_bytes(DER, PKCS1_PUBLIC)
    assert len(der) % 3 == 1  # which takes padding
    told = refusal(read_public_key, base64.b64encode(der).rstrip(b"="))
    assert told == (
        "it is base64 without its padding; convert it: "
        "(tr -d '\\n' < FILE; printf '%s' '==') > KEY.pem"
    )


def test_an_encrypted_key_in_der_is_told_how_to_become_pem(partner_key):
    der = partner_key.private_bytes(DER, PKCS8, BestAvailableEncryption(b"x"))
    assert "openssl pkcs8 -inform DER" in refusal(read_private_key, der)


@pytest.mark.parametrize("form", [PKCS8, PKCS1])
def test_what_is_read_is_taken_for_nothing_else(partner_key, form):
    pem = private(partner_key, form)
    bare = b"".join(pem.splitlines()[1:-1])
    for data in (pem, bare, b"a \\n in a remark\n" + pem, b"\xef\xbb\xbf" + pem):
        assert recognise(data) is None
        assert read_private_key(data)


def test_a_key_of_another_kind_in_der_is_named_by_its_form():
    der = private(ec.generate_private_key(ec.SECP256R1()), PKCS8, DER)
    assert refusal(read_private_key, der).startswith("it is a private key in DER")
