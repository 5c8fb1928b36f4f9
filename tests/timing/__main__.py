"""Measures whether the time of a failing decryption tells why it failed (P4).

usage: python -m tests.timing [ROUNDS]

Each round takes every cause once, in an order of its own, from the answer as it came
to the error: verify, unwrap, decrypt. Times are in CPU time of this thread, so that a
busy machine disturbs less. As dudect does (Reparaz, Balasch, Verbauwhede 2017), the
slow tail is cut off at a common bound and Welch's t is taken of each cause against a
wrong key of 32 bytes; |t| over 4.5 fails.

Only causes are judged that who does not hold AlipayHK's signing key can bring about:
the Encrypt header is not signed, the body is. The others are shown.
"""

import asyncio
import json
import math
import random
import statistics
import sys
import time

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from gateway.errors import DecryptionFailed
from gateway.keys.backends.pem import FileKey
from gateway.keys.keyring import Keyring
from gateway.keys.model import PARTNER_USES, PLATFORM_USES, KeyInfo, KeyState
from gateway.protocol import PublicKey, verify_response
from tests import peer

ROUNDS = 4000
POOL = 32
"""Different answers per cause, so that no single ciphertext is what is measured."""

CUT = 0.9
LIMIT = 4.5
POWER_Z = 1.2816
"""A difference of (LIMIT + this) standard errors is found in 9 of 10 runs."""

REFERENCE = "another key of 32 bytes"
BODY = json.dumps({"resultInfo": {"resultStatus": "S"}, "data": "x" * 4000}).encode()


def main(rounds):
    print(f"{rounds} rounds; about {rounds // 70} s")
    partner, platform = (generate_private_key(65537, 2048) for _ in range(2))
    judged = causes_of_a_header(partner)
    shown = causes_of_a_body(partner)
    answers = {
        name: [peer.answer(platform, body, encrypt=header) for header, body in pool]
        for name, pool in {**judged, **shown}.items()
    }
    times = asyncio.run(measure(ring_of(partner, platform), answers, rounds))
    return report(times, judged)


def causes_of_a_header(partner):
    body = peer.seal(BODY)

    def keys(length):
        public = partner.public_key()
        wrapped = [peer.wrap(public, random.randbytes(length)) for _ in range(POOL)]
        return [(peer.encrypt_header(each), body) for each in wrapped]

    return {
        REFERENCE: keys(32),
        **{f"another key of {n} bytes": keys(n) for n in (16, 24)},
        **{f"a key of {n} bytes": keys(n) for n in (0, 1, 15, 31, 33, 245)},
        # Below our modulus: a number above it is refused at once, as who made it knows.
        "a random wrapped key": [
            (peer.encrypt_header(b"\x00" + random.randbytes(255)), body)
            for _ in range(POOL)
        ],
    }


def causes_of_a_body(partner):
    size = len(BODY) // 16 * 16
    bodies = {
        "bad padding": peer.seal_padded(bytes(size)),
        "bad JSON": peer.seal(BODY[:-1]),
        "not an object": peer.seal(b'"' + b"x" * size + b'"'),
        "not base64": b"!" * len(peer.seal(BODY)),
        "no whole block": peer.seal(BODY)[:-4],
    }
    return {
        name: [
            (peer.encrypt_header(peer.wrap(partner.public_key())), body)
            for _ in range(POOL)
        ]
        for name, body in bodies.items()
    }


def ring_of(partner, platform):
    active = KeyState.ACTIVE
    key = FileKey("1", partner)
    theirs = PublicKey("1", platform.public_key())
    return Keyring.of(
        1,
        [(KeyInfo("1", active, PARTNER_USES, "a", key.public), key)],
        [KeyInfo("1", active, PLATFORM_USES, "b", theirs)],
    )


async def measure(ring, answers, rounds):
    request = peer.sent_request()
    times = {name: [] for name in answers}
    names = list(answers)
    for count in range(rounds + 50):
        random.shuffle(names)
        for name in names:
            received = random.choice(answers[name])
            before = time.thread_time_ns()
            try:
                verified = verify_response(
                    received,
                    request=request,
                    keys=ring.verifiers,
                    freshness=peer.FRESH,
                )
                await ring.decrypt(verified)
            except DecryptionFailed:
                spent = time.thread_time_ns() - before
                if count >= 50:  # warm by then
                    times[name].append(spent / 1000)
    return times


def report(times, judged):
    pooled = sorted(each for name in judged for each in times[name])
    bound = pooled[int(len(pooled) * CUT)]
    kept = {name: [t for t in each if t <= bound] for name, each in times.items()}
    base = kept.pop(REFERENCE)
    print(f"{REFERENCE}: {statistics.mean(base):.1f} us")
    failed, least = [], 0.0
    for name, each in kept.items():
        difference = statistics.mean(each) - statistics.mean(base)
        error = math.sqrt(
            statistics.variance(each) / len(each)
            + statistics.variance(base) / len(base)
        )
        t = difference / error
        mark = "" if name in judged else "  (needs AlipayHK's signature)"
        print(f"{name:28} {difference:+7.2f} us  t = {t:+6.2f}{mark}")
        if name in judged:
            least = max(least, (LIMIT + POWER_Z) * error)
            if abs(t) > LIMIT:
                failed.append(name)
    print(f"a difference of {least:.1f} us would be found in 9 of 10 runs")
    print(f"failed: {', '.join(failed)}" if failed else "no cause is told by its time")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else ROUNDS))
