"""The audit log of a running gateway: what is in it, and what happens without it."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
from contextlib import asynccontextmanager

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import config
from gateway.access.tokens import hash_token, new_token
from gateway.app import Gateway
from gateway.audit import trail as trails
from gateway.audit.seal import Seal, private_pem
from gateway.audit.segments import lines_of, opened
from gateway.audit.verification import verify
from gateway.errors import SetupError
from gateway.plant import ENTROPY
from tests import peer
from tests.integration.caller import Caller
from tests.integration.conftest import change, write_private
from tests.integration.test_callers import TOKEN, entry
from tests.integration.test_secrets import key_material

KEY = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
FAILURES = "gateway_audit_failures_total"


def write_key(folder):
    file = folder / "audit.pem"
    file.touch(mode=0o600)
    file.write_bytes(private_pem(KEY))


@pytest.fixture
def audited(run_house, tmp_path):
    """Give a context manager that runs a gateway with an audit log."""

    @asynccontextmanager
    async def run(*, audit=(), **settings):
        write_key(tmp_path)
        section = {"file": "audit.jsonl", "key": "audit.pem", **dict(audit)}
        async with run_house(audit=section, **settings) as house:
            house.log = tmp_path / section["file"]
            yield house

    return run


def noted(house, what=None):
    """Give the lines so far, of one kind; the log must hold."""
    with opened(house.log) as (segments, head):
        found = [json.loads(line) for _, line in lines_of(segments)]
        public = Seal(KEY).public
        report = verify(lines_of(segments), public.read_head(head).link, public)
    assert report.fault is None
    return [each for each in found if what in (None, each["what"])]


def names(house):
    return [each["what"] for each in noted(house)]


async def ready(house):
    got = await house.admin_get("/readyz")
    return got.status, json.loads(got.body)


async def test_the_start_and_the_end_are_lines_with_a_checkpoint(audited):
    async with audited() as house:
        await house.seen(lambda: len(noted(house)) > 2, "not noted")
        first, *more = noted(house)
        assert (first["what"], first["seq"]) == ("started", 1)
        assert first["version"]
        assert first["to"]["policy"] == "enforce"
        assert first["to"]["configuration"] == config.digest_of(
            config.load(house.file, {})
        )
        assert {each["what"] for each in more} == {"keyring_loaded", "checkpoint"}
    assert names(house)[-2:] == ["stopped", "checkpoint"]
    assert noted(house, "stopped")[0]["cut_off"] == 0


async def test_a_gateway_goes_on_with_the_chain_of_the_one_before(audited):
    async with audited():
        pass
    async with audited() as house:
        pass
    assert names(house).count("started") == 2
    assert [each["seq"] for each in noted(house)] == [*range(1, len(names(house)) + 1)]


async def test_a_start_that_fails_is_a_line_too(audited):
    async with audited() as house:
        taken = house.address
        settings = yaml.safe_load(house.file.read_text())
        settings["inbound"]["listen"] = taken
        house.file.write_text(yaml.safe_dump(settings))
        other = Gateway(
            config.load(house.file, {}), None, stdout=house.stdout, stderr=house.stderr
        )
        with pytest.raises(SetupError):
            await other.run()
        assert "inbound.listen" in noted(house, "stopped")[0]["reason"]


async def test_each_keyring_is_noted_with_what_was_before(
    audited, other_key, platform_key
):
    async with audited() as house:
        write_private(house.ring / "partner-2.pem", other_key)
        text = (house.ring / "keyring.yaml").read_text()
        (house.ring / "keyring.yaml").write_text(
            text.replace("generation: 1", "generation: 2").replace(
                "state: active, key: partner-1.pem}",
                "state: deactivated, key: partner-1.pem}\n"
                '  - {version: "2", state: active, key: partner-2.pem}',
            )
        )
        await house.seen(lambda: len(noted(house, "keyring_loaded")) == 2, "not taken")
        line = noted(house, "keyring_loaded")[1]
        assert (line["from"]["generation"], line["to"]["generation"]) == (1, 2)
        states = [(key["version"], key["state"]) for key in line["to"]["partner"]]
        assert states == [("1", "deactivated"), ("2", "active")]
        assert len(line["to"]["partner"][1]["fingerprint"]) == 64
        (house.ring / "keyring.yaml").write_text("{")
        await house.seen(lambda: noted(house, "keyring_refused"), "not refused")
        assert noted(house, "keyring_refused")[0]["from"]["generation"] == 2


async def test_reloads_are_noted_taken_or_refused_with_digests(audited):
    async with audited() as house:
        token = new_token(ENTROPY)
        caller = {
            "name": "shop",
            "token_sha256": hash_token(token).hex(),
            "clients": ["hk"],
        }
        before = config.digest_of(config.load(house.file, {}))
        await change(house, lambda s: s.update(callers=[caller]))
        await house.seen(lambda: noted(house, "policy_changed"), "not noted")
        (line,) = noted(house, "configuration_reloaded")
        after = config.digest_of(config.load(house.file, {}))
        assert (line["from"], line["to"]) == (before, after)
        (line,) = noted(house, "policy_changed")
        assert line["from"] == {"policy": "enforce", "callers": {}}
        assert [*line["to"]["callers"]] == ["shop"]
        await change(house, lambda s: s.update(policy="report"))
        await house.seen(lambda: len(noted(house, "policy_changed")) == 2, "not noted")
        line = noted(house, "policy_changed")[1]
        assert (line["from"]["policy"], line["to"]["policy"]) == ("enforce", "report")
        await change(house, lambda s: s["routes"][0].update(timeout_s=9))
        assert len(noted(house, "policy_changed")) == 2
        house.file.write_text("{")
        house.gateway.reload()
        await house.seen(lambda: noted(house, "configuration_refused"), "not noted")
        text = house.log.read_text()
        assert token not in text
        assert hash_token(token).hex() not in text


async def test_other_settings_of_the_audit_need_a_restart(audited):
    async with audited() as house:
        settings = yaml.safe_load(house.file.read_text())
        settings["audit"]["exchanges"] = True
        house.file.write_text(yaml.safe_dump(settings))
        house.gateway.reload()
        await house.seen(lambda: house.events("reload_refused"), "not refused")
        assert "restart" in house.events("reload_refused")[0]["reason"]


async def test_exchanges_are_lines_with_digests_only_if_that_is_wanted(audited):
    async with audited() as house:
        await house.caller.post()
        assert "request_sha256" not in house.exchanges[0]
    assert noted(house, "exchange") == []


async def test_an_exchange_is_a_line_with_the_digests_of_its_bodies(
    audited, partner_key, platform_key
):
    async with audited(audit={"exchanges": True}) as house:
        got = await house.caller.post(headers=[("Gateway-Exchange-Id", "e1")])
        await house.caller.post(b"none")
        await house.seen(lambda: len(noted(house, "exchange")) == 2, "not noted")
        good, refused = noted(house, "exchange")
        assert (good["exchange_id"], good["code"]) == ("e1", "verified")
        assert good["request_sha256"] == _sha256(peer.REQUEST_BODY)
        assert good["response_sha256"] == _sha256(got.body)
        assert (refused["code"], refused["request_sha256"]) == (
            "invalid_request",
            _sha256(b"none"),
        )
        assert "response_sha256" not in refused
        assert house.exchanges[0]["request_sha256"] == good["request_sha256"]
    text = house.log.read_text()
    assert peer.REQUEST_BODY.decode() not in text
    for secret in key_material(partner_key, platform_key):
        assert secret not in text
    assert private_pem(KEY).decode().splitlines()[1] not in text


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


async def test_a_key_that_others_may_read_ends_the_start(house):
    write_key(house.folder)
    (house.folder / "audit.pem").chmod(0o644)
    settings = yaml.safe_load(house.file.read_text())
    settings["audit"] = {"file": "audit.jsonl", "key": "audit.pem"}
    house.file.write_text(yaml.safe_dump(settings))
    with pytest.raises(SetupError, match="others may read"):
        Gateway(
            config.load(house.file, {}), None, stdout=house.stdout, stderr=house.stderr
        )


# --- no audit, no traffic ----------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """A file system of 128 KiB of its own, that can be filled and emptied."""
    if os.geteuid():
        pytest.skip("only root may mount one; tests/chaos has a limit of sizes instead")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k,mode=700", "tmpfs", folder],
        check=True,
    )
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    with (folder / "filler").open("ab", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 512)
        except OSError:
            pass


async def test_without_the_audit_nothing_is_sent_and_traffic_resumes_by_itself(
    audited, disk
):
    settings = {"file": "disk/audit.jsonl", "required": True}
    async with audited(audit=settings) as house:
        assert (await house.caller.post()).status == 200
        fill(disk)
        await house.seen(lambda: house.events("audit_failed"), "not noticed")
        arrived = len(house.wallet.arrived)
        got = await house.caller.post()
        assert (got.status, got.code) == (503, "audit_unavailable")
        assert json.loads(got.body)["outcome"] == "not_sent"
        assert len(house.wallet.arrived) == arrived
        status, body = await ready(house)
        assert (status, body["ready"]) == (503, False)
        (reason,) = body["reasons"]
        assert reason.startswith("audit: ")
        assert "No space left" in reason
        assert await house.metric(FAILURES) >= 1
        house.gateway.reload()
        await house.seen(lambda: house.events("reload_refused"), "not refused")
        (disk / "filler").unlink()
        await house.seen(lambda: house.events("audit_works_again"), "it stays away")
        assert (await ready(house))[0] == 200
        assert (await house.caller.post()).status == 200
    assert "configuration_refused" in names(house)
    assert noted(house, "audit_works_again")[0]["reason"].endswith("device")


async def test_without_required_a_full_disk_stops_nothing(audited, disk):
    settings = {"file": "disk/audit.jsonl", "exchanges": True}
    async with audited(audit=settings) as house:
        fill(disk)
        await house.seen(lambda: house.events("audit_failed"), "not noticed")
        assert (await house.caller.post()).status == 200
        status, body = await ready(house)
        assert (status, body["reasons"]) == (200, [])
        (warning,) = body["warnings"]
        assert "No space left" in warning
        assert len(house.events("audit_failed")) == 1
        (disk / "filler").unlink()
        await house.seen(lambda: noted(house, "exchange"), "it was not kept")
    assert len(noted(house, "exchange")) == 1


async def test_a_folder_that_goes_and_comes_back_is_noticed(audited, tmp_path):
    (tmp_path / "logs").mkdir(mode=0o700)
    settings = {"file": "logs/audit.jsonl", "required": True}
    async with audited(audit=settings) as house:
        (tmp_path / "logs").rename(tmp_path / "away")
        await house.seen(lambda: house.events("audit_failed"), "not noticed")
        assert (await house.caller.post()).code == "audit_unavailable"
        (tmp_path / "away").rename(tmp_path / "logs")
        await house.seen(lambda: house.events("audit_works_again"), "it stays away")
        assert (await house.caller.post()).status == 200


async def test_a_gateway_without_room_for_its_audit_starts_and_is_not_ready(
    audited, disk
):
    fill(disk)
    settings = {"file": "disk/audit.jsonl", "required": True}
    async with audited(audit=settings) as house:
        assert (await ready(house))[0] == 503
        assert (await house.caller.post()).code == "audit_unavailable"
        (disk / "filler").unlink()
        await house.seen(lambda: house.events("audit_works_again"), "it stays away")
        assert (await house.caller.post()).status == 200
        assert names(house)[:2] == ["audit_works_again", "started"]


async def test_two_gateways_write_one_chain(audited, tmp_path):
    async with audited(audit={"exchanges": True}) as house:
        shutil.copy(house.file, tmp_path / "second.yaml")

        def load():
            return config.load(tmp_path / "second.yaml", {})

        other = Gateway(load(), load, stdout=house.stdout, stderr=house.stderr)
        begun = asyncio.Event()
        ports = []

        def started(inbound, _):
            ports.append(inbound.port)
            begun.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(other.run(started))
            await begun.wait()
            second = Caller(ports[0])
            posts = [house.caller.post, second.post] * 10
            await asyncio.gather(*(post() for post in posts))
            other.stop()
    assert names(house).count("exchange") == 20
    assert names(house).count("stopped") == 2


# --- strangers ---------------------------------------------------------------


@pytest.fixture
def slow_disk(monkeypatch):
    """Have each sync take as long as on a disk that is busy, and places for 80 lines."""
    sync = os.fsync

    def slow(descriptor):
        time.sleep(0.02)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(trails, "_KEPT", 160)
    monkeypatch.setattr(trails, "_TOGETHER", 8)


async def strangers(house, over):
    """Ask without a token, again and again, and now and then in no HTTP at all."""
    request = f"POST {peer.TARGET} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    while not over.is_set():
        for _ in range(20):
            assert (await house.caller.raw(request)).status == 401
        got = await house.caller.raw(b"nonsense\r\n\r\n")
        assert got.status in (400, 405)


def series(code):
    return f'gateway_exchanges_total{{caller="",client="",code="{code}",route=""}}'


async def test_strangers_cost_no_audited_exchange_its_place_or_its_line(
    audited, slow_disk
):
    settings = {"exchanges": True, "required": True}
    async with audited(audit=settings, callers=[entry()]) as house:
        caller, over = house.caller.known_by(TOKEN), asyncio.Event()
        codes = []

        async def call(number):
            for each in range(15):
                name = [("Gateway-Exchange-Id", f"e{number}-{each}")]
                got = await caller.post(headers=name)
                codes.append(got.status)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(strangers(house, over))
            await asyncio.gather(*(call(number) for number in range(4)))
            while (await house.metric(series("unauthenticated")) or 0) <= 80:
                pass  # until there are more than places, however slow they are
            over.set()
        refused = {
            code: await house.metric(series(code))
            for code in ("unauthenticated", "invalid_request")
        }
    assert codes == [200] * 60
    assert len(house.wallet.arrived) == 60
    lines = noted(house, "exchange")
    assert len({each["exchange_id"] for each in lines}) == len(lines) == 60
    assert {each["caller"] for each in lines} == {"catalogue"}
    assert refused["invalid_request"] > 0
    told = dict.fromkeys(refused, 0)
    for each in noted(house, "refusals"):
        told[each["code"]] += each["count"]
        assert (each["caller"], each["peers"]) == ("", 1)
        assert each["peer"].startswith("127.0.0.1:")
    assert told == refused
    assert len(noted(house, "refusals")) < 20


async def test_an_exchange_that_gets_no_place_is_not_sent_and_each_other_has_its_line(
    audited, monkeypatch
):
    monkeypatch.setattr(trails, "_KEPT", 8)
    sync, goes_on = os.fsync, threading.Event()
    async with audited(audit={"exchanges": True, "required": True}) as house:

        def hang(descriptor):
            assert goes_on.wait(30)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", hang)
        got = [await house.caller.post() for _ in range(10)]
        goes_on.set()
    sent = [each.status for each in got].count(200)
    assert 4 <= sent <= 5  # places; the first line may have been on its way
    assert {each.code for each in got[sent:]} == {"audit_unavailable"}
    assert {each.problem["outcome"] for each in got[sent:]} == {"not_sent"}
    assert len(house.wallet.arrived) == len(noted(house, "exchange")) == sent
    (line,) = noted(house, "refusals")
    assert (line["code"], line["count"]) == ("audit_unavailable", 10 - sent)
