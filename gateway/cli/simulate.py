r"""Run a simulator of AlipayHK, for development and tests. Not for production.

Examples:
  gateway simulate                            what the shipped config.yaml expects
  gateway simulate --listen 127.0.0.1:0       on a free port
  gateway simulate --json                     JSON lines, for programs

Faults. The first of these that names one decides:
  1. the query of the request       ?simulate=bad_signature
  2. its contentId                  "contentId": "simulate:bad_signature"
  3. the order that stands          curl -X PUT http://127.0.0.1:8090/fault \
                                         -d '{"name": "bad_signature", "count": 1}'
  All of them: curl http://127.0.0.1:8090/faults
  What arrived: curl http://127.0.0.1:8090/exchanges

Keys. DIR/simulator is AlipayHK's half, DIR/hk-sandbox the gateway's; both are made
with throw-away keys at the first start. A partner's further public key is registered
in DIR/simulator/simulator.yaml, or until the simulator ends:
  curl -X PUT http://127.0.0.1:8090/partners/CLIENT_ID/VERSION --data-binary @key.pem
To rehearse a rotation of AlipayHK's own key (the first line answers its public key):
  curl -X PUT http://127.0.0.1:8090/keys/2
  curl -X PUT http://127.0.0.1:8090/keys/2/active

simulator.yaml:
  active: "1"                                 the version that signs
  keys:                                       AlipayHK's private keys
    - {version: "1", key: platform-1.pem}
  partners:                                   the registered public keys
    - client_id: 4Q5Y8W0WSG45P907917
      keys:
        - {version: "1", key: hk-sandbox-1.pem}

SIGTERM and SIGINT end it with status 0.
"""

import argparse
import asyncio
import json
import math
import os
import signal
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.options import add_json, path
from gateway.config import Address, parse_address
from gateway.simulator.alipayhk import AlipayHK
from gateway.simulator.exchanges import Exchange, Record
from gateway.simulator.folder import SANDBOX, open_keys
from gateway.simulator.server import SLOW_S, Running, running, shown

_CALL = "http://127.0.0.1:8080/api/open/alipay/v1/content/synchronize"
_BODY = """{"requestId": "0001", "contentId": "A1", "contentType": "SKU",
         "contentStatus": 1, "contentInfo": "{}"}"""
_BANNER = """\
A simulator of AlipayHK. Not for production.

  API      {api}
  control  {control}
  keys     {ours}; for the gateway: {theirs}

A call that gets a bad signature, through `gateway serve` on 127.0.0.1:8080:
  curl -i '{call}?simulate=bad_signature' \\
       -H 'Content-Type: application/json' -d '{body}'

GET {control} explains how to order faults; GET {control}/faults lists them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway simulate`."""
    parser.add_argument(
        "--listen",
        type=_address,
        default="127.0.0.1:8089",
        metavar="HOST:PORT",
        help="where the API listens (default: %(default)s; port 0: a free one)",
    )
    parser.add_argument(
        "--control",
        type=_address,
        default="127.0.0.1:8090",
        metavar="HOST:PORT",
        help="where the control listener listens (default: %(default)s)",
    )
    parser.add_argument(
        "--keys",
        type=path,
        default=Path("keys"),
        metavar="DIR",
        help="the folder of the keys (default: %(default)s)",
    )
    parser.add_argument(
        "--slow",
        type=_seconds,
        default=SLOW_S,
        metavar="SECONDS",
        help="how long the slow faults take (default: %(default)g)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Simulate until a signal ends it."""
    held = open_keys(arguments.keys)
    simulator = AlipayHK(
        keys=held.keys,
        active=held.active,
        partners=held.partners,
        clock=_now,
        entropy=os.urandom,  # noqa: TID251 - bound here, for the whole simulator
    )
    asyncio.run(_simulate(simulator, arguments))
    return 0


async def _simulate(simulator: AlipayHK, arguments: argparse.Namespace) -> None:
    ended, lost = asyncio.Event(), list[OSError]()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # held since the start
    started, on_exchange = (
        (_started_json, _show_json) if arguments.json else (_started_text, _show_text)
    )

    def show(exchange: Exchange) -> None:
        try:
            on_exchange(exchange.record)
        except (
            OSError
        ) as error:  # the reader of our output went away, or a disk is full
            lost.append(error)
            ended.set()

    async with running(
        simulator,
        listen=arguments.listen,
        control=arguments.control,
        slow_s=arguments.slow,
        on_exchange=show,
    ) as where:
        started(where, arguments.keys)
        await ended.wait()
    if lost:
        raise lost[0]


def _started_text(where: Running, keys: Path) -> None:
    text = _BANNER.format(
        api=where.url,
        control=where.control_url,
        ours=keys / "simulator",
        theirs=keys / SANDBOX,
        call=_CALL,
        body=_BODY,
    )
    print(text, flush=True)


def _started_json(where: Running, keys: Path) -> None:
    started = {
        "event": "started",
        "listen": shown(where.listen),
        "control": shown(where.control),
        "keys": str(keys),
        "production": False,
    }
    print(json.dumps(started), flush=True)


def _show_text(record: Record) -> None:
    details = [
        f"client {record.client_id or '-'}",
        f"key {record.key_version or '-'}",
        "encrypted" if record.encrypted else "plain",
    ]
    notes = [
        *(() if record.signed else ("unsigned",)),
        *(() if record.fault == "none" else (f"fault {record.fault}",)),
        *(("repeated",) if record.repeated else ()),
        *(f"remark: {remark}" for remark in record.remarks),
    ]
    clock = record.time[11:19]
    line = f"{clock} {record.method} {record.target} ({', '.join(details)})"
    result = f"{record.result} {record.status}"
    print(f"{line}: {'; '.join((result, *notes))}", flush=True)


def _show_json(record: Record) -> None:
    print(json.dumps({"event": "exchange", **asdict(record)}), flush=True)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        msg = "must be a number of seconds above 0"
        raise argparse.ArgumentTypeError(msg)
    return seconds


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - bound here, for the whole simulator
