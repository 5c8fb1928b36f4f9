"""Orders and answers, over a real pair of sockets."""

import asyncio
import socket

import pytest

from gateway.workers.channel import Answers, EndedError, Orders, Verb, opened
from gateway.workers.frames import frame


class Pair:
    """Both sides in one process."""

    def __init__(self):
        self.ordered = []
        self.ended = []
        self.orders = Orders(lambda: self.ended.append("worker"))
        self.answers = Answers(
            self.ordered.append, lambda: self.ended.append("supervisor")
        )
        self.ends = socket.socketpair()

    async def open(self):
        await opened(self.orders.channel, self.ends[0])
        await opened(self.answers.channel, self.ends[1])


@pytest.fixture
async def pair():
    pair = Pair()
    await pair.open()
    yield pair
    pair.orders.channel.close()
    pair.answers.channel.close()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - of both sides
            await asyncio.sleep(0)


async def test_each_order_has_its_own_answer_in_whatever_order_they_come(pair):
    first, second = pair.orders.give(Verb.TELL), pair.orders.give(Verb.COMMIT)
    await until(lambda: len(pair.ordered) == 2)
    told, commit = pair.ordered
    assert (told.verb, commit.verb) == (Verb.TELL, Verb.COMMIT)
    pair.answers.answer(commit)
    pair.answers.answer(told, reasons=["none"])
    assert await second == {}
    assert await first == {"reasons": ["none"]}


async def test_a_worker_that_is_gone_answers_nothing_more(pair):
    waiting = pair.orders.give(Verb.PREPARE)
    pair.answers.channel.close()
    with pytest.raises(EndedError):
        await waiting
    with pytest.raises(EndedError):
        await pair.orders.give(Verb.TELL)
    assert "worker" in pair.ended


async def test_a_worker_sees_that_its_supervisor_is_gone(pair):
    pair.orders.channel.close()
    await until(lambda: "supervisor" in pair.ended)


@pytest.mark.parametrize(
    "message",
    [b"no json", b"[]", b"{}", b'{"number": []}', b"\xff", frame(b"x") * 3],
    ids=repr,
)
async def test_what_is_no_answer_ends_the_talk_and_breaks_nothing(pair, message):
    waiting = pair.orders.give(Verb.TELL)
    pair.answers.channel.send(message)
    with pytest.raises(EndedError):
        await waiting
