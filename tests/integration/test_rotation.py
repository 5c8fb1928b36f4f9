"""Keys that change in the folder while the gateway runs."""

import asyncio
import gc
import os
import re
import weakref

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from gateway.keys import formats
from tests import peer
from tests.integration.caller import read_answer
from tests.integration.conftest import (
    change,
    write_config,
    write_private,
    write_ring,
)

ROTATED = """\
generation: 2
partner:
  - {version: "1", state: deactivated, key: partner-1.pem}
  - {version: "2", state: active, key: partner-2.pem}
platform:
  - {version: "1", state: active, key: platform-1.pem}
"""


def signed_by(arrived):
    return re.search(r"keyVersion=(\w+)", arrived.header("Signature"))[1]


async def generation(house, number):
    await house.seen(
        lambda: any(e["generation"] == number for e in house.events("keyring_loaded")),
        f"generation {number} was not taken up",
    )


async def refused(house, times=1):
    await house.seen(
        lambda: len(house.events("keyring_refused")) >= times, "nothing was refused"
    )
    return house.events("keyring_refused")[-1]["reason"]


async def test_the_next_requests_are_signed_by_the_new_version(house, other_key):
    await house.caller.post()
    write_private(house.ring / "partner-2.pem", other_key)
    (house.ring / "keyring.yaml").write_text(ROTATED)
    await generation(house, 2)
    got = await house.caller.post()
    assert [signed_by(arrived) for arrived in house.wallet.arrived] == ["1", "2"]
    assert got.header("Gateway-Verified") == "true"
    assert await house.metric('gateway_keyring_generation{client="hk"}') == 2
    series = 'gateway_signatures_total{client="hk",key_version="%s"}'
    assert await house.metric(series % 1) == 1
    assert await house.metric(series % 2) == 1


async def test_a_change_that_kept_its_generation_is_in_use_and_warned_of(
    house, other_key
):
    write_private(house.ring / "partner-2.pem", other_key)
    kept = ROTATED.replace("generation: 2", "generation: 1")
    (house.ring / "keyring.yaml").write_text(kept)
    await house.seen(
        lambda: house.events("keyring_generation_reused"), "it was not noticed"
    )
    await house.caller.post()
    assert signed_by(house.wallet.arrived[-1]) == "2"
    ready = await house.admin_get("/readyz")
    assert ready.status == 200
    assert b"hk: generation 1 stands for another content than before" in ready.body
    (house.ring / "keyring.yaml").write_text(ROTATED)
    await generation(house, 2)
    assert b"another content" not in (await house.admin_get("/readyz")).body


async def test_the_old_version_still_decrypts_for_the_overlap(house, other_key):
    write_private(house.ring / "partner-2.pem", other_key)
    (house.ring / "keyring.yaml").write_text(ROTATED)
    await generation(house, 2)
    house.wallet.answer = lambda r: house.wallet.encrypted(r, peer.SUCCESS, version="1")
    named = await house.caller.post(headers=[("Gateway-Encrypt", "true")])
    house.wallet.answer = lambda r: house.wallet.encrypted(
        r, peer.SUCCESS, version=None
    )
    unnamed = await house.caller.post(headers=[("Gateway-Encrypt", "true")])
    assert named.body == unnamed.body == peer.SUCCESS


