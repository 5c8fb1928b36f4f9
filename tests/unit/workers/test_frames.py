"""Messages on a stream, in whatever pieces they come."""

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from gateway.workers.frames import LONGEST, FrameError, Frames, frame


@given(
    messages=st.lists(st.binary(max_size=40), max_size=6),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_what_was_framed_comes_out_however_it_is_cut(messages, cuts):
    stream = b"".join(map(frame, messages))
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    frames = Frames()
    found = []
    for start, end in pairwise(places):
        found += frames.feed(stream[start:end])
    assert found == messages


def test_a_message_that_is_too_long_is_no_message():
    with pytest.raises(FrameError):
        list(Frames().feed((LONGEST + 1).to_bytes(4, "big")))
    with pytest.raises(FrameError):
        frame(bytes(LONGEST + 1))


def test_half_a_message_is_none_yet():
    frames = Frames()
    assert list(frames.feed(frame(b"whole")[:-1])) == []
    assert list(frames.feed(b"e")) == [b"whole"]
