"""Appending: whole, synced and signed, by several processes, whatever kills them."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from gateway.audit import file as files, segments
from gateway.audit.chain import BEGINNING, line_after, read
from gateway.audit.segments import lines_of, next_segment, opened
from gateway.audit.verification import Kind
from gateway.errors import AuditError
from tests.unit.audit.conftest import Log, entries

FORK = multiprocessing.get_context("fork")


def names(log):
    """Give what each line says that happened, of all segments, in order."""
    with opened(log.file) as (found, _):
        lines = [line for _, line in lines_of(found)]
    return [record.fields["what"] for line in lines if (record := read(line[:-1]))]


def test_an_append_gives_the_line_that_is_signed(log):
    last = log.writer().append(entries("a", "b"))
    assert last.seq == 2
    assert log.seal.public.read_head(log.head.read_bytes()).link == last
    assert read(log.lines()[-1][:-1]).link == last


def test_nothing_to_append_changes_nothing(written):
    before = written.file.read_bytes(), written.head.read_bytes()
    assert written.writer().append([]).seq == 6
    assert (written.file.read_bytes(), written.head.read_bytes()) == before


def test_files_are_for_their_owner_whatever_the_umask(log):
    before = os.umask(0)
    try:
        log.writer().append(entries("a"))
    finally:
        os.umask(before)
    modes = {
        each.name: each.stat().st_mode & 0o777 for each in log.file.parent.iterdir()
    }
    assert set(modes.values()) == {0o600}
    assert len(modes) == 3


def test_checkpoints_stand_where_their_number_says(log):
    writer = log.writer(checkpoint_every=3)
    for name in "abcde":
        writer.append(entries(name))
    assert names(log) == ["a", "b", "checkpoint", "c", "d", "checkpoint", "e"]
    writer.append(entries("f"), checkpoint=True)
    assert names(log)[7:] == ["f", "checkpoint", "checkpoint"]
    assert log.verify().checkpoints == 4


def test_a_second_writer_goes_on_behind_the_first(log):
    first, second = log.writer(), log.writer()
    for writer, name in ((first, "a"), (second, "b"), (first, "c"), (second, "d")):
        writer.append(entries(name))
    assert names(log) == ["a", "b", "c", "checkpoint", "d"]
    assert log.verify().fault is None
    assert log.verify().notes == []


def test_processes_that_write_at_once_keep_one_chain(log):
    def work(number):
        writer = log.writer(max_bytes=8000)
        for count in range(25):
            writer.append(entries(f"{number}.{count}"))

    workers = [FORK.Process(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert [worker.exitcode for worker in workers] == [0] * 4
    report = log.verify()
    assert (report.fault, report.notes) == (None, [])
    written = [each for each in names(log) if each != "checkpoint"]
    for number in range(4):
        own = [each for each in written if each.startswith(f"{number}.")]
        assert own == [f"{number}.{count}" for count in range(25)]
    assert len(written) == 100


# --- rotation ----------------------------------------------------------------


def test_a_full_file_becomes_a_numbered_segment(log):
    writer = log.writer(max_bytes=600)
    for name in "abcdefgh":
        writer.append(entries(name))
    found = sorted(each.name for each in log.file.parent.glob("audit.jsonl*"))
    assert {"audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"} < {*found}
    assert log.verify().fault is None
    assert [name for name in names(log) if name != "checkpoint"] == [*"abcdefgh"]
    for segment in log.file.parent.glob("audit.jsonl.[0-9]*"):
        assert segment.stat().st_size <= 600


def test_a_segment_never_takes_the_place_of_another(log):
    for number in (1, 12, 3):
        log.file.with_name(f"audit.jsonl.{number}").touch()
    log.file.with_name("audit.jsonl.99x").touch()
    assert next_segment(log.file).name == "audit.jsonl.13"


def test_a_segment_that_is_missing_is_found(log):
    writer = log.writer(max_bytes=600)
    for name in "abcdefgh":
        writer.append(entries(name))
    segment = log.file.with_name("audit.jsonl.2")
    kept = segment.read_bytes()
    segment.unlink()
    fault = log.verify().fault
    assert (fault.kind, fault.place.line) == (Kind.REMOVED, 1)
    segment.write_bytes(kept)
    log.file.with_name("audit.jsonl.1").unlink()
    fault = log.verify().fault
    assert (fault.kind, fault.place.file) == (Kind.REMOVED, "audit.jsonl.2")
    last = read(kept.splitlines()[-1]).link
    assert log.verify(after=last).fault.kind is Kind.MOVED
    segment.unlink()
    assert log.verify(after=last).fault is None


@pytest.mark.parametrize("create", [False, True])
def test_whoever_renames_the_file_may_number_as_he_likes(log, create):
    """As logrotate does: the youngest is `.1`, or has a date."""
    writer = log.writer()
    for day, name in enumerate("abc"):
        writer.append(entries(name, name))
        older = log.file.with_name("audit.jsonl.1")
        if older.exists():
            older.rename(log.file.with_name(f"audit.jsonl-2026112{day}"))
        log.file.rename(older)
        if create:
            log.file.touch(mode=0o600)
        log.writer().append(entries("between"))
    report = log.verify()
    assert (report.fault, report.notes) == (None, [])
    happened = [each for each in names(log) if each != "checkpoint"]
    assert happened == [each for name in "abc" for each in (name, name, "between")]


def test_a_rename_between_opening_and_writing_loses_nothing(log, monkeypatch):
    writer = log.writer()
    writer.append(entries("a"))
    real = files._write_all

    def rename_first(descriptor, data):
        monkeypatch.setattr(files, "_write_all", real)
        log.file.rename(log.file.with_name("audit.jsonl.1"))
        real(descriptor, data)

    monkeypatch.setattr(files, "_write_all", rename_first)
    writer.append(entries("b"))
    writer.append(entries("c"))
    assert names(log) == ["a", "b", "c", "checkpoint"]
    report = log.verify()
    assert (report.fault, report.notes) == (None, [])


# --- failures ----------------------------------------------------------------


def failing(step, error=errno.ENOSPC, after=0):
    """Give a function in place of one of the system's that fails, later or at once."""
    left = after

    def fail(*arguments, **options):
        nonlocal left
        if left == 0:
            raise OSError(error, os.strerror(error))
        left -= 1
        return step(*arguments, **options)

    return fail


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("step", ["write", "fsync"])
def test_what_fails_is_taken_back_and_may_be_tried_again(
    written, monkeypatch, step, after
):
    writer = written.writer()
    writer.append(entries("f"))
    before = written.file.read_bytes(), written.head.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, step, failing(getattr(os, step), after=after))
        with pytest.raises(AuditError, match="No space left"):
            writer.append(entries("g", "h"))
    assert (written.file.read_bytes(), written.head.read_bytes()) == before
    writer.append(entries("g", "h"))
    assert names(written)[-4:] == ["f", "checkpoint", "g", "h"]
    assert written.verify().notes == []


