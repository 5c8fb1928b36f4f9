"""Bodies are bounded together, and that bound itself loses no answer."""

import asyncio

from tests import peer
from tests.chaos.conftest import answer_for

BODY = 1 << 16
ROOM = 1 << 20


async def test_senders_that_fill_the_room_for_bodies_keep_no_answer_from_its_caller(
    run_house,
):
    """An exchange is under way; before its answer comes, all the room is taken."""
    arrived, let_go = asyncio.Event(), asyncio.Event()

    async def answer(request):
        arrived.set()
        await let_go.wait()
        return house.wallet.signed(request, answer_for("r", BODY // 2))

    inbound = {"max_body_bytes": BODY, "max_buffered_bytes": ROOM}
    client = {"max_response_bytes": BODY}
    async with run_house(
        inbound=inbound, client=client, route={"timeout_s": 3}
    ) as house:
        house.wallet.answer = answer
        async with asyncio.TaskGroup() as tasks:
            exchange = tasks.create_task(house.caller.post())
            await arrived.wait()
            senders = [
                tasks.create_task(hold_back_one_byte(house))
                for _ in range(ROOM // BODY + 4)
            ]
            # Those that no room is left for are told so; the others hold what there is.
            await asyncio.wait(senders, return_when=asyncio.FIRST_COMPLETED, timeout=5)
            let_go.set()
            got = await exchange
            for sender in senders:
                sender.cancel()
    assert got.header("Gateway-Verified") == "true", got.body


async def hold_back_one_byte(house):
    """Send a body but for its last byte, in pieces until there is no more room."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
    head = f"POST {peer.TARGET} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY}\r\n\r\n"
    try:
        writer.write(head.encode())
        for _ in range(BODY // 256 - 1):
            writer.write(b"x" * 256)
            await asyncio.sleep(0)
        await reader.read(1)  # that it is refused, if it is
    finally:
        writer.close()
