r"""See a plain and an encrypted Synchronize Content go through the gateway.

Starts the simulator of AlipayHK and a gateway on loopback, with throw-away keys in
a temporary folder, sends two exchanges as a service would, and shows each hop: what
the service sent, what went over the wire, and what came back.

With `rotation` it plays how keys change while a service goes on calling: ours, with a
canary and by schedule; ours, where AlipayHK does not know the new one and the gateway
goes back by itself; AlipayHK's. It shows what the service developer, the security
engineer and the operator see, and ends by itself, in some 20 seconds.

Examples:
  gateway demo             then stays, so that you can send your own
  gateway demo --once      ends: 0 if both answers were verified
  gateway demo rotation    ends: 0 if no exchange failed and the audit log verifies
"""

import argparse
import asyncio
import io
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp

from gateway.cli._demo_stage import TARGET, Stage, body, set_up, until_signalled
from gateway.cli.hops import Hop, Story
from gateway.simulator.exchanges import Exchange


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway demo`."""
    parser.add_argument(
        "play",
        nargs="?",
        choices=("rotation",),
        metavar="rotation",
        help="play three rotations of keys under traffic (default: two exchanges)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="end after the two exchanges; rotations end by themselves",
    )


def run(arguments: argparse.Namespace) -> int:
    """Play the demo. Gives 0 if all went as it should."""
    if arguments.play == "rotation":
        from gateway.cli._rotation import play

        return asyncio.run(until_signalled(play))
    return asyncio.run(until_signalled(partial(_play, once=arguments.once)))


async def _play(folder: Path, *, once: bool) -> int:
    story, log = Story(), io.StringIO()
    async with AsyncExitStack() as stack:
        stage = await set_up(folder, stack, log, io.StringIO())
        story.begin(stage.gateway_url)
        verified = [
            await _exchange(stage, story, encrypt=encrypt) for encrypt in (False, True)
        ]
        story.show_log(log.getvalue())
        if not once:
            story.invite(stage.gateway_url + TARGET, body("try"))
            await _stay(stage, story)
    story.say_ended()
    return 0 if all(verified) else 1


async def _exchange(stage: Stage, story: Story, *, encrypt: bool) -> bool:
    """Send one exchange as a service would, and show it. Gives whether it verified."""
    data = body("encrypted" if encrypt else "plain").encode()
    headers = {"Content-Type": "application/json"}
    if encrypt:
        headers["Gateway-Encrypt"] = "true"
    async with (
        aiohttp.ClientSession() as session,
        session.post(stage.gateway_url + TARGET, data=data, headers=headers) as answer,
    ):
        came = Hop(
            f"HTTP {answer.status}", list(answer.headers.items()), await answer.read()
        )
    sent = Hop(f"POST {TARGET}", list(headers.items()), data)
    title = "An encrypted exchange" if encrypt else "A plain exchange"
    story.tell(title, [sent, *_wire(stage.seen[-1]), came])
    return answer.status == 200 and answer.headers.get("Gateway-Verified") == "true"


def _wire(exchange: Exchange) -> Iterator[Hop]:
    request, response = exchange.request, exchange.response
    start = f"{request.method} {request.target}"
    yield Hop(start, list(request.headers), request.body)
    yield Hop(f"HTTP {response.status}", list(response.headers), response.body)


async def _stay(stage: Stage, story: Story) -> None:
    told = len(stage.seen)
    while True:
        await asyncio.sleep(0.2)
        for exchange in stage.seen[told:]:
            story.note(exchange.record.target, exchange.record.result)
        told = len(stage.seen)
