"""AlipayHK in memory, and a partner who calls it with cryptography of its own."""

import hashlib
import itertools
from datetime import timedelta

import pytest

from gateway.simulator.alipayhk import AlipayHK
from tests import peer


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = peer.NOW

    def __call__(self):
        return self.now

    def advance(self, **amount):
        self.now += timedelta(**amount)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def alipayhk(partner_key, platform_key, clock):
    """The simulator, with one partner and one key version each."""
    counter = itertools.count()

    def entropy(size):
        return hashlib.shake_256(b"%d" % next(counter)).digest(size)

    return AlipayHK(
        keys={"1": platform_key},
        active="1",
        partners={peer.CLIENT_ID: {"1": partner_key.public_key()}},
        clock=clock,
        entropy=entropy,
    )
