"""The audit log: make its key, verify it, and keep its end elsewhere.

Each change of keys, configuration and policy is a line of the log, and carries the
hash of the line before it. The audit key signs the last line, so that no line can be
changed, removed, moved or cut off unseen by who has not that key.

Begin:
  gateway audit keygen audit.pem         makes audit.pem and audit.pem.pub
                                         then, in config.yaml:
                                         audit: {file: audit.jsonl, key: audit.pem}

From time to time, on another machine too:
  gateway audit verify                   is every line as it was written?
  gateway audit head                     the last line, to keep where nobody can reach

  gateway audit VERB --help              what a verb does, with examples
"""

import argparse
import importlib
from typing import Final

from gateway.cli import Parser

_VERBS: Final = {
    "verify": "name the first line that was changed, removed, moved or cut off",
    "head": "print the number and hash of the last line",
    "keygen": "make the key that signs the log",
}


def add_arguments(parser: Parser) -> None:
    """Declare the verbs of `gateway audit`; each has a module `_audit_VERB`."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, summary in _VERBS.items():
        module = importlib.import_module(f"gateway.cli._audit_{name}")
        verb = verbs.add_parser(name, help=summary)
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


def run(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    status: int = arguments.run_verb(arguments)
    return status
