"""The vendor's own Python SDK as the other party, both ways.

It lives in an environment of its own (README.md). It reads the value after
`signature=`, undoes the percent-encoding and takes bodies as text.
"""

import itertools
import json
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.errors import ExchangeError, ResponseMalformed, SignatureInvalid
from gateway.protocol import (
    PublicKey,
    ReceivedRequest,
    ReceivedResponse,
    attach_signature,
    draft_request,
    draft_response,
    sign,
    signature_base,
    verify_request,
    verify_response,
)
from tests import peer

pytestmark = pytest.mark.vendor

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("vendor_peer.py")

BODIES = {
    "request": '{"requestId":"0123456789abcdef0123456789abcdef","contentStatus":1}',
    "pretty": '{\n    "a": 1.0,\n    "b": 1640970061000\n}\n',
    "CR LF": '\r\n{"a":1}\r\n',
    "Chinese": '{"title":"香港迪士尼樂園一日入場票"}',
    "beyond 16 bits": '{"title":"\U0001f3a0\U00020bb7"}',
    "two forms of a letter": '{"a":"e\u0301\u00e9"}',
    "signs": '{"a":"%2B+ %25/=&?#;,.\\\\\\"\'"}',
    "escapes": '{"a":"\\u0000\\ud800\\n","b":"\\/"}',
    "JSON within": '{"contentInfo":"{\\"title\\":\\"A/B & C\\"}"}',
    "separators": '{"a":"\u2028\u2029\u0085\u00a0\ufeff"}',
    "controls": "\x00\x01\x7f\t",
    "newline": "\n",
    "nothing": "",
    "base64": "STQLuj/9SRKzGHnXhvBKiJXZK26ozm9JxCxpRA7VaTA=",
    "long": '{"a":"' + "香" * 20_000 + '"}',
}
TARGETS = [peer.TARGET, "/a%2Fb%20c", "/a?b=c&d=%E9%A6%99+e", "/"]
TIMES = [
    "2026-11-23T14:00:00+08:00",
    "2026-11-23T06:00:00.123Z",
    "2026-11-23T14:00:00+0800",
    "1795413600000",
]
MESSAGES = [
    *((peer.TARGET, peer.TIME, body) for body in BODIES.values()),
    *((target, time, '{"a":1}') for target in TARGETS for time in TIMES),
]


