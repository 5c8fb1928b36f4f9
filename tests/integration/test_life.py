"""Draining, readiness, logs and metrics of a running gateway."""

import asyncio
import io
import json

import pytest

from tests import peer

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
