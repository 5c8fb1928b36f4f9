"""What a demo runs: the simulator and a gateway on loopback, in a folder of its own."""

import asyncio
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypeAlias
from uuid import uuid4

from gateway import config
from gateway.app import Gateway
from gateway.edge.listener import Listener
from gateway.plant import CLOCK, ENTROPY
from gateway.simulator.alipayhk import AlipayHK
from gateway.simulator.exchanges import Exchange
from gateway.simulator.folder import SANDBOX_CLIENT_ID, open_keys
from gateway.simulator.server import running

TARGET: Final = "/api/open/alipay/v1/content/synchronize"
_BODY: Final = (
    '{{"requestId": "{request_id}", "contentId": "{content_id}", "contentType": "SKU", '
    '"contentStatus": 1, "contentInfo": "{{\\"title\\":\\"山頂纜車 Peak Tram\\"}}"}}'
)
_CONFIG: Final = """\
inbound: {{listen: "127.0.0.1:0", drain_grace_s: 0}}
admin: {{listen: "127.0.0.1:0"}}
clients:
  - name: hk-sandbox
    client_id: {client_id}
    upstream: {upstream}
    keyring: keys/hk-sandbox
routes:
  - {{path: {target}, client: hk-sandbox, encryption: optional}}
"""

Play: TypeAlias = Callable[[Path], Awaitable[int]]
"""What goes on in the folder; gives the exit status."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs during a demo.

    Attributes:
        control_url: of the simulator's control listener.
        seen: every exchange that AlipayHK saw, as it went over the wire.
    """

    gateway_url: str
    admin_url: str
    control_url: str
    seen: list[Exchange]


def body(name: str) -> str:
    """Give the body of a Synchronize Content, with a requestId of its own."""
    return _BODY.format(request_id=uuid4().hex, content_id=f"demo-{name}")


async def until_signalled(play: Play) -> int:
    """Play until the end or a signal; no throw-away key is left behind in either case.

    The folder is there only while the signals are handled, and goes when no thread is
    at work in it any more.
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
            try:
                return await play(Path(folder))
            finally:
                await loop.shutdown_default_executor()
    except asyncio.CancelledError:
        return 128 + signals[0]


async def set_up(
    folder: Path, stack: AsyncExitStack, log: TextIO, events: TextIO, more: str = ""
) -> Stage:
    """Start both, with throw-away keys, until the stack is closed.

    Args:
        folder: for `config.yaml` and the keys.
        stack: ends what is started here.
        log: takes the gateway's line for each exchange.
        events: takes its line for each event.
        more: sections of the configuration beside those that every demo has.
    """
    held = open_keys(folder / "keys")
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
    file.write_text(more + _configuration(wallet.url))
    settings = config.load(file, {})
    gateway = Gateway(settings, lambda: settings, stdout=log, stderr=events)
    started: asyncio.Future[tuple[Listener, Listener]] = (
        asyncio.get_running_loop().create_future()
    )
    tasks = await stack.enter_async_context(asyncio.TaskGroup())
    tasks.create_task(gateway.run(lambda *both: started.set_result(both)))
    stack.callback(gateway.stop)
    inbound, admin = await started
    return Stage(_url(inbound), _url(admin), wallet.control_url, seen)


def _configuration(upstream: str) -> str:
    return _CONFIG.format(client_id=SANDBOX_CLIENT_ID, upstream=upstream, target=TARGET)


def _url(listener: Listener) -> str:
    return f"http://{listener.address}"
