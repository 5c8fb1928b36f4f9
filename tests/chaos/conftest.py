"""A gateway in trouble: in this process, or as one that may be killed."""

import asyncio
import json
import os
import resource
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from tests import peer
from tests.integration.caller import Caller
from tests.integration.conftest import house, run_house, write_ring

__all__ = ["house", "run_house"]  # the fixtures

SLOW_PATH = "/api/open/alipay/v1/merchant/order/sync"
"""A second route, where a test wants other settings than on `peer.TARGET`."""


def body_for(name, size=0, **more):
    """Give a request that can be told from all others."""
    return json.dumps({"requestId": name, **more, "filler": "x" * size}).encode()


def answer_for(name, size=0):
    """Give the answer's plain text to it."""
    result = {"resultCode": "SUCCESS", "resultStatus": "S"}
    return json.dumps(
        {"resultInfo": result, "requestId": name, "filler": "y" * size}
    ).encode()


async def until(condition, what, seconds=15):
    """Wait until a condition holds, or fail."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


class Served:
    """`gateway serve` as a process of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / "config.yaml"
        self.events: list[dict] = []
        self.lines: list[dict] = []
        self.process: asyncio.subprocess.Process
        self.caller: Caller
        self.admin: Caller
        self.environment: dict[str, str] = {}
        self._readers: list[asyncio.Task] = []

    def configure(self, settings):
        self.file.write_text(yaml.safe_dump(settings))

    async def start(self, *, stdout=asyncio.subprocess.PIPE, limits=()):
        """Start it, and wait until it listens."""
        self.events, self.lines = [], []
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "-c", str(self.file)),
            cwd=self.folder,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 24,
            env=(_without_coverage() if limits else os.environ) | self.environment,
            preexec_fn=(lambda: _lower(limits)) if limits else None,
        )
        self._readers = [
            asyncio.create_task(_collect(self.process.stderr, self.events))
        ]
        if self.process.stdout is not None:
            self._readers.append(
                asyncio.create_task(_collect(self.process.stdout, self.lines))
            )
        await until(lambda: self.seen("listening"), f"not started: {self.events}", 30)
        (listening,) = self.seen("listening")
        self.inbound = listening["inbound"]
        self.caller = Caller(_port(self.inbound))
        self.admin = Caller(_port(listening["admin"]))

    def seen(self, event):
        return [each for each in self.events if each["event"] == event]

    async def stop(self, number=signal.SIGTERM):
        """End it. Gives its exit status; its output is then read to the end."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        status = await asyncio.wait_for(self.process.wait(), 30)
        await asyncio.gather(*self._readers)
        return status

    async def ready(self):
        got = await self.admin.raw(
            b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        return got.status == 200

    async def metric(self, line):
        """Give the value of one series, or None."""
        got = await self.admin.raw(
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        values = [each.rsplit(" ", 1) for each in got.body.decode().splitlines()]
        return next((float(v[1]) for v in values if v[0] == line), None)

    def memory(self, name="VmRSS"):
        """Give a figure of /proc in MiB: VmRSS now, VmHWM the most there was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [each for each in status.splitlines() if each.startswith(name)]
        return int(line.split()[1]) / 1024

    def processor_seconds(self):
        """Give the processor time that it has used so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _without_coverage():
    """Give the environment without coverage, which cannot write within such limits."""
    return {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}


def _lower(limits):
    for name, value in limits:
        resource.setrlimit(name, (value, value))


async def _collect(stream, into):
    async for line in stream:
        into.append(json.loads(line))


def _port(address):
    port = address.rpartition(":")[2]
    return int(port) if port.isdecimal() else 0


def settings_for(port, **inbound):
    """Give a configuration with a patient and a slow route to one AlipayHK."""
    return {
        "inbound": {
            "listen": "127.0.0.1:0",
            "drain_grace_s": 0,
            **inbound,
        },
        "admin": {"listen": "127.0.0.1:0"},
        "clients": [
            {
                "name": "hk",
                "client_id": peer.CLIENT_ID,
                "upstream": f"http://127.0.0.1:{port}",
                "keyring": "ring",
                "breaker": {"failures": 1_000_000},
            }
        ],
        "routes": [
            {"path": peer.TARGET, "client": "hk", "timeout_s": 30},
            {"path": SLOW_PATH, "client": "hk", "timeout_s": 30},
        ],
    }


@pytest.fixture
async def served(tmp_path, partner_key, platform_key):
    """A process that is not started yet, with its keyring."""
    gateway = Served(tmp_path)
    write_ring(tmp_path / "ring", partner_key, platform_key)
    yield gateway
    if getattr(gateway, "process", None) is not None:
        await gateway.stop(signal.SIGKILL)


@asynccontextmanager
async def busy(count, work):
    """Keep `count` workers at it until the end of the block; each is called anew.

    Gives the list of what they gave back.
    """
    done: list = []
    over = asyncio.Event()

    async def worker(number):
        while not over.is_set():
            done.append(await work(number))

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(worker(number))
        try:
            yield done
        finally:
            over.set()