@pytest.mark.parametrize("label", ["1", "2", "7", None])
async def test_a_rotation_breaks_on_no_label(house, other_key, label):
    """Whichever of our two keys AlipayHK encrypts to, and whatever it writes there."""
    write_private(house.ring / "partner-2.pem", other_key)
    (house.ring / "keyring.yaml").write_text(ROTATED)
    await generation(house, 2)
    for key in (house.wallet.partner_public, other_key.public_key()):

        def answer(request, key=key):
            reply = house.wallet.signed(request, peer.seal(peer.SUCCESS))
            encrypt = peer.encrypt_header(peer.wrap(key), label)
            reply.headers.append(("Encrypt", encrypt))
            return reply

        house.wallet.answer = answer
        for _ in range(2):
            got = await house.caller.post(headers=[("Gateway-Encrypt", "true")])
            assert (got.status, got.body) == (200, peer.SUCCESS)
    lines = house.exchanges
    assert [line["decrypted_by"] for line in lines] == ["1", "1", "2", "2"]
    differ = [line.get("decryption_label") for line in lines]
    assert differ == [
        None if label in (None, by) else label for by in ("1", "1", "2", "2")
    ]
    count = 'gateway_decryption_label_mismatches_total{client="hk"}'
    assert (await house.metric(count) or 0) == len(differ) - differ.count(None)
    told = house.events("decryption_label_differs")
    assert len(told) == (label is not None)
    assert {each["label"] for each in told} <= {label}


async def test_alipayhks_new_key_verifies_beside_the_old_one(house, other_key):
    (house.ring / "platform-2.pem").write_text(
        formats.public_pem(other_key.public_key())
    )
    (house.ring / "keyring.yaml").write_text(
        "generation: 2\n"
        'partner:\n  - {version: "1", state: active, key: partner-1.pem}\n'
        "platform:\n"
        '  - {version: "1", state: deactivated, key: platform-1.pem}\n'
        '  - {version: "2", state: active, key: platform-2.pem}\n'
    )
    await generation(house, 2)
    old = await house.caller.post()
    house.wallet.answer = lambda r: house.wallet.signed(
        r, peer.SUCCESS, key=other_key, version="2"
    )
    new = await house.caller.post()
    assert old.header("Gateway-Verified") == new.header("Gateway-Verified") == "true"
    await house.caller.post(headers=[("Gateway-Encrypt", "true")])
    assert "keyVersion=2" in house.wallet.arrived[-1].header("Encrypt")


@pytest.mark.parametrize("state", ["pre-active", "compromised", "destroyed"])
async def test_a_platform_key_that_may_not_verify_is_as_good_as_unknown(
    house, other_key, state
):
    (house.ring / "platform-2.pem").write_text(
        formats.public_pem(other_key.public_key())
    )
    (house.ring / "keyring.yaml").write_text(
        "generation: 2\n"
        'partner:\n  - {version: "1", state: active, key: partner-1.pem}\n'
        "platform:\n"
        '  - {version: "1", state: active, key: platform-1.pem}\n'
        f'  - {{version: "2", state: {state}, key: platform-2.pem}}\n'
    )
    await generation(house, 2)
    house.wallet.answer = lambda r: house.wallet.signed(
        r, peer.SUCCESS, key=other_key, version="2"
    )
    assert (await house.caller.post()).code == "key_version_unknown"
    house.wallet.answer = lambda r: house.wallet.signed(
        r, peer.SUCCESS, key=other_key, version=None
    )
    assert (await house.caller.post()).code == "signature_invalid"


@pytest.mark.parametrize("state", ["compromised", "deactivated", "pre-active"])
async def test_without_an_active_key_nothing_is_sent_and_readiness_says_why(
    house, state
):
    text = (house.ring / "keyring.yaml").read_text()
    text = text.replace("generation: 1", "generation: 2")
    text = text.replace("state: active, key: partner", f"state: {state}, key: partner")
    (house.ring / "keyring.yaml").write_text(text)
    await generation(house, 2)
    got = await house.caller.post()
    assert (got.status, got.code) == (503, "key_unavailable")
    assert got.problem["outcome"] == "not_sent"
    assert house.wallet.arrived == []
    ready = await house.admin_get("/readyz")
    assert ready.status == 503
    assert b"missing: a partner key that is active to sign" in ready.body


