"""Validate the configuration and every keyring, without serving.

Names every problem with its place in the file. Exit status 1 if there is one.

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
from gateway.cli.options import add_config, add_json, environment
from gateway.errors import SetupError
from gateway.plant import check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway check`."""
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check, and print what was found."""
    try:
        document = config.read(arguments.config, environment())
        problems = [str(problem) for problem in asyncio.run(check(document))]
    except SetupError as error:
        problems = error.detail.splitlines()
    if arguments.json:
        print(json.dumps({"ok": not problems, "problems": problems}))
    elif problems:
        print("\n".join(problems), file=sys.stderr)
    else:
        print(f"{arguments.config}: no problem found")
    return 1 if problems else 0
