"""The power-on self-test: what passes, and every way in which it must not."""

import itertools
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.errors import (
    ClientIdMismatch,
    DecryptionFailed,
    EncryptionDowngraded,
    KeyringError,
    KeyUnavailable,
    SignatureInvalid,
    SignatureMissing,
)
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.model import (
    PARTNER_USES,
    PLATFORM_USES,
    KeyInfo,
    KeyState,
    Use,
)
from gateway.protocol import (
    PublicKey,
    ReceivedResponse,
    UnsignedRefusal,
    incoming,
    sign,
    unwrap,
    verify_response,
)
from gateway.protocol.results import Result
from gateway.relay import selftest
from gateway.relay.selftest import self_test


class Pair:
    """A pair whose halves, and whose work, a test may set apart."""

    def __init__(self, private, *, version="1", public=None):
        self.public = PublicKey(version, public or private.public_key())
        self.private = private

    async def sign(self, base):
        return sign(self.private, base)

    async def unwrap(self, wrapped_key):
        return unwrap(self.private, wrapped_key)


@pytest.fixture
def entropy():
    """Bytes that are never the same twice; what was asked for is in `sizes`."""
    count = itertools.count(1)

    def give(size):
        give.sizes.append(size)
        return bytes([next(count)]) * size

    give.sizes = []
    return give


def ring(*pairs, uses=PARTNER_USES, recipient=None):
    """Make a ring: the first pair is active and the others are deactivated."""
    states = [KeyState.ACTIVE] + [KeyState.DEACTIVATED] * len(pairs)
    partner = [
        (KeyInfo(pair.public.version, state, frozenset(uses), None, pair.public), pair)
        for pair, state in zip(pairs, states, strict=False)
    ]
    platform = []
    if recipient:
        public = PublicKey("1", recipient)
        platform = [KeyInfo("1", KeyState.ACTIVE, PLATFORM_USES, None, public)]
    return Keyring.of(1, partner, platform)


async def refused(ring, entropy):
    with pytest.raises(KeyringError) as caught:
        await self_test(ring, entropy)
    return caught.value.detail


DO_NOT_WORK = "self-test failed: the keys do not work"


# --- what passes -------------------------------------------------------------


async def test_a_ring_whose_keys_do_what_they_are_for_passes(
    partner_key, other_key, platform_key, entropy
):
    pairs = Pair(partner_key, version="2"), Pair(other_key, version="1")
    await self_test(ring(*pairs, recipient=platform_key.public_key()), entropy)
    assert entropy.sizes == [32, 32, 32]


async def test_a_ring_passes_without_a_key_of_alipayhks(partner_key, entropy):
    await self_test(ring(Pair(partner_key)), entropy)


async def test_a_ring_without_a_signer_is_not_tested(entropy):
    await self_test(Keyring.of(1, [], []), entropy)
    assert entropy.sizes == []


async def test_a_pair_that_only_signs_is_tested_by_signing(partner_key, entropy):
    pair = Pair(partner_key)
    pair.unwrap = None
    await self_test(ring(pair, uses={Use.SIGN}), entropy)


async def test_a_canary_is_tested_by_signing_before_it_signs_anything(
    partner_key, other_key, entropy
):
    tried = Pair(other_key, version="2")
    with_canary = replace(ring(Pair(partner_key)), canary=Canary(tried, 0.05))
    await self_test(with_canary, entropy)
    tried.private = partner_key
    assert DO_NOT_WORK in await refused(with_canary, entropy)


async def test_separate_pairs_are_tested_each_for_its_own_use(
    partner_key, other_key, entropy
):
    signer, unwrapper = Pair(partner_key), Pair(other_key)
    unwrapper.sign = signer.unwrap = None
    infos = [
        (KeyInfo("1", KeyState.ACTIVE, frozenset({use}), None, pair.public), pair)
        for use, pair in ((Use.SIGN, signer), (Use.DECRYPT, unwrapper))
    ]
    await self_test(Keyring.of(1, infos, []), entropy)


# --- keys that do not work ---------------------------------------------------


async def garbage(_):
    return bytes(256)


async def nothing(_):
    return b""


async def random_key(_):
    return bytes(32)


async def unreachable(_):
    raise KeyUnavailable("the vault is gone")


@pytest.mark.parametrize("broken", [garbage, nothing])
async def test_a_signer_that_signs_garbage_is_noticed(partner_key, entropy, broken):
    pair = Pair(partner_key)
    pair.sign = broken
    assert await refused(ring(pair), entropy) == f"{DO_NOT_WORK} (SignatureInvalid)"


