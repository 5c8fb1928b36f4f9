"""Keys in a folder: who else may read or replace them, and what is no key file."""

import copy
import dataclasses
import grp
import os
import pickle
import pwd
import shutil
import socket
import stat
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.documents import DocumentError
from gateway.errors import DecryptionFailed, KeyringError, SetupError
from gateway.keys import manifest
from gateway.keys.backends.access import (
    Others,
    flaw_of,
    is_secret_mount,
    others_may_write,
    read_key_file,
)
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.folder import locked
from gateway.keys.backends.halts import Halt
from gateway.keys.backends.pem import FileKey
from gateway.keys.store import KeyStore
from tests import peer

RING = """\
generation: 1
partner:
  - {version: "1", state: active, key: partner-1.pem}
platform:
  - {version: "1", state: active, key: platform-1.pem}
"""


@pytest.fixture(autouse=True)
def no_private_groups(monkeypatch):
    """Make whoever runs the tests share their groups, as root does."""
    monkeypatch.setattr(grp, "getgrgid", {}.__getitem__)


def private_pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key):
    return key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )


def write(file, data, mode=0o600):
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    file.chmod(mode)
    return file


@pytest.fixture
def folder(tmp_path, partner_key, platform_key):
    """A keyring that is all right."""
    ring = tmp_path / "ring"
    ring.mkdir(mode=0o700)
    write(ring / "partner-1.pem", private_pem(partner_key))
    write(ring / "platform-1.pem", public_pem(platform_key), 0o644)
    write(ring / "keyring.yaml", RING, 0o644)
    return ring


@pytest.fixture
def file(folder):
    """Its private key's file."""
    return folder / "partner-1.pem"


def refusal(file, *, private=True):
    with pytest.raises(KeyringError) as caught:
        read_key_file(file, Others.MAY_NOTHING if private else Others.MAY_READ)
    return caught.value.detail


def problems(folder):
    with pytest.raises(DocumentError) as caught:
        KeyringFolder(folder).read()
    return [(each.line, each.where, each.message) for each in caught.value.problems]


# --- a ring ------------------------------------------------------------------


def test_a_folder_is_read_whole(folder, partner_key, platform_key):
    ring = KeyringFolder(folder).read()
    assert ring.generation == 1
    assert numbers(ring.signer.public) == numbers_of(partner_key)
    assert ring.signer.public.version == "1"
    assert numbers(ring.recipient) == numbers_of(platform_key)
    assert [key.version for key in ring.verifiers] == ["1"]
    fingerprints = [info.fingerprint for info in (*ring.partner, *ring.platform)]
    assert len(set(fingerprints)) == 2
    assert None not in fingerprints


def numbers(public):
    return public.rsa.public_numbers()


def numbers_of(key):
    return key.public_key().public_numbers()


@pytest.mark.parametrize("state", ["compromised", "destroyed"])
def test_a_key_that_does_nothing_any_more_needs_no_file(folder, state):
    text = RING.replace("state: active", f"state: {state}")
    (folder / "keyring.yaml").write_text(text)
    for name in ("partner-1.pem", "platform-1.pem"):
        (folder / name).unlink()
    ring = KeyringFolder(folder).read()
    for info in (*ring.partner, *ring.platform):
        assert (info.state, info.fingerprint, info.public) == (state, None, None)


@pytest.mark.parametrize("state", ["pre-active", "deactivated"])
def test_a_key_that_is_not_active_is_read_all_the_same(folder, file, state):
    write(folder / "keyring.yaml", RING.replace("state: active", f"state: {state}"))
    assert KeyringFolder(folder).read().partner[0].fingerprint
    file.unlink()
    assert problems(folder) == [
        (
            3,
            "partner[0].key",
            "partner-1.pem: it cannot be read: No such file or directory",
        )
    ]


def test_every_file_that_is_wrong_is_told_with_the_line_that_names_it(
    folder, partner_key
):
    write(
        folder / "keyring.yaml",
        "generation: 1\n"
        "partner:\n"
        '  - {version: "1", state: active, key: partner-1.pem}\n'
        '  - {version: "2", state: pre-active, key: none.pem}\n'
        '  - {version: "3", state: pre-active, key: public.pem}\n'
        "platform:\n"
        '  - {version: "1", state: active, key: empty.pem}\n'
        '  - {version: "2", state: deactivated, key: platform-1.pem}\n',
    )
    write(folder / "public.pem", public_pem(partner_key))
    write(folder / "empty.pem", b"")
    (folder / "partner-1.pem").chmod(0o644)
    assert problems(folder) == [
        (
            3,
            "partner[0].key",
            "partner-1.pem: others may read or write it (mode 0644); chmod 600 it",
        ),
        (
            4,
            "partner[1].key",
            "none.pem: it cannot be read: No such file or directory",
        ),
        (
            5,
            "partner[2].key",
            "public.pem: it is a public key; a private key belongs here",
        ),
        (7, "platform[0].key", "empty.pem: it is empty"),
    ]


