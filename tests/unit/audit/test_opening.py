"""Keys of the log, who writes, and what on disk is not fit for it."""

import os
import pwd

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from gateway.audit.opening import actor, flaw_of, inspector_of, seal_of
from gateway.audit.seal import private_pem, public_pem
from gateway.errors import AuditError


@pytest.fixture
def key(log, tmp_path):
    file = tmp_path / "audit.pem"
    file.touch(mode=0o600)
    file.write_bytes(private_pem(log.key))
    return file


def test_a_key_signs_and_its_public_half_judges(log, key, tmp_path):
    public = tmp_path / "audit.pem.pub"
    public.write_bytes(public_pem(log.key.public_key()))
    for file in (key, public):
        assert inspector_of(file).fingerprint == seal_of(key).public.fingerprint
    assert log.seal.public.fingerprint in repr(seal_of(key))


def test_a_private_key_that_others_may_read_is_refused(key):
    key.chmod(0o640)
    with pytest.raises(AuditError, match="others may read"):
        seal_of(key)


def test_a_key_that_is_not_there_is_told(tmp_path):
    with pytest.raises(AuditError, match="cannot be read"):
        seal_of(tmp_path / "none.pem")


def encrypted(key):
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )


def of_another_kind(_):
    return generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, *[_plain()]
    )


def _plain():
    from cryptography.hazmat.primitives.serialization import NoEncryption

    return NoEncryption()


def public_of_another_kind(_):
    public = generate_private_key(SECP256R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "make",
    [encrypted, of_another_kind, lambda _: b"", lambda k: public_pem(k.public_key())],
)
def test_what_is_no_private_audit_key_is_refused(log, key, make):
    key.write_bytes(make(log.key))
    with pytest.raises(AuditError, match="gateway audit keygen"):
        seal_of(key)


@pytest.mark.parametrize("make", [encrypted, public_of_another_kind, lambda _: b"x"])
def test_what_is_no_public_audit_key_is_refused(log, key, make):
    key.write_bytes(make(log.key))
    with pytest.raises(AuditError, match="gateway audit keygen"):
        inspector_of(key)


def test_a_place_that_is_fit_has_no_flaw(log, written):
    assert flaw_of(written.file) is None
    assert flaw_of(written.file.with_name("new.jsonl")) is None


def open_folder(file):
    file.parent.chmod(0o777)


def open_file(file):
    file.chmod(0o666)


def link(file):
    file.rename(file.with_name("other"))
    file.symlink_to("other")


def folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("spoil", "flaw"),
    [
        (open_folder, "others may write to its folder"),
        (open_file, "others may write to it"),
        (link, "not a file"),
        (folder, "not a file"),
    ],
)
def test_a_place_that_is_not_fit_is_told(written, spoil, flaw):
    spoil(written.file)
    assert flaw in flaw_of(written.file)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    assert "there is no folder" in flaw_of(tmp_path / "none" / "audit.jsonl")


@pytest.mark.parametrize("refused", [0, 1])
def test_what_this_user_may_not_write_to_is_told(written, monkeypatch, refused):
    answers = [True, True]
    answers[refused] = False
    monkeypatch.setattr(os, "access", lambda *_: answers.pop(0))
    assert "this user" in flaw_of(written.file)


def test_who_acts_is_a_user_on_a_machine_and_whom_sudo_did_it_for(monkeypatch):
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert actor({}).startswith(f"{name}@")
    assert actor({}).endswith(f"[{os.getpid()}]")
    assert actor({"SUDO_USER": "alice"}).endswith(" for alice")
    monkeypatch.setattr(os, "geteuid", lambda: 987654)
    assert actor({}).startswith("987654@")
