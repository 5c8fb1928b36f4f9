"""Which of the requests that are not under way gives way where memory runs out."""

import asyncio
from contextlib import AsyncExitStack, suppress
from itertools import pairwise

import pytest

from gateway.access.admission import Account, Quota
from gateway.edge.request import Arriving, Bounds, Request, read_body, too_late
from gateway.errors import InvalidRequest, Overloaded
from tests.property.test_memory_properties import steps_of

BOUNDS = Bounds(1 << 14, 1000, 30.0, 30.0)


class Wire:
    names = None

    def __init__(self, memory):
        self.account = Account(memory)

    def update_flow(self):
        """Nothing: there is no connection."""


class Scene:
    """Memory of 100 bytes, and requests that hold some of it."""

    def __init__(self):
        self.memory = Quota(100)
        self.arriving = Arriving(self.memory)
        self.stack = AsyncExitStack()

    def body(self, size, *, whole=False):
        body = Request(Wire(self.memory)).body
        body.add(b"x" * size)
        if whole:
            body.complete()
        return body

    async def pending(self, caller, size, *, age=0.0, whole=False):
        """Let a request wait that began so many seconds ago."""
        body = self.body(size, whole=whole)
        each = await self.stack.enter_async_context(self.arriving.one(caller, body, 30))
        each.began -= age
        return each


@pytest.fixture
async def scene():
    made = Scene()
    try:
        async with made.stack:
            yield made
    except TimeoutError:
        pass  # what gave way was not waited for


async def test_while_there_is_room_nobody_gives_way(scene):
    greedy = await scene.pending("a", 90, age=20)
    assert scene.arriving.make_room("b", scene.body(10))
    assert not greedy.gave_way
    assert scene.memory.taken == 100


async def test_the_caller_that_holds_most_loses_its_slowest_request(scene):
    slow = await scene.pending("a", 30, age=20)
    fast = await scene.pending("a", 30, age=2)
    other = await scene.pending("b", 40, age=25)
    assert scene.arriving.make_room("c", scene.body(20))
    assert [each.gave_way for each in (slow, fast, other)] == [True, False, False]
    assert slow.body.problem
    assert scene.memory.taken == 90


async def test_as_many_give_way_as_are_needed_and_no_more(scene):
    few = [await scene.pending("a", 20, age=20 + n) for n in range(5)]
    assert scene.arriving.make_room("b", scene.body(35))
    assert [each.gave_way for each in few] == [False, False, False, True, True]


async def test_nobody_gives_way_where_that_is_not_enough(scene):
    stalled = [await scene.pending("a", 20, age=20) for _ in range(3)]
    scene.memory.add(80)  # of exchanges under way
    assert not scene.arriving.make_room("b", scene.body(30))
    assert not any(each.gave_way for each in stalled)


async def test_steps_to_make_room_grow_as_those_that_give_way_do(scene):
    scene.memory.resize(100_000)
    counts = []
    for number in (100, 200, 400):
        async with AsyncExitStack() as scene.stack:
            tiny = [await scene.pending("a", 1, age=20) for _ in range(number)]
            large = await scene.pending("a", 90_000)
            body = scene.body(10_000)
            counts.append(steps_of(lambda b=body: scene.arriving.make_room("b", b)))
            assert all(each.gave_way for each in tiny)
            assert not large.gave_way
            for each in (body, large.body):
                each.lose("It is over.")
            for each in tiny:
                each.deadline.reschedule(None)
    for fewer, more in pairwise(counts):
        assert more <= 2.2 * fewer + 500


async def test_whose_time_has_just_passed_may_give_way_and_may_be_ended(scene):
    """Its task has not run yet: what it waits with cannot be set to another time."""
    late = await scene.pending("a", 90, age=20)
    late.deadline.reschedule(0)
    seen = []

    def look():
        seen.append(late.deadline.expired())
        seen.append(scene.arriving.make_room("b", scene.body(20)))
        scene.arriving.end()
        seen.append("ended")

    asyncio.get_running_loop().call_soon(look)
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(30)
    assert seen == [True, True, "ended"]
    assert late.gave_way


