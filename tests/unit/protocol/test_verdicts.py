"""The verdict on an answer, for every combination of what it may be.

The table is protocol.md's "unsigned responses", spelled out; it knows nothing of
the code. "any" stands for each value, "|" for or. Empty counts as missing. Of an
answer that is encrypted and unsigned nothing can be read, so it is no refusal.
"""

import itertools

import pytest

from gateway.errors import (
    DecryptionFailed,
    EncryptionDowngraded,
    ExchangeError,
    ResponseMalformed,
    SignatureInvalid,
    SignatureMissing,
)
from gateway.protocol import (
    ReceivedResponse,
    UnsignedRefusal,
    VerifiedResponse,
    decrypt,
    read_encryption,
    unwrap,
    verify_response,
)
from tests import peer

TABLE = """
signature      time           result                        request    answer     verdict
valid          present        any                           any        encrypted  verified
valid          present        S|F|U|none                    plain      plain      verified
valid          present        S-500|text|http-error         plain      plain      malformed
valid          present        F|U                           encrypted  plain      verified
valid          present        S|S-500|none|text|http-error  encrypted  plain      downgraded
invalid        present        any                           any        any        invalid
valid|invalid  missing|empty  any                           any        any        missing
missing|empty  present        any                           any        any        missing
missing|empty  missing|empty  F|U                           any        plain      refusal
missing|empty  missing|empty  S|S-500|none|text|http-error  any        plain      missing
missing|empty  missing|empty  any                           any        encrypted  missing
"""

SIGNATURES = ("valid", "invalid", "missing", "empty")
TIMES = ("present", "missing", "empty")
FORMS = ("plain", "encrypted")
RESULTS = {
    "S": (200, peer.SUCCESS),
    "S-500": (500, peer.SUCCESS),
    "F": (200, peer.FAILURE),
    "U": (500, peer.UNKNOWN),
    "none": (200, b'{"data":{"resultStatus":"F"}}'),
    "text": (200, b"resultStatus: F"),
    "http-error": (502, b"<html>502 Bad Gateway</html>"),
}
CASES = list(itertools.product(SIGNATURES, TIMES, RESULTS, FORMS, FORMS))

RAISED = {
    "downgraded": EncryptionDowngraded,
    "malformed": ResponseMalformed,
    "invalid": SignatureInvalid,
    "missing": SignatureMissing,
}


def rows_for(case):
    """The verdicts of all the rows of the table that speak of this case."""
    for line in TABLE.strip().splitlines()[1:]:
        *cells, verdict = line.split()
        if all(
            cell == "any" or value in cell.split("|")
            for cell, value in zip(cells, case, strict=True)
        ):
            yield verdict


def test_the_table_has_one_row_for_each_combination():
    assert len(CASES) == 4 * 3 * 7 * 2 * 2
    assert all(len(list(rows_for(case))) == 1 for case in CASES)


def test_each_row_of_the_table_speaks_of_some_combination():
    verdicts = [next(rows_for(case)) for case in CASES]
    assert {verdict: verdicts.count(verdict) for verdict in set(verdicts)} == {
        "verified": 14 + 4 + 2,
        "malformed": 3,
        "downgraded": 5,
        "invalid": 28,
        "missing": 112 + 56 + 5 * 4 * 2 + 4 * 14,
        "refusal": 4 * 2 * 2,
    }


@pytest.fixture(scope="module")
def world(platform_key, platform_public, partner_public, other_key):
    """Each answer that is signed or forged, once: signing takes its time."""
    requests = {
        "plain": peer.sent_request(),
        "encrypted": peer.sent_encrypted_request(platform_public),
    }
    wrapped = peer.encrypt_header(peer.wrap(partner_public.rsa))
    answers = {}
    for result, (status, plain) in RESULTS.items():
        for form in FORMS:
            sealed = form == "encrypted"
            body = peer.seal(plain) if sealed else plain
            for signature, key in (("valid", platform_key), ("invalid", other_key)):
                answers[signature, result, form] = peer.answer(
                    key, body, status=status, encrypt=wrapped if sealed else None
                )
    return requests, answers, [platform_public]


def make_answer(answers, signature, time, result, form):
    source = signature if signature in {"valid", "invalid"} else "valid"
    received = answers[source, result, form]
    headers = received.headers
    for name, state in (("Signature", signature), ("Response-Time", time)):
        if state in {"missing", "empty"}:
            headers = peer.with_header(headers, name, *[""] * (state == "empty"))
    return ReceivedResponse(received.status, headers, received.body)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id="-".join(case)) for case in CASES]
)
def test_the_verdict_is_that_of_the_table(case, world):
    signature, time, result, request, form = case
    requests, answers, keys = world
    received = make_answer(answers, signature, time, result, form)
    (verdict,) = rows_for(case)

    def judge():
        return verify_response(
            received, request=requests[request], keys=keys, freshness=peer.FRESH
        )

    if verdict in RAISED:
        with pytest.raises(ExchangeError) as caught:
            judge()
        assert caught.type is RAISED[verdict]
        return
    given = judge()
    kind = {"verified": VerifiedResponse, "refusal": UnsignedRefusal}[verdict]
    assert type(given) is kind
    assert given.body is received.body
    assert given.status == received.status


@pytest.mark.parametrize("request_form", FORMS)
@pytest.mark.parametrize("result", RESULTS)
def test_a_verified_encrypted_answer_decrypts_to_its_object(
    result, request_form, world, partner_key
):
    requests, answers, keys = world
    message = verify_response(
        answers["valid", result, "encrypted"],
        request=requests[request_form],
        keys=keys,
        freshness=peer.FRESH,
    )
    content_key = unwrap(partner_key, read_encryption(message).wrapped_key)
    if result in {"text", "http-error"}:
        with pytest.raises(DecryptionFailed):
            decrypt(message, content_key)
    elif result == "S-500":
        with pytest.raises(ResponseMalformed, match="HTTP 500"):
            decrypt(message, content_key)
    else:
        assert decrypt(message, content_key) == RESULTS[result][1]
