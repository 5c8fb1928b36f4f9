"""Lots: even, the same for the same exchange, and not to be worked out by a caller."""

import hashlib
import os

from hypothesis import given, strategies as st

from gateway.relay.lots import Lots

IDS = [f"exchange-{number}" for number in range(4000)]


@given(st.binary(min_size=32, max_size=32), st.text("abcXYZ019._-", max_size=64))
def test_a_lot_is_from_0_to_below_1_and_always_the_same(secret, exchange_id):
    lot = Lots(secret)(exchange_id)
    assert 0 <= lot < 1
    assert lot == Lots(bytes(secret))(exchange_id)


def test_lots_are_even():
    lots = [Lots(bytes(32))(each) for each in IDS]
    for tenth in range(10):
        found = sum(tenth <= lot * 10 < tenth + 1 for lot in lots)
        assert 320 < found < 480  # 400, give or take four standard deviations


def test_ids_that_a_caller_chooses_by_a_hash_of_its_own_have_even_lots():
    """As it could where the lot was SHA-256 of the id."""
    low = [each for each in IDS if hashlib.sha256(each.encode()).digest()[0] < 13]
    assert len(low) > 150
    chosen = sum(Lots(os.urandom(32))(each) < 0.05 for each in low)
    assert chosen < len(low) / 3


def test_another_secret_draws_other_lots():
    first, second = Lots(bytes(32)), Lots(bytes(31) + b"\1")
    alike = sum((first(each) < 0.5) == (second(each) < 0.5) for each in IDS)
    assert 1800 < alike < 2200