def test_half_a_write_that_cannot_be_taken_back_is_closed_and_told(
    written, monkeypatch
):
    """As on a file that may only grow (chattr +a)."""
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(lambda d, b: real(d, b[:10]), after=1))
        patch.setattr(os, "ftruncate", failing(os.ftruncate, errno.EPERM))
        with pytest.raises(AuditError):
            written.writer().append(entries("f"))
    assert written.verify().fault.kind is Kind.UNSIGNED
    written.writer().append(entries("f"))
    report = written.verify()
    assert report.fault is None
    assert "an unfinished line" in report.notes[0]


def test_a_folder_that_cannot_be_synced_is_no_failure(written, monkeypatch):
    """The head is renamed by then: taking the lines back would be the damage."""
    monkeypatch.setattr(files, "_sync", failing(files._sync, errno.EIO))
    written.writer().append(entries("f"))
    assert written.verify().fault is None


@pytest.mark.parametrize("method", ["append", "probe"])
def test_a_folder_that_is_not_there_is_told(log, method):
    log.file = log.file.parent / "none" / "audit.jsonl"
    arguments = [entries("a")] if method == "append" else []
    with pytest.raises(AuditError, match="No such file"):
        getattr(log.writer(), method)(*arguments)


def test_a_file_that_others_may_write_to_is_refused(written):
    written.file.chmod(0o602)
    with pytest.raises(AuditError, match="chmod 600"):
        written.writer().append(entries("f"))


def test_what_is_no_file_is_refused(log):
    os.mkfifo(log.file)
    with pytest.raises(AuditError, match="not a file"):
        log.writer().append(entries("f"))
    log.file.unlink()
    log.file.symlink_to("/dev/null")
    with pytest.raises(AuditError, match="symbolic links"):
        log.writer().append(entries("f"))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("beside", ["head", "lock"])
def test_a_pipe_in_place_of_a_file_holds_nobody_up(written, beside):
    """Else the log would be silent for ever, and nobody told."""
    file = written.file.with_name(f"audit.jsonl.{beside}")
    file.unlink()
    os.mkfifo(file)
    if beside == "lock":
        written.writer().append(entries("f"))
        assert written.verify().fault is None
    else:
        for look in (written.verify, lambda: written.writer().append(entries("f"))):
            with pytest.raises(AuditError, match="not what a gateway wrote"):
                look()


