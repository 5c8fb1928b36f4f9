"""Files that hold a secret or decide what is trusted: who else may touch them.

Refused is what others could have put there, and a secret that others may read. As
sshd does with StrictModes, every name from the root of the file system on is looked
at, and each link is followed by hand: a folder, a link and the file must belong to
root or to this user, and others must not be able to write to it. A folder with the
sticky bit, such as /tmp, may be open to others: there they can replace only what is
theirs. A group that has no member but the owner is not others: with a umask of 002, the
default of several distributions, it may write to whatever its user makes.

Each name is opened inside the folder that was checked before it, and the file that is
read is the one whose owner and mode were checked: no path is looked up twice.
"""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Mapping
from enum import IntEnum
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from gateway.errors import KeyringError
from gateway.keys.backends.disk import open_at_once
from gateway.keys.locations import secret_of

MAX_KEY_BYTES: Final = 64 * 1024
_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS: Final = 40
"""The kernel's own bound (path_resolution(7))."""


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
    opener = open_at_once
    if others is not Others.MAY_ALL:
        opener = partial(_open_trusted, others=others)
    try:
        with open(file, "rb", opener=opener) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_KEY_BYTES:
                msg = "it is not a file of a key's size"
                raise KeyringError(msg)
            return stream.read(MAX_KEY_BYTES)
    except OSError as error:
        msg = f"it cannot be read: {error.strerror}"
        raise KeyringError(msg) from None


def check_file(file: Path, others: Others) -> None:
    """Refuse a file with which others may do more than `others`.

    Only root and this user can replace a file that passes, so its path may be opened
    again afterwards.

    Raises:
        KeyringError: others may do more.
        OSError: it cannot be opened.
    """
    os.close(_open_trusted(str(file), os.O_RDONLY | os.O_CLOEXEC, others))


def check_folder(folder: Path, *, owner: int | None = None) -> None:
    """Refuse a folder that others may write to or replace.

    Args:
        folder: the folder.
        owner: a user who is trusted beside root and this one.

    Raises:
        KeyringError: others may.
        OSError: it cannot be opened, or is no folder.
    """
    way = _Way(owner)
    try:
        way.enter(way.follow(str(folder)))
    finally:
        way.close()


def others_may_write(status: os.stat_result) -> bool:
    """Check whether a mode lets anyone but the owner write.

    That the owner's private group may is no more than that the owner may.
    """
    mode = status.st_mode
    return bool(mode & stat.S_IWOTH) or (
        bool(mode & stat.S_IWGRP) and not _is_private(status.st_gid, status.st_uid)
    )


def _is_private(group: int, owner: int) -> bool:
    """Check whether a group is its owner's private one.

    It has the owner's name, is the owner's primary group, and has no other member. The
    name is asked for because a directory service need not list all users of a group.
    Root has no private group: OpenShift runs containers of any user in group 0.
    """
    if owner == 0:
        return False
    try:
        user, entry = pwd.getpwuid(owner), grp.getgrgid(group)
    except KeyError:
        return False
    return (
        user.pw_gid == group
        and entry.gr_name == user.pw_name
        and set(entry.gr_mem) <= {user.pw_name}
        and all(each.pw_gid != group or each.pw_uid == owner for each in pwd.getpwall())
    )


def flaw_of(
    status: os.stat_result, others: Others, *, ours: bool, mounted: bool
) -> str | None:
    """Return what is wrong with an open file's owner or mode; None if nothing is.

    Args:
        status: of the file.
        others: the most that others may do with it.
        ours: whether it belongs to root or this user.
        mounted: whether it is a secret mounted by an orchestrator, which sets its mode
            (Kubernetes' default is 0644): that others may read it is excused there.
            Nothing else is.
    """
    if not ours:
        return "it belongs to another user; chown it to the gateway's user"
    if others is Others.MAY_NOTHING:
        is_open = bool(status.st_mode & (_WRITE if mounted else others))
    else:
        is_open = others_may_write(status)
    if is_open:
        mode = f"{status.st_mode & 0o777:04o}"
        return f"others may {others.deed} it (mode {mode}); {others.remedy} it"
    return None


def is_secret_mount(flags: int, file_system: str, *, is_its_own: bool) -> bool:
    """Check whether facts of a mount are those of a secret's.

    Kubernetes, Docker Swarm and systemd (credentials) mount a tmpfs, read-only, at the
    folder or the file. A read-only disk is none: systemd's ProtectSystem=strict makes
    one of every file system, with the files of every user. It makes one of /run too,
    a tmpfs that holds more than one folder.

    Args:
        flags: of the mount, as statvfs(3) has them.
        file_system: its type.
        is_its_own: whether the file, or the folder it is named in, is where it begins.
    """
    return is_its_own and bool(flags & os.ST_RDONLY) and file_system == "tmpfs"


