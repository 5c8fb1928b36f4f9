"""Places and quotas: never more than there are, in order, none lost."""

import asyncio
import random

import pytest

from gateway.access.admission import Account, Admission, Limits, Quota
from gateway.errors import Overloaded


async def settle():
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_quota_is_given_out_in_order():
    quota, order = Quota(1), []

    async def worker(name):
        await quota.take()
        order.append(name)
        await settle()
        quota.give_back()

    await asyncio.gather(*(worker(name) for name in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert quota.taken == quota.waiting == 0


async def test_a_great_amount_is_not_overtaken_by_small_ones():
    quota = Quota(10)
    await quota.take(8)
    great = asyncio.create_task(quota.take(5))
    await settle()
    small = asyncio.create_task(quota.take(1))
    await settle()
    assert not quota.take_now(1)
    assert not small.done()
    quota.give_back(8)
    await asyncio.gather(great, small)
    assert quota.taken == 6


async def test_who_gives_up_holds_up_nobody():
    quota = Quota(10)
    await quota.take(8)
    great = asyncio.create_task(quota.take(5))
    await settle()
    small = asyncio.create_task(quota.take(1))
    await settle()
    great.cancel()
    await small
    assert quota.taken == 9
    assert quota.waiting == 0


async def test_a_turn_that_comes_as_it_is_given_up_goes_to_the_next():
    quota = Quota(1)
    await quota.take()
    first, second = (asyncio.create_task(quota.take()) for _ in range(2))
    await settle()
    quota.give_back()  # the first one's turn: it has not run yet
    first.cancel()
    await second
    assert first.cancelled()
    assert quota.taken == 1


async def test_a_turn_that_was_given_up_before_it_came_is_passed_over():
    quota = Quota(1)
    await quota.take()
    first, second = (asyncio.create_task(quota.take()) for _ in range(2))
    await settle()
    first.cancel()  # it has not run yet: its turn still stands in the queue
    quota.give_back()
    await second
    await settle()
    assert quota.taken == 1
    assert quota.waiting == 0


async def test_one_account_at_a_time_need_not_wait_for_room():
    quota = Quota(20)
    first, second = Account(quota), Account(quota)
    first.add(15)
    second.add(6)
    await first.room()  # nothing is left, and still it comes to its end
    waiting = asyncio.ensure_future(second.room())
    await settle()
    first.add(5)
    await first.room()  # before those who wait for its end
    assert (quota.taken, quota.waiting, waiting.done()) == (26, 1, False)
    first.settle()  # all it asked for has come; it is still held
    await waiting
    assert (quota.taken, quota.waiting) == (26, 0)
    first.keep(0)
    second.keep(0)
    assert quota.taken == 0


async def test_what_is_held_over_the_limit_is_bounded_also_where_nobody_takes_it():
    """Each answer that was read let the next exceed the limit, and all of them stayed."""
    quota = Quota(10)
    accounts = [Account(quota) for _ in range(20)]

    async def read(account):
        for _ in range(4):
            account.add(1)
            await account.room()
        account.settle()

    reading = {each: asyncio.ensure_future(read(each)) for each in accounts}
    await settle()
    while any(each.held for each in accounts):
        untaken = [each for each in accounts if each.held and reading[each].done()]
        assert untaken, "all wait for each other"
        assert sum(each.held for each in untaken) <= 10 + 10 + 4
        untaken[0].keep(0)  # somebody takes one at last
        await settle()
    assert (quota.taken, quota.waiting) == (0, 0)


async def test_an_account_whose_wait_is_cancelled_is_waited_for_no_more():
    quota = Quota(1)
    first, second, third = Account(quota), Account(quota), Account(quota)
    for each in (first, second, third):
        each.add(2)
    await first.room()
    waiting = asyncio.ensure_future(second.room())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    last = asyncio.ensure_future(third.room())
    await asyncio.sleep(0)
    quota.resize(6)
    await last
    assert (quota.taken, quota.waiting) == (6, 0)


def test_an_account_counts_in_the_quota_what_it_holds_and_no_more():
    quota = Quota(10)
    first, second = Account(quota), Account(quota)
    first.add(4)
    second.add(7)
    assert (quota.taken, quota.is_over, first.is_over) == (11, True, True)
    second.release(2)
    assert (second.held, quota.taken, quota.is_over) == (5, 9, False)
    first.keep(1)
    assert (first.held, quota.taken) == (1, 6)


async def test_another_size_calls_in_those_who_wait_and_takes_from_nobody():
    quota = Quota(1)
    await quota.take()
    waiting = asyncio.create_task(quota.take())
    await settle()
    quota.resize(2)
    await waiting
    quota.resize(1)
    assert quota.taken == 2
    assert not quota.take_now()


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_nothing_is_lost_or_given_twice(seed):
    dice, quota, greatest = random.Random(seed), Quota(10), 0

    async def worker():
        nonlocal greatest
        amount = dice.randint(1, 6)
        await quota.take(amount)
        try:
            greatest = max(greatest, quota.taken)
            for _ in range(dice.randint(0, 5)):
                await asyncio.sleep(0)
        finally:
            quota.give_back(amount)

    tasks = [asyncio.create_task(worker()) for _ in range(50)]
    while not all(task.done() for task in tasks):
        if dice.random() < 0.3:
            dice.choice(tasks).cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert greatest <= 10
    assert quota.taken == quota.waiting == 0


LIMITS = Limits(3, 0.0, callers={"a": 1, "b": 9}, clients={"hk": 2})
NAMED = {
    "a": ("a", "mo", "callers[].max_concurrent"),
    "hk": ("b", "hk", "clients[].max_concurrent"),
    "all": ("b", "mo", "inbound.max_concurrent"),
}


@pytest.mark.parametrize(("caller", "client", "setting"), NAMED.values(), ids=NAMED)
async def test_a_place_is_refused_by_the_limit_that_is_reached(caller, client, setting):
    admission, places = Admission(LIMITS), []
    detail = None
    while detail is None:
        try:
            places.append(await admission.enter(caller, client))
        except Overloaded as error:
            detail = error.detail
    assert setting in detail
    for place in places:
        admission.leave(place)
    assert len([await admission.enter("b", "mo") for _ in range(3)]) == 3


async def test_who_waits_for_its_own_limit_holds_no_place_of_others():
    admission = Admission(Limits(2, 30.0, callers={"a": 1}))
    held = await admission.enter("a", "hk")
    waiting = asyncio.create_task(admission.enter("a", "hk"))
    await settle()
    assert admission.waiting == 1
    other = await admission.enter("b", "hk")
    admission.leave(held)
    await waiting
    admission.leave(other)
    admission.leave(waiting.result())
    assert admission.waiting == 0


async def test_who_gives_up_waiting_gives_back_what_it_had():
    admission = Admission(Limits(1, 30.0, callers={"a": 2}))
    held = await admission.enter("b", "hk")
    waiting = asyncio.create_task(admission.enter("a", "hk"))
    await settle()
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    admission.leave(held)
    assert len([await admission.enter("a", "hk") for _ in range(1)]) == 1


async def test_a_place_that_does_not_come_free_in_time_is_refused():
    admission = Admission(Limits(1, 0.01))
    await admission.enter("", "hk")
    with pytest.raises(Overloaded, match="inbound"):
        await admission.enter("", "hk")
    assert admission.waiting == 0


async def test_limits_may_change_under_way():
    admission = Admission(LIMITS)
    await admission.enter("a", "hk")
    admission.use(Limits(9, 0.0))
    for _ in range(8):
        await admission.enter("a", "hk")
    admission.use(Limits(9, 0.0, callers={"a": 1}))
    with pytest.raises(Overloaded, match="callers"):
        await admission.enter("a", "hk")


# --- at once ----------------------------------------------------------------------


def taken(admission):
    """Give how many places are taken, by whom and in all."""
    quotas = (admission._of_callers, admission._of_clients)
    named = {name: q.taken for known in quotas for name, q in known.items()}
    return named | {"total": admission._total.taken}


LIMITS = Limits(3, 0.0, callers={"a": 1}, clients={"hk": 2})


def test_a_place_that_is_free_is_had_at_once_and_given_back():
    admission = Admission(LIMITS)
    place = admission.enter_now("a", "hk")
    assert taken(admission) == {"a": 1, "hk": 1, "total": 1}
    admission.leave(place)
    assert taken(admission) == {"a": 0, "hk": 0, "total": 0}


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ([("a", "hk")], ("a", "mo")),
        ([("b", "hk"), ("b", "hk")], ("a", "hk")),
        ([("b", "mo"), ("b", "mo"), ("b", "mo")], ("a", "hk")),
    ],
    ids=["its caller", "its client", "all"],
)
def test_where_one_limit_is_reached_nothing_is_taken_of_the_others(before, wanted):
    admission = Admission(LIMITS)
    places = [admission.enter_now(*each) for each in before]
    assert None not in places
    held = taken(admission)
    assert admission.enter_now(*wanted) is None
    assert {name: n for name, n in taken(admission).items() if n} == {
        name: n for name, n in held.items() if n
    }
    for place in places:
        admission.leave(place)
    assert admission.enter_now(*wanted) is not None


async def test_nobody_goes_past_who_waits():
    admission = Admission(Limits(2, 30.0, clients={"hk": 1}))
    held = admission.enter_now("a", "hk")
    waiting = asyncio.create_task(admission.enter("b", "hk"))
    await settle()
    admission.leave(held)  # it is the one's who waits, who has not looked yet
    assert admission.enter_now("c", "hk") is None
    admission.leave(await waiting)
    assert admission.enter_now("c", "hk") is not None


def test_a_limit_that_changes_holds_for_who_comes_next():
    admission = Admission(LIMITS)
    assert admission.enter_now("a", "hk") is not None
    admission.use(Limits(3, 0.0, callers={"a": 2}, clients={"hk": 1}))
    assert admission.enter_now("a", "hk") is None
    assert admission.enter_now("a", "mo") is not None