def test_a_head_is_never_read_without_end(written):
    written.head.unlink()
    written.head.symlink_to("/dev/zero")
    with pytest.raises(AuditError, match="not what a gateway wrote"):
        written.verify()


def test_a_lock_that_is_held_for_seconds_is_told(written, monkeypatch):
    monkeypatch.setattr(segments, "_PAUSE_S", 0.0)
    with written.file.with_name("audit.jsonl.lock").open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="held its lock"):
            written.writer().append(entries("f"))
        with pytest.raises(AuditError, match="held its lock"):
            written.verify()
    written.writer().append(entries("f"))


def test_a_full_disk_is_seen_before_something_is_written(written, monkeypatch):
    written.writer().probe()
    room = list(os.statvfs(written.file))
    room[3] = room[4] = 0
    monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result(room))
    with pytest.raises(AuditError, match="No space left"):
        written.writer().probe()


def test_root_leaves_its_files_to_the_folders_owner(log, monkeypatch):
    given = []
    owner = type("Status", (), {"st_uid": 4711, "st_gid": 42})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _, *ids: given.append(ids))
    real = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda p, **o: owner if p == log.file.parent else real(p, **o)
    )
    log.writer().append(entries("a"))
    assert given == [(4711, 42)] * len(given)
    assert len(given) >= 3


# --- what was done to the log while nobody looked ----------------------------


def test_a_log_that_was_cut_off_shows_it_for_ever(written):
    written.file.write_bytes(b"".join(written.lines()[:3]))
    written.writer().append(entries("f"))
    fault = written.verify().fault
    assert (fault.kind, fault.seq) == (Kind.REMOVED, 7)
    assert names(written)[3:] == ["log_resumed", "checkpoint", "f"]


def test_a_log_that_was_changed_at_its_end_shows_it_for_ever(written):
    lines = written.lines()
    written.file.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b"e", b"f", 1))
    written.writer().append(entries("f"))
    assert written.verify().fault


def to_data(change):
    return lambda file: file.write_bytes(change(file.read_bytes()))


def link_nowhere(file):
    file.unlink()
    file.symlink_to("nowhere")


