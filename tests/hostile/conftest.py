"""A gateway and an AlipayHK of bare sockets, shared by the cases of a module.

Each case ends with an ordinary exchange over the same gateway, so that what one case
leaves behind would fail it, and not the next.
"""

import pytest
import pytest_asyncio

from tests import peer
from tests.hostile.platform_socket import Platform
from tests.hostile.wire import Line, answers_in
from tests.integration.conftest import House, running, write_config, write_ring

NO_BREAKER = {"breaker": {"failures": 1 << 20}, "retries": 0}
"""Each case is tried once, whatever became of those before it."""


@pytest.fixture(scope="module")
def hostile_house(tmp_path_factory, partner_key, platform_key):
    """Give what makes a house with settings."""

    def make(platform, **settings):
        house = House(tmp_path_factory.mktemp("house"), platform)
        house.partner_public = partner_key.public_key()
        write_ring(house.ring, partner_key, platform_key)
        client = {**NO_BREAKER, **settings.pop("client", {})}
        write_config(house, client=client, **settings)
        return house

    return make


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_house(request, hostile_house, platform_key):
    """A gateway for all cases of a module, with the module's SETTINGS."""
    async with Platform(platform_key).listening() as platform:
        house = hostile_house(platform, **request.module.SETTINGS)
        async with running(house):
            yield house


@pytest.fixture
def house(module_house):
    """The shared gateway, with nothing in its books."""
    platform = module_house.wallet
    platform.greeting, platform.answer = b"", platform.success
    platform.forget()
    for log in (module_house.stdout, module_house.stderr):
        log.seek(0)
        log.truncate()
    return module_house


def post(body, *headers):
    """Give an ordinary call."""
    lines = [f"POST {peer.TARGET} HTTP/1.1", "Host: g", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def still_serves(house, line=None):
    """Make an ordinary exchange, on this connection or on one of its own."""
    line = line or await Line.to(house.caller.port)
    before, sent = len(line.data), b'{"after":"all"}'
    already = len(house.wallet.requests)
    line.write(post(sent, "Connection: close"))
    await line.until_end()
    (answer,), _, rest = answers_in(line.data[before:])
    assert (answer.code, answer.body, rest) == ("verified", peer.SUCCESS, b"")
    (arrived,) = house.wallet.requests[already:]
    assert arrived.body == sent
    line.close()
