"""Where a key may be said to live, and where a passphrase."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from gateway.errors import KeyringError
from gateway.keys.backends.access import read_secret
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.homes import Homes
from gateway.keys.backends.pem import FileHome
from gateway.keys.formats import private_pem, read_private_key
from gateway.keys.locations import (
    check_key,
    check_secret,
    name_in_folder,
    path_of,
    scheme_of,
)
from tests.unit.keys.test_file_backend import RING, folder, problems, write

__all__ = ["folder"]  # the fixture

RINGS = Path("/rings/hk")


@pytest.mark.parametrize(
    ("key", "scheme", "name", "path"),
    [
        ("a.pem", "file", "a.pem", "/rings/hk/a.pem"),
        ("file:a.pem", "file", "a.pem", "/rings/hk/a.pem"),
        ("file:/run/a.pem", "file", None, "/run/a.pem"),
        ("file:///run/a.pem", "file", None, "/run/a.pem"),
        ("C:a.pem", "file", "C:a.pem", "/rings/hk/C:a.pem"),
        ("pkcs11:object=a", "pkcs11", None, None),
        ("vault:a", "vault", None, None),
    ],
)
def test_a_key_is_named_by_a_file_or_a_uri(key, scheme, name, path):
    assert check_key(key) == key
    assert scheme_of(key) == scheme
    assert name_in_folder(key) == name
    if path is not None:
        assert path_of(key, RINGS) == Path(path)


@pytest.mark.parametrize(
    "key", ["", ".", "..", "/a", "a/b", "file:", "file:.", "file:a/b", "file:../a"]
)
def test_what_leads_out_of_the_folder_without_saying_so_is_refused(key):
    with pytest.raises(ValueError, match="a file in the keyring's folder"):
        check_key(key)


@pytest.mark.parametrize("source", ["file:/run/p", "file:///run/p", "env:A_b1"])
def test_a_secret_is_named_by_its_place(source):
    assert check_secret(source) == source


@pytest.mark.parametrize(
    "source", ["hunter2", "/run/p", "file:p", "env:", "env:1A", "env:A-B", "vault:a"]
)
def test_what_may_be_the_secret_itself_is_refused_and_not_shown(source):
    with pytest.raises(ValueError, match="must be file:/PATH or env:NAME") as caught:
        check_secret(source)
    assert "hunter2" not in str(caught.value)


# --- passphrases -------------------------------------------------------------


@pytest.mark.parametrize("text", ["pass", "pass\n", "pass\r\n"])
def test_a_secret_ends_before_its_newline(tmp_path, text):
    file = write(tmp_path / "p", text)
    assert read_secret(f"file:{file}", {}) == b"pass"
    assert read_secret("env:P", {"P": "pass"}) == b"pass"


def test_a_secret_that_is_missing_or_open_to_others_is_told(tmp_path):
    file = write(tmp_path / "p", "hunter2")
    empty = write(tmp_path / "empty", "\n")
    file.chmod(0o644)
    for source, says in (
        (f"file:{file}", "others may read or write it"),
        (f"file:{empty}", "it is empty"),
        (f"file:{tmp_path}/none", "No such file"),
        ("env:NONE", "the variable NONE is not set"),
    ):
        with pytest.raises(KeyringError, match=says) as caught:
            read_secret(source, {"EMPTY": ""})
        assert "hunter2" not in caught.value.detail


@pytest.fixture
def encrypted(folder, tmp_path, partner_key):
    """A ring whose pair is encrypted, outside the folder."""
    file = write(tmp_path / "ours.pem", private_pem(partner_key, b"hunter2"))
    write(tmp_path / "pass", "hunter2")
    text = RING.replace(
        "key: partner-1.pem",
        f'key: "file:{file}", passphrase: "file:{tmp_path}/pass"',
    )
    write(folder / "keyring.yaml", text)
    return folder


def test_an_encrypted_pair_elsewhere_is_read(encrypted, partner_key):
    ring = KeyringFolder(encrypted).read()
    numbers = ring.signer.public.rsa.public_numbers()
    assert numbers == partner_key.public_key().public_numbers()


@pytest.mark.parametrize("name", ["ours.pem", "pass"])
def test_a_change_of_a_file_elsewhere_is_a_change_of_the_ring(encrypted, name):
    source = KeyringFolder(encrypted)
    before = source.state()
    assert source.state() == before
    write(encrypted.parent / name, b"something else")
    assert source.state() != before


def test_a_compromised_pair_is_known_again_by_its_passphrase(encrypted):
    text = (encrypted / "keyring.yaml").read_text()
    write(encrypted / "keyring.yaml", text.replace("active", "compromised", 1))
    assert KeyringFolder(encrypted).read().partner[0].fingerprint
    (encrypted.parent / "pass").unlink()
    assert KeyringFolder(encrypted).read().partner[0].fingerprint is None


def test_a_scheme_that_nobody_knows_is_told_with_those_that_are_known(folder):
    write(folder / "keyring.yaml", RING.replace("partner-1.pem", '"vault:a"'))
    ((line, where, message),) = problems(folder)
    assert (line, where) == (3, "partner[0].key")
    assert "no home of keys called vault: here; known are file:" in message


@pytest.mark.parametrize(
    ("section", "more", "says"),
    [
        ("platform", 'key: "pkcs11:object=a"', "AlipayHK's public key is a file"),
        ("platform", 'key: a, passphrase: "env:A"', "a public key has no passphrase"),
        (
            "partner",
            'key: "pkcs11:object=a", passphrase: "env:A"',
            "a token's key has no passphrase; its PIN is named by pin-source",
        ),
    ],
)
def test_what_an_entry_cannot_have_is_told(folder, section, more, says):
    old = f"key: {section}-1.pem"
    write(folder / "keyring.yaml", RING.replace(old, more))
    assert says in str(problems(folder))


def test_homes_of_files_have_nothing_to_close(partner_key, folder):
    home = FileHome()
    home.tidy()
    Homes({"file": home}).close()


@pytest.mark.parametrize(
    ("data", "passphrase", "says"),
    [
        ("encrypted", b"wrong", "its passphrase is wrong"),
        ("encrypted", None, "no passphrase is named for it"),
        ("plain", b"hunter2", "it is not encrypted PKCS#8"),
        ("damaged", b"hunter2", "its passphrase is wrong, or the file is damaged"),
    ],
)
def test_what_is_wrong_with_an_encrypted_key_is_told(
    partner_key, data, passphrase, says
):
    pem = private_pem(partner_key, None if data == "plain" else b"hunter2")
    if data == "damaged":
        pem = pem.replace(b"MII", b"MIJ", 1)
    with pytest.raises(KeyringError, match=says) as caught:
        read_private_key(pem, passphrase)
    assert "hunter2" not in caught.value.detail
    assert "wrong'" not in repr(caught.value)


def test_an_encrypted_key_must_be_rsa_and_long_enough():
    for key, says in (
        (ec.generate_private_key(ec.SECP256R1()), "it is not an RSA private key"),
        (rsa.generate_private_key(65537, 1024), "at least 2048"),
    ):
        pem = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")
        )
        with pytest.raises(KeyringError, match=says):
            read_private_key(pem, b"hunter2")