@pytest.mark.parametrize("name", ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"])
@pytest.mark.parametrize(
    "do",
    [
        to_data(lambda data: b""),
        to_data(lambda data: data[:-1]),
        to_data(lambda data: data + data),
        to_data(lambda data: data + b"\n"),
        to_data(lambda data: data + b" \n"),
        to_data(lambda data: data.replace(b"\n", b"\r\n")),
        to_data(lambda data: data.replace(b"\n", b" \n")),
        to_data(lambda data: data + b"x" * (3 << 20) + b"\n"),
        to_data(lambda data: b"x" * (3 << 20) + b"\n" + data),
        to_data(lambda data: data[::-1]),
        Path.unlink,
        link_nowhere,
        lambda file: file.rename(file.with_name("elsewhere")),
        lambda file: shutil.copy(file, file.with_name("audit.jsonl.9")),
        lambda file: shutil.copy(file, file.with_name("audit.jsonl-copy")),
    ],
)
def test_whatever_is_done_to_a_segment_is_found(log, name, do):
    writer = log.writer(max_bytes=600)
    for each in "abcdef":
        writer.append(entries(each))
    assert log.verify().fault is None
    do(log.file.with_name(name))
    assert log.verify().fault


def test_lines_that_somebody_added_are_told_or_found(written):
    with written.file.open("ab") as stream:
        stream.write(b"no line\n")
    written.writer().append(entries("f"))
    fault = written.verify().fault
    assert (fault.kind, fault.place.line) == (Kind.CHANGED, 7)


def test_without_the_head_a_new_writer_writes_nothing(written):
    """Else whoever cuts the log off would only have to delete the head too."""
    written.head.unlink()
    with pytest.raises(AuditError, match="is gone"):
        written.writer().append(entries("f"))
    written.head.write_bytes(b"{}\n")
    with pytest.raises(AuditError, match="cannot be believed"):
        written.writer().append(entries("f"))
    written.file.rename(written.file.with_name("elsewhere"))
    with pytest.raises(AuditError, match="cannot be believed"):
        written.writer().append(entries("f"))
    written.head.unlink()
    written.writer().append(entries("a"))
    assert written.verify().lines == 1


@pytest.mark.parametrize("spoilt", [None, b"{}\n", "older"])
def test_a_running_writer_knows_the_end_by_itself(log, spoilt):
    writer = log.writer()
    writer.append(entries("a"))
    older = log.head.read_bytes(), log.file.read_bytes()
    writer.append(entries("b", "c"))
    if spoilt == "older":
        log.head.write_bytes(older[0])
        log.file.write_bytes(older[1])
    elif spoilt is None:
        log.head.unlink()
    else:
        log.head.write_bytes(spoilt)
    writer.append(entries("d"))
    report = log.verify()
    if spoilt == "older":
        assert (report.fault.kind, report.fault.seq) == (Kind.REMOVED, 5)
    else:
        assert report.fault is None
        assert "the signed end was gone" in report.notes[0]


@pytest.mark.parametrize("others", [1, 3])
def test_a_running_writer_misses_its_own_line(log, others):
    """An older head is put back, other lines stand behind it, a new writer signs them."""
    running = log.writer()
    running.append(entries("a"))
    older, first = log.head.read_bytes(), log.lines()[0]
    running.append(entries("b", "c"))
    log.head.write_bytes(older)
    forged = line_after(read(first[:-1]).link, {"what": "forged"})
    log.file.write_bytes(first + forged + b"\n")
    log.writer(checkpoint_every=99).append(entries("d", "e", "f")[:others])
    assert log.verify().notes, "a stranger's lines are taken over without a word"
    running.append(entries("g"))
    assert log.verify().fault


def test_a_running_writer_follows_others_over_a_rotation(log):
    running = log.writer()
    running.append(entries("a"))
    log.writer(max_bytes=1).append(entries("b"))
    log.writer(max_bytes=1).append(entries("c"))
    running.append(entries("d"))
    report = log.verify()
    assert (report.fault, report.notes, report.lines) == (None, [], 5)


def test_a_log_longer_than_a_look_is_gone_on_with(log, monkeypatch):
    monkeypatch.setattr(files, "_LOOKS", (100, 300, 1 << 62))
    log.writer().append(entries(*"abcdefgh"))
    log.writer().append(entries("i"))
    assert log.verify().notes == []


# --- kill -9 -----------------------------------------------------------------


STEPS = ("open", "write", "fsync", "rename", "ftruncate", "dup2", "close", "flock")


def kill_at(steps, *, halve):
    """Make this process end by SIGKILL before its next step, once it took `steps`."""
    taken = 0

    def wrapped(module, name):
        real = getattr(module, name)

        def step(*arguments, **options):
            nonlocal taken
            if taken == steps:
                if halve and name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            taken += 1
            return real(*arguments, **options)

        setattr(module, name, step)

    for name in STEPS:
        wrapped(fcntl if name == "flock" else os, name)


@pytest.mark.parametrize("halve", [False, True])
@pytest.mark.parametrize("max_bytes", [1 << 20, 800], ids=["", "rotating"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_writer_that_is_killed_at_any_step_leaves_a_chain_to_go_on_with(
    tmp_path, halve, max_bytes, begun
):
    kills = 0
    for steps in range(100):
        folder = tmp_path / str(steps)
        folder.mkdir()
        log = Log(folder)
        if begun:
            log.writer(max_bytes=max_bytes).append(entries("a", "b", "c"))
        child = os.fork()
        if child == 0:
            kill_at(steps, halve=halve)
            log.writer(max_bytes=max_bytes).append(entries("x", "y"))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        done = os.WIFEXITED(status)
        kills += not done
        log.writer(max_bytes=max_bytes).append(entries("z"))
        report = log.verify()
        assert report.fault is None, steps
        happened = [
            each for each in names(log) if each not in ("checkpoint", "log_resumed")
        ]
        assert happened[: 3 * begun] == ["a", "b", "c"][: 3 * begun]
        assert happened[3 * begun :] in (["z"], ["x", "z"], ["x", "y", "z"])
        assert not done or (happened[-3:] == ["x", "y", "z"] and not report.notes)
        if done:
            break
    assert kills > 10
    assert done


def test_a_lock_file_is_not_taken_for_a_segment(log):
    log.writer().append(entries("a"))
    with opened(log.file) as (found, head):
        assert [each.name for each in found] == ["audit.jsonl"]
        assert head == log.head.read_bytes()
    assert stat.S_ISREG(log.head.stat().st_mode)


def test_a_copy_without_a_lock_and_a_head_can_be_looked_at(written):
    written.file.with_name("audit.jsonl.lock").unlink()
    written.head.unlink()
    with opened(written.file) as (found, head):
        assert (len(found), head) == (1, None)


def test_a_segment_without_any_line_comes_last(written):
    written.file.with_name("audit.jsonl.7").write_bytes(b"no line\n")
    assert written.verify().fault.place.file == "audit.jsonl.7"


def test_a_first_append_begins_the_chain(log):
    log.writer().append(entries("a"))
    assert read(log.lines()[0][:-1]).follows(BEGINNING)
