"""The control listener: order faults, see what arrived, register keys.

On a port of its own, so that nothing here can be taken for AlipayHK's API.
"""

import asyncio
import json
from dataclasses import asdict
from typing import Final

from aiohttp import web

from gateway.errors import KeyringError, KeyVersionUnknown
from gateway.keys.formats import public_pem, read_public_key
from gateway.protocol.fields import check_key_version
from gateway.protocol.outgoing import check_client_id
from gateway.simulator.alipayhk import AlipayHK
from gateway.simulator.faults import FAULTS, fault_named
from gateway.simulator.folder import new_key
from gateway.simulator.selection import StandingOrder

_HELP: Final = """\
A simulator of AlipayHK. Not for production.

GET    /faults     every fault: name, what it does, what a right gateway makes of it
GET    /fault      the standing order
PUT    /fault      order one: {"name": "bad_signature", "count": 2}
                   for the next 2 requests; without count, until it is cleared
DELETE /fault      clear it
GET    /exchanges  what arrived, the oldest first; digests, never bodies
PUT    /partners/CLIENT_ID/KEY_VERSION
                   register a public key, PEM or base64, until the simulator ends
DELETE /partners/CLIENT_ID/KEY_VERSION
                   know it no longer: what it signs is refused, unsigned
GET    /keys       the versions of its own pairs, those of each partner, what signs
PUT    /keys/KEY_VERSION
                   make a pair of its own; answers its public key. It does not sign yet
PUT    /keys/KEY_VERSION/active
                   sign with it from now on; the earlier ones still decrypt
GET    /livez      200 while it runs

A request may name a fault itself. The first of these decides:
1. its query, ?simulate=NAME
2. its contentId, simulate:NAME
3. the standing order
"""


def control_application(simulator: AlipayHK) -> web.Application:
    """Make the application of the control listener."""
    control = _Control(simulator)
    application = web.Application()
    application.add_routes(
        [
            web.get("/", control.explain),
            web.get("/livez", control.livez),
            web.get("/faults", control.faults),
            web.get("/fault", control.standing),
            web.put("/fault", control.order),
            web.delete("/fault", control.clear),
            web.get("/exchanges", control.exchanges),
            web.put("/partners/{client_id}/{version}", control.register),
            web.delete("/partners/{client_id}/{version}", control.forget),
            web.get("/keys", control.keys),
            web.put("/keys/{version}", control.announce),
            web.put("/keys/{version}/active", control.activate),
        ]
    )
    return application


class _Control:
    def __init__(self, simulator: AlipayHK) -> None:
        self._simulator = simulator

    async def explain(self, _: web.Request) -> web.Response:
        return web.Response(text=_HELP)

    async def livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def faults(self, _: web.Request) -> web.Response:
        rows = [
            {
                "name": fault.name,
                "description": fault.description,
                "expect": fault.expect,
                "expect_encrypted": fault.expect_encrypted or fault.expect,
            }
            for fault in FAULTS.values()
        ]
        return _json(rows)

    async def standing(self, _: web.Request) -> web.Response:
        order = self._simulator.standing
        return _json({"name": order.fault.name, "count": order.left})

    async def order(self, request: web.Request) -> web.Response:
        try:
            self._simulator.standing = _order(await request.read())
        except ValueError as error:
            return _problem(str(error))
        return await self.standing(request)

    async def clear(self, _: web.Request) -> web.Response:
        self._simulator.standing = StandingOrder()
        return web.Response(status=204)

    async def exchanges(self, _: web.Request) -> web.Response:
        return _json([asdict(record) for record in self._simulator.records])

    async def register(self, request: web.Request) -> web.Response:
        try:
            client_id = check_client_id(request.match_info["client_id"])
            version = check_key_version(request.match_info["version"])
            key = read_public_key(await request.read())
        except (ValueError, KeyringError) as error:
            return _problem(str(error))
        self._simulator.registry.register(client_id, version, key)
        return web.Response(status=204)

    async def forget(self, request: web.Request) -> web.Response:
        self._simulator.registry.forget(**request.match_info)
        return web.Response(status=204)

    async def keys(self, _: web.Request) -> web.Response:
        registry = self._simulator.registry
        return _json({"active": registry.active.version, "held": registry.versions()})

    async def announce(self, request: web.Request) -> web.Response:
        try:
            version = check_key_version(request.match_info["version"])
        except ValueError as error:
            return _problem(str(error))
        key = await asyncio.to_thread(new_key)
        public = self._simulator.registry.announce(version, key)
        return web.Response(text=public_pem(public.rsa))

    async def activate(self, request: web.Request) -> web.Response:
        version = request.match_info["version"]
        try:
            self._simulator.registry.activate(version)
        except KeyVersionUnknown:
            return _problem(f"there is no pair {version}; PUT /keys/{version} makes it")
        return web.Response(status=204)


def _order(body: bytes) -> StandingOrder:
    """Read `{"name": …, "count": N}`.

    Raises:
        ValueError: it is something else, or there is no such fault.
    """
    try:
        value = json.loads(body)
        name, count = str(value["name"]), value.get("count")
    except (ValueError, TypeError, KeyError, AttributeError):
        msg = 'the body must be {"name": "FAULT", "count": N}; count may be left out'
        raise ValueError(msg) from None
    if count is not None and (type(count) is not int or count < 1):
        msg = "count must be a whole number from 1 on; leave it out for no limit"
        raise ValueError(msg)
    return StandingOrder(fault_named(name), count)


def _json(value: object) -> web.Response:
    return web.json_response(text=json.dumps(value, indent=1) + "\n")


def _problem(text: str) -> web.Response:
    return web.Response(status=400, text=f"{text}\n")
