"""An AlipayHK, or a network, that spoils its answer at each of its bytes in turn.

Each answer is signed for its own request and names it. So whatever is passed on as
verified must be, byte for byte, the answer to that very request: bytes that an earlier
exchange left on a connection would show at once.
"""

import asyncio
import json
from base64 import b64decode
from collections import Counter
from contextlib import asynccontextmanager
from itertools import count
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.asymmetric import padding

from tests import peer
from tests.chaos.conftest import SLOW_PATH, answer_for, body_for
from tests.integration.conftest import point_at
from tests.integration.wallet import _read

FLIPPED = bytes(byte ^ 1 for byte in range(256))
STALL_S = 1.0
HEAD = {False: 660, True: 1120}
"""The bytes of an answer's head, plain and encrypted."""

BODY = {False: len(answer_for("r00000")), True: len(peer.seal(answer_for("r00000")))}
_NUMBERS = count()


class Spoiler:
    """Answers well, but as the request's contentId orders: `KIND OFFSET`."""

    def __init__(self, wallet, *, encrypted):
        self.wallet = wallet
        self.encrypted = encrypted
        self.arrived: Counter[str] = Counter()

    def good(self, request):
        """Give the good answer's bytes, and the plain request."""
        body = request.body
        if request.header("Encrypt"):
            body = peer.unseal(body, self._content_key(request))
        order = json.loads(body)
        self.arrived[order["requestId"]] += 1
        sign = self.wallet.encrypted if self.encrypted else self.wallet.signed
        wire = sign(request, answer_for(order["requestId"])).wire()
        # Percent-encoding makes signatures of several lengths: fill up to one length.
        head, body = wire.split(b"\r\n\r\n")
        room = HEAD[self.encrypted] - len(head) - len(b"\r\nFill: \r\n\r\n")
        return head + b"\r\nFill: %b\r\n\r\n" % (b"f" * room) + body, order

    def _content_key(self, request):
        wrapped = unquote(request.header("Encrypt").partition("symmetricKey=")[2])
        return self.wallet.platform_key.decrypt(b64decode(wrapped), padding.PKCS1v15())

    @asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server
        finally:
            server.close()

    async def _serve(self, reader, writer):
        try:
            while (request := await _read(reader, 0)) is not None:
                wire, order = self.good(request)
                kind, _, offset = order["contentId"].partition(" ")
                if not await _SPOILED[kind](reader, writer, wire, int(offset or 0)):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _good(_, writer, wire, __):
    writer.write(wire)
    return True


async def _flip(_, writer, wire, at):
    writer.write(wire[:at] + FLIPPED[wire[at] : wire[at] + 1] + wire[at + 1 :])
    return True


async def _remove(_, writer, wire, at):
    writer.write(wire[:at] + wire[at + 1 :])
    return True


async def _insert(_, writer, wire, at):
    writer.write(wire[:at] + b"7" + wire[at:])
    return True


async def _stall(reader, writer, wire, at):
    """Say no more after so many bytes, for as long as the gateway listens."""
    writer.write(wire[:at])
    await reader.read()
    return False


async def _reset(_, writer, wire, at):
    """Say no more after so many bytes, and after a while reset the connection."""
    writer.write(wire[:at])
    await asyncio.sleep(0.03)
    writer.transport.abort()
    return False


_SPOILED = {
    "good": _good,
    "flip": _flip,
    "remove": _remove,
    "insert": _insert,
    "stall": _stall,
    "reset": _reset,
}


@asynccontextmanager
async def before(run_house, spoiler_of):
    """Run a gateway before a spoiler; one route is impatient."""
    routes = [
        {"path": peer.TARGET, "client": "hk", "timeout_s": 30},
        {"path": SLOW_PATH, "client": "hk", "timeout_s": STALL_S},
    ]
    client = {"breaker": {"failures": 1_000_000}}
    async with run_house(routes=routes, client=client) as house:
        spoiler = spoiler_of(house.wallet)
        async with spoiler.listening() as server:
            await point_at(house, server)
            yield house, spoiler


