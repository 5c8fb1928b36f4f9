"""A Unix socket as listener: taken over from the dead, never from the living."""

import asyncio
import os
import socket
import stat

import pytest

from gateway.errors import SetupError
from tests import peer
from tests.integration.caller import Caller

ADDRESS = {"listen": "unix:run/gateway.sock"}


class Neighbour(Caller):
    """Calls through the socket file."""

    def __init__(self, path):
        super().__init__(0)
        self.path = path

    async def connect(self):
        return await asyncio.open_unix_connection(self.path)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run/gateway.sock"


async def test_a_socket_is_there_while_the_gateway_runs_and_not_after(run_house, path):
    async with run_house(inbound=ADDRESS) as house:
        assert (await Neighbour(path).post()).header("Gateway-Verified") == "true"
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert house.address == f"unix:{path}"
        assert house.events("listening")[0]["inbound"] == f"unix:{path}"
    assert not path.exists()


async def test_admin_may_be_a_socket_too(run_house, path):
    async with run_house(admin=ADDRESS):
        got = await Neighbour(path).raw(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert got.status == 200
    assert not path.exists()


async def test_the_socket_of_a_process_that_was_killed_is_replaced(run_house, path):
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    async with run_house(inbound=ADDRESS):
        assert (await Neighbour(path).post()).status == 200


@pytest.mark.parametrize("full", [False, True], ids=["waiting", "with a full queue"])
async def test_a_socket_that_is_listened_on_is_not_taken(run_house, path, full):
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as one:
        other.bind(str(path))
        other.listen(0)
        if full:
            one.connect(str(path))
        before = path.stat().st_ino
        with pytest.raises(ExceptionGroup) as caught:
            async with run_house(inbound=ADDRESS):
                pytest.fail("it started")
        (error,) = caught.value.exceptions
        assert isinstance(error, SetupError)
        assert f"inbound.listen: unix:{path} cannot be listened on" in error.detail
        assert "Address already in use" in error.detail
        assert path.stat().st_ino == before


async def test_another_file_in_its_place_is_not_touched(run_house, path):
    path.write_text("precious")
    with pytest.raises(ExceptionGroup) as caught:
        async with run_house(inbound=ADDRESS):
            pytest.fail("it started")
    assert "cannot be listened on" in caught.value.exceptions[0].detail
    assert path.read_text() == "precious"


async def test_the_socket_of_a_successor_is_not_removed(run_house, path):
    """A gateway that drains has stopped listening; the next one takes the place."""
    async with run_house(inbound=ADDRESS) as house:
        answering = asyncio.Event()

        async def answer(request):
            await answering.wait()
            return house.wallet.success(request)

        house.wallet.answer = answer
        async with asyncio.TaskGroup() as tasks:
            under_way = tasks.create_task(Neighbour(path).post())
            await house.seen(lambda: house.wallet.arrived, "nothing arrived")
            house.gateway.stop()
            await house.seen(lambda: house.events("draining"), "no draining")
            with socket.socket(socket.AF_UNIX) as successor:
                path.unlink(missing_ok=True)
                successor.bind(str(path))
                answering.set()
                assert (await under_way).status == 200
                await house.seen(lambda: house.events("stopped"), "it goes on")
    assert path.exists()


async def test_a_half_that_is_closed_over_a_socket_gets_its_answer(run_house, path):
    async with run_house(inbound=ADDRESS):
        reader, writer = await Neighbour(path).connect()
        body = peer.REQUEST_BODY
        head = f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200")


async def test_the_peer_of_a_refusal_is_a_user_and_a_process(run_house, path):
    async with run_house(inbound=ADDRESS) as house:
        assert (await Neighbour(path).post(target="/nothing")).status == 404
        (line,) = house.exchanges
        assert line["peer"] == f"uid={os.getuid()}:pid={os.getpid()}"
