"""The exchange between ports in memory: what is done, in which order, and noted."""

import base64
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from gateway.errors import (
    ClientIdMismatch,
    DecryptionFailed,
    EncryptionDowngraded,
    EncryptionRequired,
    EncryptionUnavailable,
    ExchangeError,
    InvalidRequest,
    KeyUnavailable,
    KeyVersionUnknown,
    Outcome,
    ResponseMalformed,
    ResponseStale,
    ResponseTooLarge,
    SignatureInvalid,
    SignatureMissing,
    UpstreamDisconnected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.events import ExchangeRecord
from gateway.protocol import ReceivedResponse
from gateway.relay.routes import Call
from tests import peer
from tests.unit.relay.conftest import field, header

PLAIN = Call(peer.TARGET, peer.REQUEST_BODY)
ENCRYPTED = Call(peer.TARGET, peer.REQUEST_BODY, encrypt=True)


def unsigned(body, status=200):
    return ReceivedResponse(status, [("Content-Type", "application/json")], body)


# --- what is done, in which order --------------------------------------------


async def test_a_plain_exchange_takes_one_ring_signs_sends_and_verifies(scene):
    answer = await scene.exchange(PLAIN)
    assert scene.steps == ["ring", "now", "sign 1", "send", "now"]
    assert (answer.status, answer.body, answer.verified) == (200, peer.SUCCESS, True)


async def test_an_encrypted_exchange_encrypts_before_it_signs_and_decrypts_last(scene):
    scene.upstream.answer = scene.sealed()
    answer = await scene.exchange(ENCRYPTED)
    expected = ["ring", "now", "entropy 32", "sign 1", "send", "now", "unwrap 1"]
    assert scene.steps == expected
    assert (answer.body, answer.verified) == (peer.SUCCESS, True)


async def test_what_is_sent_is_what_was_signed(scene):
    target = f"{peer.TARGET}?a=%2F"
    scene.upstream.answer = peer.answer(scene.platform_key, target=target)
    await scene.exchange(Call(target, b' {"a":1.0}\r\n'))
    (sent,) = scene.upstream.sent
    assert (sent.target, sent.body) == (target, b' {"a":1.0}\r\n')
    assert header(sent, "Request-Time") == peer.TIME
    assert header(sent, "Client-Id") == peer.CLIENT_ID
    assert header(sent, "Encrypt") is None
    assert header(sent, "Signature").startswith("algorithm=RSA256,keyVersion=1,sig")
    base = peer.signature_base(target=sent.target, time=peer.TIME, body=sent.body)
    assert field(sent, "Signature", "signature") == peer.rsa256(scene.partner_key, base)


async def test_what_is_sent_encrypted_is_signed_as_ciphertext_and_opens_for_them(scene):
    scene.upstream.answer = unsigned(peer.FAILURE)
    await scene.exchange(ENCRYPTED)
    (sent,) = scene.upstream.sent
    base = peer.signature_base(time=peer.TIME, body=sent.body)
    assert field(sent, "Signature", "signature") == peer.rsa256(scene.partner_key, base)
    wrapped = field(sent, "Encrypt", "symmetricKey")
    content_key = scene.platform_key.decrypt(wrapped, peer.padding.PKCS1v15())
    assert content_key == scene.entropy.given[0]
    assert peer.unseal(sent.body, content_key) == peer.REQUEST_BODY
    assert header(sent, "Encrypt").startswith("algorithm=RSA_AES,keyVersion=1,sym")
    assert header(sent, "Content-Type") == "application/json; charset=UTF-8"


async def test_each_encrypted_request_has_32_fresh_bytes_of_its_own(scene):
    scene.upstream.answer = unsigned(peer.FAILURE)
    for _ in range(3):
        await scene.exchange(ENCRYPTED)
    used = [
        scene.platform_key.decrypt(
            field(sent, "Encrypt", "symmetricKey"), peer.padding.PKCS1v15()
        )
        for sent in scene.upstream.sent
    ]
    assert used == scene.entropy.given == [bytes([n]) * 32 for n in (1, 2, 3)]


async def test_the_routes_deadline_is_the_upstreams(scene):
    await scene.exchange(PLAIN)
    assert scene.upstream.timeouts == [7.25]  # a look at the clock later


async def test_an_answer_is_passed_back_with_all_its_headers(scene):
    scene.upstream.answer = peer.answer(scene.platform_key, peer.FAILURE, status=503)
    answer = await scene.exchange(PLAIN)
    assert (answer.status, answer.body) == (503, peer.FAILURE)
    assert answer.headers == scene.upstream.answer.headers


async def test_no_text_of_an_answer_shows_its_body_or_headers(scene):
    answer = await scene.exchange(PLAIN)
    assert "SUCCESS" not in repr(answer)
    assert "Signature" not in repr(answer)


# --- nothing is sent ---------------------------------------------------------

NOT_SENT = {
    "no JSON": (Call(peer.TARGET, b"x"), {}, InvalidRequest),
    "no object": (Call(peer.TARGET, b"[]"), {}, InvalidRequest),
    "an empty body": (Call(peer.TARGET, b""), {}, InvalidRequest),
    "a legacy body": (
        Call(peer.TARGET, b'{"request":{"head":{},"body":{}},"signature":"x"}'),
        {},
        InvalidRequest,
    ),
    "plain where all is encrypted": (
        Call(peer.TARGET, b"{}", encrypt=False),
        {"encrypts": True},
        EncryptionRequired,
    ),
    "encrypted where nothing is": (
        ENCRYPTED,
        {"encrypts": False},
        EncryptionUnavailable,
    ),
}


@pytest.mark.parametrize(
    ("call", "settings", "error"), NOT_SENT.values(), ids=NOT_SENT.keys()
)
async def test_a_call_that_is_wrong_touches_no_key_and_is_not_sent(
    scene, call, settings, error
):
    with pytest.raises(error) as caught:
        await scene.exchange(call, **settings)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert scene.steps == []


async def test_without_a_ring_nothing_is_sent(scene):
    scene.rings.ring = KeyUnavailable("none could be loaded")
    with pytest.raises(KeyUnavailable):
        await scene.exchange(PLAIN)
    assert scene.steps == ["ring"]


@pytest.mark.parametrize("call", [PLAIN, ENCRYPTED])
async def test_without_an_active_pair_nothing_is_sent(scene, call):
    scene.rings.ring = scene.ring_of({})
    with pytest.raises(KeyUnavailable, match="signing") as caught:
        await scene.exchange(call)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert scene.upstream.sent == []


async def test_without_their_active_key_nothing_is_sent_encrypted_or_signed(scene):
    scene.rings.ring = scene.ring_of(platform={})
    with pytest.raises(KeyUnavailable, match="verify"):
        await scene.exchange(ENCRYPTED)
    assert "sign 1" not in scene.steps
    assert "send" not in scene.steps


async def test_what_no_key_could_verify_is_not_sent(scene):
    """AlipayHK would act, and nobody would know."""
    scene.rings.ring = scene.ring_of(platform={})
    with pytest.raises(KeyUnavailable) as caught:
        await scene.exchange(PLAIN)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert scene.upstream.sent == []


async def test_a_signer_that_cannot_be_reached_is_told_and_nothing_is_sent(scene):
    scene.rings.ring.signer.sign = unreachable
    with pytest.raises(KeyUnavailable) as caught:
        await scene.exchange(PLAIN)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert scene.upstream.sent == []
    assert scene.record.key_version is None
    assert scene.record.upstream_seconds is None


# --- settings of a client ----------------------------------------------------


async def test_key_versions_are_left_out_where_the_client_says_so(scene):
    scene.upstream.answer = unsigned(peer.FAILURE)
    await scene.exchange(ENCRYPTED, send_key_version=False)
    (sent,) = scene.upstream.sent
    assert "keyVersion" not in header(sent, "Signature") + header(sent, "Encrypt")
    assert scene.record.key_version == "1"


async def test_the_request_time_is_of_the_clients_zone(scene):
    scene.upstream.answer = unsigned(peer.FAILURE)
    zone = timezone(-timedelta(hours=3, minutes=30))
    await scene.exchange(PLAIN, zone=zone)
    assert header(scene.upstream.sent[0], "Request-Time") == "2026-11-23T02:30:00-03:30"


async def test_the_content_type_of_encrypted_requests_is_the_clients(scene):
    scene.upstream.answer = unsigned(peer.FAILURE)
    for call in (ENCRYPTED, PLAIN):
        await scene.exchange(call, encrypted_content_type="text/plain; charset=UTF-8")
    assert [header(sent, "Content-Type") for sent in scene.upstream.sent] == [
        "text/plain; charset=UTF-8",
        "application/json; charset=UTF-8",
    ]


@pytest.mark.parametrize(
    ("distance", "stale"), [(-301, True), (-300, False), (300, False), (301, True)]
)
async def test_the_clients_tolerance_bounds_an_answers_time(scene, distance, stale):
    scene.clock.moment = peer.NOW - timedelta(seconds=distance)
    if stale:
        with pytest.raises(ResponseStale):
            await scene.exchange(PLAIN)
        assert scene.record.verified_by is None
    else:
        await scene.exchange(PLAIN)
    assert scene.record.clock_skew_s == distance


async def test_the_tolerance_is_a_setting(scene):
    scene.clock.moment = peer.NOW + timedelta(seconds=2)
    tolerance = timedelta(seconds=1)
    with pytest.raises(ResponseStale):
        await scene.exchange(PLAIN, clock_tolerance=tolerance)


# --- answers that are encrypted ----------------------------------------------


async def test_an_encrypted_answer_to_a_plain_request_is_decrypted(scene):
    scene.upstream.answer = scene.sealed()
    assert (await scene.exchange(PLAIN)).body == peer.SUCCESS
    assert scene.record.encrypted is False


@pytest.fixture
def two_pairs(scene):
    """Two pairs of ours that decrypt: version 2 is active, version 1 was."""
    scene.rings.ring = scene.ring_of({"2": scene.other_key, "1": scene.partner_key})


def sealed_to(scene, recipient, version):
    """Give an answer encrypted to a pair; the version it names is the test's choice."""
    wrapped = peer.wrap(recipient.public_key())
    encrypt = peer.encrypt_header(wrapped, version)
    return peer.answer(scene.platform_key, peer.seal(peer.SUCCESS), encrypt=encrypt)


@pytest.mark.usefixtures("two_pairs")
async def test_where_no_version_is_named_each_pair_is_tried_the_active_one_first(scene):
    scene.upstream.answer = sealed_to(scene, scene.partner_key, None)
    assert (await scene.exchange(PLAIN)).body == peer.SUCCESS
    assert scene.steps[-2:] == ["unwrap 2", "unwrap 1"]
    assert scene.record.decrypted_by == "1"


@pytest.mark.usefixtures("two_pairs")
async def test_once_one_pair_decrypts_no_other_is_tried(scene):
    scene.upstream.answer = sealed_to(scene, scene.other_key, None)
    await scene.exchange(PLAIN)
    assert [step for step in scene.steps if "unwrap" in step] == ["unwrap 2"]


@pytest.mark.usefixtures("two_pairs")
async def test_the_pair_that_is_named_is_tried_first(scene):
    scene.upstream.answer = sealed_to(scene, scene.partner_key, "1")
    await scene.exchange(PLAIN)
    assert [step for step in scene.steps if "unwrap" in step] == ["unwrap 1"]
    assert scene.record.decryption_label is None


@pytest.mark.usefixtures("two_pairs")
@pytest.mark.parametrize(
    ("label", "noted"),
    [
        ("2", "2"),
        ("3", "3"),
        ("20261123", "20261123"),
        ("a;b", "(not readable)"),
        ("x" * 65, "(not readable)"),
    ],
)
async def test_a_label_that_is_not_the_pairs_does_not_keep_it_from_opening(
    scene, label, noted
):
    """It may be AlipayHK's own, or the one before a rotation: nothing signs it."""
    scene.upstream.answer = sealed_to(scene, scene.partner_key, label)
    assert (await scene.exchange(PLAIN)).body == peer.SUCCESS
    tried = [step for step in scene.steps if "unwrap" in step]
    assert tried == ["unwrap 2", "unwrap 1"]
    assert scene.record.decrypted_by == "1"
    assert scene.record.decryption_label == noted


@pytest.mark.usefixtures("two_pairs")
async def test_a_version_that_is_not_held_is_told_as_such_if_no_pair_opens_it(scene):
    scene.upstream.answer = sealed_to(scene, scene.platform_key, "3")
    with pytest.raises(KeyVersionUnknown):
        await scene.exchange(PLAIN)
    assert len([step for step in scene.steps if "unwrap" in step]) == 2
    assert scene.record.decryption_label is None


@pytest.mark.usefixtures("two_pairs")
async def test_what_no_pair_decrypts_is_one_error(scene):
    scene.upstream.answer = sealed_to(scene, scene.platform_key, None)
    with pytest.raises(DecryptionFailed):
        await scene.exchange(PLAIN)
    assert scene.steps[-2:] == ["unwrap 2", "unwrap 1"]
    assert scene.record.verified_by == "1"


async def test_an_answer_that_is_not_verified_is_never_unwrapped(scene):
    good = scene.sealed()
    for bad in (
        replace(good, body=peer.seal(peer.FAILURE)),
        peer.sealed_answer(scene.other_key, scene.partner_key.public_key()),
        replace(good, headers=peer.with_header(good.headers, "Signature")),
        replace(good, headers=peer.with_header(good.headers, "Client-Id", "EVIL")),
    ):
        scene.upstream.answer = bad
        with pytest.raises(ExchangeError):
            await scene.exchange(ENCRYPTED)
    assert "unwrap 1" not in scene.steps


async def test_an_encrypt_header_that_cannot_be_read_is_a_failed_decryption(scene):
    """No signature covers it, so nothing more is told of it."""
    scene.upstream.answer = peer.answer(
        scene.platform_key, peer.seal(b"{}"), encrypt="nonsense"
    )
    with pytest.raises(DecryptionFailed):
        await scene.exchange(PLAIN)


def with_request_key(scene):
    """Answer with the request's content key in the body, another in the header."""
    wrapped = peer.wrap(scene.partner_key.public_key(), bytes(32))

    def answer(_):
        body = peer.seal(peer.SUCCESS, scene.entropy.given[-1])
        encrypt = peer.encrypt_header(wrapped)
        return peer.answer(scene.platform_key, body, encrypt=encrypt)

    return answer


async def test_the_requests_content_key_is_used_again_where_the_client_says_so(scene):
    scene.upstream.answer = with_request_key(scene)
    answer = await scene.exchange(ENCRYPTED, reuse_content_key=True)
    assert answer.body == peer.SUCCESS
    assert "unwrap 1" not in scene.steps
    assert scene.record.decrypted_by is None


async def test_the_requests_content_key_is_otherwise_not_used_again(scene):
    scene.upstream.answer = with_request_key(scene)
    with pytest.raises(DecryptionFailed):
        await scene.exchange(ENCRYPTED)


async def test_without_a_content_key_of_its_own_a_request_has_none_to_use_again(scene):
    scene.upstream.answer = scene.sealed()
    answer = await scene.exchange(PLAIN, reuse_content_key=True)
    assert answer.body == peer.SUCCESS


async def unreachable(_):
    raise KeyUnavailable("the vault is gone")


async def test_a_pair_that_cannot_be_reached_after_sending_is_not_told_as_not_sent(
    scene,
):
    """AlipayHK has acted: "safe to send again" would be a second payment."""
    scene.rings.ring.signer.unwrap = unreachable
    scene.upstream.answer = scene.sealed()
    with pytest.raises(ExchangeError) as caught:
        await scene.exchange(ENCRYPTED)
    assert len(scene.upstream.sent) == 1
    assert caught.value.outcome is Outcome.ANSWERED


@pytest.mark.usefixtures("two_pairs")
async def test_a_pair_that_cannot_be_reached_does_not_keep_another_from_decrypting(
    scene,
):
    scene.rings.ring.signer.unwrap = unreachable
    scene.upstream.answer = sealed_to(scene, scene.partner_key, None)
    assert (await scene.exchange(PLAIN)).body == peer.SUCCESS


# --- one ring per exchange ---------------------------------------------------


async def test_a_rotation_in_the_middle_does_not_split_an_exchange(scene):
    """The answer is verified and decrypted by the ring that signed the request."""
    scene.rings.later = scene.ring_of({"2": scene.other_key}, {"2": scene.other_key})
    scene.upstream.answer = scene.sealed()
    assert (await scene.exchange(ENCRYPTED)).body == peer.SUCCESS
    assert (scene.record.key_version, scene.record.verified_by) == ("1", "1")


async def test_the_next_exchange_has_the_next_ring(scene):
    scene.rings.later = scene.ring_of({"2": scene.other_key})
    await scene.exchange(PLAIN)
    await scene.exchange(PLAIN)
    found = [header(sent, "Signature").split(",")[1] for sent in scene.upstream.sent]
    assert found == ["keyVersion=1", "keyVersion=2"]


# --- what is noted -----------------------------------------------------------


def noted(record):
    """Give what the relay filled in."""
    return {
        name: getattr(record, name)
        for name in ExchangeRecord.__dataclass_fields__
        if getattr(record, name) != getattr(ExchangeRecord("e1"), name)
    }


ASKED = {"client": "hk", "route": peer.TARGET}
SENT = {**ASKED, "key_version": "1", "upstream_seconds": 0.25, "attempts": 1}
VERIFIED = {**SENT, "verified_by": "1", "clock_skew_s": 0.0}
TO_THEM = {"encrypted": True, "encrypted_to": "1"}


async def test_a_verified_exchange_is_noted(scene):
    await scene.exchange(PLAIN)
    assert noted(scene.record) == {
        **VERIFIED,
        "code": "verified",
        "result_code": "SUCCESS",
    }


async def test_an_encrypted_exchange_is_noted_with_its_decrypted_result(scene):
    scene.upstream.answer = scene.sealed(peer.UNKNOWN)
    await scene.exchange(ENCRYPTED)
    assert noted(scene.record) == {
        **VERIFIED,
        **TO_THEM,
        "decrypted_by": "1",
        "code": "verified",
        "result_code": "UNKNOWN_EXCEPTION",
    }


async def test_an_answer_without_a_result_is_noted_without_one(scene):
    scene.upstream.answer = peer.answer(scene.platform_key, b"{}")
    await scene.exchange(PLAIN)
    assert noted(scene.record) == {**VERIFIED, "code": "verified"}


@pytest.mark.parametrize(("call", "asked"), [(PLAIN, {}), (ENCRYPTED, TO_THEM)])
async def test_an_unsigned_refusal_is_passed_on_and_noted_as_refused(
    scene, call, asked
):
    scene.upstream.answer = unsigned(peer.FAILURE, 403)
    answer = await scene.exchange(call)
    assert (answer.status, answer.body, answer.verified) == (403, peer.FAILURE, False)
    assert answer.headers == scene.upstream.answer.headers
    assert noted(scene.record) == {
        **SENT,
        **asked,
        "code": "refused",
        "result_code": "PARAM_ILLEGAL",
    }


async def test_the_version_that_verified_is_noted_where_none_was_named(scene):
    scene.rings.ring = scene.ring_of(
        platform={"8": scene.other_key, "7": scene.platform_key}
    )
    scene.upstream.answer = peer.answer(scene.platform_key, version=None)
    await scene.exchange(PLAIN)
    assert scene.record.verified_by == "7"


def changed(name, *values):
    def answer(key):
        good = peer.answer(key)
        return replace(good, headers=peer.with_header(good.headers, name, *values))

    return answer


FAILURES = {
    "unreachable": (lambda _: UpstreamUnavailable("x"), UpstreamUnavailable, SENT),
    "timeout": (lambda _: UpstreamTimeout("x"), UpstreamTimeout, SENT),
    "cut": (lambda _: UpstreamDisconnected("x"), UpstreamDisconnected, SENT),
    "no HTTP": (lambda _: ResponseMalformed("x"), ResponseMalformed, SENT),
    "too large": (lambda _: ResponseTooLarge("x"), ResponseTooLarge, SENT),
    "a defect": (lambda _: ZeroDivisionError("x"), ZeroDivisionError, SENT),
    "unsigned": (lambda _: unsigned(peer.SUCCESS), SignatureMissing, SENT),
    "half signed": (changed("Response-Time"), SignatureMissing, SENT),
    "tampered": (
        lambda key: replace(peer.answer(key), body=peer.FAILURE),
        SignatureInvalid,
        SENT,
    ),
    "another client": (changed("Client-Id", "EVIL"), ClientIdMismatch, SENT),
    "twice": (changed("Client-Id", "A", "A"), ResponseMalformed, SENT),
    "unknown version": (
        lambda key: peer.answer(key, version="9"),
        KeyVersionUnknown,
        SENT,
    ),
    "stale": (
        lambda key: peer.answer(key, time="2026-11-23T14:05:01+08:00"),
        ResponseStale,
        {**SENT, "clock_skew_s": 301.0},
    ),
    "no time": (
        lambda key: peer.answer(key, time="yesterday"),
        ResponseMalformed,
        SENT,
    ),
    "garbage": (
        lambda key: peer.answer(key, b"AAAA", encrypt="garbage"),
        DecryptionFailed,
        VERIFIED,
    ),
}


@pytest.mark.parametrize(
    ("answer", "error", "expected"), FAILURES.values(), ids=FAILURES.keys()
)
async def test_a_failed_exchange_is_noted_as_far_as_it_went(
    scene, answer, error, expected
):
    scene.upstream.answer = answer(scene.platform_key)
    with pytest.raises(error):
        await scene.exchange(PLAIN)
    assert noted(scene.record) == expected


async def test_a_downgrade_is_noted_as_far_as_it_went(scene):
    with pytest.raises(EncryptionDowngraded):
        await scene.exchange(ENCRYPTED)
    assert noted(scene.record) == {**SENT, **TO_THEM}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (Call(peer.TARGET, b"x"), ASKED),
        (Call(peer.TARGET, b"x", encrypt=True), {**ASKED, "encrypted": True}),
    ],
)
async def test_a_call_that_is_not_sent_is_noted_as_far_as_it_is_known(
    scene, call, expected
):
    with pytest.raises(ExchangeError):
        await scene.exchange(call)
    assert noted(scene.record) == expected


