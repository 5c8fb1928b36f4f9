"""A bound address, and what is said of one that cannot be bound."""

import asyncio
import socket

import pytest

from gateway.edge.connection import Server
from gateway.edge.listener import listening
from gateway.errors import SetupError


def server_of():
    return Server(None, None)


async def refused(host, port):
    server = server_of()
    with pytest.raises(SetupError) as caught:
        async with listening(server, (host, port), setting="admin.listen"):
            pass
    return caught.value.detail


async def test_a_listener_knows_its_real_port_and_can_stop_accepting():
    server = server_of()
    async with listening(server, ("127.0.0.1", 0), setting="x") as listener:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        await listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", listener.port)
        writer.close()
    assert listener.address == f"127.0.0.1:{listener.port}"


async def test_an_address_in_use_is_told_with_its_setting():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert await refused("127.0.0.1", port) == (
            f"admin.listen: 127.0.0.1:{port} cannot be listened on: "
            "Address already in use"
        )


async def test_an_address_that_is_not_ours_is_told_in_words():
    # RFC 5737: an address for documents, which no machine has.
    assert await refused("192.0.2.1", 80) == (
        "admin.listen: 192.0.2.1:80 cannot be listened on: "
        "Cannot assign requested address"
    )


async def test_a_name_that_does_not_resolve_is_told_in_words(monkeypatch):
    async def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    detail = await refused("no.such.host", 80)
    assert "Unknown error" not in detail
    assert detail.startswith("admin.listen: no.such.host:80 cannot be listened on: ")
