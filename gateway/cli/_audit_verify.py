"""Verify the audit log, and name the first line that is not as it was written.

Looks at the log and all its segments beside it, at each checkpoint's signature, and at
the signed end (FILE.head). The public key is enough, so an auditor can do it, with a
copy of the files. A gateway that runs meanwhile is not held up.

Whoever holds the audit key can write a new log that holds. Against that, keep what
`gateway audit head` prints elsewhere, and expect it here.

Examples:
  gateway audit verify                                 as config.yaml says
  gateway audit verify --file audit.jsonl --key audit.pem.pub
  gateway audit verify --json                          for a program
  gateway audit verify --expect "$(cat kept)"          line SEQ must still be that one
  gateway audit verify --from "$(cat kept)"            older segments may be gone

Exit status 1 if a line is not as it was written, or cannot be proved to be.
"""

import argparse
import json

from gateway.audit.chain import BEGINNING, Link
from gateway.audit.segments import lines_of, opened
from gateway.audit.verification import Fault, Report, verify
from gateway.cli._audit_log import add_log, head_of, link, log_of
from gateway.errors import AuditError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway audit verify`."""
    add_log(parser)
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        type=link,
        metavar="SEQ:HASH",
        help="a line that must be there, as `audit head` printed it; may be repeated",
    )
    parser.add_argument(
        "--from",
        dest="after",
        default=BEGINNING,
        type=link,
        metavar="SEQ:HASH",
        help="begin after this line: those up to it may be gone",
    )


def run(arguments: argparse.Namespace) -> int:
    """Verify, and say what was found."""
    log, inspector = log_of(arguments)
    with opened(log) as (segments, data):
        head = head_of(log, data, inspector)
        report = verify(
            lines_of(segments),
            head.link,
            inspector,
            expected=_kept(arguments.after, *arguments.expect),
            after=arguments.after,
        )
    if arguments.json:
        print(json.dumps(_as_json(report)))
    else:
        _tell(report, str(log))
    return 0 if report.fault is None else 1


def _kept(*links: Link) -> dict[int, str]:
    """Give the hashes that were kept, by line.

    Raises:
        AuditError: there are two of one line.
    """
    kept: dict[int, str] = {}
    for seq, digest in links:
        if kept.setdefault(seq, digest) != digest:
            msg = (
                f"line {seq} was kept with two hashes: the log was written anew in "
                "between, or one of them is not of this log"
            )
            raise AuditError(msg)
    return kept


def _tell(report: Report, log: str) -> None:
    for note in report.notes:
        print(f"note: {note}")
    lines = "1 line holds" if report.lines == 1 else f"{report.lines} lines hold"
    good = f"{lines}, {report.checkpoints} of them checkpoints"
    if report.fault is None:
        print(f"{log}: {good}; the last is\n{report.last}")
        return
    fault = report.fault
    where = fault.place or log
    print(f"{where}: line {fault.seq} of the chain {fault.text} ({fault.kind})")
    print(f"Before it {good}.")


def _as_json(report: Report) -> dict[str, object]:
    return {
        "ok": report.fault is None,
        "lines": report.lines,
        "checkpoints": report.checkpoints,
        "last": {"seq": report.last.seq, "hash": report.last.hash},
        "fault": None if report.fault is None else _facts(report.fault),
        "notes": report.notes,
    }


def _facts(fault: Fault) -> dict[str, object]:
    return {
        "kind": fault.kind,
        "file": fault.place.file if fault.place else None,
        "line": fault.place.line if fault.place else None,
        "seq": fault.seq,
        "message": fault.text,
    }