def test_a_ring_that_breaks_the_rules_is_told_with_its_file(folder, partner_key):
    write(folder / "platform-1.pem", public_pem(partner_key), 0o644)
    with pytest.raises(DocumentError) as caught:
        KeyringFolder(folder).read()
    assert str(caught.value) == (
        f"{folder / 'keyring.yaml'}:1: versions 1 and 1 are the same key; our own "
        "public key stands where AlipayHK's belongs"
    )


def with_second(name, state):
    """Write a ring in which one key was given up, and its file is active again."""
    entry = f'  - {{version: "1", state: active, key: {name}.pem}}\n'
    assert entry in RING
    again = entry.replace('"1"', '"2"')
    return RING.replace(entry, entry.replace("active", state) + again)


@pytest.mark.parametrize("name", ["partner-1", "platform-1"])
@pytest.mark.parametrize("state", ["compromised", "deactivated", "pre-active"])
def test_a_key_does_not_come_back_under_another_version(folder, name, state):
    """Of all keys not a compromised one: AlipayHK's would let its thief sign."""
    write(folder / "keyring.yaml", with_second(name, state))
    with pytest.raises(SetupError, match="versions 1 and 2 are the same key"):
        KeyringFolder(folder).read()


@pytest.mark.parametrize("name", ["partner-1", "platform-1"])
def test_a_compromised_key_is_known_again_however_open_its_file_is(folder, name):
    again = (folder / f"{name}.pem").read_bytes()
    text = with_second(name, "compromised").replace(f"{name}.pem", "old.pem", 1)
    write(folder / "keyring.yaml", text)
    write(folder / "old.pem", again, 0o644)
    with pytest.raises(SetupError, match="versions 1 and 2 are the same key"):
        KeyringFolder(folder).read()


def noting(name, digest):
    """Write a ring in which one entry notes a fingerprint."""
    key = f"key: {name}.pem"
    assert key in RING
    return RING.replace(key, f'{key}, fingerprint: "{digest}"')


@pytest.mark.parametrize(("name", "line"), [("partner-1", 3), ("platform-1", 5)])
def test_a_key_that_was_replaced_in_its_file_is_refused(folder, name, line):
    section = name.partition("-")[0]
    ring = KeyringFolder(folder).read()
    (info,) = getattr(ring, section)
    write(folder / "keyring.yaml", noting(name, info.fingerprint))
    assert getattr(KeyringFolder(folder).read(), section) == (info,)
    write(folder / "keyring.yaml", noting(name, "0" * 64))
    message = f"{name}.pem: it is not the key of this fingerprint: it was replaced"
    assert problems(folder) == [(line, f"{section}[0].fingerprint", message)]


TRIED = """\
generation: 5
partner:
  - {version: "1", state: active, key: partner-1.pem}
  - {version: "2", state: pre-active, key: partner-2.pem, canary: [{share: 100, at: 2026-12-01T02:00:00Z}]}
platform:
  - {version: "1", state: active, key: platform-1.pem}
"""


@pytest.mark.parametrize(
    ("mark", "signer"),
    [
        (None, "2"),
        ('{"generation": 5, "version": "2", "reason": "refused"}', "1"),
        ('{"generation": 4, "version": "2", "reason": "refused"}', "2"),
        ("half a ma", "1"),
    ],
)
def test_a_mark_halts_the_canary_of_its_own_generation(folder, other_key, mark, signer):
    write(folder / "keyring.yaml", TRIED)
    write(folder / "partner-2.pem", private_pem(other_key))
    if mark:
        write(folder / ".canary-halted", mark)
    ring = KeyringFolder(folder).read(datetime(2026, 12, 1, 2, tzinfo=UTC))
    assert ring.signer_for(0.5).public.version == signer


def test_a_halt_counts_for_every_process_that_reads_the_ring(folder, other_key):
    write(folder / "keyring.yaml", TRIED)
    write(folder / "partner-2.pem", private_pem(other_key))
    before = KeyringFolder(folder).state()
    KeyringFolder(folder).halt(Halt(5, "2", "refused"))
    assert KeyringFolder(folder).read().canary.halted == "refused"
    assert KeyringFolder(folder).state() != before


def test_a_plan_that_could_not_be_carried_out_is_refused_when_it_is_read(folder):
    plan = "key: partner-1.pem, deactivate_at: 2026-12-01T02:00:00Z"
    write(folder / "keyring.yaml", RING.replace("key: partner-1.pem", plan))
    ((line, where, message),) = problems(folder)
    assert (line, where) == (1, "")
    assert message.startswith("planned for 2026-12-01T02:00:00Z: partner version 1 is")


def test_a_destroyed_key_needs_no_name_of_a_file(folder):
    entry = '  - {version: "0", state: destroyed}\n'
    text = RING.replace("partner:\n", f"partner:\n{entry}")
    write(folder / "keyring.yaml", text.replace("platform:\n", f"platform:\n{entry}"))
    ring = KeyringFolder(folder).read()
    found = [section[0] for section in (ring.partner, ring.platform)]
    assert [info.fingerprint for info in found] == [None, None]


