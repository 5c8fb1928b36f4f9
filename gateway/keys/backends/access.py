"""Files that hold a secret or decide what is trusted: who else may touch them.

What others could have put there is refused: a file, or a folder on the way to it,
that another user owns or may write to; and a secret that others may so much as read.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Final

from gateway.errors import KeyringError
from gateway.keys.backends.disk import open_at_once
from gateway.keys.locations import secret_of

MAX_KEY_BYTES: Final = 64 * 1024


class Others(IntEnum):
    """What other users may do with a file. The value: the mode bits it must not have."""

    MAY_NOTHING = 0o077
    MAY_READ = 0o022
    MAY_ALL = 0

    @property
    def deed(self) -> str:
        """What they must not be able to do, for a message."""
        return "read or write" if self is Others.MAY_NOTHING else "write to"

    @property
    def remedy(self) -> str:
        """The command that ends it."""
        return "chmod 600" if self is Others.MAY_NOTHING else "chmod go-w"


def read_key_file(file: Path, others: Others) -> bytes:
    """Read a key file, refusing one with which others may do more than `others`.

    Raises:
        KeyringError: it cannot be read, is no file, or is too open.
    """
    try:
        with open(file, "rb", opener=open_at_once) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_KEY_BYTES:
                msg = "it is not a file of a key's size"
                raise KeyringError(msg)
            check_access(stream.fileno(), file, others)
            return stream.read(MAX_KEY_BYTES)
    except OSError as error:
        msg = f"it cannot be read: {error.strerror}"
        raise KeyringError(msg) from None


def check_access(descriptor: int, file: Path, others: Others) -> None:
    """Refuse an open file that, or whose way, is not ours alone.

    Raises:
        KeyringError: others may do more than `others` with it, or replace it.
        OSError: a folder on the way to it cannot be opened.
    """
    if others is Others.MAY_ALL:
        return
    status = os.fstat(descriptor)
    if not _is_read_only_mount(descriptor, status):
        if status.st_mode & others:
            mode = f"{status.st_mode & 0o777:04o}"
            msg = f"others may {others.deed} it (mode {mode}); {others.remedy} it"
            raise KeyringError(msg)
        if status.st_uid not in (0, os.geteuid()):
            msg = "it belongs to another user; chown it to the gateway's user"
            raise KeyringError(msg)
    for folder in _folders_to(file):
        _check_folder(folder)


def _is_read_only_mount(descriptor: int, status: os.stat_result) -> bool:
    """Tell a mounted secret, whose modes the orchestrator sets, from a plain file.

    Kubernetes mounts secrets read-only, on a file system of their own, mode 0644
    by default, in a folder of mode 1777. A read-only root file system is not meant:
    an image holds no key.
    """
    read_only = bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
    return read_only and status.st_dev != Path("/").stat().st_dev


def _folders_to(file: Path) -> Iterator[Path]:
    """Give the folders whose owners say what `file` is: its own, and each link's."""
    while file.is_symlink():
        yield file.parent.resolve()
        file = file.parent / file.readlink()
    yield file.parent.resolve()


def _check_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(descriptor)
        mounted = _is_read_only_mount(descriptor, status)
    finally:
        os.close(descriptor)
    if status.st_mode & Others.MAY_READ and not status.st_mode & stat.S_ISVTX:
        msg = "others may write to its folder and replace it; chmod go-w the folder"
        raise KeyringError(msg)
    if status.st_uid not in (0, os.geteuid()) and not mounted:
        msg = "its folder is another user's; chown the folder to the gateway's user"
        raise KeyringError(msg)


def read_secret(source: str, environment: Mapping[str, str]) -> bytes:
    """Read a passphrase or PIN from its place, without the newline at its end.

    Args:
        source: `file:/PATH` or `env:NAME`.
        environment: the variables that may hold one.

    Raises:
        KeyringError: it is not there, is empty, or others may read it.
    """
    place = secret_of(source)
    if isinstance(place, str):
        secret = environment.get(place, "").encode("utf-8", "surrogateescape")
        problem = f"the variable {place} is not set, or is empty"
    else:
        try:
            secret = read_key_file(place, Others.MAY_NOTHING).removesuffix(b"\n")
        except KeyringError as error:
            msg = f"{place}: {error.detail}"
            raise KeyringError(msg) from None
        secret = secret.removesuffix(b"\r")
        problem = f"{place}: it is empty"
    if not secret:
        raise KeyringError(problem)
    return secret
