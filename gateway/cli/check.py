"""Validate the configuration and every keyring, without serving.

Names every problem with its place in the file. Exit status 1 if there is one.
With --json, each is an object: file, line, key, message; null where there is none.

Examples:
  gateway check                          ./config.yaml
  gateway check -c /etc/gateway.yaml
  gateway check --json | jq .problems    for a pipeline
"""

import argparse
import asyncio
import json
import sys

from gateway import config
from gateway.cli.options import add_config, add_homes, add_json, environment
from gateway.documents import DocumentError
from gateway.plant import CLOCK, ENTROPY
from gateway.preflight import check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway check`."""
    add_config(parser)
    add_homes(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check, and print what was found."""
    try:
        document = config.read(arguments.config, environment())
        problems = asyncio.run(check(document, ENTROPY, CLOCK.now(), arguments.homes))
    except DocumentError as error:
        problems = [*error.problems]
    if arguments.json:
        found = [problem.facts() for problem in problems]
        print(json.dumps({"ok": not found, "problems": found}))
    elif problems:
        print("\n".join(map(str, problems)), file=sys.stderr)
    else:
        print(f"{arguments.config}: no problem found")
    return 1 if problems else 0