async def ask(house, order, *, encrypted, target=peer.TARGET):
    """Make one exchange. Gives its name and what came back."""
    name = f"r{next(_NUMBERS):05}"
    got = await house.caller.post(
        body_for(name, contentId=order),
        target=target,
        headers=[("Gateway-Encrypt", str(encrypted).lower())],
    )
    return name, got


def check(order, name, got, arrived):
    """Give the code, once it is sure that nothing false was believed."""
    if got.header("Gateway-Verified") is not None:
        assert got.header("Gateway-Verified") == "true", order
        assert got.body == answer_for(name), order
        return "verified"
    assert (got.problem["outcome"] == "not_sent") == (name not in arrived), order
    return got.code


async def spoiled(house, spoiler, kind, offset, target):
    """Make an exchange whose answer is spoiled. Gives its code."""
    order = f"{kind} {offset}"
    name, got = await ask(house, order, encrypted=spoiler.encrypted, target=target)
    return check(order, name, got, spoiler.arrived)


async def check_next(house, spoiler):
    """See that an exchange that follows gets its own answer."""
    name, got = await ask(house, "good", encrypted=spoiler.encrypted)
    assert check("good", name, got, spoiler.arrived) == "verified"


async def at_each(orders, spoil, at_once):
    """Carry out all orders, so many at once. Gives the code of each."""
    codes: dict[tuple[str, int], str] = {}
    todo = iter(orders)

    async def worker():
        for kind, offset in todo:
            codes[kind, offset] = await spoil(kind, offset)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(worker())
    return codes


@pytest.mark.chaos
@pytest.mark.timeout(400)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_garbled_byte_anywhere_is_never_believed(run_house, encrypted):
    def spoiler_of(wallet):
        return Spoiler(wallet, encrypted=encrypted)

    start, size = HEAD[encrypted], HEAD[encrypted] + BODY[encrypted]
    async with before(run_house, spoiler_of) as (house, spoiler):

        async def spoil(kind, offset):
            code = await spoiled(house, spoiler, kind, offset, SLOW_PATH)
            if (offset + kinds.index(kind)) % len(kinds) == 0:
                await check_next(house, spoiler)
            return code

        kinds = ("flip", "remove", "insert")
        orders = [(kind, offset) for kind in kinds for offset in range(size)]
        codes = await at_each(orders, spoil, 16)
        in_body = range(start, size)
        assert {codes["flip", at] for at in in_body} == {"signature_invalid"}
        assert {codes["insert", at] for at in in_body} <= {
            "signature_invalid",
            "response_malformed",  # one byte more than it declares
        }
        assert {codes["remove", at] for at in in_body} == {"upstream_timeout"}
        assert set(spoiler.arrived.values()) == {1}  # none was sent twice
        assert house.gateway.reasons() == []
    print(f"{len(orders)} garbled answers, {sorted(set(codes.values()))}")


@pytest.mark.chaos
@pytest.mark.timeout(400)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_an_answer_that_stops_anywhere_is_of_unknown_outcome(
    run_house, encrypted
):
    def spoiler_of(wallet):
        return Spoiler(wallet, encrypted=encrypted)

    size = HEAD[encrypted] + BODY[encrypted]
    async with before(run_house, spoiler_of) as (house, spoiler):

        async def spoil(kind, offset):
            target = SLOW_PATH if kind == "stall" else peer.TARGET
            code = await spoiled(house, spoiler, kind, offset, target)
            while code == "upstream_unavailable":  # busy: the deadline was too short
                code = await spoiled(house, spoiler, kind, offset, target)
            if offset % 4 == 0:
                await check_next(house, spoiler)
            return code

        orders = [(kind, at) for kind in ("stall", "reset") for at in range(size)]
        codes = await at_each(orders, spoil, 96)
        by_kind = {
            kind: {codes[kind, at] for at in range(size)} for kind in ("stall", "reset")
        }
        assert by_kind == {
            "stall": {"upstream_timeout"},
            "reset": {"upstream_disconnected"},
        }
        assert set(spoiler.arrived.values()) == {1}
        assert house.gateway.reasons() == []
    print(f"{len(orders)} answers that stop")
