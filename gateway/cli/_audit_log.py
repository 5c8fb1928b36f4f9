"""Which audit log a command looks at, and by which key."""

import argparse
from pathlib import Path

from gateway import config
from gateway.audit.chain import Link
from gateway.audit.opening import inspector_of
from gateway.audit.seal import Head, Inspector
from gateway.audit.segments import head_file
from gateway.cli import UsageError
from gateway.cli.options import add_config, add_json, environment, path
from gateway.errors import AuditError


def add_log(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name a log and the key that signs it."""
    parser.add_argument(
        "--file",
        type=path,
        metavar="FILE",
        help="the log; older segments lie beside it (default: audit.file)",
    )
    parser.add_argument(
        "--key",
        type=path,
        metavar="PEM",
        help="the public audit key, or the private one (default: audit.key)",
    )
    add_config(parser)
    add_json(parser)


def log_of(arguments: argparse.Namespace) -> tuple[Path, Inspector]:
    """Give the log that is meant, and what judges its signatures.

    Raises:
        UsageError: nothing names one.
        AuditError: the key cannot be used.
        DocumentError: the configuration cannot be read.
    """
    file: Path | None = arguments.file
    key: Path | None = arguments.key
    if file is None or key is None:
        configured = _configured(arguments.config)
        file, key = file or configured.file, key or configured.key
    if not file.parent.is_dir():
        msg = f"{file}: there is no folder {file.parent}"
        raise AuditError(msg)
    return file, inspector_of(key)


def head_of(log: Path, data: bytes | None, inspector: Inspector) -> Head:
    """Read the signed end of a log.

    Raises:
        AuditError: there is none, or this key did not sign it.
    """
    if data is None:
        msg = (
            f"there is no {head_file(log)}, which says where the log ends: without it "
            "nobody can tell whether lines were cut off"
        )
        raise AuditError(msg)
    try:
        return inspector.read_head(data)
    except AuditError as error:
        msg = f"{head_file(log)}: {error.detail}"
        raise AuditError(msg) from None


def link(text: str) -> Link:
    """Read SEQ:HASH, for an option."""
    try:
        return Link.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _configured(file: Path) -> config.Audit:
    if not file.exists():
        msg = f"there is no {file}: name the log with --file and its key with --key"
        raise UsageError(msg)
    audit = config.audit_of(config.read(file, environment()))
    if audit is None:
        msg = f"{file} has no section audit: name the log with --file and --key"
        raise UsageError(msg)
    return audit
