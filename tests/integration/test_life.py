"""Draining, readiness, logs and metrics of a running gateway."""

import asyncio
import contextlib
import io
import json
import threading

import pytest
import yaml

from gateway.keys.backends.file import KeyringFolder
from tests import peer
from tests.integration.caller import read_answer

ROUTE = f'client="hk",route="{peer.TARGET}"'


async def test_what_is_under_way_is_finished_before_the_end(house):
    answering = asyncio.Event()

    async def answer(request):
        await answering.wait()
        return house.wallet.success(request)

    house.wallet.answer = answer
    async with asyncio.TaskGroup() as tasks:
        under_way = tasks.create_task(house.caller.post())
        await house.seen(lambda: house.wallet.arrived, "nothing arrived")
        house.gateway.stop()
        await house.seen(lambda: house.events("draining"), "no draining")
        ready = await house.admin_get("/readyz")
        refused = await asyncio.gather(house.caller.post(), return_exceptions=True)
        answering.set()
    assert under_way.result().status == 200
    assert ready.status == 503
    assert b"draining" in ready.body
    assert isinstance(refused[0], ConnectionRefusedError)
    assert house.events("draining")[0]["in_flight"] == 1


async def connect_for_ever(house):
    while True:
        # One that nobody accepted any more is reset as the listener closes.
        with contextlib.suppress(ConnectionResetError):
            _, writer = await house.caller.connect()
            writer.close()
        await asyncio.sleep(0.02)


async def test_readiness_goes_down_before_the_listener_does(run_house):
    """Whoever spreads the load has to notice first."""
    async with run_house(inbound={"drain_grace_s": 1}) as house:
        answering = asyncio.Event()

        async def answer(request):
            await answering.wait()
            return house.wallet.success(request)

        house.wallet.answer = answer
        async with asyncio.TaskGroup() as tasks:
            under_way = tasks.create_task(house.caller.post())
            await house.seen(lambda: house.wallet.arrived, "nothing arrived")
            house.gateway.stop()
            ready = await house.admin_get("/readyz")
            live = await house.admin_get("/livez")
            assert (ready.status, live.status) == (503, 200)
            late = tasks.create_task(house.caller.post())  # still accepted
            await house.seen(lambda: len(house.wallet.arrived) == 2, "it was refused")

            with pytest.raises(ConnectionRefusedError):
                await asyncio.wait_for(connect_for_ever(house), 10)
            answering.set()
        answers = [under_way.result(), late.result()]
        assert [each.status for each in answers] == [200, 200]


async def test_an_answer_while_draining_ends_its_connection(house):
    answering = asyncio.Event()

    async def answer(request):
        await answering.wait()
        return house.wallet.success(request)

    house.wallet.answer = answer
    reader, writer = await house.caller.connect()
    body = peer.REQUEST_BODY
    head = f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    await house.seen(lambda: house.wallet.arrived, "nothing arrived")
    house.gateway.stop()
    await house.seen(lambda: house.events("draining"), "no draining")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.wait_for(connect_for_ever(house), 10)
    answering.set()
    got = await read_answer(reader)
    assert (got.status, got.header("Connection")) == (200, "close")
    assert await reader.read() == b""
    writer.close()
    await house.seen(lambda: house.events("stopped"), "it goes on")
    assert house.events("stopped")[0]["cut_off"] == 0
    assert house.events("cut_off") == []


async def test_a_second_signal_ends_it_at_once_and_counts_what_it_cut(house):
    house.wallet.answer = lambda _: asyncio.Event().wait()
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(outcome(house.caller.post())) for _ in range(3)]
        await house.seen(lambda: len(house.wallet.arrived) == 3, "nothing arrived")
        house.gateway.stop()
        await house.seen(lambda: house.events("draining"), "no draining")
        house.gateway.stop()
        await house.seen(lambda: house.events("stopped"), "it goes on")
    assert [call.result() for call in calls] == ["cut"] * 3
    assert house.events("cut_off")[0]["requests"] == 3
    assert house.events("stopped")[0]["cut_off"] == 3
    assert [(line["code"], line["outcome"]) for line in house.exchanges] == [
        ("internal_error", "unknown")
    ] * 3
    assert not any(line["delivered"] for line in house.exchanges)


