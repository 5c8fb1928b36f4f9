"""An AlipayHK that cannot be reached, is slow, or comes back: on real sockets."""

import asyncio
import socket
import threading

import pytest
import yaml

from gateway import config
from gateway.documents import DocumentError
from gateway.relay import delivery
from tests import peer
from tests.integration.conftest import change

QUICK = {"failures": 3, "open_s": 0.3}
STATE = 'gateway_breaker_state{client="hk"}'


def dead_port():
    """Give a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


async def turn(house, port, **client):
    """Turn the client to a port of this machine."""

    def edit(settings):
        settings["clients"][0] |= {"upstream": f"http://127.0.0.1:{port}", **client}

    await change(house, edit)


# --- the breaker ------------------------------------------------------------------


async def test_the_breaker_opens_probes_and_closes_again(run_house):
    async with run_house(client={"breaker": QUICK, "retries": 0}) as house:
        assert await house.metric(STATE) == 0
        house.wallet.down()
        for _ in range(3):
            got = await house.caller.post()
            assert (got.status, got.code) == (503, "upstream_unavailable")
            assert got.header("Retry-After") is None
        assert await house.metric(STATE) == 2
        refused = await house.caller.post()
        assert (refused.status, refused.code) == (503, "upstream_unavailable")
        assert refused.problem["outcome"] == "not_sent"
        assert refused.header("Retry-After") == "1"
        assert "clients[].breaker" in refused.problem["detail"]
        await asyncio.sleep(QUICK["open_s"])
        assert "Connection refused" in (await house.caller.post()).problem["detail"]
        assert await house.metric(STATE) == 2  # the probe failed
        await asyncio.sleep(QUICK["open_s"])
        async with house.wallet.listening(port=house.wallet.port):
            assert (await house.caller.post()).status == 200
            assert await house.metric(STATE) == 0
        names = [
            event
            for line in house.stderr.getvalue().splitlines()
            if (event := yaml.safe_load(line)["event"]).startswith("breaker")
        ]
        assert names == [
            *("breaker_open", "breaker_half_open", "breaker_open"),
            *("breaker_half_open", "breaker_closed"),
        ]


async def test_timeouts_open_the_breaker(run_house):
    # Long enough for a connection on a busy machine: only the answer is late.
    quick = {"timeout_s": 0.6}
    client = {"breaker": {"failures": 2, "open_s": 60}}
    async with run_house(client=client, route=quick) as house:
        house.wallet.answer = lambda _: asyncio.Event().wait()
        codes = [(await house.caller.post()).code for _ in range(3)]
        assert codes == ["upstream_timeout"] * 2 + ["upstream_unavailable"]
        assert len(house.wallet.arrived) == 2


@pytest.mark.parametrize("kind", ["signed refusal", "unsigned refusal", "untrusted"])
async def test_whatever_is_answered_never_opens_the_breaker(run_house, kind):
    async with run_house(client={"breaker": {"failures": 1, "open_s": 60}}) as house:

        def answer(request):
            if kind == "untrusted":
                return house.wallet.signed(request, peer.SUCCESS, version="9")
            reply = house.wallet.signed(request, peer.FAILURE)
            if kind == "unsigned refusal":
                reply.headers = reply.headers[:1]
            return reply

        house.wallet.answer = answer
        for _ in range(3):
            assert (await house.caller.post()).status in (200, 502)
        assert len(house.wallet.arrived) == 3
        assert house.events("breaker_open") == []


async def test_a_breaker_is_one_clients_alone(run_house):
    client = {"breaker": {"failures": 1, "open_s": 60}, "retries": 0}
    vn = {"name": "vn", "client_id": peer.CLIENT_ID, "keyring": "ring"}
    routes = [{"path": peer.TARGET, "client": name} for name in ("hk", "vn")]
    async with run_house(client=client, more_clients=[vn], routes=routes) as house:
        await turn(house, dead_port())
        got = [
            (await house.caller.post(headers=[("Gateway-Client", name)])).status
            for name in ("hk", "hk", "vn")
        ]
        assert got == [503, 503, 200]


async def test_an_open_breaker_stays_open_over_a_reload_that_does_not_touch_it(
    run_house,
):
    client = {"breaker": {"failures": 1, "open_s": 60}, "retries": 0}
    async with run_house(client=client) as house:
        await turn(house, dead_port())
        assert (await house.caller.post()).header("Retry-After") is None
        await change(house, lambda settings: settings["routes"][0].update(timeout_s=9))
        assert (await house.caller.post()).header("Retry-After") is not None
        assert await house.metric(STATE) == 2
        await turn(house, house.wallet.port)  # another host: nothing is known of it
        assert await house.metric(STATE) == 0
        assert (await house.caller.post()).status == 200
        assert await house.metric(STATE) == 0


async def test_a_breaker_that_a_reload_replaced_is_not_told_of_any_more(run_house):
    """Attempts at the old host may fail after it, and the new one is well."""
    client = {"breaker": {"failures": 1, "open_s": 60}, "retries": 0}
    late = {"timeout_s": 3}
    async with run_house(client=client, route=late) as house:
        async with asyncio.TaskGroup() as tasks:
            house.wallet.answer = lambda _: asyncio.Event().wait()
            before = tasks.create_task(house.caller.post())
            await house.seen(lambda: house.wallet.arrived, "nothing arrived")
            await change(
                house,
                lambda settings: settings["clients"][0].update(
                    upstream=f"http://127.0.0.1:{house.wallet.port}"
                ),
            )
        assert before.result().code == "upstream_timeout"
        house.wallet.answer = house.wallet.success
        assert (await house.caller.post()).status == 200
        assert await house.metric(STATE) == 0
        assert house.events("breaker_open") == []


# --- deadlines --------------------------------------------------------------------


async def test_a_callers_own_deadline_ends_the_exchange_in_time(run_house):
    client = {"breaker": {"failures": 1, "open_s": 60}}
    async with run_house(client=client, route={"timeout_s": 60}) as house:
        house.wallet.answer = lambda _: asyncio.Event().wait()
        got = await house.caller.post(headers=[("Gateway-Timeout", "0.3")])
        assert (got.status, got.code) == (504, "upstream_timeout")
        assert got.problem["outcome"] == "unknown"
        house.wallet.answer = house.wallet.success
        assert (await house.caller.post()).status == 200
        assert house.events("breaker_open") == []


async def test_a_callers_deadline_is_never_longer_than_the_routes(run_house):
    async with run_house(route={"timeout_s": 0.2}) as house:
        house.wallet.answer = lambda _: asyncio.Event().wait()
        got = await house.caller.post(headers=[("Gateway-Timeout", "3600")])
        assert (got.status, got.code) == (504, "upstream_timeout")


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "0",
            "0.0",
            "-1",
            "+1",
            "1s",
            "1e3",
            "inf",
            "nan",
            "0x1",
            "1,5",
            ".5",
            "1 2",
        ),
        *("99999", "1.1234567", "\u0661".encode().decode("latin-1")),
    ],
)
async def test_a_deadline_that_is_none_is_refused(house, value):
    got = await house.caller.post(headers=[("Gateway-Timeout", value)])
    assert (got.status, got.code) == (400, "invalid_request")
    assert "Gateway-Timeout" in got.problem["detail"]
    assert house.wallet.arrived == []


async def test_a_deadline_that_comes_twice_is_refused(house):
    got = await house.caller.post(headers=[("Gateway-Timeout", "1")] * 2)
    assert (got.status, got.code) == (400, "invalid_request")


async def test_the_callers_deadline_does_not_reach_alipayhk(house):
    await house.caller.post(headers=[("Gateway-Timeout", "5")])
    assert house.wallet.arrived[0].header("Gateway-Timeout") is None


async def test_an_answer_that_does_not_begin_in_time_is_a_timeout(run_house):
    client = {"first_byte_timeout_s": 0.2}
    async with run_house(client=client, route={"timeout_s": 60}) as house:
        house.wallet.answer = lambda _: asyncio.Event().wait()
        got = await house.caller.post()
        assert (got.status, got.code) == (504, "upstream_timeout")
        assert got.problem["outcome"] == "unknown"
        assert "clients[].first_byte_timeout_s" in got.problem["detail"]


async def test_an_answer_that_began_in_time_may_take_longer(run_house):
    client = {"first_byte_timeout_s": 0.3}
    async with run_house(client=client, route={"timeout_s": 60}) as house:

        async def answer(request):
            wire = house.wallet.success(request).wire()
            head, _, body = wire.partition(b"\r\n\r\n")
            house.wallet.writer.write(head + b"\r\n\r\n")
            await asyncio.sleep(0.6)
            return body

        house.wallet.answer = answer
        assert (await house.caller.post()).status == 200


# --- repeats ----------------------------------------------------------------------


async def test_what_was_not_sent_is_sent_again_with_a_new_time_and_signature(
    run_house, monkeypatch
):
    signed = []
    attach = delivery.attach_signature

    def note(draft, signature, **options):
        signed.append((draft.time, signature, draft.body))
        return attach(draft, signature, **options)

    monkeypatch.setattr(delivery, "attach_signature", note)
    monkeypatch.setattr(delivery, "_PAUSE_S", 1.5)
    client = {"retries": 5}
    async with run_house(client=client, route={"timeout_s": 60}) as house:
        house.wallet.down()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(house.caller.post())
            async with asyncio.timeout(10):
                while len({time for time, *_ in signed}) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            async with house.wallet.listening(port=house.wallet.port):
                assert (await call).status == 200
        (arrived,) = house.wallet.arrived
        assert arrived.header("Request-Time") == signed[-1][0] != signed[0][0]
        assert signed[-1][1] != signed[0][1]
        assert {body for *_, body in signed} == {peer.REQUEST_BODY}
        (line,) = house.exchanges
        assert line["attempts"] == len(signed) >= 2
        series = f'gateway_repeats_total{{client="hk",route="{peer.TARGET}"}}'
        assert await house.metric(series) == len(signed) - 1


async def test_retries_are_as_many_as_configured(run_house):
    async with run_house(client={"retries": 2}) as house:
        await turn(house, dead_port())
        assert (await house.caller.post()).problem["outcome"] == "not_sent"
        assert house.exchanges[0]["attempts"] == 3


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_after_a_byte_was_sent_nothing_is_repeated(run_house, sent):
    async with run_house(client={"retries": 5}) as house:
        house.wallet.answer = lambda _: sent
        got = await house.caller.post()
        assert (got.status, got.code) == (502, "upstream_disconnected")
        assert got.problem["outcome"] == "unknown"
        assert len(house.wallet.arrived) == 1


@pytest.mark.parametrize("encrypt", ["false", "true"])
async def test_a_route_may_have_an_unknown_outcome_repeated(run_house, encrypt):
    async with run_house(route={"repeat_unknown": True}) as house:

        def answer(request):
            first = len(house.wallet.arrived) == 1
            return b"" if first else house.wallet.encrypted(request, peer.SUCCESS)

        house.wallet.answer = answer
        got = await house.caller.post(headers=[("Gateway-Encrypt", encrypt)])
        assert (got.status, got.body) == (200, peer.SUCCESS)
        first, second = house.wallet.arrived
        assert first.body == second.body
        assert first.target == second.target
        assert first.header("Encrypt") == second.header("Encrypt")
        (line,) = house.exchanges
        assert (line["code"], line["attempts"]) == ("verified", 2)


async def test_an_outcome_that_was_unknown_once_stays_unknown(run_house):
    async with run_house(route={"repeat_unknown": True}) as house:

        def answer(_):
            house.wallet.down()
            return b""

        house.wallet.answer = answer
        got = await house.caller.post()
        assert (got.code, got.problem["outcome"]) == (
            "upstream_disconnected",
            "unknown",
        )
        assert house.exchanges[0]["attempts"] == 2


# --- why it cannot be reached -------------------------------------------------------


async def test_the_line_of_an_exchange_and_the_event_say_why(run_house):
    client = {"breaker": {"failures": 2, "open_s": 60}, "retries": 0}
    async with run_house(client=client) as house:
        await turn(house, dead_port())
        for _ in range(3):
            await house.caller.post()
        assert [line["cause"] for line in house.exchanges] == ["Connection refused"] * 3
        (event,) = house.events("breaker_open")
        assert event["cause"] == "Connection refused"


async def test_the_line_says_why_there_was_no_whole_answer(run_house):
    client = {"first_byte_timeout_s": 0.3}
    async with run_house(client=client) as house:
        house.wallet.answer = lambda _: b""
        await house.caller.post()
        house.wallet.answer = lambda _: asyncio.Event().wait()
        await house.caller.post()
        closed, late = [line["cause"] for line in house.exchanges]
        assert closed == "closed"
        assert late == (
            "timed out: no answer began within 0.3 s (clients[].first_byte_timeout_s)"
        )


async def test_a_good_exchange_has_no_cause(house):
    await house.caller.post()
    assert "cause" not in house.exchanges[0]


# --- names and addresses ------------------------------------------------------------


@pytest.mark.parametrize("silent", ["localhost", "open.alipay.test"])
async def test_a_silent_name_server_of_one_client_stops_no_other(
    run_house, monkeypatch, silent
):
    """Not even one with the loop's own threads, nor one with an address."""

    def look_up(host, *arguments, **options):
        if host == silent and options.get("flags") != socket.AI_NUMERICHOST:
            go_on.wait(60)
        return system(host, *arguments, **options)

    go_on, system = threading.Event(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("gateway.config.values._is_loopback", lambda _: True)
    vn = {"name": "vn", "client_id": peer.CLIENT_ID, "keyring": "ring"}
    routes = [
        {"path": peer.TARGET, "client": name, "timeout_s": 60} for name in ("hk", "vn")
    ]
    async with run_house(more_clients=[vn], routes=routes) as house:

        def edit(settings):
            port = house.wallet.port
            settings["clients"][0] |= {
                "upstream": f"http://{silent}:{port}",
                "connect_timeout_s": 60,
            }
            settings["clients"][1]["upstream"] = f"http://127.0.0.1:{port}"

        await change(house, edit)
        async with asyncio.TaskGroup() as tasks:
            stuck = [
                tasks.create_task(house.caller.post(headers=[("Gateway-Client", "hk")]))
                for _ in range(64)
            ]
            async with asyncio.timeout(20):
                while await house.metric("gateway_in_flight") < len(stuck):
                    pass
                got = await house.caller.post(headers=[("Gateway-Client", "vn")])
            assert got.status == 200
            assert not any(each.done() for each in stuck)
            go_on.set()


async def test_of_several_addresses_the_first_may_be_dead(run_house, monkeypatch):
    asked = []
    look_up = socket.getaddrinfo

    def several(host, port, *arguments, **options):
        if host != "open.alipay.test":
            return look_up(host, port, *arguments, **options)
        asked.append(host)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    monkeypatch.setattr("gateway.config.values._is_loopback", lambda _: True)
    async with run_house(client={"retries": 0}) as house:

        def edit(settings):
            host = f"http://open.alipay.test:{house.wallet.port}"
            settings["clients"][0]["upstream"] = host

        await change(house, edit)
        assert (await house.caller.post()).status == 200
        assert asked


async def test_a_name_without_a_public_address_is_not_connected_to(
    run_house, monkeypatch
):
    monkeypatch.setattr("gateway.config.sections.is_never_public", lambda _: False)
    client = {"public_addresses_only": True, "retries": 0}
    async with run_house(client=client) as house:
        got = await house.caller.post()
        assert (got.status, got.code) == (503, "upstream_unavailable")
        assert "clients[].public_addresses_only" in got.problem["detail"]
        assert house.wallet.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:8089", "localhost", "LOCALHOST:1", "10.0.0.1", "192.168.1.1"),
        *("169.254.169.254", "[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:10.0.0.1]"),
        *("0.0.0.0", "100.64.0.1", "224.0.0.1", "127.1", "2130706433", "0x7f000001"),
        "0177.0.0.1",
    ],
)
async def test_an_address_that_is_not_public_is_refused_in_the_configuration(
    house, host
):
    """aiohttp asks no resolver about an address, so none could refuse it."""
    settings = yaml.safe_load(house.file.read_text())
    settings["clients"][0] |= {
        "upstream": f"https://{host}",
        "public_addresses_only": True,
    }
    house.file.write_text(yaml.safe_dump(settings))
    with pytest.raises(DocumentError, match="public_addresses_only"):
        config.load(house.file, {})
    settings["clients"][0]["upstream"] = "https://open.alipay.hk"
    house.file.write_text(yaml.safe_dump(settings))
    assert config.load(house.file, {}).clients[0].public_addresses_only
