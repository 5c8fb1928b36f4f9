"""A whole gateway on real sockets, in this process, and an AlipayHK of the tests'."""

import asyncio
import io
import json
from contextlib import asynccontextmanager

import pytest
import yaml

from gateway import config
from gateway.app import Gateway
from gateway.keys import formats
from tests import peer
from tests.integration.caller import Caller
from tests.integration.wallet import Wallet


class House:
    """A running gateway with what a test wants to see of it."""

    def __init__(self, folder, wallet):
        self.folder = folder
        self.ring = folder / "ring"
        self.wallet = wallet
        self.file = folder / "config.yaml"
        self.stdout = io.StringIO()
        self.stderr = io.StringIO()
        self.gateway: Gateway
        self.caller: Caller
        self.admin: Caller
        self.address = ""

    @property
    def exchanges(self):
        """The log lines of exchanges so far."""
        return [json.loads(line) for line in self.stdout.getvalue().splitlines()]

    def events(self, name):
        lines = self.stderr.getvalue().splitlines()
        told = [json.loads(line) for line in lines if f'"{name}"' in line]
        return [line for line in told if line["event"] == name]

    async def seen(self, condition, what):
        """Wait until a condition holds, for as long as a keyring may take."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - a file is watched, not a task
                await asyncio.sleep(0.02)
        assert condition(), what

    async def admin_get(self, path):
        return await self.admin.raw(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        )

    async def metric(self, line):
        """Give the value of one series, or None."""
        text = (await self.admin_get("/metrics")).body.decode()
        values = [each.rsplit(" ", 1) for each in text.splitlines()]
        return next((float(v[1]) for v in values if v[0] == line), None)

    async def seen_metric(self, line, value, within=0):
        """Wait until a series has a value, or one that is up to so much greater."""
        async with asyncio.timeout(10):
            while not 0 <= (await self.metric(line) or 0) - value <= within:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def write_private(file, key):
    file.touch(mode=0o600)
    file.write_bytes(formats.private_pem(key))


def write_ring(folder, partner_key, platform_key):
    folder.mkdir(mode=0o700, exist_ok=True)
    write_private(folder / "partner-1.pem", partner_key)
    (folder / "platform-1.pem").write_text(
        formats.public_pem(platform_key.public_key())
    )
    (folder / "keyring.yaml").write_text(
        "generation: 1\n"
        "partner:\n"
        '  - {version: "1", state: active, key: partner-1.pem}\n'
        "platform:\n"
        '  - {version: "1", state: active, key: platform-1.pem}\n'
    )


NAMES = ["a", "g", "gateway"]
"""What the tests call a gateway by in Host; see test_sites.py for other names."""


def write_config(
    house,
    *,
    client=(),
    route=(),
    inbound=(),
    routes=None,
    more_clients=(),
    admin=(),
    scheme="http",
    **sections,
):
    settings = {
        "inbound": {
            "listen": "127.0.0.1:0",
            "hosts": [*NAMES],
            "drain_grace_s": 0,
            "queue_timeout_s": 0,
            **dict(inbound),
        },
        "admin": {"listen": "127.0.0.1:0", "hosts": [*NAMES], **dict(admin)},
        "clients": [
            {
                "name": "hk",
                "client_id": peer.CLIENT_ID,
                "upstream": f"{scheme}://localhost:{house.wallet.port}",
                "keyring": "ring",
                **dict(client),
            },
            *(
                {**each, "upstream": f"{scheme}://localhost:{house.wallet.port}"}
                for each in more_clients
            ),
        ],
        "routes": routes or [{"path": peer.TARGET, "client": "hk", **dict(route)}],
        **sections,
    }
    house.file.write_text(yaml.safe_dump(settings))


@pytest.fixture
def run_house(tmp_path, partner_key, platform_key):
    """Give a context manager that runs a gateway before a wallet."""

    @asynccontextmanager
    async def run(*, wallet_tls=None, **settings):
        wallet = Wallet(platform_key, partner_key.public_key())
        async with wallet.listening(wallet_tls):
            house = House(tmp_path, wallet)
            write_ring(house.ring, partner_key, platform_key)
            write_config(house, **settings)
            async with running(house):
                yield house

    return run


@asynccontextmanager
async def running(house):
    def load():
        return config.load(house.file, {})

    ready = asyncio.Event()

    def started(inbound, admin):
        house.caller, house.admin = Caller(inbound.port), Caller(admin.port)
        house.address = inbound.address
        ready.set()

    house.gateway = Gateway(load(), load, stdout=house.stdout, stderr=house.stderr)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.gateway.run(started))
        async with asyncio.timeout(5):
            await ready.wait()
        try:
            yield house
        finally:
            house.gateway.stop()


async def change(house, edit):
    """Edit the configuration and reload the gateway with it."""
    settings = yaml.safe_load(house.file.read_text())
    edit(settings)
    house.file.write_text(yaml.safe_dump(settings))
    before = len(house.events("reloaded"))
    house.gateway.reload()
    await house.seen(lambda: len(house.events("reloaded")) > before, "no reload")


async def point_at(house, server, **route):
    """Reload the gateway with this server as its upstream."""

    def edit(settings):
        port = server.sockets[0].getsockname()[1]
        settings["clients"][0]["upstream"] = f"http://127.0.0.1:{port}"
        settings["routes"][0].update(route)

    await change(house, edit)


@pytest.fixture
async def house(run_house):
    """A gateway with one route of optional encryption."""
    async with run_house() as running_house:
        yield running_house
