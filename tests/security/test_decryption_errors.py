"""P4: whatever keeps an answer from decrypting, the caller and the log see one error.

Equal time is measured by `make timing` (`tests/timing`); here is what must be equal
in every run.
"""

import gc
import json
import sys

import pytest

from gateway.errors import DecryptionFailed
from gateway.protocol import PublicKey, decrypt, verify_response
from tests import peer

BODY = peer.seal(peer.SUCCESS)
WRONG = bytes(reversed(peer.CONTENT_KEY))
VARYING = (
    *("time", "exchange_id", "seconds", "upstream_seconds", "clock_skew_s"),
    "peer",
)


def wrapped(key, content_key):
    return peer.encrypt_header(peer.wrap(key.public_key(), content_key))


def of_length(length):
    return lambda partner, _: (wrapped(partner, bytes(length)), BODY)


def with_body(body):
    return lambda partner, _: (wrapped(partner, peer.CONTENT_KEY), body)


def with_header(text):
    return lambda *_: (text, BODY)


CAUSES = {
    **{f"a key of {n} bytes": of_length(n) for n in (0, 1, 15, 17, 31, 33, 245)},
    **{f"another key of {n} bytes": of_length(n) for n in (16, 24, 32)},
    "wrapped to another": lambda _, other: (wrapped(other, peer.CONTENT_KEY), BODY),
    "a wrapped key of zeros": with_header(peer.encrypt_header(bytes(256))),
    "a wrapped key of ones": with_header(peer.encrypt_header(b"\xff" * 256)),
    "a short wrapped key": with_header(peer.encrypt_header(bytes(255))),
    "a long wrapped key": with_header(peer.encrypt_header(bytes(257))),
    "no wrapped key": with_header("algorithm=RSA_AES,keyVersion=1,symmetricKey="),
    "another algorithm": with_header(
        "algorithm=RSA_GCM,keyVersion=1,symmetricKey=QUJD"
    ),
    "an unreadable header": with_header("nonsense"),
    "padding of zero": with_body(peer.seal_padded(bytes(16))),
    "padding of 17": with_body(peer.seal_padded(b"\x11" * 16)),
    "padding that differs": with_body(peer.seal_padded(b'{"a":"12345"}\x02\x03\x03')),
    "no whole block": with_body(peer.seal(peer.SUCCESS)[:-24]),
    "no block": with_body(b""),
    "no base64": with_body(b'{"resultInfo":{}}'),
    "no ASCII": with_body("é".encode()),
    "no JSON": with_body(peer.seal(b"hello")),
    "no object": with_body(peer.seal(b"[1]")),
    "no UTF-8": with_body(peer.seal(b'{"a":"\xff"}')),
    "a number that is none": with_body(peer.seal(b'{"a":NaN}')),
    "nothing": with_body(peer.seal(b"")),
}


async def test_every_cause_gives_the_same_problem_and_the_same_line(
    house, partner_key, other_key
):
    seen = []
    for make in CAUSES.values():
        header, body = make(partner_key, other_key)

        def answer(request, header=header, body=body):
            reply = house.wallet.signed(request, body)
            reply.headers.append(("Encrypt", header))
            return reply

        house.wallet.answer = answer
        given = [("Gateway-Exchange-Id", "one")]
        got = await house.caller.post(headers=[*given, ("Gateway-Encrypt", "true")])
        headers = [(n, v) for n, v in got.headers if n != "Date"]
        line = {k: v for k, v in house.exchanges[-1].items() if k not in VARYING}
        seen.append((got.status, headers, got.body, line))
    assert len(seen) == len(CAUSES)
    assert seen[0][0] == 502
    assert json.loads(seen[0][2])["code"] == "decryption_failed"
    assert all(each == seen[0] for each in seen)


@pytest.mark.parametrize("length", [0, 1, 15, 17, 31, 33, 64, 245])
def test_a_key_of_the_wrong_length_costs_the_same_steps_as_a_wrong_key(
    length, platform_key
):
    """The Encrypt header is not signed: who can change it must not learn by the time
    taken whether a wrapped key of its making has a right length."""
    message = verify_response(
        peer.answer(platform_key, BODY, encrypt="x"),
        request=peer.sent_request(),
        keys=[PublicKey("1", platform_key.public_key())],
        freshness=peer.FRESH,
    )
    assert steps(message, bytes(length)) == steps(message, WRONG)


def test_what_the_stand_in_key_decrypts_is_thrown_away(platform_key):
    """A body that is sealed with the stand-in opens with no key of the wrong length."""
    message = verify_response(
        peer.answer(platform_key, peer.seal(peer.SUCCESS, bytes(32)), encrypt="x"),
        request=peer.sent_request(),
        keys=[PublicKey("1", platform_key.public_key())],
        freshness=peer.FRESH,
    )
    for length in (0, 1, 15, 17, 31, 33, 64, 245):
        with pytest.raises(DecryptionFailed):
            decrypt(message, bytes(length))


def steps(message, content_key):
    """Give every function, C's too, that a failing decryption calls, in order."""
    called = []
    gc.collect()  # or others' garbage is collected in between, and its ends are noted
    gc.disable()

    def note(_, event, what):
        name = what.__qualname__ if event.startswith("c_") else _.f_code.co_qualname
        called.append((event, name))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        decrypt(message, content_key)
    except DecryptionFailed:
        pass
    else:
        pytest.fail("it decrypted")
    finally:
        sys.setprofile(before)
        gc.enable()
    return called