@pytest.mark.parametrize("data", [b"", b"nonsense", b"-----BEGIN X-----"])
def test_a_compromised_keys_file_may_be_anything(folder, data):
    write(folder / "keyring.yaml", RING.replace("state: active", "state: compromised"))
    for name in ("partner-1.pem", "platform-1.pem"):
        write(folder / name, data)
    ring = KeyringFolder(folder).read()
    assert ring.verifiers == ring.decrypters == ()


@pytest.mark.parametrize("name", ["partner-1", "platform-1"])
def test_a_compromised_key_does_nothing_though_its_file_is_there(folder, name):
    entry = f"state: active, key: {name}.pem"
    text = RING.replace(entry, entry.replace("active", "compromised"))
    write(folder / "keyring.yaml", text)
    ring = KeyringFolder(folder).read()
    if name == "partner-1":
        assert (ring.active_signer, ring.decrypters) == (None, ())
        assert ring.recipient.version == "1"
    else:
        assert (ring.active_recipient, ring.verifiers) == (None, ())
        assert ring.signer.public.version == "1"


# --- what is no folder -------------------------------------------------------


def test_a_folder_that_is_not_there_is_told_with_what_makes_one(tmp_path):
    with pytest.raises(KeyringError) as caught:
        KeyringFolder(tmp_path / "none").read()
    assert caught.value.detail == (
        f"{tmp_path / 'none'}: the keyring's folder cannot be opened: No such file or "
        "directory. Make one with `gateway keys generate`, or with `gateway simulate` "
        "to try out"
    )


def test_a_link_to_nowhere_and_a_link_in_circles_are_no_folder(tmp_path):
    (tmp_path / "nowhere").symlink_to("none")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("nowhere", "circle"):
        with pytest.raises(KeyringError, match="cannot be opened"):
            KeyringFolder(tmp_path / name).read()


def test_a_file_is_no_folder(folder):
    with pytest.raises(
        KeyringError, match=r"a keyring is a folder with a keyring\.yaml"
    ):
        KeyringFolder(folder / "keyring.yaml").read()


def test_a_folder_without_a_manifest_is_told_as_such(folder):
    (folder / "keyring.yaml").unlink()
    assert problems(folder) == [(None, "", "cannot be read: No such file or directory")]


def test_a_pipe_in_place_of_the_manifest_is_not_waited_for(folder):
    (folder / "keyring.yaml").unlink()
    os.mkfifo(folder / "keyring.yaml", 0o600)
    assert problems(folder) == [
        (None, "", "is not a file but a pipe, socket or device")
    ]


# --- who else may read a private key -----------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o500])
def test_a_private_key_that_is_its_owners_alone_is_read(file, mode):
    file.chmod(mode)
    assert read_key_file(file, Others.MAY_NOTHING) == file.read_bytes()


@pytest.mark.parametrize(
    "mode", [0o644, 0o640, 0o604, 0o660, 0o666, 0o620, 0o602, 0o610, 0o601, 0o777]
)
def test_a_private_key_that_others_may_touch_is_refused(file, mode):
    file.chmod(mode)
    assert (
        refusal(file) == f"others may read or write it (mode {mode:04o}); chmod 600 it"
    )


def test_a_public_key_may_be_read_by_all(file, tmp_path):
    file.chmod(0o644)
    file.parent.chmod(0o777)
    assert read_key_file(file, Others.MAY_ALL) == file.read_bytes()


def seen_as(monkeypatch, *, uid, which=lambda _mode: True):
    """Let what is open look as if it had another owner."""
    fstat = os.fstat

    def other_fstat(descriptor):
        fields = list(fstat(descriptor))[:10]
        if which(fields[stat.ST_MODE]):
            fields[stat.ST_UID] = uid
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", other_fstat)


def test_a_private_key_of_another_user_is_refused(file, monkeypatch):
    seen_as(monkeypatch, uid=os.geteuid() + 1, which=stat.S_ISREG)
    assert refusal(file) == (
        "it belongs to another user; chown it to the gateway's user"
    )


@pytest.mark.parametrize("owner", [0, 1000])
def test_a_private_key_of_the_gateways_user_or_of_root_is_read(
    file, monkeypatch, owner
):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    seen_as(monkeypatch, uid=owner)
    assert read_key_file(file, Others.MAY_NOTHING)


def at(mode):
    return SimpleNamespace(st_mode=stat.S_IFREG | mode, st_uid=1000, st_gid=1000)


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o440, 0o400])
def test_of_a_mounted_secret_others_may_read(mode):
    assert not flaw_of(at(mode), Others.MAY_NOTHING, ours=True, mounted=True)
    flaw = flaw_of(at(mode), Others.MAY_NOTHING, ours=True, mounted=False)
    assert bool(flaw) is bool(mode & 0o077)


@pytest.mark.parametrize("others", [Others.MAY_NOTHING, Others.MAY_READ])
@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o620, 0o602])
def test_nothing_excuses_that_others_may_write(mode, others):
    for mounted in (True, False):
        flaw = flaw_of(at(mode), others, ours=True, mounted=mounted)
        assert "write" in flaw


