"""The keyring in use: swapped whole or not at all, and the watch over its source."""

import asyncio
import dataclasses
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import KeyringError, KeyUnavailable, Outcome
from gateway.keys import store as stores
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.store import KeyStore


def ring(generation):
    return Keyring.of(generation, [], [])


class Source:
    """A source as a test sets it.

    `now` is its state, `content` what is read, and `log` what was asked of it: "look",
    or the state in which it was read.
    """

    def __init__(self):
        self.log = []
        self.now = "first"
        self.content = ring(1)

    def read(self, now):
        self.log.append(self.now)
        self.asked_for = now
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def state(self):
        self.log.append("look")
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    @property
    def reads(self):
        return [each for each in self.log if each != "look"]


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = datetime(2026, 12, 1, tzinfo=UTC)

    def __call__(self):
        return self.now


class Listener:
    def __init__(self):
        self.told = []

    def loaded(self, client, ring):
        self.told.append(("loaded", client, ring.generation))

    def failed(self, client, reason):
        self.told.append(("failed", client, reason))

    def reused(self, client, generation):
        self.told.append(("reused", client, generation))


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def listener():
    return Listener()


class SelfTest:
    """A self-test that finds nothing, unless a test says otherwise."""

    async def __call__(self, ring):
        await self.accept(ring)

    async def accept(self, ring):
        pass


@pytest.fixture
def self_test():
    return SelfTest()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(source, self_test, listener, clock):
    return KeyStore("hk", source, self_test, listener, now=clock)


# --- before the first ring ---------------------------------------------------


async def test_before_the_first_ring_there_is_none_and_it_says_so(store):
    assert store.ring is None
    assert store.problem == "the keyring is not loaded yet"
    with pytest.raises(KeyUnavailable, match="client hk") as caught:
        _ = store.current
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_a_ring_that_cannot_be_read_leaves_none(store, source, listener):
    source.content = KeyringError("a key is missing")
    assert await store.reload() is False
    assert store.ring is None
    assert store.problem == "a key is missing"
    with pytest.raises(KeyUnavailable):
        _ = store.current
    assert listener.told == [("failed", "hk", "a key is missing")]


async def test_a_ring_is_taken_up_and_told_once(store, source, listener):
    assert await store.reload() is True
    assert store.current is store.ring is source.content
    assert store.problem is None
    assert listener.told == [("loaded", "hk", 1)]


async def test_the_state_is_taken_before_the_ring_is_read(store, source):
    """What changes in between is then seen as a change by the next look."""
    await store.reload()
    assert source.log[:2] == ["look", "first"]


# --- the last good ring ------------------------------------------------------


async def test_a_new_ring_replaces_the_old_one_whole(store, source, listener):
    await store.reload()
    before = store.current
    source.content = ring(2)
    assert await store.reload() is True
    assert store.current is source.content
    assert before.generation == 1
    assert listener.told[-1] == ("loaded", "hk", 2)


REFUSALS = {
    "it cannot be read": (KeyringError("no such key"), "no such key"),
    "a defect in reading": (
        ZeroDivisionError("secret text"),
        "a defect of the gateway (ZeroDivisionError)",
    ),
    "its generation fell": (
        ring(4),
        (
            "generation 4 is older than 5, which is in use; a change raises it, also "
            "one that goes back"
        ),
    ),
}


@pytest.mark.parametrize(("content", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_bad_ring_leaves_the_last_good_one(
    store, source, listener, content, reason
):
    source.content = good = ring(5)
    await store.reload()
    source.content = content
    assert await store.reload() is False
    assert store.current is good
    assert store.problem == reason
    assert listener.told == [("loaded", "hk", 5), ("failed", "hk", reason)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyringError("self-test failed"), "self-test failed"),
        (KeyError("secret text"), "a defect of the gateway (KeyError)"),
    ],
)
async def test_a_ring_that_fails_its_self_test_is_not_taken_up(
    store, self_test, source, error, reason
):
    source.content = good = ring(1)
    await store.reload()
    source.content = ring(2)
    tested = []

    async def refuse(ring):
        tested.append((ring, store.current))
        raise error

    self_test.accept = refuse
    assert await store.reload() is False
    assert tested == [(source.content, good)]
    assert store.current is good
    assert store.problem == reason


async def test_a_ring_is_in_use_only_once_its_self_test_has_passed(
    store, self_test, source
):
    testing, go_on = asyncio.Event(), asyncio.Event()

    async def wait(ring):
        testing.set()
        await go_on.wait()

    self_test.accept = wait
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store.reload())
        await testing.wait()
        assert store.ring is None
        go_on.set()
    assert store.ring is source.content


