"""A canary before the simulator, on real sockets: its share, its end, and what stays."""

import asyncio
import errno
import json
import os
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from gateway.keys.backends.file import KeyringFolder
from gateway.keys.manifest import format_moment
from gateway.simulator.alipayhk import AlipayHK
from gateway.simulator.server import running as running_simulator
from tests import peer
from tests.integration.conftest import (
    House,
    change,
    running,
    write_config,
    write_private,
    write_ring,
)
from tests.integration.test_audit import noted, write_key

ENCRYPT = [("Gateway-Encrypt", "true")]
LONG_AGO = "2026-01-01T00:00:00Z"
KINDS = pytest.mark.parametrize("headers", [[], ENCRYPT], ids=["plain", "encrypted"])


class _Port:
    def __init__(self, port):
        self.port = port


class Stage(House):
    """A gateway before a simulator that knows our version 1."""

    def __init__(self, folder, simulator, port, canary_key):
        super().__init__(folder, _Port(port))
        self.simulator = simulator
        self.canary_key = canary_key

    def know(self, version="2"):
        public = self.canary_key.public_key()
        self.simulator.registry.register(peer.CLIENT_ID, version, public)

    @property
    def signed(self):
        """The versions that AlipayHK was shown so far."""
        return [record.key_version for record in self.simulator.records]

    @property
    def generation(self):
        return self.events("keyring_loaded")[-1]["generation"]

    async def try_version(self, *steps, generation=2, state="pre-active"):
        """Change the ring so that version 2 is a canary; steps: (share, at)."""
        write_private(self.ring / "partner-2.pem", self.canary_key)
        canary = ", ".join(f'{{share: {s}, at: "{at}"}}' for s, at in steps)
        plan = f", canary: [{canary}]" if steps else ""
        first = "active" if state == "pre-active" else "deactivated"
        draft = self.ring / "keyring.yaml.new"
        draft.write_text(
            f"generation: {generation}\n"
            "partner:\n"
            f'  - {{version: "1", state: {first}, key: partner-1.pem}}\n'
            f'  - {{version: "2", state: {state}, key: partner-2.pem{plan}}}\n'
            "platform:\n"
            '  - {version: "1", state: active, key: platform-1.pem}\n'
        )
        draft.rename(self.ring / "keyring.yaml")
        if hasattr(self, "gateway"):
            async with asyncio.timeout(20):
                while self.generation != generation:  # noqa: ASYNC110 - a file is watched
                    await asyncio.sleep(0.02)

    async def call(self, times, headers=()):
        """Call so often, eight at once, and see that no exchange fails."""
        for _ in range(0, times, 8):
            got = await asyncio.gather(
                *(self.caller.post(content(), headers=headers) for _ in range(8))
            )
            for each in got:
                assert each.status == 200
                assert each.header("Gateway-Verified") == "true"
                assert b'"SUCCESS"' in each.body

    async def call_until_over(self, headers=(), most=1600):
        for _ in range(0, most, 8):
            await self.call(8, headers)
            if self.events("canary_halted"):
                return
        pytest.fail("the canary lives")


def content():
    return json.dumps(
        {
            "requestId": os.urandom(16).hex(),
            "contentId": "C001",
            "contentType": "SKU",
            "contentStatus": 1,
            "contentInfo": "{}",
        }
    ).encode()


@pytest.fixture
def set_up(tmp_path, partner_key, platform_key, other_key):
    """Give a context manager that lays out everything and runs the simulator."""

    @asynccontextmanager
    async def set_up_():
        simulator = AlipayHK(
            keys={"1": platform_key},
            active="1",
            partners={peer.CLIENT_ID: {"1": partner_key.public_key()}},
            clock=lambda: datetime.now(UTC),
            entropy=os.urandom,
        )
        async with running_simulator(simulator) as where:
            stage = Stage(tmp_path, simulator, where.listen[1], other_key)
            write_ring(stage.ring, partner_key, platform_key)
            write_config(stage)
            yield stage

    return set_up_


@pytest.fixture
async def stage(set_up):
    async with set_up() as stage, running(stage):
        yield stage


# --- AlipayHK does not know the key -------------------------------------------


@KINDS
@pytest.mark.parametrize("share", [5, 50, 100])
async def test_no_exchange_fails_and_the_way_back_is_short(stage, share, headers):
    await stage.try_version((share, LONG_AGO))
    began = time.monotonic()
    await stage.call_until_over(headers)
    assert stage.signed.count("2") <= 50 or time.monotonic() - began <= 5
    before = stage.signed.count("2")
    await stage.call(80, headers)
    assert stage.signed.count("2") == before
    (halt,) = stage.events("canary_halted")
    assert halt["failures"] == halt["exchanges"] <= 50
    assert (halt["client"], halt["key_version"], halt["other_version"]) == (
        *("hk", "2"),
        "1",
    )
    assert (halt["generation"], halt["other_failures"]) == (2, 0)


