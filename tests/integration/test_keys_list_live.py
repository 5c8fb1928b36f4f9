"""`gateway keys list --live`: the command line asks a gateway that runs."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest

from tests.e2e.workspace import Workspace, error_of
from tests.integration.conftest import change, write_private
from tests.integration.pki import LOCALHOST, Authority
from tests.integration.test_admin import FILES
from tests.integration.test_callers import OTHER, TOKEN, digest
from tests.integration.test_inventory import rotate

SOCKET = {"listen": "unix:admin.sock"}


async def listed(house, *options):
    """List the keys as an operator would, beside the gateway."""
    place = Workspace(house.folder)
    return await asyncio.to_thread(place.gateway, "keys", "list", "--live", *options)


async def facts(house, *options):
    done = await listed(house, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def refusal(house, *options):
    done = await listed(house, *options)
    assert done.returncode == 1
    return error_of(done).removeprefix("gateway: admin.listen ")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_uses_and_the_last_of_them_are_told(run_house, host, other_key):
    admin = {"listen": f"{host}:{free_port()}"}
    async with run_house(admin=admin) as house:
        for _ in range(3):
            await house.caller.post()
        await rotate(house, other_key)
        await house.caller.post()
        found = await facts(house)
        table = (await listed(house)).stdout.decode()
    told = {(key["section"], key["version"]): key for key in found["keys"]}
    assert told["partner", "1"]["operations"] == {"sign": 3}
    assert told["partner", "2"]["used"] == 1
    assert told["platform", "1"]["used"] == 4
    assert told["platform", "1"]["first_seen"].endswith("Z")
    assert found["live"]["generation"] == found["generation"] == 2
    rows = [line.split() for line in table.splitlines()[3:]]
    assert [(row[0], row[1], row[6]) for row in rows] == [
        ("partner", "1", "3"),
        ("partner", "2", "1"),
        ("platform", "1", "4"),
    ]
    assert all(row[7].endswith("Z") for row in rows)
    assert max(map(len, table.splitlines()[2:])) <= 100


async def test_a_key_that_was_not_used_has_no_last_use(run_house):
    async with run_house(admin=SOCKET) as house:
        found = await facts(house)
        assert [key["used"] for key in found["keys"]] == [0, 0]
        assert [key["last_used"] for key in found["keys"]] == [None, None]


async def test_another_generation_in_use_is_told_and_unknown_keys_have_no_uses(
    run_house, other_key
):
    async with run_house(admin=SOCKET) as house:
        await house.caller.post()
        await rotate(house, other_key)
        text = (house.ring / "keyring.yaml").read_text()
        text = text.replace('"2"', '"3"').replace("generation: 2", "generation: 1")
        (house.ring / "keyring.yaml").write_text(text)
        await house.seen(lambda: house.events("keyring_refused"), "not refused")
        table = (await listed(house)).stdout.decode().splitlines()
        found = await facts(house)
    assert table[1].startswith("generation 2 is in use, counted since 2")
    assert [key["used"] for key in found["keys"]] == [1, None, 1]


async def test_a_version_that_is_another_key_here_is_not_told_as_the_gateways(
    run_house, other_key
):
    async with run_house(admin=SOCKET) as house:
        await house.caller.post()
        (house.ring / "partner-1.pem").unlink()
        write_private(house.ring / "partner-1.pem", other_key)
        (ours, _) = (await facts(house))["keys"]
        assert ours["used"] in (None, 0)


# --- who may ask -------------------------------------------------------------


async def test_a_token_is_read_from_its_file_and_shown_nowhere(run_house, tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    async with run_house(admin={**SOCKET, "tokens": [digest(TOKEN)]}) as house:
        assert (await facts(house, "--token-file", "token"))["live"]
        done = await listed(house, "--token-file", "token")
        assert TOKEN.encode() not in done.stdout + done.stderr


@pytest.mark.parametrize("token", [None, OTHER])
async def test_without_the_right_token_the_option_is_named(run_house, tmp_path, token):
    options = []
    if token:
        (tmp_path / "token").write_text(token)
        options = ["--token-file", "token"]
    async with run_house(admin={**SOCKET, "tokens": [digest(TOKEN)]}) as house:
        assert (await refusal(house, *options)).endswith(
            "admin.sock: it asks for a token of admin.tokens: --token-file FILE"
        )


@pytest.mark.parametrize("text", ["", "a b", "a\nHost: evil", "é"])
async def test_a_token_file_that_holds_something_else_is_refused(
    run_house, tmp_path, text
):
    (tmp_path / "token").write_text(text)
    async with run_house(admin=SOCKET) as house:
        done = await listed(house, "--token-file", "token")
        assert error_of(done) == "gateway: token: it does not hold a token alone"


async def test_the_listeners_own_certificate_is_trusted_whatever_its_name(
    run_house, tmp_path
):
    authority = Authority(tmp_path)
    authority.issue("gateway", *LOCALHOST)
    admin = {"listen": f"127.0.0.1:{free_port()}", "tls": FILES}
    async with run_house(admin=admin) as house:
        assert (await facts(house))["live"]["generation"] == 1


async def test_a_listener_with_another_certificate_is_shown_no_token(
    run_house, tmp_path
):
    """The authority is the same: the certificate as a whole is what counts."""
    authority = Authority(tmp_path)
    authority.issue("gateway", *LOCALHOST)
    chain = tmp_path / "gateway.crt"
    chain.write_bytes(chain.read_bytes() + authority.file.read_bytes())
    port = free_port()
    (tmp_path / "token").write_text(TOKEN)
    tls = {"tls": FILES, "tokens": [digest(TOKEN)]}
    async with run_house(admin={"listen": f"127.0.0.1:{port}", **tls}) as house:
        authority.issue("other", *LOCALHOST)
        other = tmp_path / "other.crt"
        other.write_bytes(other.read_bytes() + authority.file.read_bytes())
        text = house.file.read_text().replace("gateway.", "other.")
        house.file.write_text(text)
        assert (await refusal(house, "--token-file", "token")).endswith(
            ": it shows another certificate than ours"
        )


async def test_a_certificate_of_ours_is_shown_where_one_is_asked_for(
    run_house, tmp_path
):
    authority = Authority(tmp_path)
    authority.issue("gateway", *LOCALHOST)
    authority.issue("operator")
    tls = {**FILES, "client_ca": "ca.crt"}
    admin = {"listen": f"127.0.0.1:{free_port()}", "tls": tls}
    ours = ("--certificate", "operator.crt", "--private-key", "operator.key")
    async with run_house(admin=admin) as house:
        assert (await facts(house, *ours))["live"]
        said = await refusal(house)
        assert said.endswith("it may ask for a certificate: --certificate FILE")


async def test_a_listener_that_a_stranger_vouches_for_is_not_asked(run_house, tmp_path):
    Authority(tmp_path).issue("gateway", *LOCALHOST)
    Authority(tmp_path, "stranger").issue("other", *LOCALHOST)
    admin = {"listen": f"127.0.0.1:{free_port()}", "tls": FILES}
    async with run_house(admin=admin) as house:
        text = house.file.read_text().replace("gateway.", "other.")
        house.file.write_text(text)
        assert (await refusal(house)).endswith("unable to get local issuer certificate")


# --- what cannot be reached --------------------------------------------------


@asynccontextmanager
async def answering(house, data):
    """Let something else listen where the configuration has the gateway."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        writer.close()

    file = house.folder / "other.sock"
    text = house.file.read_text().replace("admin.sock", "other.sock")
    house.file.write_text(text)
    server = await asyncio.start_unix_server(serve, file)
    try:
        yield
    finally:
        server.close()
        file.unlink()


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no gateway answers: RemoteDisconnected"),
        (b"hello\r\n", "what answers does not speak HTTP"),
        (OK + b"hello", "what answers is no gateway"),
        (OK + b"[]", "what answers is no gateway"),
        (OK + b'{"clients": []}', "what answers is no gateway"),
        (
            b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n",
            "it has no page of keys: it is older, or no gateway",
        ),
        (
            b"HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n",
            "it answers with status 599",
        ),
    ],
)
async def test_whatever_answers_in_its_place_is_told_as_such(run_house, data, says):
    async with run_house(admin=SOCKET) as house, answering(house, data):
        assert (await refusal(house)).endswith(f"other.sock: {says}")