async def test_a_signer_that_signs_something_else_is_noticed(partner_key, entropy):
    pair = Pair(partner_key)

    async def sign_more(base):
        return sign(partner_key, base + b"\n")

    pair.sign = sign_more
    assert await refused(ring(pair), entropy) == f"{DO_NOT_WORK} (SignatureInvalid)"


async def test_a_signer_that_signs_only_once_is_noticed(partner_key, entropy):
    pair, signed = Pair(partner_key), []

    async def sign_first(base):
        signed.append(base)
        return sign(partner_key, signed[0])

    pair.sign = sign_first
    assert await refused(ring(pair), entropy) == f"{DO_NOT_WORK} (SignatureInvalid)"


async def test_a_pair_whose_halves_do_not_belong_together_is_noticed(
    partner_key, other_key, entropy
):
    pair = Pair(partner_key, public=other_key.public_key())
    assert await refused(ring(pair), entropy) == f"{DO_NOT_WORK} (SignatureInvalid)"


@pytest.mark.parametrize("broken", [garbage, nothing, random_key])
async def test_an_unwrapper_that_gives_other_bytes_is_noticed(
    partner_key, entropy, broken
):
    pair = Pair(partner_key)
    pair.unwrap = broken
    assert await refused(ring(pair), entropy) == f"{DO_NOT_WORK} (DecryptionFailed)"


async def test_each_pair_that_may_decrypt_is_tested(
    partner_key, other_key, platform_key, entropy
):
    broken = Pair(other_key, version="0", public=platform_key.public_key())
    pairs = Pair(partner_key), broken
    assert await refused(ring(*pairs), entropy) == f"{DO_NOT_WORK} (DecryptionFailed)"


async def test_a_pair_that_only_decrypts_may_be_out_of_reach(
    partner_key, other_key, entropy
):
    """While an HSM is gone, a ring that signs in a file must be taken up."""
    gone = Pair(other_key, version="1")
    gone.unwrap = unreachable
    await self_test(ring(Pair(partner_key, version="2"), gone), entropy)


@pytest.mark.parametrize("part", ["sign", "unwrap"])
async def test_a_pair_that_cannot_be_reached_is_told_by_its_kind_alone(
    partner_key, entropy, part
):
    pair = Pair(partner_key)
    setattr(pair, part, unreachable)
    assert await refused(ring(pair), entropy) == f"{DO_NOT_WORK} (KeyUnavailable)"


async def test_entropy_of_another_length_is_noticed(partner_key):
    found = await refused(ring(Pair(partner_key)), lambda size: bytes(size - 1))
    assert found == f"{DO_NOT_WORK} (ValueError)"


async def test_a_recipient_too_short_to_wrap_to_is_noticed(partner_key, entropy):
    """No file gives such a key; it shows that the recipient is tried at all."""
    tiny = rsa.RSAPublicNumbers(65537, (1 << 255) + 95).public_key()
    uses = {Use.SIGN}
    found = await refused(ring(Pair(partner_key), uses=uses, recipient=tiny), entropy)
    assert found == f"{DO_NOT_WORK} (ValueError)"


# --- a build that believes too much ------------------------------------------

NOT_REFUSED = "self-test failed: a message that is {} was not refused as such"


@pytest.fixture
def believe(monkeypatch):
    """Give a function that puts something in the place of the verification."""
    return lambda instead: monkeypatch.setattr(selftest, "verify_response", instead)


def is_tampered(received, request):
    return received.body != selftest._BODY


def is_unsigned(received, request):
    return not [name for name, _ in received.headers if name == "Signature"]


def is_downgraded(received, request):
    return request.draft.encryption is not None


FALSE = {
    "signature_invalid": is_tampered,
    "signature_missing": is_unsigned,
    "encryption_downgraded": is_downgraded,
}
each_false = pytest.mark.parametrize(("code", "false"), FALSE.items(), ids=FALSE.keys())


def altered(verified, **changes):
    """Change a verified message as only a defect of the verification could."""
    return replace(verified, **changes, proof=incoming._PROOF)


class Good:
    """Keeps the one good exchange of a self-test, and how it was verified."""

    def __init__(self):
        self.how = None

    def verify(self, received, **how):
        verified = verify_response(received, **how)
        self.how = self.how or (received, how)
        return verified

    def again(self):
        received, how = self.how
        return verify_response(received, **how)


