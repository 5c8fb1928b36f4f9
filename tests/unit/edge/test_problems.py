"""From error to HTTP. The table of codes is compared in tests/unit/test_errors.py."""

import json

import pytest

from gateway.edge.problems import STATUS, problem
from gateway.errors import (
    DecryptionFailed,
    InternalError,
    KeyUnavailable,
    MethodNotAllowed,
    Outcome,
    ResponseStale,
    UnknownRoute,
    UpstreamTimeout,
)

ERRORS = [
    (UnknownRoute("No such route."), 404, "unknown_route", "not_sent"),
    (KeyUnavailable("No key."), 503, "key_unavailable", "not_sent"),
    (UpstreamTimeout("Too late."), 504, "upstream_timeout", "unknown"),
    (ResponseStale("Too old.", -400.0), 502, "response_stale", "answered"),
    (DecryptionFailed(), 502, "decryption_failed", "answered"),
    (InternalError("A defect."), 500, "internal_error", "unknown"),
    (InternalError("A.", Outcome.NOT_SENT), 500, "internal_error", "not_sent"),
]


@pytest.mark.parametrize(("error", "status", "code", "outcome"), ERRORS)
def test_a_problem_has_the_contracts_members_and_no_other(error, status, code, outcome):
    response = problem(error, "exchange-1")
    assert response.status == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert json.loads(response.body) == {
        "type": f"urn:alipayhk-gateway:problem:{code}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "code": code,
        "outcome": outcome,
        "exchange_id": "exchange-1",
    }


def test_the_status_in_the_body_is_a_plain_number():
    assert b'"status": 404,' in problem(UnknownRoute("x"), "e").body


def test_a_text_with_signs_of_its_own_stays_one_json_text():
    detail = 'a "quoted" \\ line\r\nX-Evil: 1 \x00 é 香'
    response = problem(UnknownRoute(detail), "e")
    assert json.loads(response.body)["detail"] == detail
    assert response.body.isascii()
    assert "X-Evil" not in response.headers


def test_only_a_wrong_method_is_told_which_one_is_right():
    assert problem(MethodNotAllowed("x"), "e").headers["Allow"] == "POST"
    for error, *_ in ERRORS:
        assert "Allow" not in problem(error, "e").headers


def test_every_status_is_one_of_an_error():
    assert {int(status) // 100 for status in STATUS.values()} == {4, 5}