@pytest.mark.parametrize(
    "where", ["127.0.0.1:PORT", "0.0.0.0:PORT", "[::]:PORT", "unix:none.sock"]
)
async def test_where_nobody_listens_the_address_is_named(run_house, where):
    address = where.replace("PORT", str(free_port()))
    async with run_house(admin={**SOCKET, "tokens": [digest(TOKEN)]}) as house:
        text = house.file.read_text()
        house.file.write_text(text.replace("unix:admin.sock", f"'{address}'"))
        said = await refusal(house)
        assert address.removeprefix("unix:") in said
        assert ": no gateway answers: " in said


async def test_a_port_of_0_cannot_be_found(house):
    assert await refusal(house) == (
        "127.0.0.1:0: port 0 is another one at each start: write one down"
    )


async def test_a_client_that_the_gateway_does_not_run_with_is_named(run_house):
    async with run_house(admin=SOCKET) as house:
        text = house.file.read_text()
        house.file.write_text(
            text.replace("name: hk", "name: new").replace("client: hk", "client: new")
        )
        assert "the gateway has no client new" in await refusal(house)


async def test_live_is_of_a_configuration_and_not_of_a_folder(house):
    done = await listed(house, "--keyring", "ring")
    assert done.returncode == 2
    assert "--live asks the gateway of a configuration" in error_of(done)


async def test_a_reload_has_the_gateway_know_what_it_is_asked(run_house):
    async with run_house(admin=SOCKET) as house:
        await change(house, lambda _: None)
        assert (await facts(house))["live"]["generation"] == 1