async def test_it_is_seen_in_readiness_metrics_log_and_folder(stage):
    await stage.try_version((100, LONG_AGO))
    assert await stage.metric('gateway_canary_share{client="hk",key_version="2"}') == 1
    assert await stage.metric('gateway_canary_halted{client="hk"}') == 0
    await stage.call_until_over()
    ready = await stage.admin_get("/readyz")
    assert ready.status == 200
    (warning,) = json.loads(ready.body)["warnings"]
    assert "hk: the canary of partner version 2 is over" in warning
    assert "gateway keys rollback" in warning
    assert await stage.metric('gateway_canary_halted{client="hk"}') == 1
    assert await stage.metric('gateway_canary_share{client="hk",key_version="2"}') == 0
    judged = 'gateway_canary_exchanges_total{client="hk",key_version="%s",result="%s"}'
    failed = await stage.metric(judged % (2, "failed"))
    assert failed == await stage.metric(judged % (1, "verified")) >= 30
    signed = 'gateway_signatures_total{client="hk",key_version="%s"}'
    assert await stage.metric(signed % 2) == stage.signed.count("2")
    assert await stage.metric(signed % 1) == stage.signed.count("1")
    tried = [line for line in stage.exchanges if line.get("canary_attempts")]
    assert {(e["key_version"], e["canary"], e["attempts"]) for e in tried} == {
        ("1", "2", 2)
    }
    await stage.seen((stage.ring / ".canary-halted").exists, "no mark")


async def test_it_is_in_the_audit_log_with_its_evidence(set_up):
    async with set_up() as stage:
        stage.log = stage.folder / "audit.jsonl"
        write_key(stage.folder)
        write_config(stage, audit={"file": "audit.jsonl", "key": "audit.pem"})
        async with running(stage):
            await stage.try_version((100, LONG_AGO))
            await stage.call_until_over()
            await stage.seen(lambda: noted(stage, "canary_halted"), "not noted")
    (line,) = noted(stage, "canary_halted")
    assert noted(stage, "keyring_loaded")[1]["to"]["canary_share"] == 1.0
    assert (line["client"], line["from"], line["to"]) == (
        "hk",
        {"signs": ["2", "1"]},
        {"signs": ["1"]},
    )
    assert line["evidence"]["failures"] >= 30


async def test_a_canary_that_is_over_stays_so_after_a_restart(set_up):
    async with set_up() as stage:
        async with running(stage):
            await stage.try_version((100, LONG_AGO))
            await stage.call_until_over()
            await stage.seen((stage.ring / ".canary-halted").exists, "no mark")
        before = stage.signed.count("2")
        async with running(stage):
            await stage.call(40)
            assert b"is over" in (await stage.admin_get("/readyz")).body
            assert await stage.metric('gateway_canary_halted{client="hk"}') == 1
        assert stage.signed.count("2") == before


async def test_another_process_on_the_folder_goes_back_with_it(set_up):
    async with set_up() as stage:
        other = Stage(stage.folder, stage.simulator, stage.wallet.port, None)
        async with running(stage), running(other):
            await stage.try_version((100, LONG_AGO))
            await stage.call_until_over()
            await other.seen(
                lambda: other.events("keyring_loaded")[-1].get("canary_halted"),
                "the other does not know",
            )
            before = stage.signed.count("2")
            await other.call(40)
            assert stage.signed.count("2") == before
            assert not other.events("canary_halted")


@pytest.fixture
def read_only(monkeypatch):
    """Let no mark be written, as on a mounted secret."""

    def halt(self, halt):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(KeyringFolder, "halt", halt)


async def test_on_a_read_only_folder_the_process_itself_knows_also_after_a_reload(
    read_only, stage
):
    await stage.try_version((100, LONG_AGO))
    await stage.call_until_over()
    await stage.seen(lambda: stage.events("canary_halt_not_kept"), "not told")
    (event,) = stage.events("canary_halt_not_kept")
    assert event["reason"] == "Read-only file system"
    await change(stage, lambda settings: settings["routes"][0].update(timeout_s=9))
    before = stage.signed.count("2")
    await stage.call(40)
    assert stage.signed.count("2") == before
    assert b"is over" in (await stage.admin_get("/readyz")).body


