"""Whole rotations by `gateway keys`, under load, before an AlipayHK that is strict.

Each round brings a new version of ours and a new one of AlipayHK's into use, each either
at once or by a plan, and gives the ones before them up: at once, or by an overlap.
"""

import asyncio
import json
import time
from collections import Counter
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
import yaml

from gateway.keys.formats import private_pem, public_pem
from gateway.keys.manifest import format_moment
from tests import peer
from tests.chaos.conftest import answer_for, body_for, busy, settings_for, until
from tests.chaos.test_load import process
from tests.chaos.test_swaps import new_key
from tests.e2e.workspace import Workspace
from tests.integration.caller import read_answer
from tests.tokens import SoftHsm

ROTATIONS = 20
OFFERED = 1000
"""Exchanges a second that are begun, as long as a caller is free."""

CALLERS = 16
AHEAD_S, OVERLAP_S = 2, 15


class Platform:
    """The strict one, from here."""

    def __init__(self, running, theirs, ours):
        self._running = running
        self._lock = asyncio.Lock()
        self.theirs, self.ours = theirs, ours

    async def tell(self, **change):
        """Tell it what to know. Gives what it saw and did so far."""
        async with self._lock:
            self._running.stdin.write(json.dumps(change).encode() + b"\n")
            return json.loads(await self._running.stdout.readline())

    async def know(self):
        await self.tell(partner=self.ours, platform=self.theirs)

    async def was_shown(self, version):
        """Tell how many signatures of a version of ours it was shown so far."""
        return (await self.tell())["verify"].get(version, 0)

    async def is_shown(self, version):
        """Wait until it is shown both versions, ours in a signature, its own as used."""
        async with asyncio.timeout(AHEAD_S + 15):
            shown = await self.tell()
            while version not in shown["verify"].keys() & shown["decrypt"].keys():
                await asyncio.sleep(0.05)
                shown = await self.tell()


