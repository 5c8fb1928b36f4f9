"""A canary in the relay: who signs, what is repeated, what counts, and the way back."""

import base64
from dataclasses import replace

import pytest

from gateway.errors import (
    DecryptionFailed,
    KeyUnavailable,
    KeyVersionUnknown,
    ResponseMalformed,
    UpstreamDisconnected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.events import CanaryHalt, ExchangeRecord
from gateway.protocol import ReceivedResponse
from gateway.relay.canary import ENOUGH, CanaryWatch
from gateway.relay.routes import Call
from tests import peer
from tests.unit.relay.conftest import header

PLAIN = Call(peer.TARGET, b'{"a":1}')
ENCRYPTED = Call(peer.TARGET, b'{"a":1}', encrypt=True)


def unsigned(code, status="F"):
    text = f'{{"resultInfo":{{"resultCode":"{code}","resultStatus":"{status}"}}}}'
    return ReceivedResponse(200, [("Client-Id", peer.CLIENT_ID)], text.encode())


REFUSED = unsigned("INVALID_SIGNATURE")


class Seen:
    """What a watch told, and the watch."""

    def __init__(self):
        self.judged = []
        self.halts = []
        self.watch = CanaryWatch(lambda *told: self.judged.append(told), self.halt)

    def halt(self, halt):
        self.halts.append(halt)


@pytest.fixture
def seen():
    return Seen()


def good(scene):
    return peer.answer(scene.platform_key)


def signed_by(scene):
    return [step.removeprefix("sign ") for step in scene.steps if "sign " in step]


async def exchange(scene, seen, call=PLAIN, **settings):
    return await scene.exchange(call, canary=seen.watch, **settings)


# --- who signs ---------------------------------------------------------------


async def test_the_canary_signs_its_share_and_the_active_key_the_rest(scene, seen):
    for number in range(400):
        scene.try_version(0.25)
        scene.record = ExchangeRecord(f"e{number}")
        await exchange(scene, seen)
        tried = scene.record.canary
        assert scene.record.key_version == ("1" if tried is None else "2")
    assert 70 < signed_by(scene).count("2") < 130
    assert seen.judged.count(("2", False)) == signed_by(scene).count("2")
    assert len(seen.judged) == 400
    assert not seen.halts


@pytest.mark.parametrize("code", ["INVALID_SIGNATURE", "KEY_NOT_FOUND"])
@pytest.mark.parametrize("call", [PLAIN, ENCRYPTED], ids=["plain", "encrypted"])
async def test_a_refused_canary_is_repeated_with_the_earlier_version(
    scene, seen, code, call
):
    scene.try_version(1.0)

    def refuse(_):
        scene.clock.moment = peer.FRESH.now.replace(minute=1)
        return unsigned(code)

    answer_ = scene.sealed() if call.encrypt else good(scene)
    scene.upstream.answer = [refuse, answer_]
    answer = await exchange(scene, seen, call)
    assert answer.verified
    assert answer.body == peer.SUCCESS
    first, second = scene.upstream.sent
    assert first.body == second.body
    assert header(first, "Encrypt") == header(second, "Encrypt")
    assert header(first, "Request-Time") != header(second, "Request-Time")
    assert signed_by(scene) == ["2", "1"]
    record = scene.record
    assert (record.code, record.result_code) == ("verified", "SUCCESS")
    assert (record.key_version, record.canary) == ("1", "2")
    assert (record.attempts, record.canary_attempts) == (2, 1)
    assert seen.judged == [("1", False), ("2", True)]


async def test_it_is_repeated_once_and_that_answer_is_the_callers(scene, seen):
    scene.try_version(1.0)
    scene.upstream.answer = [REFUSED, unsigned("KEY_NOT_FOUND")]
    answer = await exchange(scene, seen, repeats=5)
    assert not answer.verified
    assert scene.record.result_code == "KEY_NOT_FOUND"
    assert seen.judged == [("1", True), ("2", True)]


async def test_a_refused_exchange_of_another_version_is_not_repeated(scene, seen):
    scene.try_version(1e-9)
    scene.upstream.answer = [REFUSED]
    answer = await exchange(scene, seen)
    assert not answer.verified
    assert signed_by(scene) == ["1"]
    assert seen.judged == [("1", True)]
    assert scene.record.canary is None


async def test_without_a_canary_nothing_is_repeated_or_judged(scene, seen):
    scene.upstream.answer = [REFUSED]
    assert not (await exchange(scene, seen)).verified
    assert signed_by(scene) == ["1"]
    assert seen.judged == []


async def test_a_canary_that_was_halted_signs_nothing_and_is_not_judged(scene, seen):
    scene.try_version(1.0, halted="it was")
    await exchange(scene, seen)
    assert signed_by(scene) == ["1"]
    assert seen.judged == []


async def test_where_nothing_else_signs_there_is_no_way_back(scene, seen):
    """Only a ring written by hand is so."""
    for _ in range(60):
        scene.try_version(1.0)
        scene.rings.ring = replace(scene.rings.ring, active_signer=None)
        scene.upstream.answer = [REFUSED]
        assert not (await exchange(scene, seen)).verified
    assert set(signed_by(scene)) == {"2"}
    assert not seen.halts


async def test_a_repeat_uses_the_ring_that_the_exchange_began_with(scene, seen):
    scene.try_version(1.0)
    scene.rings.later = scene.ring_of({"3": scene.other_key})
    scene.upstream.answer = [REFUSED, good(scene)]
    await exchange(scene, seen)
    assert signed_by(scene) == ["2", "1"]
    assert scene.steps.count("ring") == 1


# --- within one deadline -----------------------------------------------------


async def test_the_repeat_has_what_is_left_of_the_deadline(scene, seen):
    scene.try_version(1.0)

    def slow(_):
        scene.clock._seconds += 5
        return REFUSED

    scene.upstream.answer = [slow, good(scene)]
    await exchange(scene, seen)
    first, second = scene.upstream.timeouts
    assert second < first - 5


@pytest.mark.parametrize("deadline", [None, 3.0])
async def test_where_no_time_is_left_the_refusal_is_the_answer(scene, seen, deadline):
    scene.try_version(1.0)

    def slow(_):
        scene.clock._seconds += 10
        return REFUSED

    scene.upstream.answer = [slow]
    answer = await exchange(scene, seen, replace(PLAIN, deadline=deadline))
    assert not answer.verified
    assert seen.judged == [("2", True)]


LOST = [UpstreamTimeout("late"), UpstreamDisconnected("cut")]
NOT_SENT = UpstreamUnavailable("no")


@pytest.mark.parametrize("error", LOST, ids=repr)
async def test_what_becomes_of_the_repeat_is_what_the_caller_is_told(
    scene, seen, error
):
    scene.try_version(1.0)
    scene.upstream.answer = [REFUSED, error]
    with pytest.raises(type(error)):
        await exchange(scene, seen)
    assert seen.judged == [("2", True)]
    assert scene.record.attempts == 2


async def test_where_the_repeat_is_not_sent_the_refusal_is_the_answer(scene, seen):
    """Every reason for that is in `test_outcome`."""
    scene.try_version(1.0)
    scene.upstream.answer = [REFUSED, NOT_SENT]
    answer = await exchange(scene, seen)
    assert not answer.verified
    assert answer.body == REFUSED.body
    assert seen.judged == [("2", True)]
    assert scene.record.attempts == 2
    assert (scene.record.code, scene.record.result_code) == (
        "refused",
        "INVALID_SIGNATURE",
    )


async def test_a_repeat_shares_the_retries_of_its_exchange(scene, seen):
    """Else a canary would multiply how often AlipayHK may see a request."""
    scene.try_version(1.0)
    scene.upstream.answer = [LOST[1], REFUSED, LOST[1], good(scene)]
    with pytest.raises(UpstreamDisconnected):
        await exchange(scene, seen, repeats=1, repeats_unknown=True)
    assert len(scene.upstream.sent) == 3


async def test_a_canary_whose_key_is_gone_after_a_first_attempt_leaves_it_to_nobody(
    scene, seen
):
    """One attempt more than the settings allow is no way out of that."""
    scene.try_version(1.0)
    key = scene.rings.ring.canary.key
    sign, signed = key.sign, []

    async def once(base):
        if signed:
            raise KeyUnavailable("no token")
        signed.append(base)
        return await sign(base)

    key.sign = once
    scene.upstream.answer = [LOST[1]]
    with pytest.raises(UpstreamDisconnected):
        await exchange(scene, seen, repeats=1, repeats_unknown=True)
    assert signed_by(scene) == ["2"]


# --- what counts -------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [*LOST, NOT_SENT, ResponseMalformed("x"), KeyVersionUnknown("x")],
    ids=repr,
)
async def test_trouble_that_is_not_the_keys_counts_for_neither(scene, seen, error):
    for share in (1.0, 1e-9):
        scene.try_version(share)
        scene.upstream.answer = [error]
        with pytest.raises(type(error)):
            await exchange(scene, seen)
    assert seen.judged == []


