"""Health and metrics for operators, on a listener of their own."""

from collections.abc import Callable

from aiohttp import web


def admin_app(
    reasons: Callable[[], list[str]],
    warnings: Callable[[], list[str]],
    metrics: Callable[[], bytes],
) -> web.Application:
    """Make the admin listener's application.

    Args:
        reasons: gives why the gateway is not ready; empty if it is.
        warnings: gives what is wrong and does not stop traffic yet.
        metrics: gives all metrics in Prometheus' text format.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def readyz(_: web.Request) -> web.Response:
        why = reasons()
        body = {"ready": not why, "reasons": why, "warnings": warnings()}
        return web.json_response(body, status=503 if why else 200)

    async def expose(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=metrics(), headers=headers)

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", expose)
    return app
