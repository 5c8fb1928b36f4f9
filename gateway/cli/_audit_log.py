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


def add_file(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name a log."""
    parser.add_argument(
        "--file",
        type=path,
        metavar="FILE",
        help="the log; older segments lie beside it (default: audit.file)",
    )
    add_config(parser)
    add_json(parser)


def add_log(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name a log and the key that signs it."""
    add_file(parser)
    parser.add_argument(
        "--key",
        type=path,
        metavar="PEM",
        help="the public audit key, or the private one (default: audit.key)",
    )


def file_of(arguments: argparse.Namespace) -> Path:
    """Return the log that is meant.

    Raises:
        UsageError: nothing names one.
        AuditError: its folder is not there.
        DocumentError: the configuration cannot be read.
    """
    file: Path = arguments.file or _configured(arguments.config).file
    if not file.parent.is_dir():
        msg = f"{file}: there is no folder {file.parent}"
        raise AuditError(msg)
    return file


def log_of(arguments: argparse.Namespace) -> tuple[Path, Inspector]:
    """Give the log that is meant, and what judges its signatures.

    Raises:
        UsageError: nothing names one.
        AuditError: the key cannot be used.
        DocumentError: the configuration cannot be read.
    """
    file = file_of(arguments)
    return file, inspector_of(arguments.key or _configured(arguments.config).key)


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
