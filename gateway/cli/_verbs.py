"""Commands that have verbs, each in a module of its own."""

import argparse
import importlib
from collections.abc import Mapping

from gateway.cli import Parser


def add_verbs(parser: Parser, command: str, verbs: Mapping[str, str]) -> None:
    """Declare the verbs of a command; each has a module `_COMMAND_VERB`.

    Args:
        parser: the command's.
        command: its name.
        verbs: what each verb does, by its name.
    """
    chosen = parser.add_subparsers(metavar="VERB", required=True)
    for name, summary in verbs.items():
        module = importlib.import_module(f"gateway.cli._{command}_{name}")
        verb = chosen.add_parser(name, help=summary)
        verb.explain(module.__doc__)
        module.add_arguments(verb)
        # Suppressed, or it would undo a --debug that stands before the verb.
        verb.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show a traceback where it fails",
        )
        verb.set_defaults(run_verb=module.run, parser=verb)


def run_verb(arguments: argparse.Namespace) -> int:
    """Run the verb that was chosen."""
    status: int = arguments.run_verb(arguments)
    return status