@pytest.mark.parametrize("mounted", [True, False])
def test_nothing_excuses_that_a_file_belongs_to_another(mounted):
    flaw = flaw_of(at(0o400), Others.MAY_NOTHING, ours=False, mounted=mounted)
    assert flaw.startswith("it belongs to another user")


READ_ONLY = os.ST_RDONLY | os.ST_NOSUID
FACTS = {
    "a Kubernetes secret": (READ_ONLY, "tmpfs", True, True),
    "a mount that may be written": (os.ST_NOSUID, "tmpfs", True, False),
    "a disk that ProtectSystem=strict made read-only": (READ_ONLY, "ext4", True, False),
    "an image that is read-only": (READ_ONLY, "overlay", True, False),
    "a folder of /run under ProtectSystem=strict": (READ_ONLY, "tmpfs", False, False),
    "a system without /proc": (READ_ONLY, "", True, False),
}


@pytest.mark.parametrize(
    ("flags", "kind", "its_own", "is_one"), FACTS.values(), ids=FACTS.keys()
)
def test_which_mounts_are_those_of_secrets(flags, kind, its_own, is_one):
    assert is_secret_mount(flags, kind, is_its_own=its_own) is is_one


@pytest.fixture
def mount(tmp_path):
    """Give a function that mounts a file system, until the test ends."""
    mounted = []

    def do(*options, at):
        at.mkdir(exist_ok=True)
        if os.geteuid() or not shutil.which("mount"):
            pytest.skip("only root may mount")
        command = ["mount", *options, str(at)]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode:
            pytest.skip(f"this root may not mount: {done.stderr.decode()}")
        mounted.append(at)
        return at

    yield do
    for each in reversed(mounted):
        subprocess.run(["umount", "-l", str(each)], check=True)


def make_read_only(folder):
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def as_kubernetes(folder, files, mode=0o644):
    """Lay a secret out as the kubelet does: `..data` is what it swaps."""
    data = folder / "..2026_11_28_10_00_00.123456789"
    data.mkdir(mode=0o755)
    (folder / "..data").symlink_to(data.name)
    for file in files:
        write(data / file.name, file.read_bytes(), mode)
        (folder / file.name).symlink_to(f"..data/{file.name}")
    return data


@pytest.mark.parametrize("mode", [0o644, 0o440])
def test_a_secret_that_kubernetes_mounted_is_read(folder, mount, tmp_path, mode):
    secret = mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", at=tmp_path / "secret")
    data = as_kubernetes(secret, [*folder.iterdir()], mode)
    with pytest.raises(SetupError, match="others may read or write it"):
        KeyringFolder(secret).read()  # not read-only yet
    make_read_only(secret)
    assert KeyringFolder(secret).read().generation == 1
    (tmp_path / "link").symlink_to("secret")
    assert KeyringFolder(tmp_path / "link").read().generation == 1
    assert refusal(data / "partner-1.pem").startswith("others may read")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file: os.chown(file, 1001, -1), "it belongs to another user"),
        (lambda file: file.chmod(0o666), "others may read or write it"),
        (lambda file: file.chmod(0o460), "others may read or write it"),
    ],
)
def test_a_mounted_secret_of_others_is_refused(folder, mount, tmp_path, spoil, says):
    secret = mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", at=tmp_path / "secret")
    data = as_kubernetes(secret, [*folder.iterdir()])
    spoil(data / "partner-1.pem")
    make_read_only(secret)
    with pytest.raises(SetupError, match=says):
        KeyringFolder(secret).read()


def test_a_link_of_another_user_on_a_mounted_secret_is_refused(folder, mount, tmp_path):
    secret = mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", at=tmp_path / "secret")
    as_kubernetes(secret, [*folder.iterdir()])
    os.chown(secret / "..data", 1001, -1, follow_symlinks=False)
    make_read_only(secret)
    with pytest.raises(SetupError, match=r"link .*\.\.data belongs to another user"):
        KeyringFolder(secret).read()


def test_a_disk_that_is_mounted_read_only_excuses_nothing(folder, mount):
    """As systemd's ProtectSystem=strict makes of every file system."""
    (folder / "partner-1.pem").chmod(0o644)
    mount("--bind", str(folder), at=folder)
    make_read_only(folder)
    assert os.statvfs(folder).f_flag & os.ST_RDONLY
    assert refusal(folder / "partner-1.pem").startswith("others may read or write it")


def test_a_folder_on_a_read_only_tmpfs_of_all_is_no_secret(folder, mount, tmp_path):
    """As /run is under systemd's ProtectSystem=strict."""
    run = mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", at=tmp_path / "run")
    (run / "gateway").mkdir()
    key = run / "gateway" / "partner-1.pem"
    write(key, (folder / "partner-1.pem").read_bytes(), 0o644)
    make_read_only(run)
    assert refusal(key).startswith("others may read or write it")


