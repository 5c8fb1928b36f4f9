"""Reading an answer: every way to cut it gives the same, and nothing is lenient."""

import tracemalloc

import pytest
from hypothesis import given, strategies as st

from gateway.edge.answers import AnswerReader
from gateway.errors import ResponseMalformed, ResponseTooLarge, UpstreamDisconnected

PLAIN = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;x=y\r\nbo\r\n2\r\ndy\r\n0\r\nT: u\r\n\r\n"
)
TO_THE_END = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"


def read(*pieces, limit=100):
    answer = AnswerReader(limit)
    for piece in pieces:
        answer.feed(piece)
    return answer


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED, TO_THE_END])
@given(data=st.data())
def test_an_answer_is_the_same_however_it_is_cut(whole, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1))))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    answer = read(*pieces)
    if whole is TO_THE_END:
        assert not answer.ended
        answer.end()
    assert (answer.status, answer.take_body(), answer.error) == (200, b"body", None)
    assert answer.complete
    assert answer.keeps_open is (whole is not TO_THE_END)


def test_a_body_is_held_in_little_more_than_its_bytes_however_small_its_chunks():
    size = 1 << 16
    head = CHUNKED[: CHUNKED.index(b"2;")]
    answer = read(head, limit=size)
    tracemalloc.start()
    try:
        for _ in range(size // 2):
            answer.feed(b"2\r\nxy\r\n")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    answer.feed(b"0\r\n\r\n")
    assert answer.take_body() == b"xy" * (size // 2)
    assert size <= held <= 1.5 * size


def test_headers_are_counted_over_all_heads_of_an_answer():
    many = b"".join(b"A: %d\r\n" % each for each in range(100))
    hints = b"HTTP/1.1 103 Early Hints\r\n" + many + b"\r\n"
    assert read(PLAIN).error is None
    assert isinstance(read(hints, hints, PLAIN).error, ResponseMalformed)


def test_no_body_is_kept_that_was_taken():
    size = 1 << 20
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    tracemalloc.start()
    try:
        answer = read(whole, *[b"x" * 1024] * 1024, limit=size)
        assert len(answer.take_body()) == size
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.complete
    assert held < size // 10


def test_headers_are_given_as_they_were_sent():
    answer = read(b"HTTP/1.1 200 OK\r\nx: 1\r\nX:  \xe9 \r\nContent-Length: 0\r\n\r\n")
    assert list(answer.headers) == [("x", "1"), ("X", "\xe9"), ("Content-Length", "0")]


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED, TO_THE_END])
def test_an_answer_that_ends_early_is_no_answer(whole):
    for length in range(len(whole)):
        answer = read(whole[:length])
        answer.end()
        if whole is TO_THE_END and b"\r\n\r\n" in whole[:length]:
            assert answer.complete  # its end is what ends it: the signature tells
            continue
        assert isinstance(answer.error, UpstreamDisconnected)
        assert not (answer.complete)
        assert not (answer.keeps_open)


@pytest.mark.parametrize(
    "more",
    [
        b"x",
        b"\0",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 9000 + b"\r\nContent-Length: 9999\r\n\r\n",
    ],
)
def test_what_comes_behind_an_answer_is_no_others(more):
    """The signature says whether the answer is whole; the connection is at its end."""
    for answer in (read(PLAIN + more), read(PLAIN, more), read(CHUNKED, more)):
        assert answer.complete
        assert (answer.take_body(), answer.error) == (b"body", None)
        assert not answer.keeps_open


@pytest.mark.parametrize(
    ("headers", "keeps"),
    [(b"Connection: close\r\n", False), (b"Connection: keep-alive\r\n", True)],
)
def test_an_answer_says_whether_another_may_follow(headers, keeps):
    assert read(PLAIN.replace(b"A: b\r\n", headers)).keeps_open is keeps


def test_words_in_between_are_passed_over():
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    answer = read(b"HTTP/1.1 100 Continue\r\n\r\n", hints + hints, PLAIN)
    assert (answer.status, answer.take_body()) == (200, b"body")
    assert list(answer.headers) == [("A", "b"), ("Content-Length", "4")]


def test_endless_words_in_between_are_not_waited_out():
    answer = AnswerReader(100)
    for _ in range(10_000):
        answer.feed(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert isinstance(answer.error, ResponseMalformed)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_ends_with_its_head(status):
    answer = read(b"HTTP/1.1 %d X\r\nA: b\r\n\r\n" % status)
    assert answer.complete
    assert answer.take_body() == b""


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 600 X\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        CHUNKED.replace(b"T: u", b"Content-Length: 4"),
        b"HTTP/1.1 200 " + b"x" * 9000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 9000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 129 + b"\r\n",
        CHUNKED.replace(b"T: u\r\n", b"T: u\r\n" * 200),
        b"\0",
    ],
)
def test_what_two_readers_may_see_differently_is_malformed(bad):
    answer = read(bad)
    assert isinstance(answer.error, ResponseMalformed)
    assert answer.ended
    assert not answer.keeps_open


def test_a_head_without_an_end_is_not_read_for_ever():
    answer = AnswerReader(100)
    answer.feed(b"HTTP/1.1 200 OK\r\nA: ")
    fed = 0
    while not answer.ended:
        answer.feed(b"x" * 1000)
        fed += 1000
    assert fed < 70_000


@pytest.mark.parametrize(
    "large",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxxxxx\r\n0\r\n\r\n",
    ],
)
def test_a_body_over_the_limit_is_not_kept(large):
    answer = read(large, limit=4)
    assert isinstance(answer.error, ResponseTooLarge)
    assert answer.take_body() == b""


def test_the_first_thing_that_is_wrong_is_the_one_that_is_told():
    answer = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nxxxxx", limit=4)
    answer.feed(b"\0")
    answer.end()
    assert isinstance(answer.error, ResponseTooLarge)
