"""The one table from error to HTTP: RFC 9457 problems."""

import json
from http import HTTPStatus
from math import ceil
from types import MappingProxyType
from typing import Final

from gateway.edge.response import Response
from gateway.errors import ExchangeError

PROBLEM_TYPE: Final = "application/problem+json"
"""The media type of a problem: no answer of AlipayHK's is passed on with it."""

STATUS: Final = MappingProxyType(
    {
        "invalid_request": HTTPStatus.BAD_REQUEST,
        "unauthenticated": HTTPStatus.UNAUTHORIZED,
        "forbidden": HTTPStatus.FORBIDDEN,
        "unknown_route": HTTPStatus.NOT_FOUND,
        "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
        "request_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_many_requests": HTTPStatus.TOO_MANY_REQUESTS,
        "encryption_required": HTTPStatus.BAD_REQUEST,
        "encryption_unavailable": HTTPStatus.BAD_REQUEST,
        "key_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
        "audit_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
        "overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
        "upstream_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
        "upstream_timeout": HTTPStatus.GATEWAY_TIMEOUT,
        "upstream_disconnected": HTTPStatus.BAD_GATEWAY,
        "signature_missing": HTTPStatus.BAD_GATEWAY,
        "signature_invalid": HTTPStatus.BAD_GATEWAY,
        "key_version_unknown": HTTPStatus.BAD_GATEWAY,
        "client_id_mismatch": HTTPStatus.BAD_GATEWAY,
        "response_stale": HTTPStatus.BAD_GATEWAY,
        "response_malformed": HTTPStatus.BAD_GATEWAY,
        "response_too_large": HTTPStatus.BAD_GATEWAY,
        "decryption_failed": HTTPStatus.BAD_GATEWAY,
        "encryption_downgraded": HTTPStatus.BAD_GATEWAY,
        "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    }
)
"""HTTP status by code: the contract's table."""


def problem(
    error: ExchangeError, exchange_id: str, status: HTTPStatus | None = None
) -> Response:
    """Return the response for an error: what happened and whether to send again.

    Args:
        error: the error.
        exchange_id: names the exchange.
        status: where HTTP has one that says more than the table's: 414 for a target
            that is too long (RFC 9110, 15.5.15), whose code is `invalid_request`.
    """
    status = status or STATUS[error.code]
    members = {
        "type": f"urn:alipayhk-gateway:problem:{error.code}",
        "title": error.title,
        "status": int(status),
        "detail": error.detail,
        "code": error.code,
        "outcome": str(error.outcome),
        "exchange_id": exchange_id,
    }
    response = Response(
        status=status,
        body=json.dumps(members).encode(),
        headers={"Content-Type": PROBLEM_TYPE},
    )
    if error.code == "method_not_allowed":
        response.headers["Allow"] = "POST"
    if error.code == "unauthenticated":
        response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, 11.6.1
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, ceil(error.retry_after_s)))
    return response