# --- who else may have written what decides which keys are used --------------


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o620, 0o602])
@pytest.mark.parametrize("name", ["keyring.yaml", "platform-1.pem"])
def test_a_file_of_the_ring_that_others_may_write_to_is_refused(folder, name, mode):
    (folder / name).chmod(mode)
    with pytest.raises(SetupError) as caught:
        KeyringFolder(folder).read()
    text = f"{name}: others may write to it (mode {mode:04o}); chmod go-w it"
    assert text in caught.value.detail


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")
@pytest.mark.parametrize("name", ["keyring.yaml", "platform-1.pem", "partner-1.pem"])
def test_a_file_of_another_user_is_refused(folder, name):
    os.chown(folder / name, 1001, -1)
    with pytest.raises(SetupError) as caught:
        KeyringFolder(folder).read()
    assert f"{name}: it belongs to another user; chown it" in caught.value.detail


def test_a_folder_of_another_user_is_refused(folder, monkeypatch):
    seen_as(monkeypatch, uid=os.geteuid() + 1, which=stat.S_ISDIR)
    with pytest.raises(KeyringError, match="its folder / belongs to another user"):
        KeyringFolder(folder).read()


@pytest.mark.parametrize("name", ["keyring.yaml", "platform-1.pem", "partner-1.pem"])
def test_a_link_that_others_could_turn_elsewhere_is_refused(folder, tmp_path, name):
    """Each link on the way decides, also one that lies in neither ring nor target."""
    crossing, end = tmp_path / "crossing", tmp_path / "end"
    crossing.mkdir(mode=0o700)
    end.mkdir(mode=0o700)
    (folder / name).rename(end / name)
    (crossing / name).symlink_to(end / name)
    (folder / name).symlink_to(Path("..", "crossing", name))
    assert KeyringFolder(folder).read().generation == 1
    crossing.chmod(0o770)
    with pytest.raises(SetupError) as caught:
        KeyringFolder(folder).read()
    assert f"{name}: {world(crossing)}" in caught.value.detail


# --- who else may replace it -------------------------------------------------


@pytest.fixture
def private(monkeypatch):
    """Have user 1000 with a group of its own; whoever runs the test has none."""
    user = SimpleNamespace(pw_name="dev", pw_uid=1000, pw_gid=1000)
    group = SimpleNamespace(gr_name="dev", gr_gid=1000, gr_mem=[])
    facts = SimpleNamespace(user=user, group=group, users=[user])
    monkeypatch.setattr(pwd, "getpwuid", {1000: user}.__getitem__)
    monkeypatch.setattr(pwd, "getpwall", lambda: facts.users)
    monkeypatch.setattr(grp, "getgrgid", {1000: group}.__getitem__)
    return facts


def owned(mode, uid=1000, gid=1000):
    return SimpleNamespace(st_mode=stat.S_IFREG | mode, st_uid=uid, st_gid=gid)


def test_the_owners_private_group_may_write_and_nobody_else(private):
    assert not others_may_write(owned(0o664))
    assert others_may_write(owned(0o666))
    assert not others_may_write(owned(0o644, gid=7))


def test_its_private_group_may_not_touch_a_secret(private):
    assert not flaw_of(owned(0o664), Others.MAY_READ, ours=True, mounted=False)
    for mode in (0o660, 0o640, 0o620):
        for mounted in (False, mode != 0o640):
            assert flaw_of(owned(mode), Others.MAY_NOTHING, ours=True, mounted=mounted)


GROUPS_OF_OTHERS = {
    "another member": lambda it: it.group.gr_mem.append("eve"),
    "another whose primary group it is": lambda it: it.users.append(
        SimpleNamespace(pw_name="eve", pw_uid=1001, pw_gid=1000)
    ),
    "a name that is not the user's": lambda it: setattr(it.group, "gr_name", "staff"),
    "another primary group of the owner": lambda it: setattr(it.user, "pw_gid", 7),
}


@pytest.mark.parametrize("spoil", GROUPS_OF_OTHERS.values(), ids=GROUPS_OF_OTHERS)
def test_a_group_that_others_may_be_in_is_not_private(private, spoil):
    private.group.gr_mem.append("dev")
    assert not others_may_write(owned(0o664))
    spoil(private)
    assert others_may_write(owned(0o664))


@pytest.mark.parametrize(("uid", "gid"), [(0, 0), (1000, 7), (7, 1000)])
def test_neither_roots_group_nor_an_unknown_one_is_private(private, uid, gid):
    assert others_may_write(owned(0o664, uid, gid))


def world(folder):
    return (
        f"others may write to its folder {folder} and replace it; chmod go-w {folder}"
    )


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o703, 0o770, 0o720, 0o775])
def test_a_folder_that_others_may_write_to_is_refused(folder, mode):
    folder.chmod(mode)
    with pytest.raises(KeyringError) as caught:
        KeyringFolder(folder).read()
    assert caught.value.detail == f"{folder / 'keyring.yaml'}: {world(folder)}"
    assert refusal(folder / "partner-1.pem") == world(folder)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o1777])
