"""Large bodies, many at once: what an exchange holds is a small multiple of its bodies."""

import asyncio
import json

import pytest

from tests import peer
from tests.chaos.conftest import settings_for
from tests.integration.wallet import Wallet

MIB = 1 << 20
COUNT = 32
ROUNDS = 3

FACTOR = {"plain": 2, "encrypted": 4}
"""By how much more a process holds, for each byte of a request whose answer is as large.
docs/operations.md says so."""

BASE_MIB = 24
"""What one exchange takes for a moment, while it is in the hands of the processor, and
what 32 connections hold."""


def body_of(name, size):
    """Give an object of small objects: those take most room once they are read."""
    item = {"goodsId": "G1", "price": {"value": 1200, "currency": "HKD"}, "quantity": 3}
    each = len(json.dumps(item)) + 2
    result = {"resultStatus": "S", "resultCode": "SUCCESS"}
    body = {
        "requestId": name,
        "resultInfo": result,
        "items": [item] * ((size - 200) // each),
    }
    return json.dumps(body).encode()


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
async def test_the_memory_of_large_exchanges_is_a_small_multiple_of_their_bodies(
    served, platform_key, partner_key, kind
):
    wallet = Wallet(platform_key, partner_key.public_key())
    everyone = asyncio.Barrier(COUNT)
    make = wallet.encrypted if kind == "encrypted" else wallet.signed
    headers = [("Gateway-Encrypt", "true")] if kind == "encrypted" else []
    plain = body_of("r", MIB)

    async def answer(request):
        await everyone.wait()  # so that all are under way at once
        return make(request, plain)

    async with wallet.listening():
        served.configure(settings_for(wallet.port))
        await served.start()
        wallet.answer = lambda request: make(request, peer.SUCCESS)
        await served.caller.post(headers=headers)
        wallet.answer = answer
        rest = served.memory()
        for _ in range(ROUNDS):
            answers = await asyncio.gather(
                *(served.caller.post(plain, headers=headers) for _ in range(COUNT))
            )
            assert {each.status for each in answers} == {200}
            assert {each.body for each in answers} == {plain}
            wallet.arrived.clear()
        grown = served.memory("VmHWM") - rest
    factor = (grown - BASE_MIB) / COUNT
    print(f"{kind}: {rest:.0f} MiB before, {grown:.0f} more: {factor:.2f} of each byte")
    assert grown <= COUNT * FACTOR[kind] + BASE_MIB