@pytest.mark.parametrize(
    "answer",
    [unsigned("PARAM_ILLEGAL"), unsigned("INVALID_SIGNATURE", "U")],
    ids=["another code", "U"],
)
async def test_another_refusal_counts_for_neither_and_is_not_repeated(
    scene, seen, answer
):
    scene.try_version(1.0)
    scene.upstream.answer = [answer]
    assert not (await exchange(scene, seen)).verified
    assert seen.judged == []


async def test_which_codes_refuse_a_signature_is_a_setting(scene, seen):
    scene.try_version(1.0)
    scene.upstream.answer = [unsigned("BAD_SIG"), good(scene)]
    answer = await exchange(scene, seen, signature_refusal_codes=("BAD_SIG",))
    assert answer.verified


async def test_a_verified_refusal_counts_as_success(scene, seen):
    scene.try_version(1.0)
    scene.upstream.answer = peer.answer(scene.platform_key, peer.FAILURE)
    await exchange(scene, seen)
    assert seen.judged == [("2", False)]


def sealed_to(scene, key):
    return peer.sealed_answer(scene.platform_key, key.public_key())


@pytest.mark.parametrize("share", [1.0, 1e-9])
async def test_an_answer_that_does_not_decrypt_counts_and_is_not_repeated(
    scene, seen, share
):
    """AlipayHK has acted on it."""
    scene.try_version(share)
    scene.upstream.answer = [sealed_to(scene, scene.platform_key)]
    with pytest.raises(DecryptionFailed):
        await exchange(scene, seen, ENCRYPTED)
    version = "2" if share == 1.0 else "1"
    assert seen.judged == [(version, True)]
    assert len(scene.upstream.sent) == 1


