"""Lines for a reader who may be slow or gone: whole, timed, counted, never waited for."""

import fcntl
import io
import json
import os
import resource
import select
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from gateway.telemetry.lines import Lines, text_of

NOW = datetime(2026, 11, 23, 6, 0, 0, 123456, tzinfo=UTC)
TIME = "2026-11-23T06:00:00.123+00:00"


@pytest.fixture
def pipe():
    """Give both ends of a pipe: what is read, and a stream to write to."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as writer:
        yield reader, writer


class Counted(Lines):
    """Lines whose drops are counted as a metric does it."""

    def __init__(self, stream):
        self.counted = 0
        super().__init__(stream, lambda: NOW, self._count)

    def _count(self):
        self.counted += 1


def read(reader):
    return [json.loads(line) for line in os.read(reader.fileno(), 1 << 20).splitlines()]


def test_a_line_has_its_time_and_event_first(pipe):
    reader, writer = pipe
    Counted(writer).write("e", {"n": 1})
    assert read(reader) == [{"time": TIME, "event": "e", "n": 1}]


@given(st.datetimes(timezones=st.just(UTC)) | st.just(NOW.replace(microsecond=0)))
def test_a_time_is_to_the_millisecond(moment):
    assert text_of(moment) == moment.isoformat(timespec="milliseconds")


def test_lines_of_one_moment_are_as_few_writes_as_a_pipe_takes_whole(pipe):
    """Each of them whole, in order, and in no write that a full pipe may cut."""
    reader, writer = pipe
    lines = Counted(writer)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)
    fields = [{"n": n, "text": "x" * (n * 37 % 1500)} for n in range(60)]
    lines.write_all("e", iter(fields))
    got = read(reader)
    assert got == [{"time": TIME, "event": "e", **each} for each in fields]
    lines.write_all("e", [])
    with pytest.raises(BlockingIOError):
        os.read(reader.fileno(), 1)
    assert lines.counted == 0


def test_of_lines_of_one_moment_those_without_room_are_counted_each(pipe):
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    lines = Counted(writer)
    lines.write_all("e", [{"n": n, "text": "x" * 1000} for n in range(10)])
    before = read(reader)
    assert [line["n"] for line in before] == [0, 1, 2]
    assert lines.counted == 7
    lines.write_all("e", [{"n": 10}, {"n": 11}])
    told, *after = read(reader)
    assert (told["event"], told["count"]) == ("log_lines_dropped", 7)
    assert [line["n"] for line in after] == [10, 11]


def test_of_lines_of_one_write_that_was_cut_the_whole_ones_are_not_dropped(tmp_path):
    file = tmp_path / "log"
    with file.open("w") as stream:
        lines = Counted(stream)
        with files_no_longer_than(200):
            lines.write_all("e", [{"n": n} for n in range(5)])
        lines.write_all("e", [{"n": n} for n in (5, 6)])
    text = file.read_text().splitlines()
    whole = [json.loads(line) for line in text if line.endswith("}")]
    assert [line.get("n", line["event"]) for line in whole] == [
        *(0, 1, 2),
        "log_lines_dropped",
        *(5, 6),
    ]
    assert (whole[3]["count"], lines.counted) == (2, 2)
    assert len(text) == 7  # and the torn one, on a line of its own


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\u2028", "\xe9", "\ud800", "\x7f", "\x00"]
)
def test_a_line_is_ascii_whatever_is_in_it(pipe, text):
    """A terminal that shows the log obeys nothing of it."""
    reader, writer = pipe
    Counted(writer).write("e", {"text": text, "big": 1 << 70})
    data = os.read(reader.fileno(), 1 << 16)
    assert data.isascii()
    assert json.loads(data)["text"] == text
    assert not set(data) & {*range(10), *range(11, 32)}


def test_a_line_that_would_have_to_wait_is_dropped_and_told_once_there_is_room(pipe):
    reader, writer = pipe
    lines = Counted(writer)
    for number in range(10_000):
        lines.write("e", {"n": number, "text": "x" * 100})
    dropped = lines.counted
    assert dropped > 0
    assert len(read(reader)) + dropped == 10_000
    lines.write("e", {"n": "after"})
    lines.write("e", {"n": "and on"})
    assert read(reader) == [
        {
            "time": TIME,
            "event": "log_lines_dropped",
            "level": "warning",
            "count": dropped,
        },
        {"time": TIME, "event": "e", "n": "after"},
        {"time": TIME, "event": "e", "n": "and on"},
    ]
    assert lines.counted == dropped


def test_what_was_dropped_is_told_in_one_write_with_the_line_behind_it(pipe):
    """Else the second of two writes may have to wait, as in a pipe of one page."""
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    lines = Counted(writer)
    for number in range(1, 4):
        os.write(writer.fileno(), b"x" * select.PIPE_BUF)
        lines.write("e", {"n": "dropped"})
        os.read(reader.fileno(), select.PIPE_BUF)
        lines.write("e", {"text": "x" * 3800})
        told, line = read(reader)
        assert (told["event"], told["count"]) == ("log_lines_dropped", 1)
        assert len(line["text"]) == 3800
        assert lines.counted == number


def test_a_line_too_long_to_be_written_at_once_is_shortened_and_stays_json(pipe):
    reader, writer = pipe
    Counted(writer).write("e", {"reason": "\u9999" * 5000, "n": 1})
    (line,) = read(reader)
    assert line["event"] == "e"
    assert line["reason"] == "\u9999" * 400
    assert (line["n"], line["shortened"]) == (1, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"reasons": ["a reason of a client's"] * 5000},
        {"reasons": ["\u9999" * 5000] * 5000},
        {"reasons": [["\u9999" * 100] * 100] * 100},
        {f"text{number}": "\u9999" * 1000 for number in range(17)},
        {"of": {f"client-{number}": "\u9999" * 100 for number in range(1000)}},
        {f"n{number}": number for number in range(1000)},
    ],
    ids=["a list", "texts in a list", "lists in a list", "texts", "names", "fields"],
)
def test_whatever_its_fields_a_line_fits_into_one_write(pipe, fields):
    reader, writer = pipe
    Counted(writer).write("e", fields)
    data = os.read(reader.fileno(), 1 << 20)
    assert len(data) <= select.PIPE_BUF
    line = json.loads(data)
    assert (line["time"], line["event"], line["shortened"]) == (TIME, "e", True)


def test_a_list_that_is_too_long_keeps_its_beginning(pipe):
    reader, writer = pipe
    Counted(writer).write("e", {"reasons": [f"reason {n}" for n in range(5000)]})
    (line,) = read(reader)
    assert line["reasons"] == [f"reason {n}" for n in range(20)]


def test_a_reader_that_has_gone_costs_nothing_but_is_counted(pipe):
    reader, writer = pipe
    lines = Counted(writer)
    reader.close()
    lines.write("e", {"n": 1})
    lines.write("e", {"n": 2})
    assert lines.counted == 2


def test_a_line_that_a_full_disk_does_not_take_is_counted():
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        lines = Counted(full)
        lines.write("e", {"n": 1})
    assert lines.counted == 1


@contextmanager
def files_no_longer_than(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_half_a_line_is_counted_as_dropped_and_spoils_no_other(tmp_path):
    file = tmp_path / "log"
    with file.open("w") as stream:
        lines = Counted(stream)
        with files_no_longer_than(100):
            for number in range(3):
                lines.write("e", {"n": number})
        lines.write("e", {"n": "after"})
    whole, torn, *rest = file.read_text().splitlines()
    assert json.loads(whole)["n"] == 0
    assert torn.startswith('{"time"')
    assert [json.loads(line)["event"] for line in rest] == ["log_lines_dropped", "e"]
    assert (json.loads(rest[0])["count"], lines.counted) == (2, 2)


# --- why lines are lost ------------------------------------------------------


FULL, EMPTY = Path("/dev/full"), Path("/dev/null")


class Watched:
    """Lines whose troubles are noted, by a clock that is moved by hand."""

    def __init__(self, stream):
        self.moment = datetime(2026, 11, 23, 6, tzinfo=UTC)
        self.problems = []
        self.lines = Lines(stream, lambda: self.moment, on_problem=self.problems.append)

    def write(self, after_s=0):
        self.moment += timedelta(seconds=after_s)
        self.lines.write("e", {})


def test_a_full_disk_is_told_once_and_its_end_once_it_is_calm():
    with FULL.open("w") as full, EMPTY.open("w") as empty:
        watched = Watched(full)
        for _ in range(3):
            watched.write()
        assert watched.problems == ["No space left on device"]
        assert watched.lines.problem == "No space left on device"
        watched.lines._descriptor = empty.fileno()
        watched.write(after_s=9)
        assert len(watched.problems) == 1
        watched.write(after_s=1)
        assert watched.problems[1:] == [None]
        assert watched.lines.problem is None
        watched.write()
        assert len(watched.problems) == 2


def test_a_clock_that_is_set_back_does_not_keep_a_problem():
    with FULL.open("w") as full, EMPTY.open("w") as empty:
        watched = Watched(full)
        watched.write()
        watched.lines._descriptor = empty.fileno()
        watched.write(after_s=-3600)
        assert watched.lines.problem is None


def test_a_reader_that_is_now_and_then_too_slow_is_told_once(pipe):
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    watched = Watched(writer)
    for _ in range(5):
        os.write(writer.fileno(), b"x" * select.PIPE_BUF)
        watched.write()
        os.read(reader.fileno(), select.PIPE_BUF)
        watched.write(after_s=1)
        os.read(reader.fileno(), select.PIPE_BUF)
    assert watched.problems == ["whoever reads it takes too little"]


def test_a_stream_that_is_closed_says_so():
    stream = io.StringIO()
    watched = Watched(stream)
    stream.close()
    watched.write()
    assert watched.problems == ["it is closed"]
