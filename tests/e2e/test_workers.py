"""`gateway serve` with two workers: real processes, killed, stopped and reloaded."""

import asyncio
import contextlib
import json
import os
import platform
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from gateway.simulator.alipayhk import AlipayHK
from gateway.simulator.server import running as running_simulator
from gateway.telemetry.answers import MANY
from tests import peer
from tests.chaos.conftest import SLOW_PATH, Served, body_for, settings_for, until
from tests.integration.caller import Caller, read_answer
from tests.integration.conftest import write_private, write_ring
from tests.integration.pki import LOCALHOST, Authority, serial_of, trusting
from tests.integration.test_audit import write_key
from tests.integration.test_callers import OTHER, TOKEN, digest, entry
from tests.integration.wallet import Wallet
from tests.tokens import PIN, SoftHsm

pytestmark = pytest.mark.e2e

TLS = {"certificate": "gateway.crt", "private_key": "gateway.key"}
SOON = timedelta(seconds=2)
"""For a process to be begun. How long it takes to load is the machine's."""
CONTENT = json.dumps(
    {
        "requestId": "c",
        "contentId": "C",
        "contentType": "SKU",
        "contentStatus": 1,
        "contentInfo": "{}",
    }
).encode()
VERIFIED = (
    'gateway_exchanges_total{caller="",client="hk",code="verified",'
    f'route="{peer.TARGET}"}}'
)


class Crew(Served):
    """A gateway of several workers."""

    @property
    def workers(self):
        """The process of each worker, by its number."""
        gone = {each["pid"] for each in self.seen("worker_died")}
        return {
            each["worker"]: each["pid"]
            for each in self.seen("worker_started")
            if each["pid"] not in gone
        }

    @property
    def used_workers(self):
        """Those that had an exchange."""
        return {each["worker"] for each in self.seen("partner_key_first_used")}

    async def page(self, path, *headers):
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            "Connection: close",
            *headers,
        ]
        got = await self.admin.raw("\r\n".join([*lines, "", ""]).encode())
        return got.status, json.loads(got.body or "null")

    async def ask_all(self, times=16, **how):
        """Call on many connections at once. Gives the answers."""
        return await asyncio.gather(*(self.caller.post(**how) for _ in range(times)))

    async def reload(self, settings, event="reloaded"):
        before = len(self.seen(event))
        self.configure(settings)
        self.process.send_signal(signal.SIGHUP)
        await until(lambda: len(self.seen(event)) > before, f"no {event}", 30)
        return self.seen(event)[-1]


@pytest.fixture
async def wallet(platform_key, partner_key):
    wallet = Wallet(platform_key, partner_key.public_key())
    async with wallet.listening():
        yield wallet


@pytest.fixture
def settings(wallet):
    return settings_for(wallet.port) | {"workers": 2}


@pytest.fixture
async def crew(tmp_path, partner_key, platform_key):
    gateway = Crew(tmp_path)
    write_ring(tmp_path / "ring", partner_key, platform_key)
    yield gateway
    if gateway.process.returncode is None:
        try:
            assert await gateway.stop() == 0
        finally:
            await gateway.stop(signal.SIGKILL)
    workers = gateway.workers.values()
    await until(lambda: not any(map(lives, workers)), "a worker outlives it", 30)