def test_a_folder_that_others_cannot_replace_files_in_is_read(folder, mode):
    folder.chmod(mode)
    assert KeyringFolder(folder).read().generation == 1


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_every_folder_from_the_root_on_is_looked_at(folder, tmp_path, mode):
    """Who may write to one of them may put another ring in the place of ours."""
    high = tmp_path / "high"
    (high / "middle").mkdir(parents=True, mode=0o755)
    ring = folder.rename(high / "middle" / "ring")
    assert KeyringFolder(ring).read().generation == 1
    high.chmod(mode)
    with pytest.raises(KeyringError) as caught:
        KeyringFolder(ring).read()
    assert caught.value.detail == f"{ring / 'keyring.yaml'}: {world(high)}"
    assert refusal(ring / "partner-1.pem") == world(high)


def test_a_link_to_the_ring_in_a_folder_that_others_may_write_to_is_refused(
    folder, tmp_path
):
    """They may turn it to a ring of theirs, or to an old one of ours."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "ring").symlink_to(folder)
    assert KeyringFolder(shared / "ring").read().generation == 1
    shared.chmod(0o777)
    with pytest.raises(KeyringError) as caught:
        KeyringFolder(shared / "ring").read()
    assert world(shared) in caught.value.detail
    with (
        pytest.raises(KeyringError, match="others may write to its folder"),
        locked(shared / "ring"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a link away takes root")
@pytest.mark.parametrize("owner", [0, 1001])
def test_in_a_sticky_folder_a_link_must_be_ours(folder, tmp_path, owner):
    """In /tmp nobody can replace our link, and everybody can put theirs before it."""
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "ring").symlink_to(folder)
    os.chown(sticky / "ring", owner, -1, follow_symlinks=False)
    if owner == 0:
        assert KeyringFolder(sticky / "ring").read().generation == 1
        return
    with pytest.raises(KeyringError, match=r"its link .*ring belongs to another user"):
        KeyringFolder(sticky / "ring").read()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")
def test_a_folder_of_another_user_on_the_way_is_refused(folder, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    ring = folder.rename(theirs / "ring")
    os.chown(theirs, 1001, -1)
    with pytest.raises(KeyringError, match=r"its folder .*theirs belongs to another"):
        KeyringFolder(ring).read()


def test_a_path_is_followed_as_the_system_follows_it(folder, tmp_path, monkeypatch):
    """A relative one, one with `..` behind a link, one through many links."""
    deep = tmp_path / "deep" / "er"
    deep.mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/er")
    folder.rename(tmp_path / "deep" / "ring")
    monkeypatch.chdir(tmp_path)
    for path in ("link/../ring", "./deep/./ring/.", "deep/er/.././ring"):
        assert KeyringFolder(Path(path)).read().generation == 1
    (deep / "0").symlink_to(tmp_path / "deep" / "ring" / "partner-1.pem")
    for number in range(39):
        (deep / str(number + 1)).symlink_to(str(number))
    assert read_key_file(deep / "39", Others.MAY_NOTHING)
    (deep / "40").symlink_to("39")
    (deep / "round").symlink_to("round")
    for name in ("40", "round"):
        assert "Too many levels of symbolic links" in refusal(deep / name)


def test_a_refused_way_leaves_nothing_open(folder, tmp_path):
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide").chmod(0o777)
    (folder / "out.pem").symlink_to(tmp_path / "wide" / "key.pem")
    (folder / "open.pem").touch(0o666)
    before = len([*Path("/proc/self/fd").iterdir()])
    for name in ("out.pem", "open.pem", "none.pem", "partner-1.pem/x"):
        refusal(folder / name)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_what_is_read_is_what_was_looked_at(folder, file, monkeypatch):
    """A link put in the place of the key after the last look is not followed."""
    (folder / "theirs.pem").write_bytes(b"theirs")
    fstat = os.fstat

    def swap(descriptor):
        status = fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and not file.is_symlink():
            file.unlink()
            file.symlink_to("theirs.pem")
        return status

    monkeypatch.setattr(os, "fstat", swap)
    assert refusal(file) == "it cannot be read: Too many levels of symbolic links"


def test_a_link_to_a_key_is_followed_to_where_it_is(folder, file, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    file.rename(elsewhere / "key.pem")
    file.symlink_to(elsewhere / "key.pem")
    assert KeyringFolder(folder).read().signer.public.version == "1"
    (elsewhere / "key.pem").chmod(0o640)
    assert "others may read or write it" in refusal(file)
    (elsewhere / "key.pem").chmod(0o600)
    elsewhere.chmod(0o777)
    assert refusal(file) == world(elsewhere)


def test_a_link_to_the_folder_is_followed_to_where_it_is(folder, tmp_path):
    (tmp_path / "link").symlink_to("ring")
    assert KeyringFolder(tmp_path / "link").read().generation == 1
    folder.chmod(0o777)
    with pytest.raises(KeyringError, match="others may write"):
        KeyringFolder(tmp_path / "link").read()


# --- what is no key file -----------------------------------------------------

NO_FILE = "it is not a file of a key's size"


@pytest.mark.parametrize("private", [True, False])
def test_a_pipe_a_device_and_a_link_to_one_are_no_key_files(tmp_path, private):
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert refusal(tmp_path / "pipe", private=private) == NO_FILE
    assert refusal(tmp_path / "zero", private=private) == NO_FILE


def test_a_socket_is_no_key_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert "it cannot be read" in refusal(Path("socket"))


def test_a_folder_is_no_key_file(folder):
    assert refusal(folder) == "it cannot be read: Is a directory"


def test_a_folder_in_a_keys_place_leaves_nothing_open(folder):
    def lowest_free():
        descriptor = os.open("/dev/null", os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    before = lowest_free()
    for _ in range(3):
        refusal(folder)
    assert lowest_free() == before


def test_a_file_that_is_too_large_is_not_read(file):
    largest = 64 * 1024
    pem = file.read_bytes()
    file.write_bytes(pem + b"\n" * (largest - len(pem)))
    assert read_key_file(file, Others.MAY_NOTHING) == file.read_bytes()
    os.truncate(file, largest + 1)
    assert refusal(file) == NO_FILE
    os.truncate(file, 1 << 40)  # sparse: it is on no disk
    assert refusal(file) == NO_FILE


def test_a_file_that_cannot_be_read_is_told_with_the_reason(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    assert refusal(tmp_path / "none") == "it cannot be read: No such file or directory"
    assert refusal(tmp_path / "circle") == (
        "it cannot be read: Too many levels of symbolic links"
    )


# --- a pair in this process --------------------------------------------------


@pytest.fixture
def key(partner_key):
    return FileKey("7", partner_key)


async def test_a_pair_signs_and_unwraps(key, partner_key):
    assert key.public.version == "7"
    signature = await key.sign(b"base")
    partner_key.public_key().verify(
        signature, b"base", padding.PKCS1v15(), hashes.SHA256()
    )
    wrapped = peer.wrap(partner_key.public_key())
    assert await key.unwrap(wrapped) == peer.CONTENT_KEY


async def test_a_wrapped_key_of_another_length_is_told_at_once(key):
    with pytest.raises(DecryptionFailed):
        await key.unwrap(bytes(255))


def secrets_of(private):
    """Give everything that only the private half has, as text may show it."""
    found = private.private_numbers()
    parts = (found.d, found.p, found.q, found.dmp1, found.dmq1, found.iqmp)
    shown = [form for part in parts for form in (str(part), f"{part:x}", f"{part:X}")]
    return shown + [line.decode() for line in private_pem(private).splitlines()[1:-1]]


def test_no_text_of_a_pair_shows_more_than_its_version(key, partner_key, folder):
    assert repr(key) == str(key) == f"{key}" == "FileKey(version='7')"
    ring = KeyringFolder(folder).read()
    texts = f"{ring!r} {ring.partner!r} {ring.decrypters!r} {KeyringFolder(folder)!r}"
    assert not [each for each in secrets_of(partner_key) if each in texts]
    assert "PrivateKey" not in texts


def test_a_pair_cannot_leave_its_process(key, folder):
    ring = KeyringFolder(folder).read()
    ways = [
        *(partial(pickle.dumps, key, each) for each in range(pickle.HIGHEST_PROTOCOL)),
        partial(pickle.dumps, ring),
        partial(copy.copy, key),
        partial(copy.deepcopy, key),
        partial(dataclasses.asdict, ring),
        partial(vars, key),
    ]
    for way in ways:
        with pytest.raises(TypeError):
            way()


def test_a_pair_takes_nothing_more_upon_itself(key):
    with pytest.raises(AttributeError):
        key.note = "x"


# --- when to look again ------------------------------------------------------


def let_a_tick_pass(folder):
    """Wait until the file system's clock, which has coarse ticks, has moved on."""
    last = max(file.stat().st_ctime_ns for file in (folder, *folder.iterdir()))
    probe = folder.with_name("probe")
    while True:
        probe.touch()
        if probe.stat().st_ctime_ns > last:
            return