async def test_so_does_one_that_is_encrypted_to_a_version_that_is_not_held(scene, seen):
    scene.try_version(1.0)
    wrapped = peer.wrap(scene.platform_key.public_key())
    scene.upstream.answer = peer.answer(
        scene.platform_key,
        peer.seal(peer.SUCCESS),
        encrypt=peer.encrypt_header(wrapped, "9"),
    )
    with pytest.raises(KeyVersionUnknown):
        await exchange(scene, seen, ENCRYPTED)
    assert seen.judged == [("2", True)]


CHOSEN = {
    "nested too deeply": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no JSON": b"hello",
    "no object": b"[1]",
    "no UTF-8": b'{"a":"\xff"}',
    "nothing": b"",
}


@pytest.mark.parametrize("text", CHOSEN.values(), ids=CHOSEN.keys())
async def test_what_a_text_holds_is_not_the_keys_fault(scene, seen, text):
    """A caller may choose what AlipayHK answers, and so could end a canary."""
    for _ in range(60):
        scene.try_version(1.0)
        scene.upstream.answer = [scene.sealed(text)]
        with pytest.raises(DecryptionFailed):
            await exchange(scene, seen, ENCRYPTED)
    assert seen.judged == []
    assert not seen.halts


NOT_THE_KEYS = {
    "an unreadable header": ("nonsense", peer.seal(peer.SUCCESS)),
    "no base64": (None, b"{}"),
    "no whole block": (None, base64.b64encode(bytes(20))),
    "no block": (None, b""),
}


