"""GET /keys of a running gateway: what each key did, before and after a rotation."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from gateway.keys import formats
from tests import peer
from tests.integration.conftest import change, write_private
from tests.integration.test_admin import ask
from tests.integration.test_rotation import ROTATED, generation
from tests.integration.test_secrets import CANARY, key_material

ENCRYPTED = [("Gateway-Encrypt", "true")]


async def page(house):
    got = await house.admin_get("/keys")
    assert got.status == 200
    assert got.header("Content-Type") == "application/json; charset=utf-8"
    return json.loads(got.body)


async def keys(house):
    """Give the keys of the one client, by section and version."""
    (client,) = (await page(house))["clients"]
    return {(key["section"], key["version"]): key for key in client["keys"]}


async def rotate(house, other_key):
    write_private(house.ring / "partner-2.pem", other_key)
    (house.ring / "keyring.yaml").write_text(ROTATED)
    await generation(house, 2)


def dated(house, days):
    """Note down in the ring that our key was activated so many days ago."""
    at = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    text = (house.ring / "keyring.yaml").read_text()
    text = text.replace("generation: 1", "generation: 2")
    text = text.replace("key: partner-1.pem}", f"key: partner-1.pem, activated: {at}}}")
    (house.ring / "keyring.yaml").write_text(text)


async def test_what_each_key_did_is_told_over_a_rotation_and_a_reload(
    house, other_key, partner_key
):
    house.wallet.answer = lambda r: house.wallet.encrypted(r, peer.SUCCESS)
    for headers in ([], ENCRYPTED):
        assert (await house.caller.post(headers=headers)).status == 200
    await rotate(house, other_key)
    assert (await house.caller.post()).status == 200
    await change(house, lambda _: None)
    assert (await house.caller.post()).status == 200
    (client,) = (await page(house))["clients"]
    assert (client["client"], client["generation"]) == ("hk", 2)
    found = await keys(house)
    assert {which: key["operations"] for which, key in found.items()} == {
        ("partner", "1"): {"sign": 2, "decrypt": 4},
        ("partner", "2"): {"sign": 2},
        ("platform", "1"): {"verify": 4, "encrypt": 1},
    }
    old, new = found["partner", "1"], found["partner", "2"]
    assert (old["state"], new["state"]) == ("deactivated", "active")
    assert old["fingerprint"] == formats.fingerprint(partner_key.public_key())
    assert new["used"] == 2
    assert new["last_used"] >= new["first_used"] >= old["first_used"]
    assert found["platform", "1"]["first_seen"] == old["first_used"]


async def test_each_version_is_counted_in_the_metrics(house, other_key):
    await house.caller.post()
    await rotate(house, other_key)
    await house.caller.post()
    labels = '{client="hk",key_version="%s",section="%s"}'
    uses = "gateway_key_uses_total" + labels
    assert await house.metric(uses % ("1", "partner")) == 1
    assert await house.metric(uses % ("2", "partner")) == 1
    assert await house.metric(uses % ("1", "platform")) == 2
    last = "gateway_key_last_used_timestamp_seconds" + labels
    used = await house.metric(last % ("2", "partner"))
    assert used == pytest.approx(datetime.now(UTC).timestamp(), abs=30)


async def test_a_first_use_is_an_event_once_for_each_version(house, other_key):
    for _ in range(2):
        await house.caller.post()
    await rotate(house, other_key)
    for _ in range(2):
        await house.caller.post()
    used = house.events("partner_key_first_used")
    assert [event["key_version"] for event in used] == ["1", "2"]
    (seen,) = house.events("platform_key_first_seen")
    assert (seen["client"], seen["key_version"]) == ("hk", "1")
    assert seen["fingerprint"]


@pytest.mark.parametrize(
    ("age", "event"),
    [(300, None), (340, "key_near_end"), (400, "key_past_end")],
)
async def test_a_key_near_its_end_is_told_in_readiness_metric_event_and_page(
    house, age, event
):
    dated(house, age)
    await generation(house, 2)
    left = 365 - age
    ready = await house.admin_get("/readyz")
    assert ready.status == 200
    assert (b"of its cryptoperiod" in ready.body) is (event is not None)
    days = await house.metric('gateway_key_days_left{client="hk",key_version="1"}')
    assert days == pytest.approx(left, abs=0.1)
    assert (await keys(house))["partner", "1"]["days_left"] == left - 1
    for name in ("key_near_end", "key_past_end"):
        assert len(house.events(name)) == (name == event)


async def test_another_cryptoperiod_is_taken_up_by_a_reload(house):
    dated(house, 340)
    await generation(house, 2)

    def lengthen(settings):
        settings["clients"][0]["cryptoperiod_days"] = 730

    await change(house, lengthen)
    assert b"cryptoperiod" not in (await house.admin_get("/readyz")).body
    assert (await keys(house))["partner", "1"]["days_left"] == 730 - 340 - 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_keys_are_only_read(house, method):
    got = await ask(house.admin, "/keys", method=method)
    assert (got.status, got.header("Allow")) == (405, "GET, HEAD")


async def test_the_head_of_the_page_has_no_body(house):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.admin.port)
    writer.write(b"HEAD /keys HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_the_page_is_not_on_the_listener_for_services(house):
    got = await house.caller.raw(
        b"GET /keys HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
    )
    assert got.status in (404, 405)


async def test_the_page_shows_no_key_no_body_and_no_credential(
    house, partner_key, platform_key, other_key
):
    body = b'{"requestId":"%s"}' % CANARY.encode()
    headers = [("Authorization", f"Bearer {CANARY}"), *ENCRYPTED]
    secret = b'{"resultInfo":{"resultStatus":"S"},"s":"%s"}' % CANARY.encode()
    house.wallet.answer = lambda r: house.wallet.encrypted(r, secret)
    assert CANARY.encode() in (await house.caller.post(body, headers=headers)).body
    await rotate(house, other_key)
    assert (await house.caller.post(body, headers=headers)).status == 200
    shown = str(await house.admin_get("/keys"))
    assert '"sign": 1' in shown
    assert CANARY not in shown
    for text in key_material(partner_key, platform_key, other_key):
        assert text not in shown
    for key in (partner_key, platform_key, other_key):
        assert formats.public_base64(key.public_key())[40:80] not in shown
    signature = dict(house.wallet.arrived[0].headers)["Signature"]
    assert signature[-80:-20] not in shown


async def test_without_a_ring_the_page_has_the_client_and_no_keys(
    run_house, monkeypatch
):
    monkeypatch.setattr("tests.integration.conftest.write_ring", lambda *_: None)
    async with run_house() as house:
        (client,) = (await page(house))["clients"]
        assert (client["generation"], client["keys"]) == (None, [])