async def outcome(call):
    try:
        return (await call).status
    except (OSError, asyncio.IncompleteReadError):
        return "cut"


async def test_a_second_signal_with_nothing_under_way_cuts_nothing(run_house):
    async with run_house(inbound={"drain_grace_s": 60}) as house:
        house.gateway.stop()
        house.gateway.stop()
        await house.seen(lambda: house.events("stopped"), "it waits for its grace")
        assert house.events("stopped")[0]["cut_off"] == 0
        assert house.events("cut_off") == []


async def test_an_end_that_comes_during_a_reload_cuts_nothing(house, monkeypatch):
    """A deployment may send SIGHUP and, before it is heeded, SIGTERM."""
    answering = asyncio.Event()
    reading, go_on = threading.Event(), threading.Event()
    read = KeyringFolder.read

    def read_slowly(folder, now):
        reading.set()
        go_on.wait(5)
        return read(folder, now)

    async def answer(request):
        await answering.wait()
        return house.wallet.success(request)

    house.wallet.answer = answer
    async with asyncio.TaskGroup() as tasks:
        under_way = tasks.create_task(house.caller.post())
        await house.seen(lambda: house.wallet.arrived, "nothing arrived")
        monkeypatch.setattr(KeyringFolder, "read", read_slowly)
        house.gateway.reload()
        await house.seen(reading.is_set, "no reload")
        house.gateway.stop()
        await house.seen(lambda: house.events("draining"), "no draining")
        go_on.set()
        await asyncio.sleep(0.1)  # for what the reload had begun to come to its end
        answering.set()
    assert under_way.result().status == 200
    await house.seen(lambda: house.events("stopped"), "it goes on")
    assert house.events("stopped")[0]["cut_off"] == 0
    assert house.events("reloaded") == house.events("loop_error") == []


BROKEN = {
    "no YAML": lambda _: "clients: [",
    "an unknown key": lambda s: {**s, "clientz": []},
    "a client of nobody": lambda s: {
        **s,
        "routes": [{**s["routes"][0], "client": "x"}],
    },
    "no keyring": lambda s: {**s, "clients": [{**s["clients"][0], "keyring": "no"}]},
    "no certificate": lambda s: {
        **s,
        "clients": [{**s["clients"][0], "tls": {"ca_file": "no.crt"}}],
    },
    "another address": lambda s: {
        **s,
        "inbound": {**s["inbound"], "listen": "127.0.0.1:1"},
    },
    "tls at last": lambda s: {
        **s,
        "admin": {**s["admin"], "tls": {"certificate": "a", "private_key": "b"}},
    },
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_a_reload_is_whole_or_not_at_all(house, broken):
    """The route that comes with the mistake is not taken either."""
    before = house.file.read_text()
    settings = yaml.safe_load(before)
    settings["routes"].append({"path": "/new", "client": "hk"})
    result = broken(settings)
    text = result if isinstance(result, str) else yaml.safe_dump(result)
    house.file.write_text(text)
    house.gateway.reload()
    await house.seen(lambda: house.events("reload_refused"), "it was not refused")
    assert house.events("reload_refused")[0]["reason"]
    assert (await house.caller.post()).status == 200
    assert (await house.caller.post(target="/new")).status == 404
    assert len(house.gateway._plants) == 1
    good = yaml.safe_load(before)
    good["routes"].append({"path": "/new", "client": "hk"})
    house.file.write_text(yaml.safe_dump(good))
    house.gateway.reload()
    await house.seen(lambda: house.events("reloaded"), "no reload")
    assert (await house.caller.post(target="/new")).status == 200


async def test_health_is_told_on_the_admin_listener_alone(house):
    assert (await house.admin_get("/livez")).status == 200
    ready = await house.admin_get("/readyz")
    assert (ready.status, json.loads(ready.body)["reasons"]) == (200, [])
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await house.caller.post(target=path)).status == 404