async def test_a_reload_that_is_cancelled_changes_nothing(
    store, self_test, source, listener
):
    await store.reload()
    good, source.content = store.current, ring(2)
    testing = asyncio.Event()

    async def wait_forever(ring):
        testing.set()
        await asyncio.Event().wait()

    self_test.accept = wait_forever
    async with asyncio.TaskGroup() as tasks:
        reloading = tasks.create_task(store.reload())
        await testing.wait()
        reloading.cancel()
    assert store.current is good
    assert store.problem is None
    assert listener.told == [("loaded", "hk", 1)]


async def test_the_same_generation_is_taken_up_again(store, source, listener):
    await store.reload()
    source.content = again = ring(1)
    assert await store.reload() is True
    assert store.current is again
    assert listener.told == [("loaded", "hk", 1)] * 2


async def test_after_a_bad_ring_a_good_one_clears_the_problem(store, source):
    await store.reload()
    source.content = KeyringError("bad")
    await store.reload()
    source.content = ring(2)
    await store.reload()
    assert store.problem is None
    assert store.current.generation == 2


async def test_a_generation_is_only_ever_compared_with_the_one_in_use(
    store, self_test, source
):
    """A refused generation does not count: nobody used it."""
    source.content = ring(9)

    async def refuse(ring):
        if ring.generation == 9:
            raise KeyringError("unfit")

    self_test.accept = refuse
    await store.reload()
    source.content = ring(3)
    assert await store.reload() is True


async def test_a_ring_older_than_what_was_in_use_before_is_not_taken_up(
    source, self_test, listener
):
    """A new configuration must not bring an old ring back."""
    store = KeyStore("hk", source, self_test, listener, now=Clock(), at_least=5)
    source.content = ring(4)
    assert await store.reload() is False
    assert "generation 4 is older than 5" in store.problem
    source.content = ring(5)
    assert await store.reload() is True


# --- planned steps -----------------------------------------------------------

START = datetime(2026, 12, 1, tzinfo=UTC)
HOUR, INSTANT = timedelta(hours=1), timedelta.resolution


class Plan:
    """A ring that becomes another at each of its moments, told by its `content`."""

    def __init__(self, *moments, generation=1):
        self.moments = moments
        self.generation = generation

    def at(self, now):
        taken = sum(moment <= now for moment in self.moments)
        due = self.moments[taken] if taken < len(self.moments) else None
        later = self.at if due else None
        ring = Keyring.of(self.generation, [], [], due=due, later=later)
        return dataclasses.replace(ring, content=(self.moments, taken))


def taken(store):
    """Give how many steps the ring in use has taken."""
    return store.current.content[1]


@pytest.fixture
def planned(source, clock):
    """A source whose ring takes a step in an hour, and another one an hour later."""
    plan = Plan(START + HOUR, START + 2 * HOUR)
    source.content = plan.at(START)
    return plan


@pytest.mark.parametrize(
    ("after", "steps"),
    [(timedelta(0), 0), (HOUR - INSTANT, 0), (HOUR, 1), (2 * HOUR, 2), (9 * HOUR, 2)],
)
async def test_a_step_is_taken_to_the_moment(store, planned, clock, after, steps):
    await store.reload()
    clock.now = START + after
    store.advance()
    assert store.ring.content[1] == steps


async def test_an_exchange_has_the_ring_of_its_moment_whatever_the_watch_waits_for(
    store, planned, clock
):
    """A source that hangs holds the watch up, not the steps."""
    await store.reload()
    clock.now = START + HOUR
    assert taken(store) == 1


@pytest.mark.parametrize("broken", [KeyringError("gone"), OSError("broken")])
async def test_steps_are_taken_though_the_source_be_gone(
    store, source, planned, clock, broken
):
    await store.reload()
    source.content = broken
    assert await store.reload() is False
    clock.now = START + 2 * HOUR
    assert taken(store) == 2
    assert store.problem is not None


async def test_a_clock_that_goes_back_untakes_nothing(store, source, planned, clock):
    await store.reload()
    clock.now = START + HOUR
    assert taken(store) == 1
    clock.now = START
    assert taken(store) == 1
    await store.reload()
    assert source.asked_for == START + HOUR
    assert taken(store) == 1


async def test_each_step_is_told_once(store, planned, clock, listener):
    await store.reload()
    for _ in range(3):
        clock.now += HOUR
        store.advance()
        store.advance()
    assert listener.told == [("loaded", "hk", 1)] * 3


