"""What AlipayHK saw against what callers were told, under every kind of trouble.

The stand-in for AlipayHK notes each request that arrived whole, by its requestId;
callers note the one outcome of each call. A payment service acts on that outcome: so
`not_sent` must never have arrived, whatever arrived must be accounted for, and nothing
may arrive more often than the settings allow.

With a canary, AlipayHK refuses the signature of half of the exchanges, and then anything
may keep the repeat from being sent: no connection, an open breaker, no time, no key.
"""

import asyncio
import json
import random
import socket
from collections import Counter, defaultdict
from contextlib import asynccontextmanager, suppress
from itertools import count

import pytest

from gateway.errors import KeyUnavailable
from gateway.keys.backends.pem import FileKey
from gateway.relay import evidence
from tests import peer
from tests.chaos.conftest import SLOW_PATH, answer_for, body_for, busy, until
from tests.integration.conftest import point_at, write_private
from tests.integration.wallet import Reply, _read

EXCHANGES = 1500
REPEATED_PATH = "/api/open/alipay/v1/ipass/pass/manage/createPass"
REFUSAL = b'{"resultInfo":{"resultCode":"INVALID_SIGNATURE","resultStatus":"F"}}'


class Trouble:
    """AlipayHK on a bad day, behind a network on a bad day."""

    def __init__(self, wallet, seed):
        self.wallet = wallet
        self.bodies = defaultdict(list)
        self.done = Counter()
        self._chance = random.Random(seed)
        self._writers = set()
        self._left = False

    async def serve(self, reader, writer):
        self._writers.add(writer)
        try:
            while await self._once(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def kill_connections(self):
        """Cut every connection there is, whatever is on its way."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _once(self, reader, writer):
        early = self._chance.random()
        if early < 0.03:  # before anything is read
            self.done["cut before the request"] += 1
            writer.transport.abort()
            return False
        if early < 0.06:  # in the middle of it
            await reader.readexactly(self._chance.randrange(1, 400))
            self.done["cut in the request"] += 1
            writer.transport.abort()
            return False
        if (request := await _read(reader, 0)) is None:
            return False
        order = json.loads(request.body)
        self.bodies[order["requestId"]].append(request.body)
        if "keyVersion=2," in request.header("Signature"):
            return await self._refuse(writer)
        wire = self.wallet.signed(request, answer_for(order["requestId"])).wire()
        return await self._answer(writer, wire)

    async def _answer(self, writer, wire):
        kinds = ("good", "late", "reset", "cut", "stall", "garble", "close")
        weights = (60, 10, 6, 6, 4, 8, 6)
        (kind,) = self._chance.choices(kinds, weights)
        self.done[kind] += 1
        at = self._chance.randrange(len(wire))
        match kind:
            case "late":
                await asyncio.sleep(self._chance.random() / 10)
            case "reset":
                writer.transport.abort()
                return False
            case "cut":
                writer.write(wire[:at])
                await writer.drain()
                writer.transport.abort()
                return False
            case "stall":
                writer.write(wire[:at])
                await asyncio.sleep(5)
                return False
            case "garble":
                wire = wire[:at] + bytes([wire[at] ^ 0x10]) + wire[at + 1 :]
        writer.write(wire)
        await writer.drain()
        if kind == "close":  # an idle connection is closed as the next request comes
            await asyncio.sleep(self._chance.random() / 100)
            return False
        return True

    async def _refuse(self, writer):
        """Refuse a canary, and make it hard to send the repeat."""
        kinds = ("refused", "refused, closed", "refused, away", "refused, late")
        (kind,) = self._chance.choices(kinds, (4, 2, 2, 2))
        self.done[kind] += 1
        if kind == "refused, away" and self.sockets:
            self._close()
            asyncio.get_running_loop().call_later(0.05, self._come_back)
        if kind == "refused, late":
            await asyncio.sleep(0.07 + self._chance.random() / 30)
        headers = [("Content-Type", "application/json")]
        writer.write(Reply(200, headers, REFUSAL).wire())
        await writer.drain()
        return kind in ("refused", "refused, late")

    def leave(self):
        """Listen no more, until `return_`."""
        self._left = True
        self._close()

    def return_(self):
        self._left = False
        self._come_back()

    def _come_back(self):
        if not self._left and not self.sockets:
            self._listen(self._port)

    def _listen(self, port):
        listener = socket.create_server(("127.0.0.1", port))
        listener.settimeout(0)
        self.sockets, self._port = [listener], listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener):
        with suppress(BlockingIOError):
            self._tasks.create_task(self._accepted(listener.accept()[0]))

    async def _accepted(self, sock):
        await self.serve(*await asyncio.open_connection(sock=sock))

    def _close(self):
        for listener in self.sockets:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self.sockets = []

    @asynccontextmanager
    async def listening(self):
        async with asyncio.TaskGroup() as self._tasks:
            self._listen(0)
            try:
                yield self
            finally:
                self.leave()
                await self.kill_connections()


async def try_second_key(house, key):
    """Have a second version sign half of all exchanges, which AlipayHK will refuse."""
    write_private(house.ring / "partner-2.pem", key)
    draft = house.ring / "keyring.yaml.new"
    draft.write_text(
        "generation: 2\n"
        "partner:\n"
        '  - {version: "1", state: active, key: partner-1.pem}\n'
        '  - {version: "2", state: pre-active, key: partner-2.pem,\n'
        '     canary: [{share: 50, at: "2026-01-01T00:00:00Z"}]}\n'
        "platform:\n"
        '  - {version: "1", state: active, key: platform-1.pem}\n'
    )
    draft.rename(house.ring / "keyring.yaml")
    await until(
        lambda: house.events("keyring_loaded")[-1]["generation"] == 2, "not loaded"
    )


def lose_keys(monkeypatch, chance):
    """Have the token of our first version be out of reach now and then."""
    sign = FileKey.sign

    async def sometimes(key, base):
        if key.public.version == "1" and chance.random() < 0.1:
            raise KeyUnavailable("its token is gone")
        return await sign(key, base)

    monkeypatch.setattr(FileKey, "sign", sometimes)


def what_was_told(name, got):
    """Give what a caller makes of its answer."""
    match got.header("Gateway-Verified"):
        case "true":
            assert got.body == answer_for(name)
            return "verified"
        case "false":
            assert got.body == REFUSAL
            return "refused"
    return got.problem["outcome"]


def check_arrivals(name, outcome, bodies, most):
    """See that what arrived of an exchange agrees with what its caller was told."""
    if outcome == "not_sent":
        assert not bodies, f"{name} was not sent, and arrived"
    elif outcome != "unknown":
        assert bodies, f"{name} was answered, and never arrived"
    assert len(bodies) <= most, f"{name} arrived {len(bodies)} times"
    assert len(set(bodies)) <= 1, f"{name} was changed"


@pytest.mark.chaos
@pytest.mark.timeout(400)
@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("canary", [False, True], ids=["one key", "a canary"])
async def test_each_request_that_arrived_has_one_outcome_and_not_sent_never_arrived(
    run_house, monkeypatch, other_key, retries, canary
):
    for bound in ("BY_SHARES", "BY_PAIRS"):  # the canary is to live
        monkeypatch.setattr(evidence, bound, float("inf"))
    routes = [
        {"path": peer.TARGET, "client": "hk", "timeout_s": 1},
        {"path": SLOW_PATH, "client": "hk", "timeout_s": 0.1},
        {
            "path": REPEATED_PATH,
            "client": "hk",
            "timeout_s": 2,
            "repeat_unknown": True,
        },
    ]
    paths = [route["path"] for route in routes]
    client = {"retries": retries, "breaker": {"failures": 8, "open_s": 0.2}}
    numbers, path_of, told = count(), {}, {}
    async with run_house(routes=routes, client=client) as house:
        trouble = Trouble(house.wallet, seed=retries)

        async def call(number):
            name = f"r{next(numbers)}"
            path_of[name] = paths[number % len(paths)]
            got = await house.caller.post(body_for(name), target=path_of[name])
            assert name not in told
            told[name] = what_was_told(name, got)
            return told[name]

        async with trouble.listening() as server:
            await point_at(house, server)
            if canary:
                await try_second_key(house, other_key)
                lose_keys(monkeypatch, random.Random(retries))
            async with busy(24, call) as done:
                for part in range(1, 6):
                    await until(
                        lambda part=part: len(done) > EXCHANGES * part / 6, "slow", 40
                    )
                    await trouble.kill_connections()
                    if part == 3:  # nobody listens for a while
                        opened = len(house.events("breaker_open"))
                        trouble.leave()
                        await until(
                            lambda opened=opened: (
                                len(house.events("breaker_open")) > opened
                            ),
                            "the breaker holds",
                        )
                        trouble.return_()
                await until(lambda: len(done) > EXCHANGES, "slow", 40)
        lines = {line["exchange_id"]: line for line in house.exchanges}
    arrived = {name: len(bodies) for name, bodies in trouble.bodies.items()}
    outcomes = Counter(told.values())
    refusals = {"refused"} if canary else set()
    assert set(outcomes) == {"verified", "unknown", "answered", "not_sent"} | refusals
    assert len(told) == len(done) == len(lines) >= EXCHANGES
    assert set(arrived) <= set(told), "arrived, and nobody was told of it"
    for name, outcome in told.items():
        most = (1 + retries if path_of[name] == REPEATED_PATH else 1) + canary
        check_arrivals(name, outcome, trouble.bodies.get(name, []), most)
    repeated = sum(times > 1 for times in arrived.values())
    assert (repeated > 0) == (retries > 0 or canary)
    print(
        f"{len(told)} calls with {retries} retries: {dict(outcomes)}; {len(arrived)} "
        f"arrived, {repeated} of them repeatedly; {dict(trouble.done)}"
    )