async def test_a_request_that_waits_for_its_place_gives_way_to_another_caller(scene):
    queued = await scene.pending("a", 90, whole=True)
    assert scene.arriving.make_room("b", scene.body(20, whole=True))
    assert queued.gave_way


async def test_the_caller_that_holds_most_gets_nothing_of_others(scene):
    await scene.pending("b", 40, age=20)
    await scene.pending("a", 50)
    body = scene.body(20)
    assert not scene.arriving.make_room("a", body)
    body.lose("It is refused.")
    assert scene.memory.taken == 90


@pytest.mark.parametrize("made_of_it", [0, 40])
async def test_what_a_callers_exchanges_hold_is_its_own_too(scene, made_of_it):
    exchange, sent = Account(scene.memory), scene.body(70 - made_of_it, whole=True)
    exchange.add(made_of_it)
    scene.arriving.under_way[exchange] = "a", sent
    theirs = await scene.pending("b", 25)
    assert not scene.arriving.make_room("a", scene.body(10))
    assert not theirs.gave_way


async def test_nobody_gives_way_in_vain(scene):
    Account(scene.memory).add(95)
    theirs = [await scene.pending(caller, 20) for caller in "bc"]
    assert not scene.arriving.make_room("a", scene.body(10))
    assert not any(each.gave_way for each in theirs)
    assert scene.memory.taken == 145


async def test_among_its_own_a_stalled_body_gives_way_and_a_young_or_whole_one_does_not(
    scene,
):
    young = await scene.pending("", 30)
    queued = await scene.pending("", 30, age=20, whole=True)
    stalled = await scene.pending("", 30, age=20)
    assert scene.arriving.make_room("", scene.body(20))
    assert [e.gave_way for e in (young, queued, stalled)] == [False, False, True]
    assert not scene.arriving.make_room("", scene.body(60))


async def test_who_is_the_slowest_itself_is_refused(scene):
    await scene.pending("", 90, age=2)
    slowest = await scene.pending("", 15, age=20)
    assert not scene.arriving.make_room("", slowest.body)


async def test_a_body_that_gave_way_is_overloaded_also_while_it_is_waited_for():
    memory = Quota(100)
    arriving = Arriving(memory)
    request = Request(Wire(memory))
    request.take_headers([(b"Content-Length", b"95")])
    request.body.add(b"x" * 90)

    async def read():
        pending = None
        try:
            async with arriving.one("a", request.body, 30) as pending:
                await read_body(request, BOUNDS, pending, arriving)
        except TimeoutError:
            raise too_late(pending, arriving, BOUNDS) from None

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    assert arriving.make_room("b", Scene.body(type("", (), {"memory": memory})(), 20))
    with pytest.raises(Overloaded, match="max_buffered_bytes"):
        await reading
    assert memory.taken == 20


async def waited_out(arriving, body, request, timeout_s):
    """Wait for a body until its time is over. Return what to say of it."""
    pending = None
    try:
        async with arriving.one("a", body, timeout_s) as pending:
            await read_body(request, BOUNDS, pending, arriving)
    except TimeoutError:
        return too_late(pending, arriving, BOUNDS)


async def test_a_body_that_takes_too_long_is_invalid_and_at_the_end_is_overloaded():
    memory = Quota(100)
    arriving = Arriving(memory)
    request = Request(Wire(memory))
    late = await waited_out(arriving, request.body, request, 0.01)
    assert isinstance(late, InvalidRequest)
    asyncio.get_running_loop().call_soon(arriving.end)
    late = await waited_out(arriving, request.body, request, 30)
    assert isinstance(late, Overloaded)
    late = await waited_out(arriving, request.body, request, 30)
    assert isinstance(late, Overloaded)
