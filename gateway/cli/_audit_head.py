"""Print the number and hash of the last line that was signed.

Keep it where nobody can reach who can write to this machine: in a ticket, on paper, in
another log. `gateway audit verify --expect` proves later that the log, up to that line,
is still the one it was, even against who holds the audit key.

Examples:
  gateway audit head                                   as config.yaml says
  gateway audit head --file audit.jsonl --key audit.pem.pub
  gateway audit head --json | jq .seq
"""

import argparse
import json

from gateway.audit.segments import opened
from gateway.cli._audit_log import add_log, head_of, log_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway audit head`."""
    add_log(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the signed end."""
    log, inspector = log_of(arguments)
    with opened(log) as (_, data):
        head = head_of(log, data, inspector)
    if arguments.json:
        facts = {"seq": head.link.seq, "hash": head.link.hash, "time": head.time}
        print(json.dumps(facts))
    else:
        print(head.link)
    return 0