def lives(pid):
    """Tell whether a process runs; one that waits to be noticed does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def test_two_workers_answer_as_one_gateway(crew, settings):
    crew.configure(settings)
    await crew.start()
    (listening,) = crew.seen("listening")
    assert (listening["workers"], len(crew.workers)) == (2, 2)
    assert "worker" not in listening
    calls = 0
    while crew.used_workers != {1, 2}:
        assert {got.status for got in await crew.ask_all()} == {200}
        calls += 16
    await until(lambda: len(crew.lines) == calls, "lines are missing")
    assert await crew.metric(VERIFIED) == calls
    assert await crew.metric("gateway_workers") == 2
    for worker in (1, 2):
        series = f'gateway_worker_keyring_generation{{client="hk",worker="{worker}"}}'
        assert await crew.metric(series) == 1
        series = f'gateway_worker_restarts_total{{worker="{worker}"}}'
        assert await crew.metric(series) == 0
    _, keys = await crew.page("/keys")
    (client,) = keys["clients"]
    assert [key["used"] for key in client["keys"]] == [calls, calls]
    ready = {"ready": True, "reasons": [], "warnings": []}
    assert await crew.page("/readyz") == (200, ready)
    assert await crew.stop() == 0
    assert [each["event"] for each in crew.events[-2:]] == ["draining", "stopped"]


async def test_connections_that_are_kept_are_spread(crew, settings):
    crew.configure(settings)
    await crew.start()
    kept = [await crew.caller.connect() for _ in range(32)]
    async with asyncio.timeout(10):
        while await crew.metric("gateway_connections") < 32:  # noqa: ASYNC110 - a page
            await asyncio.sleep(0.01)
    spread = [
        await crew.metric(f'gateway_worker_connections{{worker="{worker}"}}')
        for worker in (1, 2)
    ]
    assert sum(spread) == 32
    assert min(spread) >= 8, spread
    for _, writer in kept:
        writer.close()


async def test_one_admin_listener_keeps_strangers_out_for_all(crew, settings):
    settings["admin"]["tokens"] = [digest(TOKEN)]
    crew.configure(settings)
    await crew.start()
    shows = f"Authorization: Bearer {TOKEN}"
    for path in ("/livez", "/readyz", "/keys"):
        assert await crew.page(path) == (401, None)
        assert (await crew.page(path, shows))[0] == 200
    other = {**settings, "admin": {**settings["admin"], "tokens": [digest(OTHER)]}}
    await crew.reload(other)
    assert (await crew.page("/readyz", shows))[0] == 401
    assert (await crew.page("/readyz", f"Authorization: Bearer {OTHER}"))[0] == 200


class Kept:
    """A caller that keeps its connection, and opens another once it is lost."""

    numbers = count()

    def __init__(self, port):
        self.port = port
        self.seen: dict[str, str] = {}

    async def call_until(self, over):
        reader = writer = None
        while not over.is_set():
            name = f"r{next(self.numbers)}"
            body = body_for(name)
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", self.port
                    )
                writer.write(
                    f"POST {peer.TARGET} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                async with asyncio.timeout(20):
                    got = await read_answer(reader)
                self.seen[name] = got.header("Gateway-Verified") or got.code
            except (ConnectionError, asyncio.IncompleteReadError):
                self.seen[name] = "lost"
                writer.close()
                writer = None
        if writer is not None:
            writer.close()


async def test_a_killed_worker_costs_its_own_exchanges_and_is_soon_back(
    crew, settings, wallet, tmp_path
):
    async def slow(request):
        await asyncio.sleep(0.02)  # so that some are always on their way
        return wallet.success(request)

    wallet.answer = slow
    write_key(tmp_path)
    settings["audit"] = {"file": "audit.jsonl", "key": "audit.pem"}
    crew.configure(settings)
    await crew.start()
    callers = [Kept(crew.caller.port) for _ in range(32)]
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for each in callers:
            tasks.create_task(each.call_until(over))
        await until(
            lambda: len(wallet.arrived) > 300 and crew.used_workers == {1, 2}, "no load"
        )
        counted = await crew.metric(VERIFIED)
        victim = crew.workers[2]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(crew.seen("worker_started")) == 3, "it is not back")
        enough = len(wallet.arrived) + 300
        await until(lambda: len(wallet.arrived) > enough, "no load")
        over.set()
    (died,) = crew.seen("worker_died")
    assert (died["worker"], died["pid"], died["signal"]) == (2, victim, 9)
    assert started_at(crew.workers[2]) - _moment(died) < SOON
    reconcile(callers, wallet.arrived)
    assert await crew.metric('gateway_worker_restarts_total{worker="2"}') == 1
    assert await crew.metric("gateway_workers") == 2
    assert await crew.metric(VERIFIED) >= counted
    assert await crew.stop() == 0
    noted = noted_in(tmp_path)
    assert (noted["started"], noted["stopped"], noted["worker_died"]) == (1, 1, 1)
    assert noted["keyring_loaded"] == 3


def reconcile(callers, arrived):
    """Only connections of one worker lost an exchange each; nothing was sent twice."""
    lost = [[*each.seen.values()].count("lost") for each in callers]
    assert set(lost) == {0, 1}, "a caller lost nothing, or one exchange"
    assert 1 <= sum(lost) < 32, "only one worker's connections"
    told = {name: how for each in callers for name, how in each.seen.items()}
    assert set(told.values()) == {"true", "lost"}
    names = Counter(json.loads(each.body)["requestId"] for each in arrived)
    assert set(names.values()) == {1}, "a request was sent twice"
    assert {name for name, how in told.items() if how == "true"} <= set(names)


def noted_in(folder):
    """Verify the audit log. Gives how many lines there are of each kind."""
    verified = subprocess.run(
        [sys.executable, "-m", "gateway", "audit", "verify"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    lines = (folder / "audit.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["what"] for line in lines)


async def test_one_that_keeps_dying_is_replaced_ever_more_slowly(crew, settings):
    crew.configure(settings)
    await crew.start()
    for _ in range(3):
        os.kill(crew.workers[1], signal.SIGKILL)
        await until(lambda: set(crew.workers) == {2}, "it lives")
        await until(lambda: set(crew.workers) == {1, 2}, "it is not back")
    starts = [e for e in crew.seen("worker_started") if e["worker"] == 1][1:]
    ends = crew.seen("worker_died")
    pauses = [_moment(s) - _moment(e) for s, e in zip(starts, ends, strict=True)]
    assert pauses[1] > timedelta(seconds=0.5)
    assert pauses[2] > timedelta(seconds=1)


async def test_one_that_is_killed_while_it_starts_is_started_again(crew, settings):
    crew.configure(settings)
    await crew.start()
    os.kill(crew.workers[1], signal.SIGKILL)
    known = set(crew.workers.values())
    async with asyncio.timeout(10):
        while not (young := children_of(crew.process.pid) - known):  # noqa: ASYNC110 - of a process
            await asyncio.sleep(0)
    os.kill(young.pop(), signal.SIGKILL)
    await until(lambda: crew.seen("worker_not_started"), "it started")
    assert (
        "ended before it served, by signal 9"
        in (crew.seen("worker_not_started")[0]["reason"])
    )
    await until(lambda: set(crew.workers) == {1, 2}, "it is not back")
    assert {got.status for got in await crew.ask_all()} == {200}


def children_of(pid):
    """Give the processes that this one started and that run."""
    found = set()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found |= {int(each) for each in file.read_text().split()}
    return {each for each in found if lives(each)}


def started_at(pid):
    """Return when the system began a process, to a tick of its clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    after_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    return datetime.now(UTC) - timedelta(seconds=up - after_boot)


