"""What AlipayHK saw against what callers were told, under every kind of trouble.

The stand-in for AlipayHK notes each request that arrived whole, by its requestId;
callers note the one outcome of each call. A payment service acts on that outcome: so
`not_sent` must never have arrived, whatever arrived must be accounted for, and nothing
may arrive more often than the settings allow.
"""

import asyncio
import json
import random
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from itertools import count

import pytest

from tests import peer
from tests.chaos.conftest import SLOW_PATH, answer_for, body_for, busy, until
from tests.integration.conftest import point_at
from tests.integration.wallet import _read

EXCHANGES = 1500
REPEATED_PATH = "/api/open/alipay/v1/ipass/pass/manage/createPass"


class Trouble:
    """AlipayHK on a bad day, behind a network on a bad day."""

    def __init__(self, wallet, seed):
        self.wallet = wallet
        self.bodies = defaultdict(list)
        self.done = Counter()
        self._chance = random.Random(seed)
        self._writers = set()

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

    @asynccontextmanager
    async def listening(self, port=0):
        server = await asyncio.start_server(self.serve, "127.0.0.1", port)
        try:
            yield server
        finally:
            server.close()


@pytest.mark.chaos
@pytest.mark.timeout(120)
@pytest.mark.parametrize("retries", [0, 2])
async def test_each_request_that_arrived_has_one_outcome_and_not_sent_never_arrived(
    run_house, retries
):
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
            if got.header("Gateway-Verified") == "true":
                assert got.body == answer_for(name)
                told[name] = "verified"
            else:
                told[name] = got.problem["outcome"]
            return told[name]

        async with trouble.listening() as server:
            await point_at(house, server)
            port = server.sockets[0].getsockname()[1]
            async with busy(24, call) as done:
                for part in range(1, 6):
                    await until(
                        lambda part=part: len(done) > EXCHANGES * part / 6, "slow", 40
                    )
                    await trouble.kill_connections()
                    if part == 3:  # nobody listens for a while
                        server.close()
                        await until(
                            lambda: house.events("breaker_open"), "the breaker holds"
                        )
                        reopened = await asyncio.start_server(
                            trouble.serve, "127.0.0.1", port
                        )
                await until(lambda: len(done) > EXCHANGES, "slow", 40)
            reopened.close()
        lines = {line["exchange_id"]: line for line in house.exchanges}
    arrived = {name: len(bodies) for name, bodies in trouble.bodies.items()}
    outcomes = Counter(told.values())
    assert set(outcomes) == {"verified", "unknown", "answered", "not_sent"}
    assert len(told) == len(done) == len(lines) >= EXCHANGES
    assert set(arrived) <= set(told), "arrived, and nobody was told of it"
    for name, outcome in told.items():
        times = arrived.get(name, 0)
        if outcome == "not_sent":
            assert times == 0, f"{name} was not sent, and arrived"
        elif outcome != "unknown":
            assert times >= 1, f"{name} was answered, and never arrived"
        most = 1 + retries if path_of[name] == REPEATED_PATH else 1
        assert times <= most, f"{name} arrived {times} times"
        assert len(set(trouble.bodies[name])) <= 1, f"{name} was changed"
    repeated = sum(times > 1 for times in arrived.values())
    assert (repeated > 0) == (retries > 0)
    print(
        f"{len(told)} calls with {retries} retries: {dict(outcomes)}; {len(arrived)} "
        f"arrived, {repeated} of them repeatedly; {dict(trouble.done)}"
    )