async def test_a_ring_is_read_as_of_now(store, source, planned, clock):
    clock.now = START + HOUR
    await store.reload()
    assert source.asked_for == START + HOUR


async def test_what_comes_due_while_the_ring_is_tested_is_taken_with_it(
    store, self_test, planned, clock, listener
):
    async def take_an_hour(ring):
        clock.now = START + HOUR

    self_test.accept = take_an_hour
    await store.reload()
    assert store.ring.content[1] == 1
    assert listener.told == [("loaded", "hk", 1)]


async def test_what_comes_due_while_another_ring_is_tested_is_taken_in_the_one_in_use(
    store, self_test, source, planned, clock
):
    await store.reload()
    testing, go_on = asyncio.Event(), asyncio.Event()

    async def wait(ring):
        testing.set()
        await go_on.wait()

    self_test.accept = wait
    source.content = ring(2)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store.reload())
        await testing.wait()
        clock.now = START + HOUR
        assert taken(store) == 1
        go_on.set()
    assert store.current is source.content


async def test_every_ring_to_come_passes_the_self_test_before_the_first_is_used(
    store, self_test, planned
):
    tested = []

    async def note(ring):
        tested.append((ring.content[1], store.ring))

    self_test.accept = note
    await store.reload()
    assert tested == [(0, None), (1, None), (2, None)]


@pytest.mark.parametrize("unfit", [0, 1, 2])
async def test_a_ring_that_would_become_unfit_is_not_taken_up(
    store, self_test, planned, unfit
):
    async def refuse(ring):
        if ring.content[1] == unfit:
            raise KeyringError("unfit")

    self_test.accept = refuse
    assert await store.reload() is False
    assert store.ring is None
    assert store.problem == "unfit"


async def test_before_there_is_a_ring_there_is_nothing_to_take(store):
    store.advance()
    assert store.ring is None


async def test_the_watch_sleeps_until_a_step_is_due_and_no_longer_than_to_a_look(
    store, planned, clock, monkeypatch
):
    await store.reload()
    clock.now = START + HOUR - timedelta(seconds=1)
    slept, over = [], asyncio.Event()

    async def wait(seconds):
        slept.append(round(seconds, 6))
        clock.now += timedelta(seconds=seconds)
        if clock.now >= START + HOUR:
            over.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", wait)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(store.watch())
        await over.wait()
        watching.cancel()
    assert slept == [stores.POLL_SECONDS, stores.POLL_SECONDS, 0.2]


async def test_a_step_is_taken_as_the_watch_wakes(store, planned, clock, monkeypatch):
    await store.reload()
    seen, over = [], asyncio.Event()

    async def wait(seconds):
        seen.append((seconds, store.ring.content[1]))
        clock.now += HOUR
        if len(seen) == 4:
            over.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", wait)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(store.watch())
        await over.wait()
        watching.cancel()
    assert seen == [(stores.POLL_SECONDS, steps) for steps in (0, 1, 2, 2)]


async def test_a_clock_that_jumped_past_a_step_is_not_slept_over(
    store, planned, clock, monkeypatch
):
    await store.reload()
    slept, over = [], asyncio.Event()

    async def wait(seconds):
        slept.append(seconds)
        over.set()
        await asyncio.Event().wait()

    clock.now = START + HOUR + INSTANT
    monkeypatch.setattr(asyncio, "sleep", wait)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(store.watch())
        await over.wait()
        watching.cancel()
    assert slept == [0]


# --- a generation that stands for two contents -------------------------------

REUSED = (
    "generation 1 stands for another content than before; raise it with each change"
)


def holding(content, generation=1):
    return dataclasses.replace(ring(generation), content=content)


async def test_a_change_without_a_new_generation_is_taken_up_and_told(
    store, source, listener
):
    source.content = holding("a")
    await store.reload()
    assert store.warning is None
    source.content = holding("b")
    assert await store.reload() is True
    assert store.current is source.content
    assert store.problem is None
    assert store.warning == REUSED
    assert listener.told[-2:] == [("loaded", "hk", 1), ("reused", "hk", 1)]


async def test_the_warning_stands_until_the_generation_is_raised(
    store, source, listener
):
    for content in "abb":
        source.content = holding(content)
        await store.reload()
    assert store.warning == REUSED
    source.content = KeyringError("bad")
    await store.reload()
    assert store.warning == REUSED
    source.content = holding("b", 2)
    await store.reload()
    assert store.warning is None
    assert [told[0] for told in listener.told].count("reused") == 1


async def test_the_same_content_read_again_is_no_news(store, source, listener):
    for _ in range(3):
        source.content = holding("a")
        await store.reload()
    assert store.warning is None
    assert {told[0] for told in listener.told} == {"loaded"}


