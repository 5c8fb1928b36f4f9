"""Our key rotates between files and a token under load, and the token goes away."""

import asyncio
from itertools import count

import pytest

from tests import peer
from tests.chaos.conftest import Served, answer_for, body_for, busy, settings_for, until
from tests.chaos.test_swaps import LOOK_S, Rotation, answering, new_key
from tests.integration.conftest import write_private, write_ring
from tests.integration.wallet import Wallet
from tests.tokens import SoftHsm

ROTATIONS = 20
CALLERS = 4


class MixedRotation(Rotation):
    """As `Rotation`, with each second of our versions in a token."""

    def __init__(self, folder, ours, theirs, softhsm):
        super().__init__(folder, ours, theirs)
        self._softhsm = softhsm

    def lay_out(self, folder, new):
        text = super().lay_out(folder, new)
        for version in (new - 1, new):
            if version % 2 == 0:
                uri = self._softhsm.uri(f"turn-{version % 3}")
                (folder / f"partner-{version}.pem").unlink()
                text = text.replace(f"key: partner-{version}.pem", f'key: "{uri}"')
        return text


@pytest.fixture
def softhsm(tmp_path):
    made = SoftHsm(tmp_path / "hsm")
    made.token()
    return made


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_our_key_rotated_20_times_between_files_and_a_token_costs_no_exchange(
    tmp_path, partner_key, platform_key, other_key, softhsm
):
    served = Served(tmp_path)
    served.environment = softhsm.environment
    ours = [other_key, partner_key, new_key()]
    for number, key in enumerate(ours):
        softhsm.put(key, f"turn-{number}", f"0{number + 1}")
    theirs = [new_key(), platform_key, new_key()]
    rotation = MixedRotation(tmp_path, ours, theirs, softhsm)
    write_ring(tmp_path / "ring", partner_key, platform_key)
    wallet = Wallet(platform_key, partner_key.public_key())
    versions, names = set(), count()
    answer = answering(rotation, wallet, versions)

    def keep_open(request):
        """Answer without hanging up, which would be a failure of another kind."""
        reply = answer(request)
        reply.close = False
        return reply

    wallet.answer = keep_open

    async def call(number):
        name = f"r{next(names)}"
        encrypt = "true" if number % 2 else "false"
        got = await served.caller.post(
            body_for(name), headers=[("Gateway-Encrypt", encrypt)]
        )
        assert got.header("Gateway-Verified") == "true", got.body
        assert got.body == answer_for(name)
        return name

    def in_use():
        return served.seen("keyring_loaded")[-1]["generation"]

    async with wallet.listening():
        served.configure(settings_for(wallet.port))
        await served.start()
        try:
            async with busy(CALLERS, call) as done:
                for new in range(2, ROTATIONS + 2):
                    await rotation.swap(new)
                    await until(lambda new=new: in_use() == new, f"{new} not in use")
                    before = len(done)
                    await until(
                        lambda before=before: len(done) > before + 2 * CALLERS,
                        f"nothing goes on under {new}",
                    )
        finally:
            status = await served.stop()
    assert status == 0
    assert versions >= set(range(2, ROTATIONS + 2))
    print(f"{ROTATIONS} rotations, {len(done)} exchanges; none failed")


@pytest.mark.chaos
@pytest.mark.timeout(400)
async def test_a_token_that_goes_away_under_load_is_told_as_not_sent_and_comes_back(
    tmp_path, partner_key, platform_key, softhsm
):
    served = Served(tmp_path)
    served.environment = softhsm.environment
    softhsm.put(partner_key, "first")
    write_ring(tmp_path / "ring", partner_key, platform_key)
    ring = tmp_path / "ring/keyring.yaml"
    uri = softhsm.uri("first")
    ring.write_text(ring.read_text().replace("partner-1.pem", f'"{uri}"'))
    wallet = Wallet(platform_key, partner_key.public_key())
    codes = []

    async def call(_):
        got = await served.caller.post()
        if got.header("Gateway-Verified") != "true":
            codes.append((got.code, got.problem["outcome"]))
            await asyncio.sleep(LOOK_S)
        return got.header("Gateway-Verified") == "true"

    async with wallet.listening():
        settings = settings_for(wallet.port)
        settings["clients"][0]["retries"] = 0
        served.configure(settings)
        await served.start()
        try:
            async with busy(CALLERS, call) as done:
                for _ in range(3):
                    await until(lambda: done[-1:] == [True], "it does not work")
                    softhsm.take_away()
                    refused = len(codes)
                    await until(lambda n=refused: len(codes) > n + 9, "not noticed")
                    sent = len(wallet.arrived)
                    await asyncio.sleep(1)
                    assert len(wallet.arrived) == sent
                    softhsm.bring_back()
                    good = sum(done)
                    await until(lambda n=good: sum(done) > n + 9, "not back again")
        finally:
            assert await served.stop() == 0
    assert set(codes) == {("key_unavailable", "not_sent")}


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_with_its_token_gone_a_gateway_goes_on_with_a_key_in_a_file(
    tmp_path, partner_key, platform_key, other_key, softhsm
):
    served = Served(tmp_path)
    served.environment = softhsm.environment
    softhsm.put(partner_key, "first")
    write_ring(tmp_path / "ring", partner_key, platform_key)
    write_private(tmp_path / "ring/partner-2.pem", other_key)
    ring = tmp_path / "ring/keyring.yaml"
    first = ring.read_text().replace("partner-1.pem", f'"{softhsm.uri("first")}"')
    ring.write_text(first)
    second = first.replace("state: active", "state: deactivated", 1).replace(
        "platform:", '  - {version: "2", state: active, key: partner-2.pem}\nplatform:'
    )
    wallet = Wallet(platform_key, partner_key.public_key())

    async def verified(encrypt="false"):
        got = await served.caller.post(headers=[("Gateway-Encrypt", encrypt)])
        return got.header("Gateway-Verified") == "true"

    async with wallet.listening():
        served.configure(settings_for(wallet.port))
        await served.start()
        assert await verified()
        softhsm.take_away()
        assert not await verified()
        (tmp_path / "ring/keyring.new").write_text(second.replace(": 1\n", ": 2\n", 1))
        (tmp_path / "ring/keyring.new").replace(ring)
        await until(lambda: len(served.seen("keyring_loaded")) == 2, "not taken up")
        assert await verified()
        softhsm.bring_back()
        # What AlipayHK still encrypts to the pair in the token decrypts again.
        wallet.answer = lambda request: wallet.encrypted(request, peer.SUCCESS)
        async with asyncio.timeout(10):
            while not await verified("true"):
                await asyncio.sleep(LOOK_S)
        assert await served.stop() == 0