BAD = {
    "half a manifest": (
        lambda ring: (ring / "keyring.yaml").write_text(ROTATED[:60]),
        "keyring.yaml",
    ),
    "a manifest without a platform": (
        lambda ring: (ring / "keyring.yaml").write_text(
            ROTATED.split("platform:", maxsplit=1)[0]
        ),
        "platform: this key is required",
    ),
    "a missing key file": (
        lambda ring: (ring / "keyring.yaml").write_text(ROTATED),
        "partner-2.pem",
    ),
    "an unknown state": (
        lambda ring: (ring / "keyring.yaml").write_text(
            ROTATED.replace("deactivated", "retired")
        ),
        "must be",
    ),
    "an unknown key": (
        lambda ring: (ring / "keyring.yaml").write_text(
            ROTATED.replace("generation: 2", "generation: 2\nkeyz: []")
        ),
        "unknown key",
    ),
    "an older generation": (
        lambda ring: (ring / "keyring.yaml").write_text(
            (ring / "keyring.yaml")
            .read_text()
            .replace("generation: 1", "generation: 0")
        ),
        "generation",
    ),
    "no manifest": (lambda ring: (ring / "keyring.yaml").unlink(), "cannot be read"),
    "an empty manifest": (
        lambda ring: (ring / "keyring.yaml").write_text(""),
        "required",
    ),
    "a key file that others may read": (
        lambda ring: (ring / "partner-1.pem").chmod(0o644),
        "others may read or write it",
    ),
    "a truncated key file": (
        lambda ring: os.truncate(ring / "partner-1.pem", 500),
        "it was cut short",
    ),
    "no folder": (lambda ring: ring.rename(ring.parent / "gone"), "cannot be opened"),
}


@pytest.mark.parametrize(("spoil", "reason"), BAD.values(), ids=BAD.keys())
async def test_a_bad_folder_leaves_the_last_good_keyring_in_use(house, spoil, reason):
    spoil(house.ring)
    assert reason in await refused(house)
    got = await house.caller.post()
    assert got.header("Gateway-Verified") == "true"
    failures = 'gateway_keyring_reload_failures_total{client="hk"}'
    assert await house.metric(failures) >= 1
    assert await house.metric('gateway_keyring_generation{client="hk"}') == 1
    ready = await house.admin_get("/readyz")
    assert ready.status == 200
    assert b"generation 1 stays in use" in ready.body


async def test_a_bad_folder_that_is_mended_is_taken_up(house, other_key):
    (house.ring / "keyring.yaml").write_text(ROTATED)
    await refused(house)
    write_private(house.ring / "partner-2.pem", other_key)
    await generation(house, 2)
    await house.caller.post()
    assert signed_by(house.wallet.arrived[-1]) == "2"


async def test_a_swap_of_a_symbolic_link_counts_as_a_change(
    run_house, partner_key, platform_key, other_key
):
    """As Kubernetes does it: keyring.yaml → ..data/keyring.yaml, ..data → ..2."""
    async with run_house() as house:
        first, second = house.ring / "..1", house.ring / "..2"
        write_ring(first, partner_key, platform_key)
        write_ring(second, partner_key, platform_key)
        write_private(second / "partner-2.pem", other_key)
        (second / "keyring.yaml").write_text(
            ROTATED.replace("generation: 2", "generation: 3")
        )
        for name in (
            "keyring.yaml",
            "partner-1.pem",
            "platform-1.pem",
            "partner-2.pem",
        ):
            (house.ring / name).unlink(missing_ok=True)
            (house.ring / name).symlink_to(f"..data/{name}")
        swap(house.ring / "..data", "..1")
        await house.caller.post()
        swap(house.ring / "..data", "..2")
        await generation(house, 3)
        await house.caller.post()
    assert [signed_by(arrived) for arrived in house.wallet.arrived] == ["1", "2"]


async def test_a_swap_of_the_folder_itself_counts_as_a_change(
    run_house, tmp_path, partner_key, platform_key, other_key
):
    async with run_house(client={"keyring": "current"}) as house:
        assert (await house.caller.post()).code == "key_unavailable"
        swap(tmp_path / "current", "ring")
        await generation(house, 1)
        write_ring(tmp_path / "next", partner_key, platform_key)
        write_private(tmp_path / "next" / "partner-2.pem", other_key)
        (tmp_path / "next" / "keyring.yaml").write_text(ROTATED)
        swap(tmp_path / "current", "next")
        await generation(house, 2)
        await house.caller.post()
    assert [signed_by(arrived) for arrived in house.wallet.arrived] == ["2"]


