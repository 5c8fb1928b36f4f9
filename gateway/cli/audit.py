"""The audit log: make its key, verify it, and keep its end elsewhere.

Each change of keys, configuration and policy is a line of the log, and carries the
hash of the line before it. The audit key signs the last line, so that no line can be
changed, removed, moved or cut off unseen by who has not that key.

Begin:
  gateway audit keygen audit.pem         makes audit.pem and audit.pem.pub
                                         then, in config.yaml:
                                         audit: {file: audit.jsonl, key: audit.pem}

From time to time, on another machine too:
  gateway audit show                     what was changed, by whom, when
  gateway audit verify                   is every line as it was written?
  gateway audit head                     the last line, to keep where nobody can reach

  gateway audit VERB --help              what a verb does, with examples
"""

import argparse
from typing import Final

from gateway.cli import Parser
from gateway.cli._verbs import add_verbs, run_verb

_VERBS: Final = {
    "show": "print the log for people",
    "verify": "name the first line that was changed, removed, moved or cut off",
    "head": "print the number and hash of the last line",
    "keygen": "make the key that signs the log",
}


def add_arguments(parser: Parser) -> None:
    """Declare the verbs of `gateway audit`; each has a module `_audit_VERB`."""
    add_verbs(parser, "audit", _VERBS)


def run(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    return run_verb(arguments)