async def test_a_step_that_was_planned_is_no_other_content(
    store, source, planned, clock
):
    """The ring in use has taken it, and so has the one that is read."""
    await store.reload()
    clock.now = START + HOUR
    source.content = planned.at(clock.now)
    await store.reload()
    assert store.warning is None


async def test_a_plan_that_was_changed_is_another_content(store, source, planned):
    await store.reload()
    source.content = Plan(START + HOUR).at(START)
    await store.reload()
    assert store.warning == REUSED


# --- what is told ------------------------------------------------------------


@pytest.fixture
def quiet(source, self_test, listener):
    return KeyStore("hk", source, self_test, listener, now=Clock(), quiet=True)


async def test_a_quiet_store_tells_nothing_until_it_is_asked(quiet, source, listener):
    await quiet.reload()
    source.content = KeyringError("bad")
    await quiet.reload()
    assert listener.told == []
    quiet.tell()
    assert listener.told == [("loaded", "hk", 1), ("failed", "hk", "bad")]


async def test_a_quiet_store_tells_of_a_reused_generation_when_it_is_asked(
    quiet, source, listener
):
    for content in "ab":
        source.content = holding(content)
        await quiet.reload()
    assert listener.told == []
    quiet.tell()
    assert listener.told == [("loaded", "hk", 1), ("reused", "hk", 1)]


async def test_once_it_was_asked_a_quiet_store_tells_of_each_change(
    quiet, source, listener
):
    quiet.tell()
    await quiet.reload()
    source.content = KeyringError("bad")
    await quiet.reload()
    not_loaded = ("failed", "hk", "the keyring is not loaded yet")
    assert listener.told == [not_loaded, ("loaded", "hk", 1), ("failed", "hk", "bad")]


async def test_a_quiet_store_with_nothing_wrong_tells_of_its_ring_alone(
    quiet, listener
):
    await quiet.reload()
    quiet.tell()
    assert listener.told == [("loaded", "hk", 1)]


async def test_the_same_refusal_of_the_same_content_is_told_once(
    store, source, listener
):
    source.content = KeyringError("bad")
    for state in ("a", "a", "b", "b"):
        source.now = state
        await store.reload()
    source.content = KeyringError("worse")
    await store.reload()
    assert [told[2] for told in listener.told] == ["bad", "bad", "worse"]


# --- the watch ---------------------------------------------------------------


@pytest.fixture
def watched(store, source, monkeypatch):
    """Give a function that lets the watch run: one state of the source per look.

    The store's waiting is the test's own, so that nothing depends on the time.
    """

    async def watch(*states):
        coming, over = iter(states), asyncio.Event()

        async def wait(seconds):
            assert seconds == stores.POLL_SECONDS
            state = next(coming, over)
            if state is over:
                over.set()
                await asyncio.Event().wait()
            source.now = state

        await store.reload()
        source.log.clear()
        monkeypatch.setattr(asyncio, "sleep", wait)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(store.watch())
            await over.wait()
            watching.cancel()
        monkeypatch.undo()
        return source.reads

    return watch


async def test_nothing_is_read_while_nothing_changes(watched):
    assert await watched("first", "first", "first", "first") == []


async def test_a_change_is_taken_up_after_two_equal_looks(watched, source, store):
    source.content = ring(1)
    assert await watched("first", "second") == []
    source.content = ring(2)
    assert await watched("third", "third") == ["third"]
    assert store.current is source.content


async def test_a_change_is_taken_up_once(watched):
    assert await watched(*["second"] * 6) == ["second"]


async def test_a_source_that_keeps_changing_is_waited_for_four_looks_long(watched):
    """So a ring is taken up within two seconds whatever else goes on in its folder."""
    assert await watched(*"abc") == []
    assert await watched(*"defghijkl") == ["g", "k"]
    assert await watched(*"stuu") == ["u"]


async def test_a_change_that_is_taken_back_is_none(watched):
    assert await watched("second", "first", "first", "first") == []


async def test_a_bad_ring_is_not_read_again_until_it_changes(
    watched, source, store, self_test
):
    async def refuse(ring):
        if source.now == "bad":
            raise KeyringError("bad")

    self_test.accept = refuse
    assert await watched(*["bad"] * 5, *["good"] * 4) == ["bad", "good"]
    assert store.problem is None


async def test_a_refused_ring_is_tried_again_now_and_then(watched, source, store):
    """What was in its way may have been no change, such as too many open files."""
    source.content, often = KeyringError("too many open files"), 25
    assert await watched(*["first"] * (often - 1)) == []
    source.content = ring(1)
    assert await watched(*["first"] * 3 * often) == []
    source.content = KeyringError("too many open files")
    assert await watched(*["first"] * 3 * often) == ["first"] * 3
    assert store.current.generation == 1