def _open_trusted(name: str, flags: int, others: Others) -> int:
    """Open a file that, like all that leads to it, is root's or ours alone.

    Returns:
        Its descriptor. It does not wait for a pipe.

    Raises:
        KeyringError: others may do more than `others` with it, or replace it.
        OSError: it cannot be opened.
    """
    way = _Way()
    try:
        last = way.follow(name)
        descriptor = os.open(
            last, flags | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=way.folder
        )
        try:
            way.check_end(descriptor, others)
        except BaseException:
            os.close(descriptor)
            raise
    finally:
        way.close()
    return descriptor


class _Way:
    """The folders from the root to a file, entered one by one.

    Args:
        owner: a user who is trusted beside root and this one.

    Attributes:
        folder: the folder that was entered last, open. -1 before the first one.
    """

    def __init__(self, owner: int | None = None) -> None:
        self.folder = -1
        self._owners = {0, os.geteuid(), owner}
        self._path = PurePosixPath()
        self._mounts: set[int] = set()

    def check_end(self, file: int, others: Others) -> None:
        """Refuse an open file with which others may do more than `others`.

        What is no file, such as a device, is left to whoever reads it to refuse.

        Raises:
            KeyringError: they may, or it is another user's.
        """
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return
        mounted = bool(status.st_mode & others) and is_secret_mount(
            os.fstatvfs(file).f_flag,
            _file_system_of(status.st_dev),
            is_its_own=self._begins_at_end(status.st_dev),
        )
        ours = status.st_uid in self._owners
        flaw = flaw_of(status, others, ours=ours, mounted=mounted)
        if flaw is not None:
            raise KeyringError(flaw)

    def close(self) -> None:
        """Close the folder."""
        if self.folder >= 0:
            os.close(self.folder)

    def enter(self, name: str) -> None:
        """Go on to a folder inside the present one, or to the root.

        Raises:
            KeyringError: others may write to it, or own it.
            OSError: it cannot be opened, or is no folder.
        """
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inside = None if name == "/" else self.folder
        entered = os.open(name, flags, dir_fd=inside)
        self.close()
        self.folder = entered
        self._path = self._path.parent if name == ".." else self._path / name
        status = os.fstat(entered)
        if not status.st_mode & stat.S_ISVTX and others_may_write(status):
            msg = (
                f"others may write to its folder {self._path} and replace it; "
                f"chmod go-w {self._path}"
            )
            raise KeyringError(msg)
        self._check_owner(status, f"folder {self._path}")

    def follow(self, path: str) -> str:
        """Enter every folder on the way of a path, through all links.

        Returns:
            The name, in `folder`, of what the path leads to. It is no link.

        Raises:
            KeyringError: others may have put something on this way.
            OSError: a part of it is not there, or there are too many links.
        """
        ahead = _names(str(Path(path).absolute()))  # which leaves each `..` in it
        links = 0
        while True:
            name = ahead.pop()
            if not ahead and name != "/":
                self._note_mount()
            target = None if name == "/" else self._target(name)
            if target is not None:
                links += 1
                ahead += _names(target)
            elif ahead:
                self.enter(name)
                continue
            else:
                return name
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _target(self, name: str) -> str | None:
        """Return what a name links to; None if it is no link."""
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        link = os.open(name, flags, dir_fd=self.folder)
        try:
            status = os.fstat(link)
            if not stat.S_ISLNK(status.st_mode):
                return None
            self._check_owner(status, f"link {self._path / name}")
            return os.readlink("", dir_fd=link)  # of the link that is open
        finally:
            os.close(link)

    def _begins_at_end(self, device: int) -> bool:
        """Check whether a mount begins at the file, or at a folder it is named in."""
        return device in self._mounts or device != os.fstat(self.folder).st_dev

    def _note_mount(self) -> None:
        """Note it if the present folder is where a mount begins."""
        device = os.fstat(self.folder).st_dev
        if device != os.stat("..", dir_fd=self.folder).st_dev:
            self._mounts.add(device)

    def _check_owner(self, status: os.stat_result, what: str) -> None:
        if status.st_uid not in self._owners:
            msg = f"its {what} belongs to another user; chown it to the gateway's user"
            raise KeyringError(msg)


def _names(path: str) -> list[str]:
    """Return the parts of a path, the last one first; `.` where there are none."""
    return [*reversed(PurePosixPath(path).parts)] or ["."]


def _file_system_of(device: int) -> str:
    """Return the type of the file system with this device number (proc_pid_mountinfo(5)).

    Empty where there is none such or no /proc: then nothing is excused.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == number:
            return kind.partition(" ")[0]
    return ""


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