def touch(file, seconds):
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


CHANGES = {
    "a file's bytes": lambda ring: write(ring / "partner-1.pem", b"x"),
    "a file's mode": lambda ring: (ring / "partner-1.pem").chmod(0o400),
    "a file's time": lambda ring: touch(ring / "keyring.yaml", 1),
    "another file of the same bytes": lambda ring: replace(ring / "keyring.yaml"),
    "a new file": lambda ring: write(ring / "new", b""),
    "a file that is gone": lambda ring: (ring / "platform-1.pem").unlink(),
    "a new name": lambda ring: (ring / "platform-1.pem").rename(ring / "p.pem"),
    "no folder": lambda ring: ring.rename(ring.with_name("gone")),
    "the folder's mode": lambda ring: ring.chmod(0o755),
}


def replace(file):
    new = file.with_name("new")
    new.write_bytes(file.read_bytes())
    new.replace(file)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_shows_in_the_folders_state(folder, change):
    """Also of its mode: a folder that is refused for it must be looked at again."""
    source = KeyringFolder(folder)
    before = source.state()
    assert source.state() == before
    let_a_tick_pass(folder)
    change(folder)
    assert source.state() != before


def test_reading_a_ring_does_not_change_its_state(folder):
    source = KeyringFolder(folder)
    before = source.state()
    source.read()
    assert source.state() == before