async def test_a_refused_ring_that_keeps_changing_is_tried_no_more_often(
    watched, source
):
    source.content = KeyringError("bad")
    assert len(await watched(*(f"state {n}" for n in range(60)))) == 15


async def test_what_changes_while_it_is_read_is_read_again(
    watched, source, store, monkeypatch
):
    read = source.read

    def read_and_change(now):
        found = read(now)
        if source.now == "a":
            source.now, source.content = "b", ring(2)
        return found

    monkeypatch.setattr(source, "read", read_and_change)
    assert await watched("first", "a", "a", "b", "b", "b") == ["a", "b"]
    assert store.current.generation == 2


async def test_the_watch_goes_on_after_a_defect(watched, source, listener, self_test):
    async def break_down(ring):
        if source.now == "a":
            raise ZeroDivisionError

    self_test.accept = break_down
    await watched("a", "a", "a", "b", "b", "b", "b")
    assert [told[0] for told in listener.told] == ["loaded", "failed", "loaded"]


DEFECT = ValueError("embedded null byte")


async def test_the_watch_goes_on_where_the_source_cannot_be_looked_at(watched, store):
    """Whatever it is: it must not end the gateway, nor the watch over the keys."""
    assert (await watched(DEFECT, "b", "b", "b"))[-1] == "b"
    assert store.ring is not None


async def test_a_source_that_cannot_be_looked_at_is_a_ring_that_cannot_be_used(
    store, source, listener
):
    source.now = DEFECT
    assert await store.reload() is False
    assert store.ring is None
    await store.reload()
    assert [told[:2] for told in listener.told] == [("failed", "hk")]


async def test_the_watch_ends_when_it_is_cancelled(store):
    await store.reload()
    watching = asyncio.ensure_future(store.watch())
    await asyncio.sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


def test_a_change_is_taken_up_within_a_second():
    assert 0 < stores.POLL_SECONDS * 2 < 1


# --- a canary that is over ----------------------------------------------------


async def test_a_canary_is_over_at_once_whatever_the_source_says(
    source, self_test, listener
):
    over = {}
    store = KeyStore(
        "hk",
        source,
        self_test,
        listener,
        now=Clock(),
        halted=lambda ring: over.get(ring.generation),
    )
    source.content = replace(ring(1), canary=Canary(None, 0.5))
    await store.reload()
    assert store.current.canary.halted is None
    over[1] = "it failed"
    assert store.current.canary.halted == "it failed"
    assert store.current is store.ring
    await store.reload()
    assert store.ring.canary.halted == "it failed"
    source.content = replace(ring(2), canary=Canary(None, 0.5))
    await store.reload()
    assert store.ring.canary.halted is None


async def test_a_planned_step_brings_back_no_canary_that_is_over(
    source, self_test, listener
):
    clock = Clock()
    grown = replace(ring(1), canary=Canary(None, 1.0))
    source.content = replace(
        ring(1), canary=Canary(None, 0.5), due=clock.now, later=lambda _: grown
    )
    store = KeyStore(
        "hk", source, self_test, listener, now=clock, halted=lambda _: "it failed"
    )
    await store.reload()
    assert (store.ring.canary.share, store.ring.canary.halted) == (1.0, "it failed")


async def test_a_canary_signs_less_than_planned_until_it_may(
    source, self_test, listener
):
    clock, allowed = Clock(), {1: 0.05}
    grown = replace(ring(1), canary=Canary(None, 1.0, steps=(0.05, 1.0)))
    source.content = replace(
        ring(1),
        canary=Canary(None, 0.05, steps=(0.05,)),
        due=clock.now,
        later=lambda _: grown,
    )
    store = KeyStore(
        "hk",
        source,
        self_test,
        listener,
        now=clock,
        canary_share=lambda canary, generation: max(
            share for share in canary.steps if share <= allowed[generation]
        ),
    )
    await store.reload()
    assert (store.ring.canary.share, store.ring.canary.steps) == (0.05, (0.05, 1.0))
    told = len(listener.told)
    store.advance()
    assert len(listener.told) == told
    allowed[1] = 1.0
    store.advance()
    assert store.ring.canary.share == 1.0
    assert listener.told[told:] == [("loaded", "hk", 1)]


def test_a_ring_without_a_canary_has_none_to_end():
    plain = ring(1)
    assert plain.with_canary_halted("why") is plain
