"""What a web page has its browser send: never signed, and no admin page of it."""

import pytest

from tests import peer
from tests.integration.caller import Caller
from tests.integration.pki import LOCALHOST, Authority, trusting
from tests.integration.test_callers import TOKEN, digest
from tests.integration.test_unix_socket import Neighbour

NO_NAMES = {"inbound": {"hosts": []}, "admin": {"hosts": []}}
OURS = ("localhost", "LOCALHOST:{}", "127.0.0.1:{}", "127.0.0.2", "[::1]:{}", "")
FOREIGN = (
    "evil.example",
    "evil.example:{}",
    "127.0.0.1.nip.io",
    "localhost.evil.example",
    "0.0.0.0:{}",
    "[::]",
    "192.0.2.1:{}",
    "gateway",
    "2130706433",
    "127.0.0.1%2e.evil.example",
    "127.0.0.1%25lo:{}",
)


def call(host, *headers, method="POST", target=peer.TARGET):
    body = peer.REQUEST_BODY if method == "POST" else b""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [*headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture
async def plain_house(run_house):
    async with run_house(**NO_NAMES) as house:
        yield house


@pytest.mark.parametrize("host", OURS)
async def test_who_calls_this_machine_is_served(plain_house, host):
    house = plain_house
    got = await house.caller.raw(call(host.format(house.caller.port)))
    assert got.status == 200
    page = call(host.format(house.admin.port), method="GET", target="/readyz")
    assert (await house.admin.raw(page)).status == 200


@pytest.mark.parametrize("host", FOREIGN)
async def test_who_was_led_here_by_another_name_is_not(plain_house, host):
    house = plain_house
    for method in ("POST", "GET"):
        got = await house.caller.raw(
            call(host.format(house.caller.port), method=method)
        )
        assert (got.status, got.code) == (403, "forbidden")
        assert got.problem["outcome"] == "not_sent"
        assert "inbound.hosts" in got.problem["detail"]
    for path in ("/livez", "/readyz", "/metrics", "/keys", "/nothing"):
        page = call(host.format(house.admin.port), method="GET", target=path)
        got = await house.admin.raw(page)
        assert got.status == 403
        assert b"admin.hosts" in got.body
    assert house.wallet.arrived == []


@pytest.mark.parametrize(
    "headers",
    [
        ["Origin: https://evil.example"],
        ["Origin: null"],
        ["Origin: http://localhost:1"],
        ["Origin: https://localhost:{}"],
        ["Origin: http://localhost:{}", "Origin: https://evil.example"],
        ["Origin:"],
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site"],
        ["Sec-Fetch-Site: Cross-Site"],
        ["Sec-Fetch-Site: same-origin, cross-site"],
        ["Sec-Fetch-Site:"],
        ["Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"],
        ["Origin: http://localhost:{}", "Sec-Fetch-Site: cross-site"],
    ],
)
async def test_what_a_page_of_another_origin_sends_is_not_signed(plain_house, headers):
    """Also as text/plain, which a browser sends without asking first."""
    house, port = plain_house, plain_house.caller.port
    sent = [each.format(port) for each in headers]
    for method in ("POST", "OPTIONS"):
        data = call(
            f"localhost:{port}", "Content-Type: text/plain", *sent, method=method
        )
        got = await house.caller.raw(data)
        assert (got.status, got.code) == (403, "forbidden")
        assert got.problem["outcome"] == "not_sent"
        assert got.header("Access-Control-Allow-Origin") is None
    assert house.wallet.arrived == []


@pytest.mark.parametrize(
    "headers",
    [
        ["Origin: http://LOCALHOST:{}"],
        ["Sec-Fetch-Site: same-origin"],
        ["Sec-Fetch-Site: none"],
    ],
)
async def test_what_is_of_the_gateways_own_origin_passes(plain_house, headers):
    port = plain_house.caller.port
    data = call(f"localhost:{port}", *[each.format(port) for each in headers])
    assert (await plain_house.caller.raw(data)).status == 200


async def test_other_names_are_added_by_the_configuration(run_house):
    inbound, admin = {"hosts": ["Gateway.lan"]}, {"hosts": ["Gateway.lan"]}
    async with run_house(inbound=inbound, admin=admin) as house:
        for host, status in (("gateway.LAN:80", 200), ("lan", 403)):
            assert (await house.caller.raw(call(host))).status == status
            page = call(host, method="GET", target="/livez")
            assert (await house.admin.raw(page)).status == status


async def test_where_callers_are_named_their_credentials_protect(run_house):
    """Any name will do: no page knows a token."""
    callers = [{"name": "c", "token_sha256": digest(TOKEN), "clients": ["hk"]}]
    async with run_house(callers=callers, **NO_NAMES) as house:
        for token, status in ((TOKEN, 200), ("", 401)):
            data = call(
                "gateway.prod.example",
                "Origin: https://evil.example",
                "Sec-Fetch-Site: cross-site",
                f"Authorization: Bearer {token}",
            )
            assert (await house.caller.raw(data)).status == status


async def test_a_probe_of_the_pods_address_passes_as_does_a_token_by_any_name(
    run_house,
):
    """As a kubelet and Prometheus ask: by an address, or by the name of a service."""
    admin = {"listen": "0.0.0.0:0", "hosts": [], "tokens": [digest(TOKEN)]}
    async with run_house(admin=admin) as house:
        for host in ("10.1.2.3:9090", "gateway.prod.svc:9090", "127.0.0.1"):
            for headers, status in (
                ([f"Authorization: Bearer {TOKEN}"], 200),
                ([], 401),
            ):
                page = call(host, *headers, method="GET", target="/livez")
                assert (await house.admin.raw(page)).status == status


async def test_over_tls_the_certificate_has_the_name(run_house, tmp_path):
    authority = Authority(tmp_path)
    authority.issue("gateway", *LOCALHOST)
    files = {"certificate": "gateway.crt", "private_key": "gateway.key"}
    async with run_house(admin={"hosts": [], "tls": files}) as house:
        admin = Caller(house.admin.port, tls=trusting(authority))
        page = call("gateway.prod.svc", method="GET", target="/livez")
        assert (await admin.raw(page)).status == 200


async def test_on_a_unix_socket_a_host_is_nobodys(run_house, tmp_path):
    where = {"listen": f"unix:{tmp_path / 'in'}", "hosts": []}
    async with run_house(inbound=where) as house:
        got = await Neighbour(tmp_path / "in").raw(call("docker"))
        assert got.status == 200
        assert len(house.wallet.arrived) == 1
