"""Lines of several processes into one pipe."""

import io
import os

import pytest

from gateway.workers.streams import at_once


def test_a_full_pipe_makes_nobody_wait_and_stays_as_others_have_it():
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "w") as shared:  # noqa: PTH123 - no path
        with at_once(shared) as own:
            assert own.fileno() != shared.fileno()
            with pytest.raises(BlockingIOError):
                write_for_ever(own)
        assert os.get_blocking(shared.fileno())


def write_for_ever(stream):
    while True:
        os.write(stream.fileno(), bytes(4096))


def test_what_is_no_pipe_stays_as_it_is(tmp_path):
    with (tmp_path / "log").open("w") as file:
        assert at_once(file) is file
    stream = io.StringIO()
    assert at_once(stream) is stream
