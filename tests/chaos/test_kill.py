"""kill -9, of the gateway under load and of those who change its keys."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.folder import locked
from gateway.keys.changes import Party
from tests import peer
from tests.chaos.conftest import body_for, busy, settings_for, until
from tests.e2e.workspace import put, workspace
from tests.integration.caller import read_answer
from tests.integration.conftest import write_ring
from tests.integration.wallet import Wallet

KILLS = 5
STEPS = Path(__file__).with_name("killed_steps.py")


@pytest.fixture
async def wallet(platform_key, partner_key):
    wallet = Wallet(platform_key, partner_key.public_key())

    async def answer(request):
        await asyncio.sleep(0.02)  # so that some are always on their way
        return wallet.success(request)

    wallet.answer = answer
    async with wallet.listening():
        yield wallet


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Callers:
    """Services that call without end, whatever becomes of the gateway.

    Each call has a name, and its caller always sees something within ten seconds.
    """

    def __init__(self, where):
        self._where = where
        self._numbers = count()

    async def call(self, _):
        """Give the call's name and what its caller saw."""
        name = f"r{next(self._numbers)}"
        async with asyncio.timeout(10):
            try:
                reader, writer = await self._open()
            except OSError:
                await asyncio.sleep(0.01)
                return name, "no connection"
            try:
                return name, await self._exchange(reader, writer, body_for(name))
            except (ConnectionError, asyncio.IncompleteReadError):
                return name, "connection lost"
            finally:
                writer.close()

    async def _open(self):
        if isinstance(self._where, int):
            return await asyncio.open_connection("127.0.0.1", self._where)
        return await asyncio.open_unix_connection(self._where)

    async def _exchange(self, reader, writer, body):
        writer.write(
            f"POST {peer.TARGET} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        got = await read_answer(reader)
        return got.header("Gateway-Verified") or got.code


async def more_arrive(wallet):
    """Wait until there is load again."""
    enough = len(wallet.arrived) + 100
    await until(lambda: len(wallet.arrived) >= enough, "no load", 20)


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_gateway_killed_under_load_comes_back_and_repeats_nothing(
    served, wallet, tmp_path, kind
):
    where = free_port() if kind == "tcp" else tmp_path / "inbound"
    listen = f"127.0.0.1:{where}" if kind == "tcp" else f"unix:{where}"
    served.configure(settings_for(wallet.port, listen=listen))
    await served.start()
    async with busy(16, Callers(where).call) as seen:
        for kill in range(KILLS):
            await more_arrive(wallet)
            (tmp_path / "ring/touched").write_text(str(kill))
            served.process.send_signal(signal.SIGHUP)  # in the middle of a reload, too
            await served.stop(signal.SIGKILL)
            await served.start()
            assert await served.ready()
        await more_arrive(wallet)
    assert await served.stop() == 0
    arrived = Counter(json.loads(each.body)["requestId"] for each in wallet.arrived)
    assert set(arrived.values()) == {1}, "a request was sent twice"
    by_outcome = {
        outcome: {name for name, seen_ in seen if seen_ == outcome}
        for outcome in ("true", "connection lost", "no connection")
    }
    assert sum(map(len, by_outcome.values())) == len(seen)
    assert by_outcome["true"] <= set(arrived)
    assert len(by_outcome["connection lost"]) >= KILLS
    assert not by_outcome["no connection"] & set(arrived)
    assert set(arrived) <= by_outcome["true"] | by_outcome["connection lost"]
    print(
        f"{KILLS} kills: { {what: len(names) for what, names in by_outcome.items()} }"
    )


@pytest.fixture
def ring(tmp_path, partner_key, platform_key, other_key):
    """A ring with a key that is not in use yet."""
    folder = tmp_path / "ring"
    write_ring(folder, partner_key, platform_key)
    put(folder, Party.PARTNER, other_key, version="2", active=False)
    return folder


VERBS = {
    "activate": ["activate", "2"],
    "generate": ["generate"],
    "destroy": ["destroy", "2"],
}


@pytest.mark.chaos
@pytest.mark.timeout(800)
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_killed_at_any_step_leaves_the_old_ring_or_the_new_one(ring, verb):
    before = KeyringFolder(ring).read().generation
    after = {}
    for kills in killed_at_each_step(
        ring, "keys", *VERBS[verb], "--keyring", str(ring)
    ):
        after[kills] = KeyringFolder(ring).read().generation
        _next_command_works(ring)
    assert len(after) > 11
    assert set(after.values()) == {before, before + 1}
    print(f"{verb}: killed at each of {len(after) - 1} steps")


def killed_at_each_step(folder, *command):
    """Run a command anew until it comes to its end; gives how often it was killed."""
    done, kills = False, 0
    with subprocess.Popen(
        [sys.executable, str(STEPS), str(folder), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as killer:
        for line in killer.stdout:
            told = json.loads(line)
            if done := told["done"]:
                assert told["status"] == 0
            else:
                assert os.WTERMSIG(told["status"]) == signal.SIGKILL
                kills += 1
            yield kills
            killer.stdin.write("\n")
            killer.stdin.flush()
    assert done


@pytest.mark.chaos
@pytest.mark.timeout(800)
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_killed_at_any_step_leaves_an_audit_log_to_go_on_with(
    tmp_path, partner_key, platform_key, other_key, verb
):
    """And never a change that it has no line of."""
    folder = tmp_path / "place"
    folder.mkdir()
    place = workspace(folder)
    with (folder / "config.yaml").open("a") as stream:
        stream.write("audit: {file: audit.jsonl, key: audit.pem, required: true}\n")
    put(place.ring, Party.PARTNER, partner_key)
    put(place.ring, Party.PLATFORM, platform_key)
    put(place.ring, Party.PARTNER, other_key, version="2", active=False)
    assert place.gateway("audit", "keygen", "audit.pem").returncode == 0
    before = KeyringFolder(place.ring).read().generation
    after, config = {}, str(folder / "config.yaml")
    for kills in killed_at_each_step(folder, "keys", *VERBS[verb], "-c", config):
        after[kills] = generation = KeyringFolder(place.ring).read().generation
        told = place.folder / "audit.jsonl"
        lines = told.read_text().splitlines() if told.exists() else []
        noted = {json.loads(line)["to"]["generation"] for line in lines}
        assert generation in {before, *noted}
        assert place.gateway("keys", "compromise", "1").returncode == 0
        verified = place.gateway("audit", "verify")
        assert verified.returncode == 0, verified.stdout
    assert len(after) > 21
    assert set(after.values()) == {before, before + 1}
    print(f"{verb}: killed at each of {len(after) - 1} steps; the log holds after each")


def _next_command_works(ring):
    """The lock is free, what was left is no hindrance, and it is cleared away."""
    with locked(ring) as folder:
        manifest = folder.manifest
        later = manifest.model_copy(update={"generation": manifest.generation + 1})
        folder.replace(later)
    assert not (ring / ".change").exists()
