"""The taxonomy against the contract's table, and what its texts may say."""

import importlib
import pkgutil

import pytest

import gateway
from gateway.edge.problems import STATUS
from gateway.errors import (
    DecryptionFailed,
    ExchangeError,
    Fault,
    GatewayError,
    InternalError,
    InvalidRequest,
    KeyringError,
    Outcome,
    ResponseMalformed,
    ResponseStale,
    SetupError,
)
from gateway.keys.formats import read_private_key, read_public_key
from gateway.protocol import (
    ReceivedResponse,
    check_request_body,
    verify_request,
    verify_response,
)
from gateway.relay.routes import Routes
from tests import peer

CONTRACT = """
invalid_request         400  not_sent
unauthenticated         401  not_sent
forbidden               403  not_sent
unknown_route           404  not_sent
method_not_allowed      405  not_sent
request_too_large       413  not_sent
too_many_requests       429  not_sent
encryption_required     400  not_sent
encryption_unavailable  400  not_sent
key_unavailable         503  not_sent
audit_unavailable       503  not_sent
overloaded              503  not_sent
upstream_unavailable    503  not_sent
upstream_timeout        504  unknown
upstream_disconnected   502  unknown
signature_missing       502  answered
signature_invalid       502  answered
key_version_unknown     502  answered
client_id_mismatch      502  answered
response_stale          502  answered
response_malformed      502  answered
response_too_large      502  answered
decryption_failed       502  answered
encryption_downgraded   502  answered
internal_error          500  unknown
"""
TABLE = {
    code: (int(status), outcome)
    for code, status, outcome in map(str.split, CONTRACT.strip().splitlines())
}
FAULTS = {
    "key_unavailable": "gateway",
    "audit_unavailable": "gateway",
    "overloaded": "gateway",
    "internal_error": "gateway",
    "upstream_unavailable": "network",
    "upstream_timeout": "network",
    "upstream_disconnected": "network",
}
"""The rest: the caller's where nothing was sent, the platform's where it answered."""


def leaves():
    """Give every class of the whole package that an exchange may end with."""
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, classes = [], [ExchangeError]
    while classes:
        below = classes.pop().__subclasses__()
        classes += below
        found += [each for each in below if not each.__subclasses__()]
    return [each for each in found if each.__module__.startswith("gateway.")]


LEAVES = leaves()
by_name = pytest.mark.parametrize("error", LEAVES, ids=lambda each: each.__name__)


def made(error):
    if error is DecryptionFailed:
        return error()
    return error("x", 1.5) if error is ResponseStale else error("x")


def test_the_codes_are_the_contracts_and_no_other():
    assert sorted(error.code for error in LEAVES) == sorted(TABLE)


def test_the_statuses_are_the_contracts_and_no_other():
    assert {code: int(status) for code, status in STATUS.items()} == {
        code: status for code, (status, _) in TABLE.items()
    }


def test_nobody_can_change_a_status():
    with pytest.raises(TypeError):
        STATUS["internal_error"] = 200


@by_name
def test_each_error_has_the_contracts_outcome(error):
    assert str(made(error).outcome) == TABLE[error.code][1]


@by_name
def test_each_error_says_whose_move_it_is(error):
    default = {"not_sent": "caller", "answered": "platform"}
    expected = FAULTS.get(error.code) or default[TABLE[error.code][1]]
    assert error.fault is Fault(expected)


@by_name
def test_each_error_has_a_title_that_is_its_own_and_a_text(error):
    assert error.title
    assert [each.title for each in LEAVES].count(error.title) == 1
    assert error.__doc__
    raised = made(error)
    assert raised.detail == str(raised) != ""


@by_name
def test_each_error_is_one_for_an_exchange_and_none_of_the_setup(error):
    assert issubclass(error, GatewayError)
    assert not issubclass(error, SetupError)


def test_only_leaves_have_a_code():
    inner = {each for leaf in LEAVES for each in leaf.__mro__[1:]}
    assert [each.__name__ for each in inner if "code" in vars(each)] == []