async def test_what_was_counted_outlives_a_reload(stage):
    await stage.try_version((100, LONG_AGO))
    await stage.call(16)
    await change(stage, lambda settings: settings["routes"][0].update(timeout_s=9))
    await stage.call_until_over(most=24)
    assert stage.events("canary_halted")[0]["exchanges"] == 30


async def test_growth_by_schedule_brings_no_canary_back_that_is_over(stage):
    soon = datetime.now(UTC) + timedelta(seconds=4)
    await stage.try_version((50, LONG_AGO), (100, format_moment(soon)))
    await stage.call_until_over()
    before = stage.signed.count("2")
    assert datetime.now(UTC) < soon
    await asyncio.sleep((soon - datetime.now(UTC)).total_seconds() + 0.6)
    await stage.call(40)
    assert stage.signed.count("2") == before


async def test_a_new_generation_tries_it_again(stage):
    await stage.try_version((100, LONG_AGO))
    await stage.call_until_over()
    stage.know()
    await stage.try_version((100, LONG_AGO), generation=3)
    before = stage.signed.count("2")
    await stage.call(40)
    assert stage.signed.count("2") == before + 40
    assert await stage.metric('gateway_canary_halted{client="hk"}') == 0
    assert json.loads((await stage.admin_get("/readyz")).body)["warnings"] == []


# --- AlipayHK knows the key ---------------------------------------------------


@KINDS
async def test_a_key_that_is_known_signs_its_share_until_it_is_completed(
    stage, headers
):
    stage.know()
    await stage.try_version((25, LONG_AGO))
    await stage.call(400, headers)
    assert 65 < stage.signed.count("2") < 135
    assert len(stage.signed) == 400
    assert not stage.events("canary_halted")
    await stage.try_version(generation=3, state="active")
    await stage.call(16, headers)
    assert stage.signed[400:] == ["2"] * 16
    share = 'gateway_canary_share{client="hk",key_version="2"}'
    assert await stage.metric(share) is None


async def test_a_share_grows_by_schedule_once_the_one_before_was_seen_to_work(stage):
    """The schedule is at 100 % already: what lacks is the evidence."""
    stage.know()
    await stage.try_version((50, LONG_AGO), (100, format_moment(datetime.now(UTC))))
    share = 'gateway_canary_share{client="hk",key_version="2"}'
    await stage.call(16)
    assert await stage.metric(share) == 0.5
    while await stage.metric(share) < 1:
        await stage.call(1)
    assert 20 <= stage.signed.count("2") < len(stage.signed)
    before = len(stage.signed)
    await stage.call(16)
    assert stage.signed[before:] == ["2"] * 16
    await stage.try_version((50, LONG_AGO), generation=3)
    assert await stage.metric(share) == 0.5


async def test_a_share_does_not_grow_before_its_moment(stage):
    stage.know()
    await stage.try_version((50, LONG_AGO), (100, "2999-01-01T00:00:00Z"))
    await stage.call(80)
    share = 'gateway_canary_share{client="hk",key_version="2"}'
    assert stage.signed.count("2") > 20
    assert await stage.metric(share) == 0.5


# --- trouble of another kind ---------------------------------------------------


@pytest.mark.parametrize("share", [5, 50])
async def test_both_versions_refused_alike_is_no_reason_to_go_back(stage, share):
    stage.simulator.registry.forget(peer.CLIENT_ID, "1")
    await stage.try_version((share, LONG_AGO))
    for _ in range(0, 160, 8):
        got = await asyncio.gather(*(stage.caller.post(content()) for _ in range(8)))
        assert {each.header("Gateway-Verified") for each in got} == {"false"}
    assert not stage.events("canary_halted")


async def test_answers_that_only_the_canarys_requests_make_unreadable_end_it(
    run_house, platform_key, other_key
):
    """AlipayHK encrypts to a key that is not ours, for what version 2 signed."""
    async with run_house() as house:
        stage = Stage(house.folder, None, house.wallet.port, other_key)
        stage.__dict__.update({**house.__dict__, "canary_key": other_key})
        sound = house.wallet.partner_public

        def answer(request):
            tried = "keyVersion=2" in request.header("Signature")
            house.wallet.partner_public = platform_key.public_key() if tried else sound
            return house.wallet.encrypted(request, peer.SUCCESS)

        house.wallet.answer = answer
        await stage.try_version((50, LONG_AGO))
        failed = 0
        while not house.events("canary_halted"):
            got = await house.caller.post(headers=ENCRYPT)
            failed += got.status != 200
            assert failed <= 50
        (halt,) = house.events("canary_halted")
        assert halt["failures"] == failed
        for _ in range(40):
            assert (await house.caller.post(headers=ENCRYPT)).body == peer.SUCCESS
