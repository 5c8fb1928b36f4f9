r"""Run the gateway: plain JSON in, AlipayHK's verified answer out.

Examples:
  gateway serve                          with ./config.yaml
  gateway serve -c /etc/gateway.yaml

  curl -i http://127.0.0.1:8080/api/open/alipay/v1/content/synchronize \
       -H 'Content-Type: application/json' -d @order.json

signals:
  SIGTERM  finish what is under way, then end with status 0; a second one ends at once,
           with status 1 if that cut off a request
  SIGHUP   read configuration and keys again, whole or not at all

One JSON line per exchange goes to standard output, one per event of the gateway
itself to standard error. Health and metrics: /livez, /readyz and /metrics on the
admin listener. A change in a keyring's folder is taken up by itself.

With `workers: N` in the configuration this process starts N others, which serve, and
replaces one that ends. Signals are for this process alone.
"""

import argparse
import asyncio
import errno
import gc
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from gateway import config
from gateway.app import Gateway
from gateway.cli.options import add_config, environment
from gateway.config import Settings
from gateway.errors import SetupError
from gateway.hardening import check_libraries
from gateway.threads import Threads

if TYPE_CHECKING:
    from gateway.workers.supervisor import Supervisor

_COLLECT_EVERY: Final = (50_000, 50, 100)
"""New objects, then collections of the young, then of the middle; Python's own are
700, 10, 10. Measured: a tenth of the price of an exchange (docs/benchmarks.md)."""

_LISTEN: Final = ("inbound.listen", "admin.listen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway serve`."""
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    check_libraries()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return 1 if runner.run(_serve(arguments.config)) else 0


def collect_seldom() -> None:
    """Look for garbage in cycles seldom.

    An exchange leaves hardly any, and looking for it among all that lives as long as
    the process costs more than a log line does.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_EVERY)


async def _serve(file: Path) -> int:
    """Serve until the end. Gives how many requests were cut off."""
    asyncio.get_running_loop().set_default_executor(Threads())
    gateway = _gateway(partial(config.load, file, environment()))
    gateway.handle_signals()
    collect_seldom()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # held since the start
    try:
        return await gateway.run()
    except SetupError as error:
        raise _advised(error, file) from error.__cause__


def _gateway(load: Callable[[], Settings]) -> "Gateway | Supervisor":
    """Make what is to run in this process."""
    settings = load()
    if settings.processes > 1:
        from gateway.workers.supervisor import Supervisor

        return Supervisor(settings, load, stderr=sys.stderr)
    return Gateway(
        settings,
        load,
        stdout=sys.stdout,
        stderr=sys.stderr,
        environment=environment(),
    )


def _advised(error: SetupError, file: Path) -> SetupError:
    """Say also what to do about an address that cannot be listened on."""
    setting, cause = error.detail.partition(":")[0], error.__cause__
    if setting not in _LISTEN or not isinstance(cause, OSError):
        return error
    change = f"change {setting} in {file}"
    if cause.errno == errno.EADDRINUSE:
        change = f"stop the process that has it, or {change}"
    return SetupError(f"{error.detail}; {change}")