@pytest.mark.parametrize(
    ("header", "body"), NOT_THE_KEYS.values(), ids=NOT_THE_KEYS.keys()
)
async def test_nor_is_what_no_key_could_read(scene, seen, header, body):
    scene.try_version(1.0)
    header = header or peer.encrypt_header(peer.wrap(scene.partner_key.public_key()))
    scene.upstream.answer = [peer.answer(scene.platform_key, body, encrypt=header)]
    with pytest.raises(DecryptionFailed):
        await exchange(scene, seen, ENCRYPTED)
    assert seen.judged == []


@pytest.mark.parametrize("length", [0, 15, 33, 245])
async def test_a_content_key_of_a_wrong_length_is_what_a_wrong_key_gives(
    scene, seen, length
):
    scene.try_version(1.0)
    wrapped = peer.wrap(scene.partner_key.public_key(), bytes(length))
    scene.upstream.answer = [
        peer.answer(
            scene.platform_key,
            peer.seal(peer.SUCCESS),
            encrypt=peer.encrypt_header(wrapped),
        )
    ]
    with pytest.raises(DecryptionFailed):
        await exchange(scene, seen, ENCRYPTED)
    assert seen.judged == [("2", True)]


async def test_a_wrapped_key_of_another_length_is_another_keys(scene, seen):
    scene.try_version(1.0)
    header = peer.encrypt_header(bytes(384))
    body = peer.seal(peer.SUCCESS)
    scene.upstream.answer = [peer.answer(scene.platform_key, body, encrypt=header)]
    with pytest.raises(DecryptionFailed):
        await exchange(scene, seen, ENCRYPTED)
    assert seen.judged == [("2", True)]


async def test_the_requests_own_content_key_says_nothing_of_ours(scene, seen):
    scene.try_version(1.0)
    scene.upstream.answer = [scene.sealed()]
    with pytest.raises(DecryptionFailed):
        await exchange(scene, seen, ENCRYPTED, reuse_content_key=True)
    assert seen.judged == []


async def test_a_pair_that_is_not_reached_says_nothing_of_the_canary(scene, seen):
    scene.try_version(1.0)

    async def gone(wrapped_key):
        raise KeyUnavailable("no token")

    (key,) = scene.rings.ring.decrypters
    key.unwrap = gone
    scene.upstream.answer = [scene.sealed()]
    with pytest.raises(DecryptionFailed):
        await exchange(scene, seen, ENCRYPTED)
    assert seen.judged == []


async def test_a_canary_whose_key_is_not_reached_leaves_it_to_the_earlier_one(
    scene, seen
):
    scene.try_version(1.0)

    async def gone(base):
        raise KeyUnavailable("no token")

    scene.rings.ring.canary.key.sign = gone
    assert (await exchange(scene, seen)).verified
    assert signed_by(scene) == ["1"]
    assert seen.judged == [("1", False)]
    assert (scene.record.attempts, scene.record.canary_attempts) == (1, 0)


# --- the way back ------------------------------------------------------------


@pytest.mark.parametrize(("share", "most"), [(0.05, 6), (0.5, 22), (1.0, 30)])
async def test_an_unknown_key_is_over_soon_and_no_caller_notices(
    scene, seen, share, most
):
    scene.upstream.answer = lambda request: (
        REFUSED if "keyVersion=2" in header(request, "Signature") else good(scene)
    )
    for number in range(4000):
        scene.try_version(share)
        scene.record = ExchangeRecord(f"e{number}")
        assert (await exchange(scene, seen)).verified
        if seen.halts:
            break
    (halt,) = seen.halts
    assert halt.exchanges == halt.failures == most
    assert (halt.key_version, halt.other_version) == ("2", "1")
    assert (halt.generation, halt.share, halt.other_failures) == (1, share, 0)
    assert halt.other_exchanges >= most
    assert seen.watch.halt_of(scene.ring_of()) == halt


async def test_it_is_told_once_though_exchanges_under_way_go_on_to_fail(scene, seen):
    scene.upstream.answer = lambda request: (
        REFUSED if "keyVersion=2" in header(request, "Signature") else good(scene)
    )
    for _ in range(40):
        scene.try_version(1.0)
        assert (await exchange(scene, seen)).verified
    assert len(seen.halts) == 1


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
async def test_both_versions_refused_alike_is_no_reason(scene, seen, share):
    scene.upstream.answer = REFUSED
    for number in range(600):
        scene.try_version(share)
        scene.record = ExchangeRecord(f"e{number}")
        assert not (await exchange(scene, seen)).verified
    assert not seen.halts


