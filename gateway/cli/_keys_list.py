"""Show every key version: its state, what it is for, and what is wrong with it.

BACKEND is where a key lives; DAYS are those left of its cryptoperiod, of a key that
signs. The fingerprint is the SHA-256 of the public key (SPKI), the digest that of all that
the ring holds: their first 16 digits, all with --json, which tells the most. A planned step that is due counts as taken. A
ring that the gateway would refuse is shown too, with the reasons, and the exit status
is then 1.

With --live, the gateway that runs with the configuration is asked, on its admin
listener, how often each key was used since it started, and when last.

Examples:
  gateway keys list
  gateway keys list --keyring keys/hk-sandbox
  gateway keys list --json | jq '.keys[] | select(.state == "active")'
"""

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.cli import UsageError, _canary
from gateway.cli._governing import homes_of
from gateway.cli._keys_table import Row, plans, table
from gateway.cli._live import LiveClient, LivePage, add_live, ask
from gateway.cli._ring import (
    add_ring,
    client_of,
    clock,
    held,
    manifest_of,
    settings_of,
)
from gateway.cli.options import add_json
from gateway.errors import KeyringError, SetupError
from gateway.keys import schedule
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.folder import unnamed
from gateway.keys.backends.homes import Homes
from gateway.keys.inventory import Cryptoperiod, as_text
from gateway.keys.keyring import Keyring
from gateway.keys.manifest import Manifest

_DIGITS: Final = 16
"""Of a digest, in text; with --json all of it is there."""


@dataclass(frozen=True, slots=True)
class _Live:
    """What the running gateway says of one client."""

    page: LivePage
    client: LiveClient

    def facts(self) -> dict[str, object]:
        """Give what is told of it beside the keys."""
        return {
            "generation": self.client.generation,
            "digest": self.client.digest,
            "counted_since": as_text(self.page.counted_since),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys list`."""
    add_ring(parser)
    add_live(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the ring's keys. Exit status 1 if the gateway would refuse it."""
    folder, period = _meant(arguments)
    live = _asked(arguments) if arguments.live else None
    now, manifest = clock(), manifest_of(folder)
    homes = homes_of(arguments, folder)
    ring, problems = _read(folder, homes, now)
    keys = live.client.keys if live else ()
    rows = [
        Row.of(each, ring, period, now, keys)
        for each in held(folder, _settled(manifest, now), homes)
    ]
    canary = _canary.standing(folder, manifest)
    strays = unnamed(folder, manifest)
    if arguments.json:
        facts = {
            "keyring": str(folder),
            "generation": manifest.generation,
            "digest": ring.digest if ring else None,
            "keys": [each.facts() for each in rows],
            "canary": canary,
            "unnamed_files": strays,
            "problems": problems,
            "live": live.facts() if live else None,
        }
        print(json.dumps(facts))
        return 1 if problems else 0
    digest = f", digest {ring.digest[:_DIGITS]}" if ring else ""
    print(f"{folder}, generation {manifest.generation}{digest}")
    if live:
        print(_beside(live, manifest.generation, ring))
    print(table(rows, live=live is not None))
    for line in (*plans(rows), *_canary.as_text(canary)):
        print(line)
    for name in strays:
        print(f"{folder / name}: no entry names it; delete it if nothing needs it")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _meant(arguments: argparse.Namespace) -> tuple[Path, Cryptoperiod]:
    """Give the keyring's folder, and how long its keys may sign.

    Raises:
        UsageError: nothing names a keyring, or --live has no configuration.
        DocumentError: the configuration cannot be used.
    """
    if arguments.keyring is None:
        client = client_of(arguments)
        return client.keyring, client.cryptoperiod
    if arguments.live:
        msg = "--live asks the gateway of a configuration: name it in --keyring's place"
        raise UsageError(msg)
    return arguments.keyring, Cryptoperiod()


def _asked(arguments: argparse.Namespace) -> _Live:
    """Ask the running gateway for the client that is meant.

    Raises:
        SetupError: it cannot be asked, or does not know the client.
    """
    name = client_of(arguments).name
    admin = settings_of(arguments).admin
    page = ask(admin, arguments)
    for client in page.clients:
        if client.client == name:
            return _Live(page, client)
    msg = (
        f"admin.listen {admin.listen}: the gateway has no client {name}: it runs with "
        "another configuration; SIGHUP has it read this one"
    )
    raise SetupError(msg)


def _read(
    folder: Path, homes: Homes, now: datetime
) -> tuple[Keyring | None, list[str]]:
    """Read the ring as the gateway would; if it would not, say why."""
    try:
        return KeyringFolder(folder, homes).read(now), []
    except SetupError as error:
        return None, error.detail.splitlines()


def _settled(manifest: Manifest, now: datetime) -> Manifest:
    """Take the planned steps that are due; none, where one of them cannot be."""
    try:
        return schedule.at(manifest, now)
    except KeyringError:
        return manifest


def _beside(live: _Live, generation: int, ring: Keyring | None) -> str:
    since = as_text(live.page.counted_since)
    if live.client.generation == generation:
        if ring and live.client.digest not in (None, ring.digest):
            digest = str(live.client.digest)[:_DIGITS]
            return (
                f"another content of this generation is in use, digest {digest}, "
                f"counted since {since}"
            )
        return f"in use, counted since {since}"
    return f"generation {live.client.generation} is in use, counted since {since}"
