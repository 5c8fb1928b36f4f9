"""Health, metrics and keys for operators, on a listener of their own."""

import json
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final

from gateway.access.callers import Caller, Callers
from gateway.edge.connection import Server
from gateway.edge.request import Request, credentials_of
from gateway.edge.response import Response
from gateway.edge.rules import check_head, check_site
from gateway.errors import Forbidden, InvalidRequest, Unauthenticated

_HEAD_S: Final = 5.0
"""For a connection's first request head, TLS included: probes are quicker."""

_WRITE_S: Final = 30.0
"""For whoever asks to take the answer."""


async def _nothing() -> None:
    """Have what the pages need already."""


def admin_server(  # noqa: PLR0913 - its ports
    reasons: Callable[[], list[str]],
    warnings: Callable[[], list[str]],
    metrics: Callable[[], bytes],
    keys: Callable[[], dict[str, object]],
    tokens: Callable[[], Sequence[bytes]],
    *,
    hosts: Callable[[], frozenset[str]] = frozenset,
    gather: Callable[[], Awaitable[None]] = _nothing,
    on_refused: Callable[[], None] = lambda: None,
) -> Server:
    """Make the admin listener's server.

    Args:
        reasons: gives why the gateway is not ready; empty if it is.
        warnings: gives what is wrong and does not stop traffic yet.
        metrics: gives all metrics in Prometheus' text format.
        keys: gives what is told of every key, and nothing that is secret.
        tokens: gives the SHA-256 of each token that opens these pages; none where
            the listener itself keeps strangers out. A certificate that TLS verified
            opens them too.
        hosts: gives the names that the pages may be asked for by, beside `localhost`,
            where neither TLS nor a token shows that no web page asks.
        gather: is awaited before a page that tells what is so at the moment.
        on_refused: is called for each connection that is closed because there are
            too many.
    """

    def livez() -> Response:
        return _json({"live": True})

    def expose() -> Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return Response(body=metrics(), headers=headers)

    pages: dict[str, Callable[[], Response]] = {
        "/livez": livez,
        "/readyz": lambda: _readiness(reasons(), warnings()),
        "/metrics": expose,
        "/keys": lambda: _json(keys()),
    }

    async def answer(request: Request) -> Response:
        refusal = _refusal(request, tokens(), hosts())
        if refusal is not None:
            return refusal
        page = pages.get(request.target.partition("?")[0])
        if page is None or request.method not in ("GET", "HEAD"):
            return _no_page(known=page is not None)
        if page is not livez:
            await gather()
        return page()

    async def handle(request: Request) -> None:
        await request.wire.deliver(request, await answer(request), _WRITE_S)

    return Server(
        handle,
        lambda cause: Response(status=cause.status),
        head_s=_HEAD_S,
        on_refused=on_refused,
    )


def _readiness(reasons: list[str], warnings: list[str]) -> Response:
    body = {"ready": not reasons, "reasons": reasons, "warnings": warnings}
    return _json(body, HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK)


def _no_page(*, known: bool) -> Response:
    if not known:
        return Response(status=HTTPStatus.NOT_FOUND)
    allow = {"Allow": "GET, HEAD"}
    return Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers=allow)


def _refusal(
    request: Request, tokens: Sequence[bytes], hosts: frozenset[str]
) -> Response | None:
    """Return the answer to a request that no page is shown to; None if one may be.

    A page of another origin cannot read what it is answered unless its own name points
    here. Over TLS that name is not the certificate's, and no page knows a token.
    """
    try:
        check_head(request)
        if not (tokens or request.wire.is_secure):
            check_site(request, hosts, "admin.hosts")
    except InvalidRequest:
        return Response(status=HTTPStatus.BAD_REQUEST, closes=True)
    except Forbidden as error:
        return _json({"error": error.detail}, HTTPStatus.FORBIDDEN)
    if not _may_ask(request, tokens):
        headers = {"WWW-Authenticate": "Bearer"}
        return Response(status=HTTPStatus.UNAUTHORIZED, headers=headers)
    return None


def _may_ask(request: Request, tokens: Sequence[bytes]) -> bool:
    credentials = credentials_of(request)
    if not tokens or credentials.names is not None:
        return True
    try:
        Callers([Caller("admin", tuple(tokens))]).identify(credentials)
    except Unauthenticated:
        return False
    return True


def _json(body: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return Response(status=status, body=json.dumps(body).encode(), headers=headers)
