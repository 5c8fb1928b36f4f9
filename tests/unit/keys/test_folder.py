"""Writing a ring's folder: whole at every moment, and for its owner alone."""

import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from gateway.errors import KeyringError, SetupError
from gateway.keys import manifest
from gateway.keys.backends import folder as folders
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.folder import KeyFile, locked, preview, unnamed
from gateway.keys.backends.halts import Halt, halt_reason, write_halt
from gateway.keys.backends.history import generations, recall
from gateway.keys.changes import (
    EMPTY,
    Party,
    activate,
    add,
    deactivate,
    destroy,
)
from gateway.keys.formats import private_pem, public_pem
from gateway.keys.manifest import Entry
from gateway.keys.model import KeyState
from tests.unit.keys import killed_changes

REPOSITORY = Path(__file__).parents[3]


def entry(name, version="1"):
    return Entry(version=version, state=KeyState.PRE_ACTIVE, key=name)


def pair(name, key):
    return KeyFile(name, private_pem(key), private=True)


def public(name, key):
    return KeyFile(name, public_pem(key.public_key()).encode(), private=False)


def mode_of(path):
    return stat.S_IMODE(path.lstat().st_mode)


def key_files(folder):
    return sorted(path.name for path in folder.rglob("*.pem"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys" / "hk"


@pytest.fixture
def ring(folder, partner_key, platform_key):
    """A folder with our active pair and AlipayHK's active key."""
    with locked(folder, create=True) as opened:
        after = add(opened.manifest, Party.PARTNER, entry("partner-1.pem"))
        after = activate(after, Party.PARTNER, "1")
        after = add(after, Party.PLATFORM, entry("platform-1.pem"))
        after = activate(after, Party.PLATFORM, "1")
        opened.replace(
            after,
            pair("partner-1.pem", partner_key),
            public("platform-1.pem", platform_key),
        )
    return folder


def snapshot(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- what is written ---------------------------------------------------------


def test_a_new_folder_is_for_its_owner_and_holds_an_empty_ring(folder):
    with locked(folder, create=True) as opened:
        assert opened.manifest == EMPTY
    assert mode_of(folder) == 0o700
    assert KeyringFolder(folder).read().generation == 1


def test_a_ring_that_is_there_is_left_as_it_is(ring):
    before = snapshot(ring)
    with locked(ring, create=True):
        pass
    assert snapshot(ring) == before


def test_a_written_ring_is_the_one_that_is_read(ring, partner_key):
    read = KeyringFolder(ring).read()
    assert read.signer.public.rsa == partner_key.public_key()
    assert read.recipient.version == "1"
    assert key_files(ring) == ["partner-1.pem", "platform-1.pem"]


def test_a_change_gives_the_ring_as_it_will_be_read(ring):
    with locked(ring) as opened:
        changed = opened.replace(
            deactivate(opened.manifest, Party.PARTNER, "1", leave_none=True)
        )
    assert changed.active_signer is None
    assert KeyringFolder(ring).read().generation == changed.generation


def test_a_private_key_is_for_its_owner_whatever_the_umask(
    folder, partner_key, platform_key
):
    before = os.umask(0)
    try:
        with locked(folder, create=True) as opened:
            after = add(opened.manifest, Party.PARTNER, entry("partner-1.pem"))
            after = add(after, Party.PLATFORM, entry("platform-1.pem"))
            opened.replace(
                after,
                pair("partner-1.pem", partner_key),
                public("platform-1.pem", platform_key),
            )
    finally:
        os.umask(before)
    assert mode_of(folder) == 0o700
    assert mode_of(folder.parent) == 0o755
    assert KeyringFolder(folder).read().generation == after.generation
    assert mode_of(folder / "partner-1.pem") == 0o600
    assert mode_of(folder / "platform-1.pem") == 0o644
    assert mode_of(folder / "keyring.yaml") == 0o644


def test_a_private_key_is_never_open_even_for_a_moment(
    folder, partner_key, monkeypatch
):
    """It is created with its final mode, under a name that nothing had."""
    opened_with = []
    real_open = os.open

    def spy(path, flags, mode=0o777, **how):
        if str(path).endswith("partner-1.pem") and flags & os.O_CREAT:
            opened_with.append((bool(flags & os.O_EXCL), mode))
        return real_open(path, flags, mode, **how)

    monkeypatch.setattr(os, "open", spy)
    with locked(folder, create=True) as opened:
        after = add(opened.manifest, Party.PARTNER, entry("partner-1.pem"))
        opened.replace(after, pair("partner-1.pem", partner_key))
    assert opened_with == [(True, 0o600)]


def test_the_file_of_a_destroyed_key_is_deleted(ring):
    with locked(ring) as opened:
        after = deactivate(opened.manifest, Party.PARTNER, "1", leave_none=True)
        opened.replace(destroy(after, Party.PARTNER, "1"))
    assert key_files(ring) == ["platform-1.pem"]


def test_a_folder_behind_a_link_is_written_where_it_is(ring, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(ring)
    with locked(link) as opened:
        opened.replace(deactivate(opened.manifest, Party.PARTNER, "1", leave_none=True))
    assert link.is_symlink()
    assert KeyringFolder(ring).read().active_signer is None


# --- what is refused, leaving everything as it was ---------------------------


def test_a_ring_that_the_gateway_would_refuse_is_not_written(ring, partner_key):
    before = snapshot(ring)
    with locked(ring) as opened:
        after = add(opened.manifest, Party.PLATFORM, entry("platform-2.pem", "2"))
        with pytest.raises(KeyringError, match=r"nothing was changed.*same key"):
            opened.replace(after, public("platform-2.pem", partner_key))
    assert snapshot(ring) == before


def test_a_ring_with_a_broken_key_is_named_with_its_place(ring):
    (ring / "partner-1.pem").chmod(0o644)
    with locked(ring) as opened:
        after = deactivate(opened.manifest, Party.PLATFORM, "1", leave_none=True)
        with pytest.raises(KeyringError, match=r"partner\[0\].key: partner-1.pem: oth"):
            opened.replace(after)


def test_a_step_that_mends_a_broken_ring_is_taken(ring):
    """The old ring need not be one the gateway takes; the new one must be."""
    (ring / "partner-1.pem").write_text("not a key")
    with locked(ring) as opened:
        after = deactivate(opened.manifest, Party.PARTNER, "1", leave_none=True)
        opened.replace(destroy(after, Party.PARTNER, "1"))
    assert KeyringFolder(ring).read().partner[0].state is KeyState.DESTROYED


def test_a_file_that_is_there_is_not_overwritten(ring, other_key):
    (ring / "partner-2.pem").write_text("somebody's")
    before = snapshot(ring)
    with locked(ring) as opened:
        after = add(opened.manifest, Party.PARTNER, entry("partner-2.pem", "2"))
        with pytest.raises(KeyringError, match=r"partner-2.pem is in the way"):
            opened.replace(after, pair("partner-2.pem", other_key))
    assert snapshot(ring) == before


def test_a_key_behind_a_link_is_not_taken_for_deleted(ring, tmp_path):
    elsewhere = (ring / "platform-1.pem").rename(tmp_path / "elsewhere.pem")
    (ring / "platform-1.pem").symlink_to(elsewhere)
    with locked(ring) as opened:
        after = deactivate(opened.manifest, Party.PLATFORM, "1", leave_none=True)
        with pytest.raises(KeyringError, match="symbolic link: deleting it would"):
            opened.replace(destroy(after, Party.PLATFORM, "1"))
    assert elsewhere.exists()


def test_a_name_that_yaml_reads_otherwise_is_written_so_that_it_is_read(ring):
    """The file of a compromised key may be gone, so nothing else would notice."""
    odd = Entry(version="0", state=KeyState.COMPROMISED, key="'0.pem'")
    with locked(ring) as opened:
        now = opened.manifest
        after = now.model_copy(update={"partner": (*now.partner, odd)})
        opened.replace(after)
    assert manifest.load(ring).value.partner[-1] == odd


def test_a_manifest_that_cannot_be_read_is_not_replaced(ring):
    (ring / "keyring.yaml").write_text("generation: 1\n")
    with locked(ring) as opened, pytest.raises(SetupError, match="required"):
        opened.replace(EMPTY)


def test_a_folder_of_other_things_does_not_become_a_ring(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(KeyringError, match="it is no keyring"),
        locked(tmp_path, create=True),
    ):
        pass
    assert sorted(snapshot(tmp_path)) == ["notes.txt"]


def test_a_folder_that_is_not_there_is_not_made_unasked(folder):
    with pytest.raises(KeyringError, match=r"No such file.*gateway keys generate"):
        locked(folder).__enter__()
    assert not folder.exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyringError, match="Not a directory"):
        locked(tmp_path / "file").__enter__()


def test_a_folder_that_anyone_may_write_to_is_refused(ring):
    ring.chmod(0o777)
    with pytest.raises(KeyringError, match="chmod go-w"):
        locked(ring).__enter__()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_of_another_user_is_refused(ring):
    os.chown(ring, 12345, 12345)
    with pytest.raises(KeyringError, match="another user's; run this as that user"):
        locked(ring).__enter__()


def test_a_mounted_secret_is_not_written(ring):
    """Kubernetes links keyring.yaml to `..data`; a rename would cut the link."""
    (ring / "..data").mkdir()
    (ring / "keyring.yaml").rename(ring / "..data" / "keyring.yaml")
    (ring / "keyring.yaml").symlink_to("..data/keyring.yaml")
    with pytest.raises(KeyringError, match="Change the ring where it comes from"):
        locked(ring).__enter__()


# --- one at a time -----------------------------------------------------------


def test_two_changes_at_once_are_refused(ring):
    with (
        locked(ring),
        pytest.raises(KeyringError, match="another command is changing"),
        locked(ring),
    ):
        pass


def test_the_lock_ends_with_the_block_even_where_it_fails(ring):
    with pytest.raises(ZeroDivisionError), locked(ring):
        raise ZeroDivisionError
    with locked(ring):
        pass


def test_readers_are_not_held_up_by_the_lock(ring):
    with locked(ring):
        assert KeyringFolder(ring).read().signer.public.version == "1"


def test_another_lock_that_is_shared_holds_changes_off(ring):
    descriptor = os.open(ring, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with pytest.raises(KeyringError, match="another command"):
            locked(ring).__enter__()
    finally:
        os.close(descriptor)


# --- trying it out -----------------------------------------------------------


def test_a_preview_shows_the_ring_and_writes_nothing(ring):
    before, state = snapshot(ring), KeyringFolder(ring).state()
    after = deactivate(manifest.load(ring).value, Party.PARTNER, "1", leave_none=True)
    assert preview(ring, after).active_signer is None
    assert snapshot(ring) == before
    assert KeyringFolder(ring).state() == state


def test_a_preview_refuses_a_folder_that_a_change_would(ring):
    ring.chmod(0o777)
    with pytest.raises(KeyringError, match="chmod go-w"):
        preview(ring, manifest.load(ring).value)


def test_a_preview_refuses_what_the_gateway_would(ring):
    twice = manifest.load(ring).value
    twice = twice.model_copy(update={"partner": twice.partner * 2})
    with pytest.raises(KeyringError, match="version 1 stands twice"):
        preview(ring, twice)


# --- crashes -----------------------------------------------------------------


@pytest.fixture
def killed(ring, other_key, tmp_path):
    """Give a function that gives the folder of each killed change, in order."""
    key = tmp_path / "new.pem"
    key.write_bytes(private_pem(other_key))

    def kill(change):
        words = [sys.executable, "-m", killed_changes.__name__, ring, key, change]
        subprocess.run(words, check=True, timeout=60, cwd=REPOSITORY)
        return sorted(ring.parent.glob("killed-*"))

    return kill


def test_a_killed_change_leaves_the_old_ring_or_the_new_one(killed):
    folders = killed("rotate")
    assert len(folders) > 20
    signers = []
    for folder in folders:
        signers.append(KeyringFolder(folder).read().signer.public.version)
        left = unnamed(folder, manifest.load(folder).value)
        assert set(left) <= {".change", "partner-1.pem", "partner-2.pem"}
        for path in folder.rglob("partner-*.pem"):
            assert path.is_symlink() or mode_of(path) == 0o600
    assert signers == sorted(signers)
    assert set(signers) == {"1", "2"}
    assert left == []


def grow(ring, key):
    """Add our version 2, not in use yet."""
    with locked(ring) as opened:
        after = add(opened.manifest, Party.PARTNER, entry("partner-2.pem", "2"))
        opened.replace(after, pair("partner-2.pem", key))


@pytest.mark.timeout(300)  # a process for each step: over 50
@pytest.mark.parametrize(
    "change",
    [
        "plan",
        pytest.param("settle", marks=pytest.mark.chaos),
        pytest.param("back", marks=pytest.mark.chaos),
    ],
)
def test_at_each_step_a_killed_change_leaves_one_of_two_rings_and_the_history(
    ring, killed, other_key, change
):
    grow(ring, other_key)
    if change == "settle":
        killed_changes.plan(ring)
    elif change == "back":
        with locked(ring) as opened:
            opened.replace(activate(opened.manifest, Party.PARTNER, "2"))
    before, kept = manifest.load(ring).value, generations(ring)
    folders = killed(change)
    after = manifest.load(folders[-1]).value
    assert after.generation == before.generation + 1
    found = [manifest.load(folder).value for folder in folders]
    turn = found.index(after)
    assert found == [before] * turn + [after] * (len(folders) - turn)
    assert turn > 10
    for folder, value in zip(folders, found, strict=True):
        KeyringFolder(folder).read()
        there = generations(folder)
        assert there in (kept, [*kept, before.generation])
        assert [recall(folder, after, each).generation for each in there] == there
        if value == after:
            assert recall(folder, after) == before
    assert unnamed(folders[-1], after) == []


@pytest.mark.parametrize("marked", [False, True])
def test_a_killed_halt_leaves_a_whole_mark_or_the_one_before(ring, killed, marked):
    if marked:
        write_halt(ring, Halt(9, "2", "before"))
    folders = killed("halt")
    found = [halt_reason(folder, 9) for folder in folders]
    turn = found.index(killed_changes.HALT.reason)
    old = "before" if marked else None
    assert found == [old] * turn + [killed_changes.HALT.reason] * (len(folders) - turn)
    assert 2 <= turn < len(folders) - 1
    for folder in folders:
        KeyringFolder(folder).read()


def test_what_a_killed_change_left_is_cleared_by_the_next(ring):
    staging = ring / ".change"
    staging.mkdir()
    (staging / "partner-9.pem").write_text("half a key")
    assert unnamed(ring, manifest.load(ring).value) == [".change"]
    with locked(ring) as opened:
        opened.replace(deactivate(opened.manifest, Party.PARTNER, "1", leave_none=True))
    assert not staging.exists()


def test_a_change_that_fails_leaves_no_key_behind(ring, other_key, monkeypatch):
    before = snapshot(ring)

    def full(_):
        raise OSError(28, "No space left on device")

    with locked(ring) as opened:
        after = add(opened.manifest, Party.PARTNER, entry("partner-2.pem", "2"))
        monkeypatch.setattr(folders, "sync", full)
        with pytest.raises(OSError, match="No space"):
            opened.replace(after, pair("partner-2.pem", other_key))
    assert snapshot(ring) == before


def test_a_ring_that_was_killed_at_its_birth_can_be_begun_again(folder):
    (folder / ".change").mkdir(parents=True)
    with locked(folder, create=True) as opened:
        assert opened.manifest == EMPTY


def test_files_that_no_entry_names_are_found(ring):
    (ring / "partner-0.pem").write_text("an old key")
    (ring / "..data").mkdir()
    assert unnamed(ring, manifest.load(ring).value) == ["partner-0.pem"]


def test_each_step_is_on_the_disk_before_the_next(ring, other_key, monkeypatch):
    steps = []

    def spied(name, real):
        def call(path, *arguments):
            steps.append((name, path.name))
            return real(path, *arguments)

        return call

    with locked(ring) as opened:
        before = opened.manifest
        after = add(before, Party.PARTNER, entry("partner-2.pem", "2"))
        after = destroy(activate(after, Party.PARTNER, "2"), Party.PARTNER, "1")
        monkeypatch.setattr(Path, "rename", spied("move", Path.rename))
        monkeypatch.setattr(folders, "sync", spied("sync", folders.sync))
        opened.replace(after, pair("partner-2.pem", other_key))
    kept = f"{before.generation}.yaml.{os.getpid()}.new"
    assert steps == [
        ("sync", ".change"),
        ("move", kept),
        ("move", "partner-2.pem"),
        ("sync", "hk"),
        ("move", "keyring.yaml"),
        ("sync", "hk"),
        ("sync", "hk"),
    ]


def test_a_reader_of_a_large_ring_finds_no_fault_with_changes_by_command(ring):
    """Reading takes longer than a change: what it finds is the old ring or the new."""
    keys = [generate_private_key(65537, 2048) for _ in range(4)]
    first = KeyringFolder(ring).read().generation
    found, over = [], threading.Event()

    def add_and_destroy(number, key):
        new = entry(f"partner-{number}.pem", str(number))
        with locked(ring) as opened:
            after = add(opened.manifest, Party.PARTNER, new)
            opened.replace(after, pair(new.key, key))
        with locked(ring) as opened:
            opened.replace(destroy(opened.manifest, Party.PARTNER, new.version))

    def change_it():
        try:
            for number, key in enumerate(keys, 2):
                add_and_destroy(number, key)
        finally:
            over.set()

    writer = threading.Thread(target=change_it)
    writer.start()
    while not over.is_set():
        found.append(KeyringFolder(ring).read().generation)
    writer.join()
    assert found == sorted(found)
    assert KeyringFolder(ring).read().generation == first + 2 * len(keys)