def swap(link, target):
    new = link.with_name("swap")
    new.symlink_to(target)
    new.replace(link)


async def test_a_gateway_without_keys_runs_and_waits_for_them(
    run_house, tmp_path, partner_key, platform_key
):
    async with run_house(client={"keyring": "later"}) as house:
        ready = await house.admin_get("/readyz")
        assert ready.status == 503
        assert b"cannot be opened" in ready.body
        assert (await house.admin_get("/livez")).status == 200
        assert (await house.caller.post()).code == "key_unavailable"
        write_ring(tmp_path / "later", partner_key, platform_key)
        await generation(house, 1)
        assert (await house.admin_get("/readyz")).status == 200
        assert (await house.caller.post()).status == 200


async def test_a_key_of_its_own_decrypts_where_the_pairs_are_separate(house, other_key):
    """`use: [sign]` and `use: [decrypt]` under one version."""
    write_private(house.ring / "decrypt.pem", other_key)
    (house.ring / "keyring.yaml").write_text(
        "generation: 2\n"
        "partner:\n"
        '  - {version: "1", state: active, key: partner-1.pem, use: [sign]}\n'
        '  - {version: "1", state: active, key: decrypt.pem, use: [decrypt]}\n'
        'platform:\n  - {version: "1", state: active, key: platform-1.pem}\n'
    )
    await generation(house, 2)
    house.wallet.partner_public = other_key.public_key()
    house.wallet.answer = lambda r: house.wallet.encrypted(r, peer.SUCCESS)
    got = await house.caller.post(headers=[("Gateway-Encrypt", "true")])
    assert got.body == peer.SUCCESS


async def test_exchanges_under_way_keep_their_keyring(house, other_key):
    """The answer is judged by the ring that the request was signed with."""

    async def rotate_then_answer(request):
        write_private(house.ring / "partner-2.pem", generate_private_key(65537, 2048))
        (house.ring / "platform-2.pem").write_text(
            formats.public_pem(other_key.public_key())
        )
        (house.ring / "keyring.yaml").write_text(
            "generation: 2\n"
            'partner:\n  - {version: "2", state: active, key: partner-2.pem}\n'
            'platform:\n  - {version: "2", state: active, key: platform-2.pem}\n'
        )
        await generation(house, 2)
        return house.wallet.encrypted(request, peer.SUCCESS)

    house.wallet.answer = rotate_then_answer
    got = await house.caller.post(headers=[("Gateway-Encrypt", "true")])
    assert got.body == peer.SUCCESS


async def test_a_reload_of_the_configuration_keeps_what_is_in_use_if_it_is_bad(house):
    good = house.file.read_text()
    house.file.write_text(good.replace("timeout_s", "timeout_sec") + "\nnonsense: 1\n")
    house.gateway.reload()
    await house.seen(
        lambda: house.events("reload_refused"), "the reload was not refused"
    )
    assert "nonsense" in house.events("reload_refused")[0]["reason"]
    assert (await house.caller.post()).status == 200


async def test_a_reload_of_the_configuration_takes_up_new_routes(house):
    assert (await house.caller.post(target="/new")).status == 404
    write_config(house, routes=[{"path": "/new", "client": "hk"}])
    house.gateway.reload()
    # Port 0 in the file is still the same wish, so the listeners stay.
    await house.seen(lambda: house.events("reloaded"), "no reload")
    assert (await house.caller.post(target="/new")).status == 200
    assert (await house.caller.post()).status == 404


