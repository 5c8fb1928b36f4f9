"""Show every key version: its state, what it is for, and what is wrong with it.

The fingerprint is the SHA-256 of the public key (SPKI): its first 16 digits, all of
it with --json. A ring that the gateway would refuse is shown too, with the reasons,
and the exit status is then 1.

Examples:
  gateway keys list
  gateway keys list --keyring keys/hk-sandbox
  gateway keys list --json | jq '.keys[] | select(.state == "active")'
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.cli._ring import Held, add_ring, folder_of, held, manifest_of
from gateway.cli.options import add_json
from gateway.errors import SetupError
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.folder import unnamed
from gateway.keys.backends.homes import Homes
from gateway.keys.formats import fingerprint

_HEAD: Final = ("SECTION", "VERSION", "STATE", "USES", "BITS", "FINGERPRINT", "FILE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys list`."""
    add_ring(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the ring's keys. Exit status 1 if the gateway would refuse it."""
    folder = folder_of(arguments)
    ring = manifest_of(folder)
    keys = list(held(folder, ring, arguments.homes))
    problems = _problems(folder, arguments.homes)
    strays = unnamed(folder, ring)
    if arguments.json:
        facts = {
            "keyring": str(folder),
            "generation": ring.generation,
            "keys": [_as_json(each) for each in keys],
            "unnamed_files": strays,
            "problems": problems,
        }
        print(json.dumps(facts))
        return 1 if problems else 0
    print(f"{folder}, generation {ring.generation}")
    print(_table([_HEAD, *(_row(each) for each in keys)]))
    for name in strays:
        print(f"{folder / name}: no entry names it; delete it if nothing needs it")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _problems(folder: Path, homes: Homes) -> list[str]:
    try:
        KeyringFolder(folder, homes).read()
    except SetupError as error:
        return error.detail.splitlines()
    return []


def _row(each: Held) -> tuple[str, ...]:
    key = each.public
    return (
        each.party,
        each.entry.version,
        each.entry.state,
        ",".join(each.uses),
        str(key.rsa.key_size) if key else "-",
        fingerprint(key.rsa)[:16] if key else "-",
        each.entry.key or "-",
    )


def _as_json(each: Held) -> dict[str, object]:
    key = each.public
    return {
        "section": each.party,
        "version": each.entry.version,
        "state": each.entry.state,
        "uses": each.uses,
        "bits": key.rsa.key_size if key else None,
        "fingerprint": fingerprint(key.rsa) if key else None,
        "file": each.entry.key,
        "problem": each.problem,
    }


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
