"""AlipayHK as a process of its own: slow, and now and then worse than slow.

    python -m tests.chaos.slow_platform KEY.pem

Writes its port on a line. Once standard input ends, it writes how often each requestId
arrived, as a JSON object, and ends.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests import peer
from tests.chaos.conftest import answer_for
from tests.integration.wallet import Wallet

QUICK_S = 0.1
SLOW_S = 3, 5
NEVER_S = 3600
TROUBLE = ("none", "cut", "garbled", "silent")
WEIGHTS = (97, 1, 1, 1)


def answering(wallet):
    """Answer the healthy callers' path at once, others late and not always well."""
    chance = random.Random(0)

    async def answer(request):
        name = json.loads(request.body)["requestId"]
        if request.target == peer.TARGET:
            await asyncio.sleep(QUICK_S)
            return wallet.signed(request, answer_for(name))
        (trouble,) = chance.choices(TROUBLE, WEIGHTS)
        await asyncio.sleep(NEVER_S if trouble == "silent" else chance.uniform(*SLOW_S))
        if trouble == "cut":
            return b""
        reply = wallet.signed(request, answer_for(name))
        if trouble == "garbled":
            reply.body = reply.body.replace(b"SUCCESS", b"SUCCESs")
        return reply

    return answer


async def main(key_file):
    key = load_pem_private_key(Path(key_file).read_bytes(), None)
    wallet = Wallet(key, None)
    wallet.answer = answering(wallet)
    async with wallet.listening():
        print(wallet.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        names = (json.loads(each.body)["requestId"] for each in wallet.arrived)
        print(json.dumps(Counter(names)), flush=True)
    # Whoever is silent is so until the end; asyncio would tell of each.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