def _moment(event):
    return datetime.fromisoformat(event["time"])


async def test_all_workers_take_a_reload_up_or_none(crew, settings):
    crew.configure(settings)
    await crew.start()
    other = "/api/open/alipay/v1/payments/inquire"
    more = {
        **settings,
        "routes": [*settings["routes"], {"path": other, "client": "hk"}],
    }
    limits = resource.prlimit(crew.workers[2], resource.RLIMIT_NOFILE)
    resource.prlimit(crew.workers[2], resource.RLIMIT_NOFILE, (3, limits[1]))
    refused = await crew.reload(more, "reload_refused")
    assert refused["reason"].startswith("worker 2: ")
    resource.prlimit(crew.workers[2], resource.RLIMIT_NOFILE, limits)
    got = await crew.ask_all(target=other)
    assert {each.code for each in got} == {"unknown_route"}
    await crew.reload(more)
    got = await crew.ask_all(target=other)
    assert {each.status for each in got} == {200}
    assert not crew.seen("worker_died")
    assert len(crew.seen("reloaded")) == len(crew.seen("reload_refused")) == 1
    fixed = await crew.reload(settings | {"workers": 3}, "reload_refused")
    assert "workers" in fixed["reason"]


async def test_a_worker_that_is_replaced_has_what_the_others_have(crew, settings):
    """And not what stands in the file meanwhile, which nobody asked it to read."""
    crew.configure(settings)
    await crew.start()
    crew.configure({**settings, "routes": [{"path": SLOW_PATH, "client": "hk"}]})
    for worker in (1, 2):
        os.kill(crew.workers[worker], signal.SIGKILL)
    await until(lambda: len(crew.seen("worker_started")) == 4, "they are not back")
    assert {got.status for got in await crew.ask_all()} == {200}


