"""Names of exchanges: as random as the system, whoever asks for how many."""

import os
import re

from gateway.edge.inbound import _Names


def test_names_are_128_bits_in_hex_and_none_is_given_twice():
    names = _Names(os.urandom)
    given = [names.next() for _ in range(2000)]
    assert len(set(given)) == 2000
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in given)


def test_each_byte_is_the_systems_and_is_used_once():
    drawn = []

    def entropy(size):
        drawn.append(os.urandom(size))
        return drawn[-1]

    names = _Names(entropy)
    assert drawn == []
    first = names.next()
    (data,) = drawn
    whole = {data[at : at + 16].hex() for at in range(0, len(data), 16)}
    assert {first, *(names.next() for _ in range(len(whole) - 1))} == whole
    assert len(drawn) == 1
    assert names.next() not in whole
    assert len(drawn) == 2


def test_what_one_has_drawn_is_no_others():
    one, other = _Names(os.urandom), _Names(os.urandom)
    assert {one.next() for _ in range(300)}.isdisjoint(other.next() for _ in range(300))
