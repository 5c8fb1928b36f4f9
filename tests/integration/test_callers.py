"""Callers: who gets in, what each may use, how often, and what the others learn."""

import asyncio
import hashlib
import json
import re
import socket
from datetime import timedelta

import pytest

from gateway.telemetry import floods
from gateway.telemetry.floods import SINGLY
from tests import peer
from tests.integration.caller import read_answer
from tests.integration.conftest import change

TOKEN = "ahkgw_catalogue-0123456789012345678901234567"
NEXT = "ahkgw_catalogue-next-0123456789012345678901"
OTHER = "ahkgw_payments-01234567890123456789012345678"
BEARER = f"Authorization: Bearer {TOKEN}"
INQUIRE = "/api/open/alipay/v1/payments/inquire"


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest()


def entry(name="catalogue", token=TOKEN, **more):
    return {"name": name, "token_sha256": digest(token), "clients": ["hk"], **more}


ROUTES = [{"path": path, "client": "hk"} for path in (peer.TARGET, INQUIRE)]
SERVICES = [
    entry(routes=[peer.TARGET]),
    entry("payments", OTHER),
]


@pytest.fixture
async def house(run_house):
    """A gateway that `catalogue` may use for one route, and `payments` for both."""
    async with run_house(callers=SERVICES, routes=ROUTES) as running_house:
        yield running_house


async def test_a_caller_with_its_token_is_served_and_named(house):
    got = await house.caller.known_by(TOKEN).post()
    (line,) = house.exchanges
    assert (got.status, line["caller"]) == (200, "catalogue")
    assert "denied" not in line
    series = (
        'gateway_exchanges_total{caller="catalogue",client="hk",code="verified",'
        f'route="{peer.TARGET}"}}'
    )
    assert await house.metric(series) == 1


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
async def test_a_scheme_is_read_as_http_has_it(house, scheme):
    headers = [("Authorization", f"{scheme} {TOKEN}")]
    assert (await house.caller.post(headers=headers)).status == 200


BAD = {
    "none": [],
    "an empty one": [("Authorization", "")],
    "the scheme alone": [("Authorization", "Bearer")],
    "the token alone": [("Authorization", TOKEN)],
    "a wrong token": [("Authorization", f"Bearer {TOKEN}x")],
    "the beginning of a token": [("Authorization", f"Bearer {TOKEN[:-1]}")],
    "the token in other letters": [("Authorization", f"Bearer {TOKEN.upper()}")],
    "the token's hash": [("Authorization", f"Bearer {digest(TOKEN)}")],
    "no hash at all": [("Authorization", f"Bearer {'0' * 64}")],
    "another scheme": [("Authorization", f"Basic {TOKEN}")],
    "a scheme that only begins so": [("Authorization", f"Bearers {TOKEN}")],
    "two tokens in one header": [("Authorization", f"Bearer {TOKEN} {TOKEN}")],
    "a list of tokens": [("Authorization", f"Bearer {TOKEN}, Bearer {TOKEN}")],
    "the same header twice": [("Authorization", f"Bearer {TOKEN}")] * 2,
    "a good and a wrong header": [
        ("Authorization", f"Bearer {TOKEN}"),
        ("Authorization", "Bearer x"),
    ],
    "tokens of two callers": [
        ("Authorization", f"Bearer {TOKEN}"),
        ("Authorization", f"Bearer {OTHER}"),
    ],
    "a parameter": [("Authorization", f'Bearer {TOKEN}; realm="x"')],
    "quotes": [("Authorization", f'Bearer "{TOKEN}"')],
    "a byte that is no ASCII": [("Authorization", f"Bearer {TOKEN}\xe9")],
    "a great one": [("Authorization", f"Bearer {'a' * 4000}")],
    "another header": [("Proxy-Authorization", f"Bearer {TOKEN}")],
    "a cookie": [("Cookie", f"token={TOKEN}")],
}


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD.keys())
async def test_whoever_shows_no_good_token_is_not_let_in(house, headers):
    got = await house.caller.post(headers=headers)
    assert (got.status, got.code) == (401, "unauthenticated")
    assert got.problem["outcome"] == "not_sent"
    assert got.header("WWW-Authenticate") == "Bearer"
    assert house.wallet.arrived == []
    assert house.exchanges[-1]["caller"] == ""
    assert (house.exchanges[-1]["client"], house.exchanges[-1]["route"]) == ("", "")


