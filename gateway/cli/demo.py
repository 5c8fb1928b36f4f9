r"""See a plain and an encrypted Synchronize Content go through the gateway.

Starts the simulator of AlipayHK and a gateway on loopback, with throw-away keys in
a temporary folder, sends two exchanges as a service would, and shows each hop: what
the service sent, what went over the wire, and what came back.

Examples:
  gateway demo             then stays, so that you can send your own
  gateway demo --once      ends: 0 if both answers were verified
"""

import argparse
import asyncio
import io
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp

from gateway import config
from gateway.app import Gateway
from gateway.cli.hops import Hop, Story
from gateway.edge.listener import Listener
from gateway.plant import CLOCK, ENTROPY
from gateway.simulator.alipayhk import AlipayHK
from gateway.simulator.exchanges import Exchange
from gateway.simulator.folder import SANDBOX_CLIENT_ID, open_keys
from gateway.simulator.server import running

_TARGET = "/api/open/alipay/v1/content/synchronize"
_BODY = (
    '{{"requestId": "{request_id}", "contentId": "{content_id}", "contentType": "SKU", '
    '"contentStatus": 1, "contentInfo": "{{\\"title\\":\\"山頂纜車 Peak Tram\\"}}"}}'
)
_CONFIG = """\
inbound: {{listen: "127.0.0.1:0", drain_grace_s: 0}}
admin: {{listen: "127.0.0.1:0"}}
clients:
  - name: hk-sandbox
    client_id: {client_id}
    upstream: {upstream}
    keyring: {folder}/hk-sandbox
routes:
  - {{path: {target}, client: hk-sandbox, encryption: optional}}
"""


@dataclass(frozen=True, slots=True)
class _Stage:
    """Everything that runs during the demo."""

    gateway_url: str
    admin_url: str
    seen: list[Exchange]
    log: io.StringIO


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway demo`."""
    parser.add_argument(
        "--once", action="store_true", help="end after the two exchanges"
    )


def run(arguments: argparse.Namespace) -> int:
    """Play the demo. Gives 0 if both answers were verified."""
    return asyncio.run(_until_signalled(once=arguments.once))


async def _until_signalled(*, once: bool) -> int:
    """Play until the end or a signal; no throw-away key is left behind in either case.

    The folder is there only while the signals are handled.
    """
    loop, playing = asyncio.get_running_loop(), asyncio.current_task()
    assert playing is not None  # noqa: S101 - this is a task
    signals: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        if not signals:
            playing.cancel()
        signals.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as by `nohup`
            loop.add_signal_handler(number, end, number)
    held = {signal.SIGTERM, signal.SIGHUP}  # since the start
    signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
    try:
        with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
            return await _play(Path(folder), once=once)
    except asyncio.CancelledError:
        return 128 + signals[0]


async def _play(folder: Path, *, once: bool) -> int:
    story = Story()
    async with AsyncExitStack() as stack:
        stage = await _set_up(folder, stack)
        story.begin(stage.gateway_url)
        verified = [
            await _exchange(stage, story, encrypt=encrypt) for encrypt in (False, True)
        ]
        story.end(stage.gateway_url + _TARGET, _body("try"), stage.log.getvalue())
        if not once:
            await _stay(stage, story)
    return 0 if all(verified) else 1


async def _set_up(folder: Path, stack: AsyncExitStack) -> _Stage:
    held = open_keys(folder)
    simulator = AlipayHK(
        keys=held.keys,
        active=held.active,
        partners=held.partners,
        clock=CLOCK.now,
        entropy=ENTROPY,
    )
    seen: list[Exchange] = []
    wallet = await stack.enter_async_context(
        running(simulator, on_exchange=seen.append)
    )
    file = folder / "config.yaml"
    file.write_text(
        _CONFIG.format(
            client_id=SANDBOX_CLIENT_ID,
            upstream=wallet.url,
            folder=folder,
            target=_TARGET,
        )
    )
    settings = config.load(file, {})
    log = io.StringIO()
    gateway = Gateway(settings, lambda: settings, stdout=log, stderr=io.StringIO())
    started: asyncio.Future[tuple[Listener, Listener]] = (
        asyncio.get_running_loop().create_future()
    )
    tasks = await stack.enter_async_context(asyncio.TaskGroup())
    tasks.create_task(gateway.run(lambda *both: started.set_result(both)))
    stack.callback(gateway.stop)
    inbound, admin = await started
    return _Stage(_url(inbound), _url(admin), seen, log)


async def _exchange(stage: _Stage, story: Story, *, encrypt: bool) -> bool:
    """Send one exchange as a service would, and show it. Gives whether it verified."""
    body = _body("encrypted" if encrypt else "plain").encode()
    headers = {"Content-Type": "application/json"}
    if encrypt:
        headers["Gateway-Encrypt"] = "true"
    async with (
        aiohttp.ClientSession() as session,
        session.post(stage.gateway_url + _TARGET, data=body, headers=headers) as answer,
    ):
        came = Hop(
            f"HTTP {answer.status}", list(answer.headers.items()), await answer.read()
        )
    sent = Hop(f"POST {_TARGET}", list(headers.items()), body)
    title = "An encrypted exchange" if encrypt else "A plain exchange"
    story.tell(title, [sent, *_wire(stage.seen[-1]), came])
    return answer.status == 200 and answer.headers.get("Gateway-Verified") == "true"


def _wire(exchange: Exchange) -> Iterator[Hop]:
    request, response = exchange.request, exchange.response
    start = f"{request.method} {request.target}"
    yield Hop(start, list(request.headers), request.body)
    yield Hop(f"HTTP {response.status}", list(response.headers), response.body)


async def _stay(stage: _Stage, story: Story) -> None:
    told = len(stage.seen)
    while True:
        await asyncio.sleep(0.2)
        for exchange in stage.seen[told:]:
            story.note(exchange.record.target, exchange.record.result)
        told = len(stage.seen)


def _body(name: str) -> str:
    return _BODY.format(request_id=uuid4().hex, content_id=f"demo-{name}")


def _url(listener: Listener) -> str:
    return f"http://{listener.address}"