async def test_a_reload_that_is_refused_changes_no_metric(house):
    text = (house.ring / "keyring.yaml").read_text()
    (house.ring / "keyring.yaml").write_text(
        text.replace("generation: 1", "generation: 4")
    )
    await generation(house, 4)
    (house.ring / "keyring.yaml").write_text(
        text.replace("generation: 1", "generation: 3")
    )
    house.gateway.reload()
    await house.seen(lambda: house.events("reload_refused"), "the reload was taken up")
    assert "older than 4" in house.events("reload_refused")[0]["reason"]
    assert await house.metric('gateway_keyring_generation{client="hk"}') == 4
    assert (await house.caller.post()).status == 200


async def test_after_a_reload_a_change_of_keys_is_told_once(house):
    house.gateway.reload()
    await house.seen(lambda: house.events("reloaded"), "no reload")
    text = (house.ring / "keyring.yaml").read_text()
    (house.ring / "keyring.yaml").write_text(
        text.replace("generation: 1", "generation: 2")
    )
    await generation(house, 2)
    told = [each["generation"] for each in house.events("keyring_loaded")]
    assert told == [1, 1, 2]


async def test_a_client_that_a_reload_takes_out_has_no_present_state_any_more(
    run_house,
):
    gone = {"name": "gone", "client_id": "G", "keyring": "ring"}
    async with run_house(more_clients=[gone]) as house:
        series = 'gateway_keyring_generation{client="gone"}'
        assert await house.metric(series) == 1
        await change(house, lambda settings: settings["clients"].pop())
        assert await house.metric(series) is None


async def test_a_folder_whose_mode_is_mended_is_taken_up(house):
    house.ring.chmod(0o777)
    assert "chmod go-w" in await refused(house)
    house.ring.chmod(0o700)
    await house.seen(lambda: len(house.events("keyring_loaded")) > 1, "not taken up")


async def test_a_reload_does_not_move_a_listener(house):
    text = house.file.read_text()
    house.file.write_text(text.replace("127.0.0.1:0", "127.0.0.1:1", 1))
    house.gateway.reload()
    await house.seen(lambda: house.events("reload_refused"), "the reload was taken up")
    assert "at a restart" in house.events("reload_refused")[0]["reason"]
    assert (await house.caller.post()).status == 200


async def test_a_plant_that_was_replaced_ends_after_its_last_exchange(
    run_house, monkeypatch
):
    monkeypatch.setattr("gateway.works._MARGIN_S", 0.1)
    quick = {"body_timeout_s": 0.1}
    async with run_house(inbound=quick, route={"timeout_s": 0.1}) as house:
        house.gateway.reload()
        await house.seen(lambda: house.events("reloaded"), "no reload")
        await house.seen(lambda: len(house.gateway._plants) == 1, "the old one stays")
        assert (await house.caller.post()).status == 200


async def test_a_body_that_arrives_after_a_reload_is_carried_out(
    run_house, monkeypatch
):
    """It began with the configuration before, which must still be there for it."""
    monkeypatch.setattr("gateway.works._MARGIN_S", 0)
    async with run_house(route={"timeout_s": 0.2}) as house:
        reader, writer = await house.caller.connect()
        body = peer.REQUEST_BODY
        head = f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body[:9])
        await house.seen_metric("gateway_buffered_bytes", 9, within=4096)
        await change(house, lambda settings: settings["routes"][0].update(timeout_s=9))
        await asyncio.sleep(0.4)  # longer than the deadline of the one before
        writer.write(body[9:])
        assert (await read_answer(reader)).status == 200
        writer.close()


async def test_a_configuration_that_was_replaced_is_kept_by_nothing(
    run_house, monkeypatch
):
    """Else a key that was destroyed would stay in memory for as long as we run."""
    monkeypatch.setattr("gateway.works._MARGIN_S", 0)
    quick = {"body_timeout_s": 0.05}
    async with run_house(inbound=quick, route={"timeout_s": 0.05}) as house:
        first = weakref.ref(house.gateway._plant)
        assert (await house.caller.post()).status == 200
        for seconds in (0.06, 0.07):
            await change(
                house, lambda s, to=seconds: s["routes"][0].update(timeout_s=to)
            )

        def gone():
            gc.collect()
            return first() is None

        await house.seen(gone, "something keeps it")