@pytest.fixture(scope="session")
def vendor():
    """Give a function that has the vendor's SDK carry out operations."""
    configured = os.environ.get("GATEWAY_VENDOR_PYTHON")
    python = Path(configured or CHECKOUT / ".venv-vendor" / "bin" / "python")
    if not python.is_file():
        reason = f"no vendor environment at {python} (tests/vectors/README.md)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    def run(*operations):
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COV_", "COVERAGE_", "PYTHON", "VIRTUAL_ENV"))
        }
        done = subprocess.run(
            [python, SCRIPT],
            input=json.dumps(operations),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def pem(partner_key, platform_key):
    """The keys as the SDK takes them: PKCS#1 and SPKI PEM, by party."""
    return {
        party: (
            key.private_bytes(
                Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
            ).decode(),
            key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode(),
        )
        for party, key in (("partner", partner_key), ("platform", platform_key))
    }


@pytest.fixture(scope="module")
def theirs(vendor, pem):
    """The SDK's signatures over `MESSAGES`, by the party whose key it was given."""
    return {
        party: vendor(
            *(
                ["sign", "POST", target, peer.CLIENT_ID, time, body, private_key]
                for target, time, body in MESSAGES
            )
        )
        for party, (private_key, _) in pem.items()
    }


def our_request(key, target, time, body):
    draft = draft_request(
        target=target, client_id=peer.CLIENT_ID, time=time, body=body.encode()
    )
    signature = sign(key, signature_base(draft))
    return attach_signature(draft, signature, key_version="1")


def signature_of(message):
    return dict(message.headers)["Signature"].partition("signature=")[2]


def test_it_is_the_version_that_was_studied(vendor):
    assert vendor(["sdk_version"]) == ["1.7.1"]


def test_the_vendor_verifies_what_we_sign(vendor, pem, partner_key):
    operations = [
        (
            *("verify", "POST", target, peer.CLIENT_ID, time, body),
            signature_of(our_request(partner_key, target, time, body)),
            pem["partner"][1],
        )
        for target, time, body in MESSAGES
    ]
    assert vendor(*operations) == [True] * len(MESSAGES)


def test_the_vendor_refuses_what_we_sign_for_something_else(vendor, pem, partner_key):
    """Without this, its "verified" would prove little."""
    good = ["POST", peer.TARGET, peer.CLIENT_ID, peer.TIME, '{"a":1}']
    signature = signature_of(our_request(partner_key, peer.TARGET, peer.TIME, good[4]))
    operations = []
    for place in range(len(good)):
        bad = good.copy()
        bad[place] += "x"
        operations.append(["verify", *bad, signature, pem["partner"][1]])
    operations.append(["verify", *good, signature, pem["platform"][1]])
    results = vendor(*operations)
    assert results == [{"error": "VerificationError"}] * len(operations)


def test_we_sign_exactly_as_the_vendor_does(theirs, partner_key):
    """PKCS#1 v1.5 has no randomness: the header values are equal, sign for sign."""
    ours = [signature_of(our_request(partner_key, *message)) for message in MESSAGES]
    assert ours == theirs["partner"]


def test_we_verify_the_requests_that_the_vendor_signs(theirs, partner_public):
    for (target, time, body), signature in zip(
        MESSAGES, theirs["partner"], strict=True
    ):
        headers = [  # spelled as the SDK's client spells them
            ("Content-type", "application/json; charset=UTF-8"),
            ("Request-Time", time),
            ("client-id", peer.CLIENT_ID),
            ("Signature", f"algorithm=RSA256,keyVersion=1,signature={signature}"),
        ]
        received = ReceivedRequest("POST", target, headers, body.encode())
        verified = verify_request(received, keys=[partner_public])
        assert verified.body == body.encode()


def test_we_verify_the_answers_that_the_vendor_signs(theirs, platform_public):
    keys = [PublicKey("1", platform_public.rsa), PublicKey("2", platform_public.rsa)]
    for (target, time, body), signature in zip(
        MESSAGES, theirs["platform"], strict=True
    ):
        headers = [
            ("client-id", peer.CLIENT_ID),
            ("response-time", time),
            ("signature", f"algorithm=RSA256,keyVersion=2,signature={signature}"),
        ]

        def verify(received_body, *, target=target, headers=headers):
            return verify_response(
                ReceivedResponse(200, headers, received_body),
                request=peer.sent_request(target=target),
                keys=keys,
                freshness=peer.FRESH,
            )

        if body.strip().startswith("{"):
            assert verify(body.encode()).body == body.encode()
        else:  # the signature holds; it is what it says that we do not take
            with pytest.raises(ResponseMalformed):
                verify(body.encode())
        with pytest.raises(SignatureInvalid):
            verify(body.encode() + b" ")


def test_the_vendor_reads_the_headers_of_our_answers(
    vendor, pem, partner_key, partner_public, platform_key
):
    """It looks them up in lower case only, as its HTTP client gives them."""
    call = verify_request(peer.call(partner_key), keys=[partner_public])
    draft = draft_response(call, time=peer.TIME, body=peer.SUCCESS)
    answer = attach_signature(
        draft, sign(platform_key, signature_base(draft)), key_version="1"
    )
    lowered = [(name.lower(), value) for name, value in answer.headers]
    ((signature, time, client_id),) = vendor(["read_headers", lowered])
    assert (time, client_id) == (peer.TIME, peer.CLIENT_ID)
    assert signature == signature_of(answer)
    body = peer.SUCCESS.decode()
    assert vendor(
        ["judge", pem["platform"][1], peer.TARGET, client_id, time, body, signature]
    ) == [True]


RESULTS = {
    "S": '{"result":{"resultStatus":"S","resultCode":"SUCCESS"}}',
    "F": '{"result":{"resultStatus":"F","resultCode":"PARAM_ILLEGAL"}}',
    "U": '{"result":{"resultStatus":"U","resultCode":"UNKNOWN_EXCEPTION"}}',
    "other": '{"result":{"resultStatus":"X"}}',
    "lower case": '{"result":{"resultStatus":"f"}}',
    "no status": '{"result":{}}',
    "null": '{"result":null}',
    "no envelope": '{"resultStatus":"F"}',
    "an array": '[{"result":{"resultStatus":"F"}}]',
    "no JSON": "F",
    "HTML": "<html>502 Bad Gateway</html>",
    "nothing": "",
}


def test_we_pass_on_the_very_answers_that_the_vendor_passes_on(
    vendor, pem, platform_key, other_key, platform_public
):
    """The verdict table, against the SDK that was hardened to it."""
    cases = list(
        itertools.product(["valid", "invalid", "missing"], [True, False], RESULTS)
    )
    operations, ours = [], []
    for signed, timed, result in cases:
        body = RESULTS[result]
        signer = other_key if signed == "invalid" else platform_key
        answer = peer.answer(signer, body.encode())
        values = {
            "Signature": ""
            if signed == "missing"
            else dict(answer.headers)["Signature"],
            "Response-Time": peer.TIME if timed else "",
        }
        headers = [("Client-Id", peer.CLIENT_ID), *values.items()]
        operations.append(
            [
                *("judge", pem["platform"][1], peer.TARGET, peer.CLIENT_ID),
                *(values["Response-Time"], body),
                values["Signature"].partition("signature=")[2],
            ]
        )
        try:
            verify_response(
                ReceivedResponse(200, headers, body.encode()),
                request=peer.sent_request(),
                keys=[platform_public],
                freshness=peer.FRESH,
            )
        except ExchangeError:
            ours.append(False)
        else:
            ours.append(True)
    theirs = [result is True for result in vendor(*operations)]
    differ = [case for case, a, b in zip(cases, ours, theirs, strict=True) if a != b]
    stricter = (
        "an array",
        "no JSON",
        "HTML",
        "nothing",
    )  # a verified answer is an object
    assert differ == [("valid", True, result) for result in stricter]
    assert sum(theirs) == len(RESULTS) + 2
