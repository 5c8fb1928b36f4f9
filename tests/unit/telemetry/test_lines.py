import json
import os

import pytest

from gateway.telemetry.lines import Lines


@pytest.fixture
def pipe():
    """Give both ends of a pipe: what is read, and a stream to write to."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as writer:
        yield reader, writer


def read(reader):
    return [json.loads(line) for line in os.read(reader.fileno(), 1 << 20).splitlines()]


def test_a_line_that_would_have_to_wait_is_dropped_and_told_once_there_is_room(pipe):
    reader, writer = pipe
    lines = Lines(writer)
    for number in range(10_000):
        lines.write({"n": number, "text": "x" * 100})
    assert lines.dropped > 0
    kept, dropped = read(reader), lines.dropped
    assert len(kept) + dropped == 10_000
    lines.write({"n": "after"})
    assert read(reader) == [
        {"event": "log_lines_dropped", "count": dropped},
        {"n": "after"},
    ]
    assert lines.dropped == 0


def test_a_line_too_long_to_be_written_at_once_is_shortened_and_stays_json(pipe):
    reader, writer = pipe
    Lines(writer).write({"event": "e", "reason": "\u9999" * 5000, "n": 1})
    (line,) = read(reader)
    assert line["event"] == "e"
    assert line["reason"] == "\u9999" * 400
    assert (line["n"], line["shortened"]) == (1, True)


def test_a_reader_that_has_gone_costs_nothing(pipe):
    reader, writer = pipe
    lines = Lines(writer)
    reader.close()
    lines.write({"n": 1})
    lines.write({"n": 2})