def test_a_defect_before_sending_is_known_not_to_be_sent():
    assert InternalError("x").outcome is Outcome.UNKNOWN
    error = InternalError("x", Outcome.NOT_SENT)
    assert error.outcome is Outcome.NOT_SENT
    assert InternalError("x").outcome is Outcome.UNKNOWN


def test_a_stale_answer_tells_by_how_much():
    assert ResponseStale("x", -301.5).skew_s == -301.5


def test_a_keyring_that_cannot_be_used_is_a_matter_of_the_setup():
    assert issubclass(KeyringError, SetupError)


def test_all_failures_to_decrypt_say_the_same():
    assert DecryptionFailed().detail == DecryptionFailed().detail
    with pytest.raises(TypeError):
        DecryptionFailed("the padding is bad")


# --- no text quotes what came in ---------------------------------------------

CANARY = "hunter2"
_BYTES = CANARY.encode()


def answered(body=peer.SUCCESS, **headers):
    """Give the judgement of an answer with these headers."""
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    received = ReceivedResponse(200, given, body)
    return lambda keys: verify_response(
        received, request=peer.sent_request(), keys=keys, freshness=peer.FRESH
    )


def signed(version="1", signature=bytes(256)):
    return peer.signature_header(signature, version)


GOOD = {"Client_Id": peer.CLIENT_ID, "Response_Time": peer.TIME}

REFUSALS = {
    "no JSON": lambda _: check_request_body(_BYTES),
    "no object": lambda _: check_request_body(b'["hunter2"]'),
    "not UTF-8": lambda _: check_request_body(b"hunter2\xff"),
    "a constant": lambda _: check_request_body(b'{"hunter2": NaN}'),
    "legacy": lambda _: check_request_body(
        b'{"request":{"head":"hunter2"},"signature":"hunter2"}'
    ),
    "a path": lambda _: Routes([]).find("/hunter2"),
    "a client": lambda _: Routes([]).find("/", CANARY),
    "an answer without a signature": answered(body=_BYTES),
    "half a signature": answered(Response_Time=CANARY, Client_Id=peer.CLIENT_ID),
    "a Client-Id": answered(Signature=signed(), Response_Time="x", Client_Id=CANARY),
    "a signature": answered(Signature=CANARY, **GOOD),
    "an algorithm": answered(Signature=f"algorithm={CANARY},signature=AA", **GOOD),
    "a signature value": answered(
        Signature=f"algorithm=RSA256,signature={CANARY}!", **GOOD
    ),
    "a key version": answered(Signature=signed(CANARY), **GOOD),
    "a wrong signature": answered(body=_BYTES, Signature=signed(), **GOOD),
    "a header that is no ASCII": answered(Signature=f"{CANARY}\x00", **GOOD),
    "a private key file": lambda _: read_private_key(_BYTES),
    "a PEM label": lambda _: read_public_key(
        b"-----BEGIN HUNTER2-----\nAAAA\n-----END HUNTER2-----"
    ),
}


@pytest.mark.parametrize("refuse", REFUSALS.values(), ids=REFUSALS.keys())
def test_the_text_of_a_refusal_quotes_nothing_of_what_came_in(refuse, platform_public):
    with pytest.raises(GatewayError) as caught:
        refuse([platform_public])
    shown = f"{caught.value!r} {caught.value.detail}"
    assert CANARY not in shown.lower()


def test_a_time_that_cannot_be_read_is_not_quoted(platform_key, platform_public):
    time = "hunter2-11-23"
    answer, call = (
        peer.answer(platform_key, time=time),
        peer.call(platform_key, time=time),
    )
    keys = [platform_public]
    with pytest.raises(ResponseMalformed, match="Response-Time") as response:
        verify_response(
            answer, request=peer.sent_request(), keys=keys, freshness=peer.FRESH
        )
    with pytest.raises(InvalidRequest, match="Request-Time") as request:
        verify_request(call, keys=keys)
    assert CANARY not in response.value.detail + request.value.detail
