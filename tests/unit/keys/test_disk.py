"""Files that are whole, on the disk, and never more open than they are to be."""

import os
import stat
from pathlib import Path

import pytest

from gateway.keys.backends import disk
from gateway.keys.backends.disk import replace_file, sync, write_new


def mode_of(file):
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture
def synced(monkeypatch):
    """The kinds of what was put on the disk, in order, and under which name a file."""
    done, real = [], os.fsync

    def fsync(descriptor):
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return done


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_new_file_has_its_mode_and_is_on_the_disk(tmp_path, synced, mode):
    before = os.umask(0)
    try:
        write_new(tmp_path / "new", b"whole", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == b"whole"
    assert mode_of(tmp_path / "new") == mode
    assert synced == ["new"]


def test_a_new_file_takes_no_others_place(tmp_path):
    (tmp_path / "there").write_text("somebody's")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "there", b"mine", 0o600)
    assert (tmp_path / "there").read_text() == "somebody's"


def test_a_file_is_replaced_in_one_step(tmp_path, synced):
    file = tmp_path / "file"
    replace_file(file, b"old")
    with file.open("rb") as reader:
        replace_file(file, b"new")
        assert reader.read() == b"old"
    assert file.read_bytes() == b"new"
    assert mode_of(file) == 0o600
    draft = f"file.{os.getpid()}.new"
    assert synced == [draft, tmp_path.name] * 2
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(tmp_path):
    (tmp_path / f"file.{os.getpid()}.new").write_text("half")
    replace_file(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_replacement_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    replace_file(tmp_path / "file", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write_new", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_only_a_folder_has_entries_to_put_on_the_disk(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        sync(tmp_path / "file")