def anonymous(got):
    """Give all of an answer but what names this one exchange."""
    named = {"gateway-exchange-id", "date"}
    headers = [(n, v) for n, v in got.headers if n.lower() not in named]
    identity = got.header("Gateway-Exchange-Id").encode()
    return got.status, headers, got.body.replace(identity, b"ID")


def raw(line, *headers, body=b"{}"):
    lines = [line, "Host: g", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


STRANGE = {
    "a route": raw(f"POST {peer.TARGET} HTTP/1.1"),
    "no route": raw("POST /nothing HTTP/1.1"),
    "a page of the admin listener": raw("GET /metrics HTTP/1.1", body=b""),
    "another method": raw(f"GET {peer.TARGET} HTTP/1.1", body=b""),
    "a bad target": raw("POST /%zz HTTP/1.1"),
    "an unknown client": raw(f"POST {peer.TARGET} HTTP/1.1", "Gateway-Client: no"),
    "two clients": raw(f"POST {peer.TARGET} HTTP/1.1", *["Gateway-Client: hk"] * 2),
    "a reserved header": raw(f"POST {peer.TARGET} HTTP/1.1", "Gateway-Secret: x"),
    "a bad deadline": raw(f"POST {peer.TARGET} HTTP/1.1", "Gateway-Timeout: x"),
    "no JSON": raw(f"POST {peer.TARGET} HTTP/1.1", body=b"nonsense"),
    "another expectation": raw(f"POST {peer.TARGET} HTTP/1.1", "Expect: wonders"),
}


async def test_a_stranger_is_told_the_same_whatever_it_asks(house):
    """Of what is HTTP; what is not is 400, whoever sends it (RFC 9112, 3.2)."""
    answers = {}
    for name, data in STRANGE.items():
        status, headers, body = anonymous(await house.caller.raw(data))
        assert status == 401, name
        kept = [each for each in headers if each[0] != "Connection"]
        answers[name] = (kept, body)
    assert all(each == answers["a route"] for each in answers.values())
    assert house.wallet.arrived == []


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), (TOKEN, 403)], ids=["stranger", "caller"]
)
@pytest.mark.parametrize(
    "framing", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"]
)
async def test_a_refusal_needs_nothing_of_the_body(house, token, status, framing):
    reader, writer = await house.caller.connect()
    lines = [f"POST {INQUIRE} HTTP/1.1", "Host: g", framing, "Expect: 100-continue"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(5):
        got = await read_answer(reader)  # the first, and no 100 before it
    writer.close()
    assert got.status == status
    assert got.header("Connection") == "close"


FORBIDDEN = {
    "another's route": (INQUIRE, []),
    "no route": ("/nothing", []),
    "its own path and another client": (peer.TARGET, [("Gateway-Client", "vn")]),
    "its own path and no client": (peer.TARGET, [("Gateway-Client", "nobody")]),
    "another's route and client": (INQUIRE, [("Gateway-Client", "vn")]),
    "its own path and more": (peer.TARGET + "/x", []),
    "a page of the admin listener": ("/metrics", []),
}


async def test_what_is_not_a_callers_and_what_does_not_exist_are_told_alike(run_house):
    routes = [*ROUTES, {"path": peer.TARGET, "client": "vn"}]
    more = [{"name": "vn", "client_id": peer.CLIENT_ID, "keyring": "ring"}]
    async with run_house(callers=SERVICES, routes=routes, more_clients=more) as house:
        caller = house.caller.known_by(TOKEN)
        answers = [
            anonymous(await caller.post(target=target, headers=headers))
            for target, headers in FORBIDDEN.values()
        ]
        as_get = raw(
            f"GET {INQUIRE} HTTP/1.1",
            f"Authorization: Bearer {TOKEN}",
            "Connection: close",
        )
        answers.append(anonymous(await house.caller.raw(as_get)))
        # The path is shared with a client that is not its own: no word of that.
        assert (await caller.post()).status == 200
        assert len(house.wallet.arrived) == 1
    assert answers[0][0] == 403
    assert b'"forbidden"' in answers[0][2]
    for name, answer in zip([*FORBIDDEN, "GET"], answers, strict=True):
        assert answer == answers[0], name
    denials = [line.get("denied") for line in house.exchanges]
    assert denials == ["forbidden"] * 8 + [None]


async def test_another_caller_may_use_what_the_first_may_not(house):
    got = await house.caller.known_by(OTHER).post(target=INQUIRE)
    assert (got.status, house.exchanges[-1]["caller"]) == (200, "payments")


async def test_a_method_is_judged_only_where_the_caller_may_go(house):
    line, token = f"GET {peer.TARGET} HTTP/1.1", f"Authorization: Bearer {TOKEN}"
    got = await house.caller.raw(raw(line, token, body=b""))
    assert (got.status, got.code) == (405, "method_not_allowed")


async def test_two_tokens_are_good_while_one_replaces_the_other(run_house):
    both = entry(token_sha256=[digest(TOKEN), digest(NEXT).upper()])
    async with run_house(callers=[both]) as house:
        for token in (TOKEN, NEXT):
            assert (await house.caller.known_by(token).post()).status == 200
        assert (await house.caller.known_by(OTHER).post()).status == 401

        def retire(settings):
            settings["callers"][0]["token_sha256"] = digest(NEXT)

        await change(house, retire)
        assert (await house.caller.known_by(TOKEN).post()).status == 401
        assert (await house.caller.known_by(NEXT).post()).status == 200


async def test_over_its_rate_a_caller_is_told_when_to_come_again(run_house):
    rate = {"per_second": 4, "burst": 2}
    async with run_house(callers=[entry(rate=rate), SERVICES[1]]) as house:
        caller, other = house.caller.known_by(TOKEN), house.caller.known_by(OTHER)
        answers = [await caller.post(b"nonsense") for _ in range(2)]
        refused = await caller.post()
        while refused.status != 429:  # a slow machine: some came back meanwhile
            refused = await caller.post()
        assert [each.status for each in answers] == [400, 400]
        assert (refused.code, refused.problem["outcome"]) == (
            "too_many_requests",
            "not_sent",
        )
        assert refused.header("Retry-After") == "1"
        assert (await other.post()).status == 200
        await asyncio.sleep(int(refused.header("Retry-After")))
        assert (await caller.post()).status == 200
        series = (
            'gateway_policy_denials_total{caller="catalogue",'
            'code="too_many_requests",enforced="true"}'
        )
        assert await house.metric(series) >= 1


async def test_what_is_forbidden_costs_nothing_of_the_rate(run_house):
    rate = {"per_second": 0.001, "burst": 1}
    callers = [entry(rate=rate, routes=[peer.TARGET])]
    async with run_house(callers=callers, routes=ROUTES) as house:
        caller = house.caller.known_by(TOKEN)
        for _ in range(3):
            assert (await caller.post(target=INQUIRE)).status == 403
        assert (await caller.post()).status == 200
        refused = await caller.post()
        assert refused.status == 429
        assert 900 < int(refused.header("Retry-After")) <= 1000


async def test_a_rate_goes_on_over_a_reload(run_house):
    rate = {"per_second": 0.001, "burst": 1}
    async with run_house(callers=[entry(rate=rate)]) as house:
        caller = house.caller.known_by(TOKEN)
        assert (await caller.post()).status == 200

        def add(settings):
            settings["callers"].append(entry("payments", OTHER))

        await change(house, add)
        assert (await caller.post()).status == 429
        assert (await house.caller.known_by(OTHER).post()).status == 200


async def test_a_reload_lets_in_and_shuts_out_at_once_also_on_an_open_connection(house):
    reader, writer = await house.caller.connect()
    data = raw(
        f"POST {peer.TARGET} HTTP/1.1",
        f"Authorization: Bearer {TOKEN}",
        body=peer.REQUEST_BODY,
    )
    writer.write(data)
    assert (await read_answer(reader)).status == 200

    def swap(settings):
        settings["callers"] = [entry("newcomer", NEXT)]

    await change(house, swap)
    writer.write(data)
    assert (await read_answer(reader)).status == 401
    writer.close()
    assert (await house.caller.known_by(OTHER).post()).status == 401
    assert (await house.caller.known_by(NEXT).post()).status == 200


async def holding(house):
    """Let the wallet answer only once the event is set."""
    answering = asyncio.Event()

    async def answer(request):
        await answering.wait()
        return house.wallet.success(request)

    house.wallet.answer = answer
    return answering


LIMITS = {
    "callers[].max_concurrent": (
        {"callers": [entry(max_concurrent=1), SERVICES[1]]},
        OTHER,
    ),
    "clients[].max_concurrent": (
        {
            "callers": [
                {**SERVICES[1], "clients": ["vn"]},
                entry(clients=["hk", "vn"], routes=[peer.TARGET]),
            ],
            "client": {"max_concurrent": 1},
            "more_clients": [
                {"name": "vn", "client_id": peer.CLIENT_ID, "keyring": "ring"}
            ],
            "routes": [
                {"path": peer.TARGET, "client": "hk"},
                {"path": peer.TARGET, "client": "vn"},
            ],
        },
        OTHER,
    ),
}


@pytest.mark.parametrize("setting", LIMITS)
async def test_a_limit_of_one_takes_nothing_from_the_others(run_house, setting):
    sections, other = LIMITS[setting]
    wish = [("Gateway-Client", "hk")] if "more_clients" in sections else []
    async with run_house(**sections) as house, asyncio.TaskGroup() as tasks:
        answering = await holding(house)
        caller = house.caller.known_by(TOKEN)
        first = tasks.create_task(caller.post(headers=wish))
        await house.seen(lambda: len(house.wallet.arrived) == 1, "nothing arrived")
        refused = await caller.post(headers=wish)
        assert (refused.status, refused.code) == (503, "overloaded")
        assert setting in refused.problem["detail"]
        second = tasks.create_task(house.caller.known_by(other).post())
        await house.seen(lambda: len(house.wallet.arrived) == 2, "it was held up")
        answering.set()
        assert [(await each).status for each in (first, second)] == [200, 200]
        assert (await caller.post(headers=wish)).status == 200


async def test_a_policy_that_only_reports_lets_through_and_counts(run_house):
    rate = {"per_second": 0.001, "burst": 1}
    callers = [entry(rate=rate, routes=[peer.TARGET])]
    async with run_house(callers=callers, routes=ROUTES, policy="report") as house:
        caller = house.caller.known_by(TOKEN)
        strangers = [await house.caller.post(), await caller.post(target=INQUIRE)]
        often = [await caller.post() for _ in range(2)]
        assert [each.status for each in (*strangers, *often)] == [200] * 4
        assert [(line["caller"], line.get("denied")) for line in house.exchanges] == [
            ("", "unauthenticated"),
            ("catalogue", "forbidden"),
            ("catalogue", "too_many_requests"),
            ("catalogue", "too_many_requests"),
        ]
        assert house.events("listening")[0]["policy"] == "report"
        for name, code in (
            ("", "unauthenticated"),
            ("catalogue", "forbidden"),
        ):
            series = (
                f'gateway_policy_denials_total{{caller="{name}",code="{code}",'
                'enforced="false"}'
            )
            assert await house.metric(series) == 1
        assert (await caller.post(target="/nothing")).status == 404


async def test_no_credential_reaches_alipayhk_or_any_output(house):
    await house.caller.known_by(TOKEN).post()
    await house.caller.known_by(OTHER).post(target=INQUIRE)
    await house.caller.known_by(NEXT).post()
    await house.caller.known_by(TOKEN).post(target=INQUIRE)
    await house.caller.raw(raw("NO HTTP", f"Authorization: Bearer {TOKEN}"))
    arrived = house.wallet.arrived
    assert len(arrived) == 2
    for request in arrived:
        assert request.header("Authorization") is None
        assert not [v for _, v in request.headers if TOKEN in v or OTHER in v]
    outputs = [
        house.stdout.getvalue(),
        house.stderr.getvalue(),
        (await house.admin_get("/metrics")).body.decode(),
        (await house.admin_get("/readyz")).body.decode(),
        repr(house.gateway._plant.settings),
    ]
    for secret in (TOKEN, NEXT, OTHER, digest(TOKEN), digest(OTHER)):
        assert not [each for each in outputs if re.search(secret, each, re.IGNORECASE)]


# --- what the log tells of refusals ------------------------------------------


async def test_each_refusal_says_where_it_came_from(run_house):
    callers = [entry(routes=[peer.TARGET], rate={"per_second": 0.001, "burst": 1})]
    asked = {
        200: raw(f"POST {peer.TARGET} HTTP/1.1", BEARER, body=peer.REQUEST_BODY),
        429: raw(f"POST {peer.TARGET} HTTP/1.1", BEARER),
        401: raw(f"POST {peer.TARGET} HTTP/1.1"),
        403: raw("POST /nothing HTTP/1.1", BEARER),
        405: raw(f"GET {peer.TARGET} HTTP/1.1", BEARER, body=b""),
        400: raw("POST /%zz HTTP/1.1", BEARER),
    }
    more = {
        404: raw("POST /nothing HTTP/1.1"),
        405: b"get /\r\n\r\n",
        413: raw(f"POST {peer.TARGET} HTTP/1.1", body=b"x" * 101),
        502: raw(f"POST {peer.TARGET} HTTP/1.1"),
    }
    for settings, cases in (
        ({"callers": callers}, asked),
        ({"inbound": {"max_body_bytes": 100}, "policy": "enforce"}, more),
    ):
        async with run_house(**settings) as house:
            house.wallet.answer = house.wallet.success
            for status, data in cases.items():
                if status == 502:
                    house.wallet.answer = lambda _: b"nonsense"
                reader, writer = await house.caller.connect()
                writer.write(data)
                got = await read_answer(reader)
                host, port = writer.get_extra_info("sockname")
                writer.close()
                assert got.status in (status, 400), data
                await house.seen(lambda: house.exchanges, "no line")
                line = house.exchanges[-1]
                expected = None if got.status == 200 else f"{host}:{port}"
                assert line.get("peer") == expected, line


@pytest.fixture
def long_interval(monkeypatch):
    """Have an interval last for the whole test, however slow the machine is."""
    monkeypatch.setattr(floods, "EVERY", timedelta(minutes=10))


async def test_a_flood_of_strangers_is_few_lines_and_counted_exactly(
    long_interval, house
):
    request = raw(f"POST {peer.TARGET} HTTP/1.1", body=b"")
    for number in range(SINGLY + 150):
        assert (await house.caller.raw(request)).status == 401
        if number % 20 == 0:
            assert (await house.caller.known_by(TOKEN).post()).status == 200
            assert (await house.caller.known_by(TOKEN).post(b"none")).status == 400
    counted = (
        'gateway_exchanges_total{caller="",client="",code="unauthenticated",route=""}'
    )
    assert await house.metric(counted) == SINGLY + 150
    house.gateway.stop()
    await house.seen(lambda: house.events("stopped"), "no end")
    lines = house.exchanges
    alone = [each for each in lines if each.get("code") == "unauthenticated"]
    *alone, whole = alone
    assert {each["event"] for each in alone} == {"exchange"}
    assert len(alone) == SINGLY
    assert (whole["event"], whole["count"], whole["peers"]) == ("refusals", 150, 1)
    own = [each for each in lines if each.get("caller") == "catalogue"]
    assert len(own) == 2 * (-(-(SINGLY + 150) // 20))


async def test_nothing_is_answered_or_held_behind_a_strangers_first_request(house):
    reader, writer = await house.caller.connect()
    writer.write(begun("nobody", 8, 0) + b'"}' + begun(TOKEN, 8, 0) * 100)
    got = await read_answer(reader)
    assert (got.status, got.code) == (401, "unauthenticated")
    assert got.header("Connection") == "close"
    assert await reader.read() == b""
    writer.close()
    assert len(house.exchanges) == 1
    await house.seen_metric("gateway_buffered_bytes", 0)


# --- memory that callers share -------------------------------------------------------


def begun(token, size, sent):
    """Give a request whose body stops before its end."""
    head = (
        f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    return head.encode() + b'{"a":"' + b"x" * sent


async def test_a_caller_whose_bodies_never_end_takes_no_room_from_another(run_house):
    """It fills the room for bodies, and whatever gap is left, time and again."""
    greedy, other = entry(max_concurrent=1), entry("payments", OTHER)
    most = 100_000
    async with run_house(
        callers=[greedy, other],
        routes=ROUTES,
        inbound={"max_body_bytes": most, "max_buffered_bytes": 10 * most},
        client={"max_response_bytes": most},
    ) as house:
        lines = []

        async def fill():
            for sent in (most - 100, most // 2, 1000, 100):
                for _ in range(20):
                    reader, writer = await house.caller.connect()
                    writer.write(begun(TOKEN, most, sent))
                    lines.append((reader, writer))
            await asyncio.sleep(0.1)  # for what is to be read to be read

        codes = []
        body = b'{"a":"' + b"x" * (most // 2) + b'"}'
        for _ in range(5):
            await fill()
            for _ in range(4):
                got = await house.caller.known_by(OTHER).post(body)
                codes.append(got.status)
        assert codes == [200] * 20
        await house.seen_metric("gateway_buffered_bytes", 0, within=10 * most + 200_000)
        for _, writer in lines:
            writer.close()


async def test_a_caller_that_reads_no_answer_has_no_more_of_them_held_than_its_places(
    run_house,
):
    """It has one place; the answer that it does not take keeps it."""
    callers = [entry(max_concurrent=1), entry("payments", OTHER)]
    size = 4 << 20
    async with run_house(
        callers=callers, routes=ROUTES, inbound={"queue_timeout_s": 0}
    ) as house:
        big = json.dumps(json.loads(peer.SUCCESS) | {"x": "x" * size}).encode()
        house.wallet.answer = lambda request: house.wallet.signed(request, big)
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(0)
        loop = asyncio.get_running_loop()
        with line:
            await loop.sock_connect(line, ("127.0.0.1", house.caller.port))
            await loop.sock_sendall(line, begun(TOKEN, 8, 0) + b'"}')
            await house.seen_metric("gateway_buffered_bytes", size, within=8192)
            house.wallet.answer = house.wallet.success
            got = await house.caller.known_by(TOKEN).post()
            assert (got.status, got.code) == (503, "overloaded")
            assert "callers[].max_concurrent" in got.problem["detail"]
            assert (await house.caller.known_by(OTHER).post()).status == 200
        await house.seen_metric("gateway_buffered_bytes", 0)
        assert (await house.caller.known_by(TOKEN).post()).status == 200
