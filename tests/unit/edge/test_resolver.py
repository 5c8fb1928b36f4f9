"""Look-ups of names: one that hangs holds up no other, and is not made twice."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import pytest

from gateway.edge import resolver
from gateway.edge.resolver import Resolver

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class NameServers:
    """Stands in for the system's look-up: silent for some names, until it is let go."""

    def __init__(self):
        self.asked = []
        self.silent = set()
        self.error = None
        self._let_go = threading.Event()
        self._system = socket.getaddrinfo

    def look_up(self, host, port, **options):
        if options["flags"] == socket.AI_NUMERICHOST:
            return self._system(host, port, **options)
        self.asked.append(host)
        if host in self.silent:
            self._let_go.wait(60)
        if self.error is not None:
            raise self.error
        return FOUND

    def let_go(self):
        self._let_go.set()


@pytest.fixture
def servers(monkeypatch):
    servers = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", servers.look_up)
    yield servers
    servers.let_go()


@contextmanager
def later(monkeypatch, seconds):
    """Let the loop's clock be that much ahead."""
    loop = asyncio.get_running_loop()
    time = loop.time
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", lambda: time() + seconds)
        yield


async def ended(task):
    """Wait for a task, for as long as a thread may take to begin on a busy machine."""
    done, _ = await asyncio.wait([task], timeout=20)
    assert done, "it waits for another's look-up"
    return task.result()


async def test_look_ups_that_hang_hold_up_no_other_name(servers):
    names = Resolver()
    servers.silent = {f"silent-{number}.test" for number in range(64)}
    hanging = [
        asyncio.ensure_future(names.look_up(name, 443)) for name in servers.silent
    ]
    answered = asyncio.ensure_future(names.look_up("open.alipay.test", 443))
    assert await ended(answered) == FOUND
    assert not any(each.done() for each in hanging)
    servers.let_go()
    assert await asyncio.gather(*hanging) == [FOUND] * 64


async def test_of_one_name_one_look_up_is_under_way_whoever_waits(servers):
    names = Resolver()
    servers.silent = {"open.alipay.test"}
    asking = [
        asyncio.ensure_future(names.look_up("open.alipay.test", 443)) for _ in range(64)
    ]
    await asyncio.wait(asking, timeout=0.05)
    asking[0].cancel()  # who gives up takes nothing from the others
    servers.let_go()
    assert await asyncio.gather(*asking[1:]) == [FOUND] * 63
    assert servers.asked == ["open.alipay.test"]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
async def test_an_address_is_never_looked_up(servers, host, address):
    (found,) = await Resolver().look_up(host, 443)
    assert found[4][:2] == (address, 443)
    assert servers.asked == []


async def test_the_zone_of_an_address_is_kept(servers):
    (found,) = await Resolver().look_up("fe80::1%lo", 443)
    assert found[4][1:] == (443, 0, socket.if_nametoindex("lo"))
    assert servers.asked == []


async def test_what_was_found_serves_for_a_while_and_then_is_looked_up_anew(
    servers, monkeypatch
):
    names = Resolver()
    for _ in range(2):
        assert await names.look_up("open.alipay.test", 443) == FOUND
    assert len(servers.asked) == 1
    with later(monkeypatch, resolver._FRESH_S):
        await names.look_up("open.alipay.test", 443)
    assert len(servers.asked) == 2


async def test_what_was_found_serves_on_while_a_later_look_up_hangs(
    servers, monkeypatch
):
    names = Resolver()
    await names.look_up("open.alipay.test", 443)
    servers.silent = {"open.alipay.test"}
    monkeypatch.setattr(resolver, "_PATIENCE_S", 0.05)
    with later(monkeypatch, resolver._FRESH_S):
        for _ in range(3):
            asking = asyncio.ensure_future(names.look_up("open.alipay.test", 443))
            assert await ended(asking) == FOUND
    assert len(servers.asked) == 2, "each made a look-up of its own"
    with later(monkeypatch, resolver._STALE_S):
        asking = asyncio.ensure_future(names.look_up("open.alipay.test", 443))
        done, _ = await asyncio.wait([asking], timeout=0.2)
        assert not done, "too old an address served"
        servers.let_go()
        assert await ended(asking) == FOUND


@pytest.mark.parametrize(
    ("number", "serves_on"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)]
)
async def test_what_was_found_serves_on_unless_the_name_is_gone(
    servers, monkeypatch, number, serves_on
):
    names = Resolver()
    await names.look_up("open.alipay.test", 443)
    servers.error = socket.gaierror(number, "words")
    with later(monkeypatch, resolver._FRESH_S):
        if serves_on:
            assert await names.look_up("open.alipay.test", 443) == FOUND
        else:
            with pytest.raises(socket.gaierror, match="words"):
                await names.look_up("open.alipay.test", 443)


async def test_a_look_up_that_failed_is_made_again(servers):
    names = Resolver()
    servers.error = socket.gaierror(socket.EAI_AGAIN, "words")
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="words"):
            await names.look_up("open.alipay.test", 443)
    servers.error = None
    assert await names.look_up("open.alipay.test", 443) == FOUND
    assert len(servers.asked) == 3


async def test_a_look_up_that_nobody_waits_for_any_more_may_fail(servers):
    names = Resolver()
    servers.silent = {"open.alipay.test"}
    servers.error = socket.gaierror(socket.EAI_AGAIN, "words")
    asking = asyncio.ensure_future(names.look_up("open.alipay.test", 443))
    await asyncio.wait([asking], timeout=0.05)
    asking.cancel()
    servers.let_go()
    while names._under_way:  # noqa: ASYNC110 - nobody is told of its end
        await asyncio.sleep(0.01)
