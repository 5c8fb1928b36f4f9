"""A relay between ports of the tests' own, which write down what they are asked.

`steps` is one list for all of them, so that a test can see the order of things.
"""

import base64
import re
from dataclasses import replace
from urllib.parse import unquote_to_bytes

import pytest

from gateway.errors import Outcome
from gateway.events import ExchangeRecord
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.model import PARTNER_USES, PLATFORM_USES, KeyInfo, KeyState
from gateway.protocol import PublicKey, sign, unwrap
from gateway.relay.exchange import Relay
from gateway.relay.lots import Lots
from gateway.relay.outcome import Attempts
from gateway.relay.routes import Client, Route
from tests import peer


class Signer:
    """A pair in this process that writes down what it does."""

    def __init__(self, version, private, steps):
        self.public = PublicKey(version, private.public_key())
        self._private = private
        self._steps = steps

    async def sign(self, base):
        self._steps.append(f"sign {self.public.version}")
        return sign(self._private, base)

    async def unwrap(self, wrapped_key):
        self._steps.append(f"unwrap {self.public.version}")
        return unwrap(self._private, wrapped_key)


class Clock:
    """It is always `peer.NOW`; each look at the stopwatch is a quarter later."""

    def __init__(self, steps):
        self.moment = peer.NOW
        self.slept = []
        self._seconds = 0.0
        self._steps = steps

    def now(self):
        self._steps.append("now")
        return self.moment

    def monotonic(self):
        self._seconds += 0.25
        return self._seconds

    async def sleep(self, seconds):
        self._steps.append("sleep")
        self.slept.append(seconds)
        self._seconds += seconds


class Entropy:
    """Gives bytes that tell which call they are of."""

    def __init__(self, steps):
        self.given = []
        self._steps = steps

    def __call__(self, size):
        self._steps.append(f"entropy {size}")
        self.given.append(bytes([len(self.given) + 1]) * size)
        return self.given[-1]


class Rings:
    """The keyring in use; `later` is what it is from the second look on."""

    def __init__(self, ring, steps):
        self.ring = ring
        self.later = None
        self._steps = steps

    @property
    def current(self):
        self._steps.append("ring")
        ring = self.ring
        if isinstance(ring, Exception):
            raise ring
        self.ring = self.later or ring
        return ring


class MemoryUpstream:
    """AlipayHK in memory: keeps what was sent, and answers as the test says."""

    def __init__(self, steps):
        self.sent = []
        self.timeouts = []
        self.answer = None
        self._steps = steps

    async def send(self, request, *, timeout_s, memory, on_write):
        self._steps.append("send")
        self.sent.append(request)
        self.timeouts.append(timeout_s)
        answer = self.answer
        if isinstance(answer, list):
            answer = answer.pop(0)
        answer = answer(request) if callable(answer) else answer
        if getattr(answer, "outcome", None) is not Outcome.NOT_SENT:
            on_write()
        if isinstance(answer, Exception):
            raise answer
        return answer


def header(request, name):
    """Give a header of what was sent; None if it has none."""
    values = [value for key, value in request.headers if key == name]
    assert len(values) <= 1
    return values[0] if values else None


def field(request, name, part):
    """Give the raw value of a part of a Signature or Encrypt header."""
    found = re.search(rf"{part}=([^,]+)", header(request, name))
    return base64.b64decode(unquote_to_bytes(found[1]), validate=True)


class Scene:
    """A relay with one client and one route, and everything around it.

    Unless a test says otherwise, AlipayHK's answer is a signed success.
    """

    def __init__(self, partner_key, platform_key, other_key):
        self.partner_key = partner_key
        self.platform_key = platform_key
        self.other_key = other_key
        self.steps = []
        self.clock = Clock(self.steps)
        self.entropy = Entropy(self.steps)
        self.upstream = MemoryUpstream(self.steps)
        self.upstream.answer = peer.answer(platform_key)
        self.rings = Rings(self.ring_of(), self.steps)
        self.record = ExchangeRecord("e1")
        self.attempts = Attempts()

    async def exchange(self, call, *, encrypts=None, repeats_unknown=False, **settings):
        """Carry out an exchange, with these settings of the route and client."""
        client = Client("hk", peer.CLIENT_ID, self.rings, self.upstream, **settings)
        route = Route(peer.TARGET, client, encrypts, 7.5, repeats_unknown)
        relay = Relay(self.clock, self.entropy, Lots(bytes(32)))
        self.attempts = Attempts()
        return await relay.exchange(route, call, self.record, self.attempts)

    def sealed(self, plaintext=peer.SUCCESS):
        """Give an answer that is encrypted to our pair."""
        recipient = self.partner_key.public_key()
        return peer.sealed_answer(self.platform_key, recipient, plaintext)

    def try_version(self, share, halted=None):
        """Have the other key tried, as version 2, on a share of the exchanges."""
        key = Signer("2", self.other_key, self.steps)
        self.rings.ring = replace(self.ring_of(), canary=Canary(key, share, halted))

    def ring_of(self, partner=None, platform=None):
        """Make a ring of keys by version: ours, and the private halves of theirs.

        Of each the first is active and the others are deactivated.
        """
        ours = {"1": self.partner_key} if partner is None else partner
        theirs = {"1": self.platform_key} if platform is None else platform
        signers = [Signer(version, key, self.steps) for version, key in ours.items()]
        infos = _infos("ours", ours, PARTNER_USES)
        return Keyring.of(
            1,
            zip(infos, signers, strict=True),
            _infos("theirs", theirs, PLATFORM_USES),
        )


def _infos(whose, keys, uses):
    states = [KeyState.ACTIVE] + [KeyState.DEACTIVATED] * len(keys)
    return [
        KeyInfo(
            version,
            state,
            uses,
            f"{whose} {version}",
            PublicKey(version, key.public_key()),
        )
        for (version, key), state in zip(keys.items(), states, strict=False)
    ]


@pytest.fixture
def scene(partner_key, platform_key, other_key):
    return Scene(partner_key, platform_key, other_key)