def test_links_are_looked_through(folder, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    for name in ("keyring.yaml", "partner-1.pem", "platform-1.pem"):
        (second / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "data").symlink_to("ring")
    (tmp_path / "mount").mkdir()
    for name in ("keyring.yaml", "partner-1.pem", "platform-1.pem"):
        (tmp_path / "mount" / name).symlink_to(f"../data/{name}")
    sources = [KeyringFolder(tmp_path / "data"), KeyringFolder(tmp_path / "mount")]
    before = [source.state() for source in sources]
    (tmp_path / "next").symlink_to("second")
    (tmp_path / "next").replace(tmp_path / "data")
    after = [source.state() for source in sources]
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_a_link_to_nowhere_is_a_state_like_any_other(folder):
    source = KeyringFolder(folder)
    (folder / "link").symlink_to("none")
    before = source.state()
    assert source.state() == before
    write(folder / "none", b"")
    assert source.state() != before


def test_a_folder_that_is_not_there_is_a_state_like_any_other(tmp_path):
    source = KeyringFolder(tmp_path / "none")
    before = source.state()
    assert source.state() == before
    (tmp_path / "none").mkdir()
    assert source.state() != before


# --- a swap while it is read -------------------------------------------------


class Nobody:
    def loaded(self, client, ring): ...

    def failed(self, client, reason): ...

    def reused(self, client, generation): ...


async def fit(ring): ...


async def test_a_ring_is_never_put_together_from_two(
    folder, tmp_path, other_key, monkeypatch
):
    """Kubernetes swaps `..data` between the manifest and the keys it names.

    It is read again then, and is no refusal: that would be an alert in a good rotation.
    """
    second = tmp_path / "second"
    second.mkdir()
    write(second / "keyring.yaml", RING.replace('"1"', '"2"').replace(": 1", ": 2"))
    write(second / "partner-1.pem", private_pem(other_key))
    (second / "platform-1.pem").write_bytes((folder / "platform-1.pem").read_bytes())
    link, new = tmp_path / "..data", tmp_path / "new"
    link.symlink_to("ring")
    load = manifest.load

    def load_and_swap(place):
        document = load(place)
        with suppress(FileExistsError):
            new.symlink_to("second")
        new.replace(link)
        return document

    monkeypatch.setattr(manifest, "load", load_and_swap)
    store = KeyStore(
        "hk", KeyringFolder(link), fit, Nobody(), now=lambda: datetime.now(UTC)
    )
    assert await store.reload() is True
    assert store.problem is None
    public = store.current.signer.public
    assert (public.version, numbers(public)) == ("2", numbers_of(other_key))


def test_a_ring_that_changes_whenever_it_is_read_is_refused_in_the_end(
    folder, monkeypatch
):
    load = manifest.load

    def load_and_change(place):
        document = load(place)
        write(folder / "new.yaml", RING)
        (folder / "new.yaml").replace(folder / "keyring.yaml")
        return document

    monkeypatch.setattr(manifest, "load", load_and_change)
    with pytest.raises(KeyringError, match="changed each of the 8 times it was read"):
        KeyringFolder(folder).read()


def test_what_is_wrong_with_a_ring_that_changed_meanwhile_is_no_refusal(
    folder, file, monkeypatch
):
    """A command deletes a key's file once the manifest does not name it any more."""
    load, after = manifest.load, RING.replace("partner-1", "partner-2")

    def load_and_change(place):
        document = load(place)
        if file.exists():
            file.rename(folder / "partner-2.pem")
            write(folder / "new.yaml", after)
            (folder / "new.yaml").replace(folder / "keyring.yaml")
        return document

    monkeypatch.setattr(manifest, "load", load_and_change)
    assert KeyringFolder(folder).read().signer.public.version == "1"


def test_other_files_that_change_all_the_time_do_not_keep_a_ring_from_being_read(
    folder, monkeypatch
):
    load, count = manifest.load, iter(range(100))

    def load_and_write(place):
        (folder / f"log-{next(count)}").touch()
        return load(place)

    monkeypatch.setattr(manifest, "load", load_and_write)
    assert KeyringFolder(folder).read().generation == 1
    assert next(count) == 1


@pytest.mark.parametrize("name", [".change", ".history"])
def test_what_a_command_prepares_is_no_change_yet(folder, name):
    source = KeyringFolder(folder)
    before = source.state()
    let_a_tick_pass(folder)
    (folder / name).mkdir()
    (folder / name / "keyring.yaml").touch()
    after = source.state()
    assert after == before