async def test_a_failure_of_the_other_version_meanwhile_speaks_for_both(scene, seen):
    """As at the end of an outage: refused before it, repeated after it."""

    def refuse(_):
        course.judge_other(ring, ring.canary, failed=True)
        return REFUSED

    for _ in range(60):
        scene.try_version(1.0)
        ring = scene.rings.ring
        course = seen.watch.course_of(ring)
        scene.upstream.answer = [refuse, good(scene)]
        await exchange(scene, seen)
    assert not seen.halts


def of_generation(scene, number):
    scene.try_version(1.0)
    return replace(scene.rings.ring, generation=number)


def test_a_new_generation_begins_anew_and_an_old_one_counts_no_more(scene, seen):
    first, second = of_generation(scene, 1), of_generation(scene, 2)
    for _ in range(30):
        seen.watch.course_of(first).evidence.other.last_failed = False
        seen.watch.course_of(first).judge_canary(
            first, first.canary, failed=True, alone=True
        )
    assert seen.watch.halt_of(first) is not None
    assert seen.watch.halt_of(second) is None
    assert seen.watch.course_of(second).evidence.canary.exchanges == 0
    assert seen.watch.halt_of(second) is None
    seen.watch.course_of(second).evidence.canary.count(failed=False)
    assert seen.watch.course_of(first).evidence.canary.exchanges == 0
    assert seen.watch.course_of(second).evidence.canary.exchanges == 1


def verified(seen, ring, share, count):
    """Have exchanges of the canary verified while it signed this share."""
    canary = replace(ring.canary, share=share)
    for _ in range(count):
        seen.watch.course_of(ring).judge_canary(ring, canary, failed=False, alone=True)


def growing(scene, *steps):
    ring = of_generation(scene, 1)
    return replace(ring, canary=replace(ring.canary, steps=steps))


def share_of(seen, ring):
    return seen.watch.share_of(ring.canary, ring.generation)


def test_a_share_grows_step_by_step_with_what_was_verified(scene, seen):
    ring = growing(scene, 0.05, 0.25, 1.0)
    assert share_of(seen, ring) == 0.05
    verified(seen, ring, 0.05, ENOUGH - 1)
    assert share_of(seen, ring) == 0.05
    verified(seen, ring, 0.05, 1)
    assert share_of(seen, ring) == 0.25
    verified(seen, ring, 0.05, 100)
    assert share_of(seen, ring) == 0.25
    verified(seen, ring, 0.25, ENOUGH)
    assert share_of(seen, ring) == 1.0


def test_failures_are_no_evidence_to_grow(scene, seen):
    ring = growing(scene, 0.5, 1.0)
    canary = replace(ring.canary, share=0.5)
    for _ in range(ENOUGH):
        seen.watch.course_of(ring).judge_canary(ring, canary, failed=True, alone=False)
    assert share_of(seen, ring) == 0.5


def test_a_share_falls_by_schedule_alone(scene, seen):
    assert share_of(seen, growing(scene, 0.5, 0.25)) == 0.25
    assert share_of(seen, growing(scene, 0.5, 0.25, 1.0)) == 0.25


def test_a_share_without_steps_is_as_it_is(scene, seen):
    assert share_of(seen, of_generation(scene, 1)) == 1.0


def test_what_was_verified_of_another_generation_is_no_evidence(scene, seen):
    ring = growing(scene, 0.05, 0.25)
    verified(seen, ring, 0.05, ENOUGH)
    assert share_of(seen, replace(ring, generation=2)) == 0.05
    assert share_of(seen, ring) == 0.25


def test_a_halt_says_why_in_words():
    halt = CanaryHalt("2", 7, 0.05, 6, 6, "1", 120, 0)
    assert halt.reason == (
        "6 of 6 exchanges with version 2 failed for its key, and 0 of 120 with "
        "version 1"
    )
