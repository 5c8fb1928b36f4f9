"""What every pair must do, wherever it lives."""

import asyncio
import copy
import os
import pickle
import subprocess
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from gateway.errors import DecryptionFailed, KeyUnavailable
from gateway.keys import formats
from gateway.keys.keyring import Keyring
from gateway.keys.model import PARTNER_USES, KeyInfo, KeyState
from gateway.relay.selftest import self_test
from tests import peer

GOING_AWAY = ["SoftHSM", "SoftHSM in another process"]


def secrets_of(private):
    """Give everything that only the private half has, as text may show it."""
    found = private.private_numbers()
    parts = (found.d, found.p, found.q, found.dmp1, found.dmq1, found.iqmp)
    return [form for part in parts for form in (str(part), f"{part:x}", f"{part:X}")]


def openssl(*arguments, given):
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=given, capture_output=True, check=True
    )
    return done.stdout


def verify(private, signature, base):
    private.public_key().verify(signature, base, padding.PKCS1v15(), hashes.SHA256())


async def test_its_public_half_has_the_version_of_its_entry(key, partner_key):
    assert key.public.version == "7"
    numbers = key.public.rsa.public_numbers()
    assert numbers == partner_key.public_key().public_numbers()


@pytest.mark.parametrize("base", [b"", b"base", os.urandom(1 << 20)])
async def test_it_signs_as_the_openssl_program_does(key, partner_key, base, tmp_path):
    """PKCS#1 v1.5 has one signature for each text: it must be this one."""
    file = tmp_path / "same.pem"
    file.write_bytes(formats.private_pem(partner_key))
    same = openssl("dgst", "-sha256", "-sign", file, given=base)
    assert await key.sign(base) == same


async def test_it_unwraps_what_was_wrapped_to_it(key, partner_key):
    assert await key.unwrap(peer.wrap(partner_key.public_key())) == peer.CONTENT_KEY


async def test_it_unwraps_what_the_openssl_program_wrapped(key, partner_key, tmp_path):
    file = tmp_path / "public.pem"
    file.write_text(formats.public_pem(partner_key.public_key()))
    wrap = ("pkeyutl", "-encrypt", "-pubin", "-inkey", file)
    wrapped = openssl(*wrap, given=peer.CONTENT_KEY)
    assert await key.unwrap(wrapped) == peer.CONTENT_KEY


async def test_a_content_key_of_any_length_is_given_as_it_is(key, partner_key):
    for size in (0, 1, 16, 24, 31, 33, 245):
        content_key = os.urandom(size)
        wrapped = partner_key.public_key().encrypt(content_key, padding.PKCS1v15())
        assert await key.unwrap(wrapped) == content_key


async def test_what_was_wrapped_for_another_gives_bytes_and_no_error(
    key, partner_key, other_key
):
    """An error would tell of any wrapped key whether its padding is right."""
    wrapped = peer.wrap(other_key.public_key())
    while int.from_bytes(wrapped) >= partner_key.private_numbers().public_numbers.n:
        wrapped = peer.wrap(other_key.public_key())
    for bad in (wrapped, bytes(255) + b"\2", b"\1" * 256):
        found = await key.unwrap(bad)
        assert isinstance(found, bytes)
        assert found != peer.CONTENT_KEY
        assert await key.unwrap(bad) == found  # twice the same, as a right key is


@pytest.mark.parametrize("size", [0, 1, 255, 257, 512])
async def test_a_wrapped_key_of_another_length_is_told_at_once(key, size):
    with pytest.raises(DecryptionFailed):
        await key.unwrap(bytes(size))


async def test_a_wrapped_key_beyond_the_modulus_is_told_at_once(key):
    with pytest.raises(DecryptionFailed):
        await key.unwrap(b"\xff" * 256)


async def test_after_a_refusal_it_goes_on_as_before(key, partner_key):
    for _ in range(20):
        await key.unwrap(bytes(255) + b"\2")
    assert await key.unwrap(peer.wrap(partner_key.public_key())) == peer.CONTENT_KEY
    verify(partner_key, await key.sign(b"base"), b"base")


async def test_64_operations_at_once_do_not_get_into_each_others_way(key, partner_key):
    async def exchange(number):
        base = f"base {number}".encode()
        content_key = os.urandom(32)
        wrapped = partner_key.public_key().encrypt(content_key, padding.PKCS1v15())
        for _ in range(4):
            verify(partner_key, await key.sign(base), base)
            assert await key.unwrap(wrapped) == content_key
            await key.unwrap(bytes(254) + number.to_bytes(2))

    async with asyncio.TaskGroup() as tasks:
        for number in range(64):
            tasks.create_task(exchange(number))


async def test_who_hangs_up_disturbs_nobody(key, partner_key):
    wrapped = peer.wrap(partner_key.public_key())
    for _ in range(10):
        given_up = [asyncio.ensure_future(key.sign(b"x")) for _ in range(16)]
        given_up += [asyncio.ensure_future(key.unwrap(wrapped)) for _ in range(16)]
        await asyncio.sleep(0)
        for each in given_up:
            each.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        verify(partner_key, await key.sign(b"base"), b"base")
        assert await key.unwrap(wrapped) == peer.CONTENT_KEY


async def test_nothing_of_it_shows_more_than_its_version(layout, key, partner_key):
    texts = f"{key!r} {key} {layout.homes!r} {layout.place.version!r}"
    assert "'7'" in texts
    shown = [each for each in secrets_of(partner_key) if each in texts]
    assert not shown + [each for each in layout.secrets if each in texts]


def test_it_cannot_be_copied_or_leave_its_process(key):
    for way in (pickle.dumps, copy.copy, copy.deepcopy, vars):
        with pytest.raises(TypeError):
            way(key)
    with pytest.raises(AttributeError):
        key.note = "x"


async def test_it_passes_the_self_test(key):
    uses = PARTNER_USES
    info = KeyInfo("7", KeyState.ACTIVE, uses, None, key.public)
    await self_test(Keyring.of(1, [(info, key)], []), os.urandom)


async def test_it_can_be_opened_many_times_for_one_use_or_another(layout, partner_key):
    places = [replace(layout.place, uses=uses) for uses in ({*PARTNER_USES}, set())]
    for _ in range(3):
        for place in places:
            found = layout.homes.open(replace(place, uses=frozenset(place.uses)))
            numbers = found.public.rsa.public_numbers()
            assert numbers == partner_key.public_key().public_numbers()


@pytest.mark.parametrize("layout", GOING_AWAY, indirect=True)
async def test_a_home_that_is_gone_is_told_soon_and_found_again(layout, partner_key):
    key = layout.open()
    wrapped = peer.wrap(partner_key.public_key())
    await key.sign(b"base")
    layout.lose()
    for operation in (key.sign(b"base"), key.unwrap(wrapped), key.sign(b"base")):
        async with asyncio.timeout(6):
            with pytest.raises(KeyUnavailable) as caught:
                await operation
        assert caught.value.outcome == "not_sent"
        assert not [each for each in layout.secrets if each in caught.value.detail]
    layout.regain()
    async with asyncio.timeout(10):
        while True:
            try:
                verify(partner_key, await key.sign(b"base"), b"base")
                break
            except KeyUnavailable:
                await asyncio.sleep(0.05)
    assert await key.unwrap(wrapped) == peer.CONTENT_KEY
