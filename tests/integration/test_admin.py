"""The admin listener: who may ask, with tokens, with a certificate, with neither."""

import asyncio

import pytest

from tests.integration.caller import Caller
from tests.integration.conftest import change
from tests.integration.pki import LOCALHOST, Authority, trusting
from tests.integration.test_callers import NEXT, OTHER, TOKEN, digest

PAGES = ("/livez", "/readyz", "/metrics", "/keys", "/nothing", "/livez/../metrics")
FILES = {"certificate": "gateway.crt", "private_key": "gateway.key"}


async def ask(admin, path, *headers, method="GET"):
    lines = [f"{method} {path} HTTP/1.1", "Host: a", "Connection: close", *headers]
    return await admin.raw("\r\n".join([*lines, "", ""]).encode())


async def test_on_loopback_without_tokens_the_pages_are_open(house):
    for path in PAGES[:4]:
        assert (await ask(house.admin, path)).status == 200


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [f"Authorization: Bearer {OTHER}"],
        [f"Authorization: Bearer {digest(TOKEN)}"],
        [f"Authorization: Basic {TOKEN}"],
        [f"Authorization: Bearer {TOKEN}"] * 2,
    ],
    ids=["none", "wrong", "hash", "scheme", "twice"],
)
async def test_where_there_are_tokens_no_page_is_shown_without_one(
    run_house, path, headers
):
    async with run_house(admin={"tokens": [digest(TOKEN), digest(NEXT)]}) as house:
        for method in ("GET", "POST"):
            got = await ask(house.admin, path, *headers, method=method)
            assert (got.status, got.body) == (401, b"")
            assert got.header("WWW-Authenticate") == "Bearer"


async def test_each_token_opens_every_page_until_it_is_taken_away(run_house):
    async with run_house(admin={"tokens": [digest(TOKEN), digest(NEXT)]}) as house:
        for token in (TOKEN, NEXT):
            for path in PAGES[:4]:
                got = await ask(house.admin, path, f"Authorization: Bearer {token}")
                assert got.status == 200

        def retire(settings):
            settings["admin"]["tokens"] = [digest(NEXT)]

        await change(house, retire)
        old = await ask(house.admin, "/livez", f"Authorization: Bearer {TOKEN}")
        new = await ask(house.admin, "/livez", f"Authorization: Bearer {NEXT}")
        assert (old.status, new.status) == (401, 200)


async def test_a_token_of_a_caller_opens_no_page_and_the_other_way_round(run_house):
    caller = {"name": "c", "token_sha256": digest(OTHER), "clients": ["hk"]}
    async with run_house(admin={"tokens": [digest(TOKEN)]}, callers=[caller]) as house:
        got = await ask(house.admin, "/metrics", f"Authorization: Bearer {OTHER}")
        assert got.status == 401
        assert (await house.caller.known_by(TOKEN).post()).status == 401


@pytest.mark.parametrize("tokens", [False, True])
async def test_a_certificate_opens_the_pages_and_a_strangers_does_not(
    run_house, tmp_path, tokens
):
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    authority.issue("gateway", *LOCALHOST)
    authority.issue("monitor")
    other.issue("stranger")
    section = {"tls": {**FILES, "client_ca": "ca.crt"}}
    if tokens:
        section["tokens"] = [digest(TOKEN)]
    async with run_house(admin=section) as house:
        port = house.admin.port
        monitor = Caller(port, tls=trusting(authority, "monitor"))
        assert (await ask(monitor, "/readyz")).status == 200
        trusts = trusting(authority)
        nobody = Caller(port, tls=trusts)
        if tokens:
            assert (await ask(nobody, "/readyz")).status == 401
            got = await ask(nobody, "/readyz", f"Authorization: Bearer {TOKEN}")
            assert got.status == 200
        else:
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await ask(nobody, "/readyz")
        trusts.load_cert_chain(tmp_path / "stranger.crt", tmp_path / "stranger.key")
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await ask(nobody, "/readyz", f"Authorization: Bearer {TOKEN}")


async def test_tls_alone_opens_nothing_where_there_are_tokens(run_house, tmp_path):
    authority = Authority(tmp_path)
    authority.issue("gateway", *LOCALHOST)
    section = {"tls": FILES, "tokens": [digest(TOKEN)]}
    async with run_house(admin=section) as house:
        admin = Caller(house.admin.port, tls=trusting(authority))
        assert (await ask(admin, "/metrics")).status == 401
        got = await ask(admin, "/metrics", f"Authorization: Bearer {TOKEN}")
        assert got.status == 200


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00"], ids=len)
async def test_handshakes_that_do_not_end_keep_no_probe_out(run_house, tmp_path, said):
    authority = Authority(tmp_path)
    authority.issue("gateway", *LOCALHOST)
    section = {"tls": FILES, "tokens": [digest(TOKEN)]}
    async with run_house(admin=section) as house:
        silent = [await house.admin.connect() for _ in range(64)]
        for _, writer in silent:
            writer.write(said)
        admin = Caller(house.admin.port, tls=trusting(authority))
        async with asyncio.timeout(3):  # less than the bound of a handshake
            got = await ask(admin, "/livez", f"Authorization: Bearer {TOKEN}")
        assert got.status == 200
        for _, writer in silent:
            writer.close()
        assert [each["listener"] for each in house.events("connections_full")] == [
            "admin"
        ]
        assert house.events("loop_error") == []
