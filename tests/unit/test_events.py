"""A flood of equal things is few lines, and no one of it is lost from the sum."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from gateway.events import MOST_PEERS, ExchangeRecord, Tallies

START = datetime(2026, 11, 23, 6, tzinfo=UTC)
EVERY = timedelta(seconds=5)


def at(seconds):
    return START + timedelta(seconds=seconds)


def test_the_first_few_of_a_kind_are_told_one_by_one_and_the_rest_in_a_sum():
    tallies = Tallies(EVERY, 2)
    told = [tallies.add(("a",), f"192.0.2.1:{n}", at(n)) for n in range(4)]
    assert told == [True, True, False, False]
    assert tallies.add(("b",), None, at(4)) is True
    assert tallies.take(at(4.9)) == []
    (tally,) = tallies.take(at(5))
    assert tally.kind == ("a",)
    assert tally.facts == {
        "count": 2,
        "first": "2026-11-23T06:00:02.000+00:00",
        "last": "2026-11-23T06:00:03.000+00:00",
        "peer": "192.0.2.1:2",
        "peers": 1,
    }
    assert tallies  # the other kind's interval is not over
    assert tallies.take(at(9)) == []  # it was told already
    assert not tallies
    assert tallies.add(("a",), None, at(10)) is True  # of another interval


def test_a_clock_that_is_set_back_ends_an_interval():
    tallies = Tallies(EVERY)
    tallies.add(("a",), None, at(0))
    assert len(tallies.take(at(-1))) == 1


def test_peers_are_counted_up_to_a_bound():
    tallies = Tallies(EVERY)
    for number in range(1000):
        tallies.add(("a",), f"[2001:db8::{number}]:1", at(0))
    (first,) = tallies.take()
    assert (first.facts["count"], first.facts["peers"]) == (1000, MOST_PEERS)
    tallies.put_back([first])
    tallies.add(("a",), "192.0.2.1:1", at(1))
    (both,) = tallies.take()
    assert (both.facts["count"], both.facts["peers"]) == (1001, MOST_PEERS)


@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 4), st.booleans())),
)
def test_none_is_lost_and_none_is_told_twice(singly, happened):
    """Whenever sums are taken, and whichever of them could not be written."""
    tallies, told, now = Tallies(EVERY, singly), 0, 0
    for kind, later, works in happened:
        now += later
        told += tallies.add((kind,), None, at(now))
        taken = tallies.take(at(now))
        if works:
            told += sum(each.count for each in taken)
        else:
            tallies.put_back(taken)
    assert told + sum(each.count for each in tallies.take()) == len(happened)


def test_a_strangers_record_has_neither_a_caller_nor_a_route():
    assert ExchangeRecord("e").is_strangers
    assert not ExchangeRecord("e", caller="shop").is_strangers
    assert not ExchangeRecord("e", route="/pay").is_strangers