@each_false
async def test_a_verification_that_takes_false_for_good_is_noticed(
    partner_key, entropy, believe, code, false
):
    good = Good()

    def verify(received, *, request, **how):
        if false(received, request):
            return good.again()
        return good.verify(received, request=request, **how)

    believe(verify)
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == NOT_REFUSED.format(code)


@each_false
async def test_a_verification_that_lets_false_pass_as_it_is_is_noticed(
    partner_key, entropy, believe, code, false
):
    good = Good()

    def verify(received, *, request, **how):
        if false(received, request):
            return altered(good.again(), body=received.body, headers=received.headers)
        return good.verify(received, request=request, **how)

    believe(verify)
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == NOT_REFUSED.format(code)


@each_false
async def test_a_verification_that_takes_false_for_a_refusal_is_noticed(
    partner_key, entropy, believe, code, false
):
    def verify(received, *, request, **how):
        if false(received, request):
            return UnsignedRefusal(200, [], received.body, Result("F", "X"))
        return verify_response(received, request=request, **how)

    believe(verify)
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == NOT_REFUSED.format(code)


@each_false
async def test_a_verification_that_refuses_for_another_reason_is_noticed(
    partner_key, entropy, believe, code, false
):
    def verify(received, *, request, **how):
        if false(received, request):
            raise ClientIdMismatch("x")
        return verify_response(received, request=request, **how)

    believe(verify)
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == NOT_REFUSED.format(code)


async def test_a_verification_that_accepts_anything_is_noticed(
    partner_key, entropy, believe
):
    good = Good()

    def verify(received, **how):
        return good.again() if good.how else good.verify(received, **how)

    believe(verify)
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == NOT_REFUSED.format("signature_invalid")


@pytest.mark.parametrize(
    "error", [SignatureInvalid, SignatureMissing, EncryptionDowngraded]
)
async def test_a_verification_that_refuses_everything_is_noticed(
    partner_key, entropy, believe, error
):
    def verify(received, **how):
        raise error("x")

    believe(verify)
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == f"{DO_NOT_WORK} ({error.__name__})"


async def test_a_verification_that_gives_another_body_is_noticed(
    partner_key, entropy, believe
):
    def verify(received, **how):
        return altered(verify_response(received, **how), body=b"{}")

    believe(verify)
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == f"{DO_NOT_WORK} (ValueError)"


async def test_a_verification_that_takes_good_for_a_refusal_is_noticed(
    partner_key, entropy, believe
):
    def verify(received, **how):
        verify_response(received, **how)
        return UnsignedRefusal(200, [], selftest._BODY, Result("F", "X"))

    believe(verify)
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == f"{DO_NOT_WORK} (ValueError)"


async def test_a_decryption_that_gives_other_bytes_is_noticed(
    partner_key, entropy, monkeypatch
):
    monkeypatch.setattr(selftest, "decrypt", lambda *_: b"{}")
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == f"{DO_NOT_WORK} (ValueError)"


async def test_an_encryption_that_does_nothing_is_noticed(
    partner_key, entropy, monkeypatch
):
    encrypt = selftest.encrypt

    def leave_plain(draft, *rest):
        return replace(encrypt(draft, *rest), body=draft.body)

    monkeypatch.setattr(selftest, "encrypt", leave_plain)
    found = await refused(ring(Pair(partner_key)), entropy)
    assert found == f"{DO_NOT_WORK} ({DecryptionFailed.__name__})"


async def test_the_false_messages_differ_from_the_good_one_in_one_thing_each(
    partner_key, entropy, believe
):
    seen = []

    def verify(received, **how):
        seen.append((received, how["request"]))
        return verify_response(received, **how)

    believe(verify)
    await self_test(ring(Pair(partner_key)), entropy)
    (good, request), (tampered, first), (unsigned, second), (plain, encrypted) = seen
    assert isinstance(good, ReceivedResponse)
    assert first == second == request
    assert tampered == replace(good, body=tampered.body)
    differing = [a != b for a, b in zip(tampered.body, good.body, strict=True)]
    assert differing.count(True) == 1
    assert unsigned == replace(good, headers=unsigned.headers)
    assert unsigned.headers == [("Client-Id", "T")]
    assert plain == good
    assert encrypted.draft == replace(
        request.draft, encryption=encrypted.draft.encryption
    )
    assert encrypted.draft.encryption is not None