ADMIN = {
    "a page": (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    "the head of a page": (b"HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    "a page with a query": (b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    "no page": (b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    "another method": (b"POST /livez HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "no HTTP": (b"canary\r\n\r\n", 400),
}


@pytest.mark.parametrize(("data", "status"), ADMIN.values(), ids=ADMIN.keys())
async def test_the_admin_listener_shows_nothing_of_the_library_it_is_made_with(
    house, caplog, data, status
):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.admin.port)
    writer.write(data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    assert head.split(" ")[1] == str(status)
    assert "Server:" not in head
    assert "aiohttp" not in head
    assert ("Allow: GET, HEAD" in head) is (status == 405)
    assert caplog.text == ""


async def test_each_exchange_is_one_line_with_the_names_of_the_metrics(house):
    got = await house.caller.post(headers=[("Gateway-Exchange-Id", "order-1")])
    (line,) = house.exchanges
    assert got.status == 200
    assert line | {"time": "", "seconds": 0, "upstream_seconds": 0} == {
        "time": "",
        "event": "exchange",
        "exchange_id": "order-1",
        "caller": "",
        "client": "hk",
        "route": peer.TARGET,
        "encrypted": False,
        "code": "verified",
        "status": 200,
        "seconds": 0,
        "upstream_seconds": 0,
        "attempts": 1,
        "delivered": True,
        "key_version": "1",
        "verified_by": "1",
        "clock_skew_s": line["clock_skew_s"],
        "tracer_id": "tracer0001",
        "result_code": "SUCCESS",
        "request_bytes": len(peer.REQUEST_BODY),
        "response_bytes": len(peer.SUCCESS),
    }
    assert 0 < line["upstream_seconds"] <= line["seconds"]
    assert abs(line["clock_skew_s"]) < 5


async def test_exchanges_are_counted_by_how_they_ended(house):
    await house.caller.post()
    house.wallet.answer = lambda r: house.wallet.signed(r, peer.SUCCESS, version="9")
    await house.caller.post()
    await house.caller.post(b"nonsense")
    await house.caller.post(target="/unknown")
    count = 'gateway_exchanges_total{caller="",client="%s",code="%s",route="%s"}'
    assert await house.metric(count % ("hk", "verified", peer.TARGET)) == 1
    assert await house.metric(count % ("hk", "key_version_unknown", peer.TARGET)) == 1
    assert await house.metric(count % ("hk", "invalid_request", peer.TARGET)) == 1
    assert await house.metric(count % ("", "unknown_route", "")) == 1
    assert await house.metric(f"gateway_exchange_seconds_count{{{ROUTE}}}") == 3
    assert await house.metric(f"gateway_upstream_seconds_count{{{ROUTE}}}") == 2
    judged = 'gateway_verifications_total{client="hk",key_version="%s",result="%s"}'
    assert await house.metric(judged % ("1", "verified")) == 1
    assert await house.metric(judged % ("", "key_version_unknown")) == 1
    signed = 'gateway_signatures_total{client="hk",key_version="1"}'
    assert await house.metric(signed) == 2
    assert await house.metric("gateway_in_flight") == 0
    assert abs(await house.metric('gateway_clock_skew_seconds{client="hk"}')) < 5


async def test_a_route_that_callers_invent_makes_no_new_series(house):
    for number in range(5):
        await house.caller.post(target=f"/invented/{number}")
    text = (await house.admin_get("/metrics")).body.decode()
    assert "invented" not in text


async def test_a_skewed_clock_is_seen_in_the_metric_also_when_it_is_refused(house):
    from datetime import UTC, datetime, timedelta

    late = (datetime.now(UTC) + timedelta(seconds=1000)).isoformat(timespec="seconds")
    house.wallet.answer = lambda r: house.wallet.signed(r, peer.SUCCESS, time=late)
    assert (await house.caller.post()).code == "response_stale"
    skew = await house.metric('gateway_clock_skew_seconds{client="hk"}')
    assert 990 < skew < 1010


async def test_a_reader_of_the_log_that_went_away_stops_no_traffic(house):
    house.stdout.close()
    try:
        assert (await house.caller.post()).status == 200
    finally:
        house.stdout = io.StringIO()


async def test_log_lines_that_are_dropped_are_counted_by_stream(house):
    dropped = 'gateway_log_lines_dropped_total{stream="%s"}'
    assert await house.metric(dropped % "stdout") == 0
    stdout, house.stdout = house.stdout, io.StringIO()
    stdout.close()
    await house.caller.post()
    await house.caller.post()
    assert await house.metric(dropped % "stdout") == 2
    assert await house.metric(dropped % "stderr") == 0
