"""Where private bytes are: a scan of the memory of `gateway serve`, while it works.

A pair in a file is in the process, and the scan finds it: so it can find one. A pair
in a token that is another process, or a device, is not. SoftHSM itself is a library:
its keys come into the process that loads it, whenever they are used.
"""

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests import peer
from tests.chaos.conftest import Served, settings_for
from tests.integration.conftest import write_ring
from tests.integration.wallet import Wallet
from tests.tokens import Served as ServedToken, SoftHsm

PIECE = 32
"""As many bytes in a row are no chance."""

ROUNDS = 20


def patterns(key):
    """Give pieces of each private number, in both orders of bytes.

    OpenSSL keeps a number as 64-bit words, the lowest first: on these machines that
    is the little-endian number as a whole. Files and tokens have it big-endian.
    """
    private = key.private_numbers()
    numbers = {
        name: getattr(private, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")
    }
    for name, number in numbers.items():
        for order in ("little", "big"):
            data = number.to_bytes((number.bit_length() + 7) // 8, order)
            middle = len(data) // 2
            yield f"{name} {order}", data[middle : middle + PIECE]


def scan(pid, key):
    """Give the names of the private numbers that are in a process's memory."""
    wanted = dict(patterns(key))
    found = set()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last = (int(each, 16) for each in line.split(" ")[0].split("-"))
            if not re.match(r"\S+ rw", line):
                continue
            try:
                memory.seek(first)
                data = memory.read(last - first)
            except (OSError, OverflowError):  # [vvar] and the like
                continue
            found |= {name for name, piece in wanted.items() if piece in data}
    return found


@pytest.fixture
def as_root():
    """The gateway lets no other process of its user look into it: only root can."""
    if os.geteuid() != 0:
        tell = pytest.fail if os.environ.get("CI") else pytest.skip
        tell("only root may read the memory of another process here")


@pytest.fixture
async def gateway(tmp_path, partner_key, platform_key):
    """A process with its ring, not started yet."""
    served = Served(tmp_path)
    write_ring(tmp_path / "ring", partner_key, platform_key)
    yield served
    await served.stop(9)


def use(served, uri):
    """Let the pair of the ring live elsewhere, and no file have it."""
    ring = served.folder / "ring"
    text = (ring / "keyring.yaml").read_text()
    (ring / "keyring.yaml").write_text(text.replace("partner-1.pem", f'"{uri}"'))
    (ring / "partner-1.pem").unlink()


async def seen_at_work(served, key, partner_key, platform_key):
    """Give what is found while exchanges are signed and their answers decrypted."""
    wallet = Wallet(platform_key, partner_key.public_key())
    wallet.answer = lambda request: wallet.encrypted(request, peer.SUCCESS)
    found = set()
    async with wallet.listening():
        settings = settings_for(wallet.port)
        served.configure(settings)
        await served.start()
        assert await served.ready(), served.events
        for _ in range(ROUNDS):
            work = asyncio.gather(
                *(
                    served.caller.post(headers=[("Gateway-Encrypt", "true")])
                    for _ in range(8)
                )
            )
            found |= await asyncio.to_thread(scan, served.process.pid, key)
            for got in await work:
                assert got.header("Gateway-Verified") == "true", got.body
                assert got.body == peer.SUCCESS
        await served.stop()
    return found


@pytest.mark.chaos  # the scan takes its time
@pytest.mark.timeout(240)
async def test_the_bytes_of_a_pair_in_a_file_are_found(
    as_root, gateway, partner_key, platform_key
):
    found = await seen_at_work(gateway, partner_key, partner_key, platform_key)
    assert {"p little", "q little"} <= found


@pytest.mark.chaos
@pytest.mark.timeout(240)
async def test_no_byte_of_a_pair_in_a_token_is_found(
    as_root, gateway, tmp_path, partner_key, platform_key
):
    softhsm = SoftHsm(tmp_path / "hsm")
    softhsm.token()
    softhsm.put(partner_key, "first")
    token = ServedToken(softhsm)
    token.start()
    try:
        use(gateway, softhsm.uri("first", module=token.module))
        gateway.environment = token.environment
        found = await seen_at_work(gateway, partner_key, partner_key, platform_key)
    finally:
        token.stop()
    assert found == set()