class Callers:
    """Services that each keep a connection, and together call at a pace."""

    def __init__(self, port):
        self._port = port
        self._numbers = count()
        self._lines = {}
        self._began = time.monotonic()

    async def call(self, caller):
        """Make the next exchange, plain or encrypted, when its turn has come."""
        if caller not in self._lines:
            self._lines[caller] = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._lines[caller]
        number = next(self._numbers)
        await asyncio.sleep(self._began + number / OFFERED - time.monotonic())
        body = body_for(f"r{number}")
        writer.write(
            f"POST {peer.TARGET} HTTP/1.1\r\nHost: localhost\r\n"
            f"Gateway-Encrypt: {'true' if number % 2 else 'false'}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        async with asyncio.timeout(20):
            got = await read_answer(reader)
        assert got.header("Gateway-Verified") == "true", got.body
        assert got.body == answer_for(f"r{number}")
        return caller

    def close(self):
        for _, writer in self._lines.values():
            writer.close()


class Operator:
    """Who rotates: by the commands of the runbook, and by nothing else."""

    def __init__(self, served, platform, softhsm):
        self._served = served
        self._place = Workspace(served.folder)
        self._platform = platform
        self._softhsm = softhsm

    async def keys(self, *arguments):
        done = await asyncio.to_thread(self._place.gateway, "keys", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    async def rotate(self, new, done):
        old = str(int(new) - 1)
        await self._arrive(new)
        await _everyone_called(done)  # what is under way is judged by the ring before
        await self._platform.know()
        plans = {"": int(new) % 2 == 0, "--platform": int(new) % 4 < 2}
        for option, planned in plans.items():
            await self.keys("activate", new, *_when(planned), *filter(None, [option]))
        await self._platform.is_shown(new)
        await _everyone_called(done)
        del self._platform.ours[old], self._platform.theirs[old]
        await self._platform.know()
        await _everyone_called(done)
        for option, planned in plans.items():
            if not planned:
                await self.keys("destroy", old, *filter(None, [option]))

    async def _arrive(self, new):
        """Have both new keys in the ring, and staged in the gateway, before they come."""
        theirs = await asyncio.to_thread(new_key)
        file = self._served.folder / "alipayhk.pem"
        file.write_text(public_pem(theirs.public_key()))
        await self.keys("import", file.name, "--version", new)
        await self.keys("stage", new, "--platform")
        if self._softhsm is None:
            await self.keys("generate", "--version", new)
        else:
            ours = await asyncio.to_thread(new_key)
            name, number = f"ours-{new}", f"{int(new):02x}"
            await asyncio.to_thread(self._softhsm.put, ours, name, number)
            await self.keys("import", self._softhsm.uri(name), "--version", new)
        await self.keys("stage", new)
        self._platform.ours[new] = await self.keys("public", new)
        self._platform.theirs[new] = private_pem(theirs).decode()
        ring = yaml.safe_load((self._served.folder / "ring/keyring.yaml").read_text())
        await until(lambda: self._generation() == ring["generation"], "not taken up")

    def _generation(self):
        return self._served.seen("keyring_loaded")[-1]["generation"]


def _when(planned):
    if not planned:
        return ()
    moment = datetime.now(UTC) + timedelta(seconds=AHEAD_S)
    return "--at", format_moment(moment), "--overlap", f"{OVERLAP_S}s"


async def _everyone_called(done):
    """Wait until no exchange is under way that was so before."""
    before = len(done)
    await until(
        lambda: all(done[before:].count(each) > 1 for each in range(CALLERS)),
        "nothing goes on",
    )


@asynccontextmanager
async def strictly(served, platform_key, partner_key):
    """Run the gateway before the strict AlipayHK, with an audit log. Gives the latter."""
    place = Workspace(served.folder)
    assert place.gateway("audit", "keygen", "audit.pem").returncode == 0
    async with process("strict_platform") as (running, _):
        port = int(await running.stdout.readline())
        audit = {"file": "audit.jsonl", "key": "audit.pem", "required": True}
        served.configure(settings_for(port) | {"audit": audit})
        platform = Platform(
            running,
            {"1": private_pem(platform_key).decode()},
            {"1": public_pem(partner_key.public_key())},
        )
        await platform.know()
        await served.start()
        yield platform
        assert await served.stop() == 0
    assert place.gateway("audit", "verify").returncode == 0
    assert {line["code"] for line in served.lines} == {"verified"}


@pytest.fixture
def in_a_token(served, partner_key, tmp_path, monkeypatch):
    """Have our first key in a token."""
    softhsm = SoftHsm(tmp_path / "hsm")
    softhsm.token()
    softhsm.put(partner_key, "ours-1")
    ring = tmp_path / "ring/keyring.yaml"
    uri = f'"{softhsm.uri("ours-1")}"'
    ring.write_text(ring.read_text().replace("partner-1.pem", uri))
    (tmp_path / "ring/partner-1.pem").unlink()
    for name, value in softhsm.environment.items():
        monkeypatch.setenv(name, value)
    return softhsm


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("home", ["files", "a token"])
async def test_both_parties_keys_rotated_20_times_by_command_under_load_cost_no_exchange(
    served, partner_key, platform_key, home, request
):
    softhsm = request.getfixturevalue("in_a_token") if home == "a token" else None
    async with strictly(served, platform_key, partner_key) as platform:
        operator = Operator(served, platform, softhsm)
        began = time.monotonic()
        with closing(Callers(served.caller.port)) as callers:
            async with busy(CALLERS, callers.call) as done:
                for new in range(2, ROTATIONS + 2):
                    await operator.rotate(str(new), done)
        seconds = time.monotonic() - began
        told = await platform.tell()
    assert told.pop("refused") == []
    versions = {str(each) for each in range(1, ROTATIONS + 2)}
    assert {use: set(counts) for use, counts in told.items()} == dict.fromkeys(
        ("verify", "decrypt", "sign", "wrap"), versions
    )
    assert {line["attempts"] for line in served.lines} == {1}
    assert len(served.lines) == len(done)
    print(
        f"keys in {home}: {ROTATIONS} rotations of each party's in {seconds:.0f} s; of "
        f"{OFFERED} exchanges a second offered {len(done) / seconds:.0f} carried, "
        f"{len(done)} in all; none failed"
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("share", ["5%", "50%"])
async def test_a_canary_that_alipayhk_does_not_know_is_soon_over_and_costs_no_exchange(
    served, partner_key, platform_key, share
):
    async with strictly(served, platform_key, partner_key) as platform:
        operator = Operator(served, platform, None)
        with closing(Callers(served.caller.port)) as callers:
            async with busy(CALLERS, callers.call) as done:
                await operator.keys("generate")
                await operator.keys("activate", "2", "--canary", share)
                tried = 0
                async with asyncio.timeout(15):
                    while not tried:
                        tried = await platform.was_shown("2")
                began = time.monotonic()
                await until(lambda: served.seen("canary_halted"), "the canary lives")
                seconds = time.monotonic() - began
                await _everyone_called(done)
                tried = await platform.was_shown("2")
                await _everyone_called(done)
                await _everyone_called(done)
                assert await platform.was_shown("2") == tried
        refused = (await platform.tell())["refused"]
    assert tried <= 50 or seconds <= 5
    assert len(refused) == tried
    assert all("keyVersion=2," in each for each in refused)
    assert Counter(line["attempts"] for line in served.lines) == {
        1: len(done) - tried,
        2: tried,
    }
    log = (served.folder / "audit.jsonl").read_text().splitlines()
    (line,) = [each for each in map(json.loads, log) if each["what"] == "canary_halted"]
    assert line["from"] == {"signs": ["2", "1"]}
    assert line["to"] == {"signs": ["1"]}
    assert 0 < line["evidence"]["failures"] == line["evidence"]["exchanges"] <= tried
    print(
        f"canary of {share}: {tried} exchanges of it in {seconds:.1f} s, {len(done)} in "
        "all; none failed"
    )