@asynccontextmanager
async def half_a_request(crew):
    """Send a request's head and wait until a worker has seen it."""
    body = peer.REQUEST_BODY
    reader, writer = await crew.caller.connect()
    writer.write(
        f"POST {peer.TARGET} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_what_is_under_way_at_sigterm_is_finished(crew, settings):
    settings["inbound"]["drain_grace_s"] = 0.5
    crew.configure(settings)
    await crew.start()
    async with half_a_request(crew) as (reader, writer):
        crew.process.send_signal(signal.SIGTERM)
        await until(lambda: crew.seen("draining"), "no drain")
        status, page = await crew.page("/readyz")
        assert (status, page["reasons"]) == (503, ["the gateway is draining"])
        await until(lambda: refuses(crew.caller.port), "it listens on")
        assert (await crew.page("/livez"))[0] == 200
        writer.write(peer.REQUEST_BODY)
        assert (await read_answer(reader)).status == 200
        assert await crew.stop() == 0
    assert crew.seen("stopped")[0]["cut_off"] == 0
    assert not crew.seen("worker_died")


def refuses(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_second_signal_cuts_all_workers_off_with_status_1(crew, settings):
    crew.configure(settings)
    await crew.start()
    async with half_a_request(crew):
        crew.process.send_signal(signal.SIGTERM)
        await until(lambda: crew.seen("draining"), "no drain")
        assert await crew.stop() == 1
    (cut,) = crew.seen("cut_off")
    assert (cut["requests"], crew.seen("stopped")[0]["cut_off"]) == (1, 1)
    assert cut["worker"] in (1, 2)


async def test_workers_hear_no_signal_but_their_supervisor(crew, settings):
    crew.configure(settings)
    await crew.start()
    for pid in crew.workers.values():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
        assert os.getsid(pid) == pid
    assert {got.status for got in await crew.ask_all()} == {200}
    assert not crew.seen("worker_died")
    assert not crew.seen("draining")


async def test_workers_end_with_their_supervisor_and_the_port_is_free(crew, settings):
    settings["inbound"]["drain_grace_s"] = 3600
    crew.configure(settings)
    await crew.start()
    workers = crew.workers
    async with half_a_request(crew) as (reader, writer):
        crew.process.kill()
        await until(lambda: refuses(crew.caller.port), "somebody listens")
        writer.write(peer.REQUEST_BODY)
        assert (await read_answer(reader)).status == 200
    await until(lambda: not any(map(lives, workers.values())), "a worker lives on")
    with socket.create_server(("127.0.0.1", crew.caller.port)):
        pass
    await crew.stop()
    assert {each["worker"] for each in crew.seen("supervisor_gone")} == {1, 2}


async def test_a_worker_that_hangs_is_replaced_and_holds_nobody_up(crew, settings):
    crew.configure(settings)
    await crew.start()
    os.kill(hung := crew.workers[1], signal.SIGSTOP)
    for _ in range(4):
        async with asyncio.timeout(2):
            assert {got.status for got in await crew.ask_all(8)} == {200}
        async with asyncio.timeout(3):
            assert (await crew.page("/readyz"))[0] == 200
    await until(lambda: len(crew.seen("worker_started")) == 3, "not replaced", 30)
    (told,) = crew.seen("worker_hung")
    assert (told["worker"], told["pid"]) == (1, hung)
    assert {got.status for got in await crew.ask_all()} == {200}


async def test_a_worker_that_cannot_start_again_is_a_warning(
    crew, settings, tmp_path, authority
):
    settings["inbound"]["tls"] = TLS
    crew.configure(settings)
    await crew.start()
    (tmp_path / "gateway.crt").rename(tmp_path / "away.crt")
    os.kill(crew.workers[2], signal.SIGKILL)
    await until(lambda: len(crew.seen("worker_not_started")) > 1, "it started", 20)
    why = crew.seen("worker_not_started")[0]["reason"]
    assert why.startswith("inbound.tls.certificate: it cannot be read")
    status, page = await crew.page("/readyz")
    assert (status, page["reasons"]) == (200, [])
    assert any(each.startswith("worker 2: ") for each in page["warnings"])
    assert await crew.metric("gateway_workers") == 1
    assert await crew.metric('gateway_worker_restarts_total{worker="2"}') >= 2
    (tmp_path / "away.crt").rename(tmp_path / "gateway.crt")
    await until(lambda: len(crew.seen("worker_started")) == 3, "it is not back", 30)
    assert (await crew.page("/readyz"))[1]["warnings"] == []


@pytest.fixture
def authority(tmp_path):
    made = Authority(tmp_path)
    made.issue("gateway", *LOCALHOST)
    return made


async def test_a_reload_rotates_the_certificate_of_all(crew, settings, authority):
    settings["inbound"]["tls"] = TLS
    crew.configure(settings)
    await crew.start()
    caller = Caller(crew.caller.port, tls=trusting(authority))
    before = {await shown(caller) for _ in range(8)}
    serial = authority.issue("next", *LOCALHOST)
    tls = {"certificate": "next.crt", "private_key": "next.key"}
    await crew.reload({**settings, "inbound": {**settings["inbound"], "tls": tls}})
    assert {await shown(caller) for _ in range(8)} == {serial}
    assert before != {serial}
    got = await asyncio.gather(*(caller.post() for _ in range(16)))
    assert {each.status for each in got} == {200}


async def shown(caller):
    _, writer = await caller.connect()
    try:
        return serial_of(writer)
    finally:
        writer.close()


async def test_a_rate_holds_over_all_workers_exactly_and_over_a_reload(crew, settings):
    rate = {"per_second": 0.001, "burst": 20}
    settings["callers"] = [entry(rate=rate)]
    crew.configure(settings)
    await crew.start()
    crew.caller = crew.caller.known_by(TOKEN)
    statuses = Counter(got.status for got in await crew.ask_all(50))
    assert statuses == {200: 20, 429: 30}
    assert crew.used_workers == {1, 2}, "both took from it"
    await crew.reload({**settings, "policy": "enforce"})
    assert {got.status for got in await crew.ask_all()} == {429}
    os.kill(crew.workers[1], signal.SIGKILL)
    await until(lambda: len(crew.seen("worker_started")) == 3, "it is not back")
    assert {got.status for got in await crew.ask_all()} == {429}
    faster = [entry(rate={**rate, "burst": 5})]
    await crew.reload({**settings, "callers": faster})
    statuses = Counter(got.status for got in await crew.ask_all(20))
    assert statuses == {200: 5, 429: 15}


async def test_a_unix_socket_is_shared_and_removed(crew, settings, tmp_path):
    settings["inbound"]["listen"] = "unix:inbound"
    settings["admin"]["listen"] = "unix:admin"
    crew.configure(settings)
    await crew.start()
    for path in ("inbound", "admin"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / path)
        target = "POST " + peer.TARGET if path == "inbound" else "GET /readyz"
        body = peer.REQUEST_BODY if path == "inbound" else b""
        writer.write(
            f"{target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        assert (await read_answer(reader)).status == 200
        writer.close()
    os.kill(crew.workers[1], signal.SIGKILL)
    await until(lambda: len(crew.seen("worker_started")) == 3, "it is not back")
    assert (tmp_path / "inbound").is_socket()
    assert await crew.stop() == 0
    assert not (tmp_path / "inbound").exists()


@pytest.fixture
async def stranger(tmp_path, partner_key, platform_key, other_key):
    """A simulator that does not know our version 2, which is on trial."""
    simulator = AlipayHK(
        keys={"1": platform_key},
        active="1",
        partners={peer.CLIENT_ID: {"1": partner_key.public_key()}},
        clock=lambda: datetime.now().astimezone(),
        entropy=os.urandom,
    )
    write_private(tmp_path / "ring/partner-2.pem", other_key)
    (tmp_path / "ring/keyring.yaml").write_text(
        "generation: 2\n"
        "partner:\n"
        '  - {version: "1", state: active, key: partner-1.pem}\n'
        '  - {version: "2", state: pre-active, key: partner-2.pem,'
        ' canary: [{share: 100, at: "2026-01-01T00:00:00Z"}]}\n'
        "platform:\n"
        '  - {version: "1", state: active, key: platform-1.pem}\n'
    )
    async with running_simulator(simulator) as upstream:
        yield simulator, upstream.url


async def test_a_canary_that_one_worker_ends_is_over_in_all(crew, settings, stranger):
    simulator, settings["clients"][0]["upstream"] = stranger
    crew.configure(settings)
    await crew.start()
    share = 'gateway_canary_share{client="hk",key_version="2"}'
    assert await crew.metric(share) == 1
    reader, writer = await crew.caller.connect()  # one worker alone sees it fail
    for _ in range(60):
        writer.write(
            f"POST {peer.TARGET} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(CONTENT)}\r\n\r\n".encode()
            + CONTENT
        )
        assert (await read_answer(reader)).status == 200
    writer.close()
    await until(lambda: crew.seen("canary_halted"), "the canary lives")
    (halted,) = crew.seen("canary_halted")

    def all_know():
        told = [each for each in crew.seen("keyring_loaded") if "canary_halted" in each]
        return {each["worker"] for each in told} | {halted["worker"]} == {1, 2}

    await until(all_know, "the other worker does not know")
    assert await crew.metric(share) == 0

    def signed_by_it():
        return sum(each.key_version == "2" for each in simulator.records)

    before = signed_by_it()
    got = await crew.ask_all(32, body=CONTENT)
    assert {each.status for each in got} == {200}
    assert signed_by_it() == before


async def test_all_workers_draw_the_same_lots(crew, settings, stranger, other_key):
    """So that a caller's repeat falls to the same version, wherever it arrives."""
    simulator, settings["clients"][0]["upstream"] = stranger
    simulator.registry.register(peer.CLIENT_ID, "2", other_key.public_key())
    ring = crew.folder / "ring/keyring.yaml"
    ring.write_text(ring.read_text().replace("share: 100", "share: 50"))
    crew.configure(settings)
    await crew.start()
    kept = [await crew.caller.connect() for _ in range(16)]
    for number in range(24):
        for reader, writer in kept:
            writer.write(
                f"POST {peer.TARGET} HTTP/1.1\r\nHost: localhost\r\n"
                f"Gateway-Exchange-Id: lot-{number}\r\n"
                f"Content-Length: {len(CONTENT)}\r\n\r\n".encode()
                + CONTENT
            )
            assert (await read_answer(reader)).status == 200
    for _, writer in kept:
        writer.close()
    await until(lambda: len(crew.lines) == 24 * 16, "lines are missing")
    assert crew.used_workers == {1, 2}
    versions = {(line["exchange_id"], line["key_version"]) for line in crew.lines}
    assert len(versions) == 24
    assert len({version for _, version in versions}) == 2


@pytest.mark.parametrize("workers", ["2", "auto"])
def test_what_no_worker_can_use_ends_the_start_in_one_line(tmp_path, workers):
    (tmp_path / "config.yaml").write_text(
        'inbound: {listen: "127.0.0.1:0", tls: {certificate: no.crt, private_key: no.key}}\n'
        'admin: {listen: "127.0.0.1:0"}\n'
        f"workers: {workers}\n"
        f"clients: [{{name: hk, client_id: {peer.CLIENT_ID}, keyring: ring,"
        ' upstream: "https://open.alipay.hk"}]\n'
        f"routes: [{{path: {peer.TARGET}, client: hk}}]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    (line,) = [x for x in done.stderr.splitlines() if not x.startswith("{")]
    assert line.startswith("gateway: inbound.tls.private_key: it cannot be read")


async def test_a_wrong_pin_is_tried_once_whatever_workers_there_are(
    crew, settings, tmp_path, partner_key
):
    """A token locks after a few, often three."""
    softhsm = SoftHsm(tmp_path / "hsm")
    softhsm.token()
    softhsm.put(partner_key, "ours")
    softhsm.pin.write_text("0000")
    crew.environment = softhsm.environment
    ring = tmp_path / "ring" / "keyring.yaml"
    uri = softhsm.uri("ours")
    ring.write_text(ring.read_text().replace("key: partner-1.pem", f'key: "{uri}"'))
    crew.configure(settings | {"workers": 3})

    def refusals():
        return [each["reason"] for each in crew.seen("keyring_refused")]

    def tries():
        return sum("the token refuses its PIN" in each for each in refusals())

    await crew.start()
    await until(lambda: len(refusals()) >= 3, "not refused by all", 30)
    os.kill(crew.workers[2], signal.SIGKILL)
    told = len(refusals())
    await until(lambda: len(refusals()) > told, "not refused by the new one", 30)
    assert tries() == 1
    assert all("its PIN" in each for each in refusals())
    softhsm.pin.write_text(PIN)
    await until(lambda: len(loaded_by(crew)) == 3, "the right one is not taken", 60)
    assert tries() == 1
    assert {got.status for got in await crew.ask_all()} == {200}


def loaded_by(crew):
    """Give the workers that took up a ring."""
    return {each["worker"] for each in crew.seen("keyring_loaded")}


# --- what is told of all of them ---------------------------------------------


async def test_tools_show_which_worker_a_process_is_and_metrics_what_it_takes(
    crew, settings
):
    crew.configure(settings)
    await crew.start()
    for number, pid in crew.workers.items():
        process = Path(f"/proc/{pid}")
        shown = (process / "cmdline").read_bytes().rstrip(b"\0").decode()
        assert shown == f"gateway worker {number} of 2"
        assert (process / "comm").read_text().strip() == f"gateway-w{number}"
    await crew.ask_all()
    resident = [
        await crew.metric(f'gateway_worker_resident_memory_bytes{{worker="{number}"}}')
        for number in (1, 2)
    ]
    assert min(resident) > 10 << 20
    in_all = await crew.metric("process_resident_memory_bytes")
    assert in_all > sum(resident) + (10 << 20)  # the supervisor's
    assert await crew.metric("process_cpu_seconds_total") > 0
    fds = [
        await crew.metric(f'gateway_worker_open_fds{{worker="{number}"}}')
        for number in (1, 2)
    ]
    assert min(fds) > 3
    assert await crew.metric("process_open_fds") >= max(fds)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert await crew.metric("process_max_fds") == soft
    text = (await crew.admin.raw(PAGE)).body.decode()
    (line,) = re.findall(r"^gateway_build_info.* 1\.0$", text, re.MULTILINE)
    assert f'python="{platform.python_version()}"' in line


PAGE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def test_answers_that_are_useless_are_told_of_all_workers_together(
    crew, settings, wallet
):
    """Before any worker has seen twenty: they count together."""
    crew.configure(settings)
    await crew.start()
    while crew.used_workers != {1, 2}:
        await crew.ask_all()
    await until(lambda: len(crew.lines) == len(wallet.arrived), "lines are missing")
    await crew.page("/readyz")  # each worker's count up to here is known
    past = datetime.now(UTC) - timedelta(hours=1)
    wallet.answer = lambda request: wallet.signed(
        request, peer.SUCCESS, time=past.isoformat(timespec="seconds")
    )
    got = await crew.ask_all(MANY)
    assert {each.code for each in got} == {"response_stale"}
    await until(lambda: crew.seen("clock_unusable"), "no event")
    whole = [each for each in crew.seen("nothing_verified") if "worker" not in each]
    assert [each["cause"] for each in whole] == ["response_stale"]
    status, page = await crew.page("/readyz")
    assert status == 503
    assert any(each.startswith("hk: no answer is of use") for each in page["reasons"])
    assert any(each.startswith("hk: AlipayHK answers") for each in page["warnings"])
    assert await crew.metric(IN_A_ROW) == MANY
    wallet.answer = wallet.success
    async with asyncio.timeout(30):
        while await crew.metric(IN_A_ROW):  # until each worker had a good one
            await crew.ask_all()
    assert (await crew.page("/readyz"))[0] == 200
    whole = [each for each in crew.seen("verified_again") if "worker" not in each]
    assert len(whole) == 1


IN_A_ROW = 'gateway_unverified_answers_in_a_row{client="hk"}'
