"""Opening a log: its key, who writes, and whether what is on disk is fit for it."""

import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path

from gateway.audit.seal import Inspector, Seal, read_private_key, read_public_key
from gateway.errors import AuditError, KeyringError
from gateway.keys.backends.access import (
    Others,
    check_folder,
    others_may_write,
    read_key_file,
)


def seal_of(key: Path) -> Seal:
    """Read the private audit key.

    Raises:
        AuditError: it cannot be used, or others may read it.
    """
    return Seal(read_private_key(_read(key, Others.MAY_NOTHING)))


def inspector_of(key: Path) -> Inspector:
    """Read the public audit key, or the public half of the private one.

    Raises:
        AuditError: it cannot be used.
    """
    return Inspector(read_public_key(_read(key, Others.MAY_ALL)))


def flaw_of(file: Path) -> str | None:
    """Give why a log could not be written here; None if nothing speaks against it."""
    folder = file.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    try:  # root writes the logs of others, too: `gateway keys` as root
        check_folder(folder, owner=folder.stat().st_uid)
    except KeyringError as error:
        return error.detail
    if not os.access(folder, os.W_OK | os.X_OK):
        return "its folder cannot be written to by this user"
    return _flaw_of_file(file) if os.path.lexists(file) else None


def actor(environment: Mapping[str, str]) -> str:
    """Say who this process is: user, machine, process, and whom sudo did it for."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    name = f"{user}@{socket.gethostname()}[{os.getpid()}]"
    sudo = environment.get("SUDO_USER")
    return f"{name} for {sudo}" if sudo else name


def _flaw_of_file(file: Path) -> str | None:
    if file.is_symlink() or not file.is_file():
        return "it is not a file"
    if others_may_write(file.stat()):
        return "others may write to it; chmod 600 it"
    return None if os.access(file, os.W_OK) else "this user may not write to it"


def _read(key: Path, others: Others) -> bytes:
    try:
        return read_key_file(key, others)
    except KeyringError as error:
        msg = f"{key}: {error.detail}"
        raise AuditError(msg) from None