@pytest.mark.parametrize("name", ["Tracer-Id", "tracerId", "trace-id"])
@pytest.mark.parametrize("body", [peer.SUCCESS, peer.FAILURE], ids=["bad", "refusal"])
async def test_alipayhks_own_name_of_an_exchange_is_noted_even_if_it_is_not_trusted(
    scene, name, body
):
    scene.upstream.answer = replace(unsigned(body), headers=[(name, "T-1")])
    with suppress(SignatureMissing):
        await scene.exchange(PLAIN)
    assert scene.record.tracer_id == "T-1"


async def test_the_code_of_a_failure_is_left_to_the_edge(scene):
    scene.upstream.answer = UpstreamTimeout("x")
    with pytest.raises(UpstreamTimeout):
        await scene.exchange(PLAIN)
    assert (scene.record.code, scene.record.outcome) == ("", None)


def test_the_tests_own_ciphertext_is_base64_on_one_line():
    assert base64.b64decode(peer.seal(b"{}" * 99), validate=True)


@pytest.mark.parametrize(
    "target",
    [
        f"{peer.TARGET}?a=b c",
        f"{peer.TARGET}?q=香",
        f"{peer.TARGET}?",
        peer.TARGET + "?%",
    ],
)
async def test_a_target_that_must_be_escaped_is_an_error_of_the_taxonomy(scene, target):
    with pytest.raises(InvalidRequest, match="request-target") as caught:
        await scene.exchange(Call(target, peer.REQUEST_BODY))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "send" not in scene.steps
