"""Keys in the files of a folder: the default backend.

The folder is read whole or not at all. What others could have put there is refused:
keyring.yaml, a key file, or a folder that another user owns or may write to; and a
private key file that others may so much as read.
"""

import os
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from gateway.documents import Document, DocumentError, Location, Problem
from gateway.errors import KeyringError
from gateway.keys import manifest, schedule
from gateway.keys.backends.disk import open_at_once
from gateway.keys.backends.halts import Halt, halt_reason, write_halt
from gateway.keys.formats import fingerprint, read_private_key, read_public_key
from gateway.keys.keyring import Keyring
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import HELD, KeyState
from gateway.keys.ports import PrivateKey
from gateway.keys.timeline import Timeline
from gateway.protocol import PublicKey, sign, unwrap

_MAX_KEY_BYTES: Final = 64 * 1024

_Key = TypeVar("_Key")


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


class FileKey:
    """A pair whose private half is in this process. Implements `PrivateKey`.

    It shows only its version in a repr and cannot be pickled.
    """

    __slots__ = ("_private", "public")

    def __init__(self, version: str, private: RSAPrivateKey) -> None:
        self._private = private
        self.public = PublicKey(version, private.public_key())

    def __repr__(self) -> str:
        return f"FileKey(version={self.public.version!r})"

    def __reduce__(self) -> NoReturn:
        msg = "a private key does not leave its process"
        raise TypeError(msg)

    async def sign(self, base: bytes) -> bytes:
        """Sign here and now: it takes a quarter of a millisecond."""
        return sign(self._private, base)

    async def unwrap(self, wrapped_key: bytes) -> bytes:
        """Unwrap here and now."""
        return unwrap(self._private, wrapped_key)


class KeyringFolder:
    """A keyring in a folder, which may be, or hold, symbolic links that swap."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"KeyringFolder({str(self.folder)!r})"

    def read(self, now: datetime = schedule.FIRST_MOMENT) -> Keyring:
        """Read the manifest and every key it holds. Blocks: call it in a thread.

        Args:
            now: the moment whose ring is wanted; by default one before every plan,
                so that the states are those that stand in the file.

        Raises:
            SetupError: something is wrong; every problem, each with its place.
        """
        before = self.state()
        ring = self._read(now)
        if self.state() != before:
            # Parts of two rings may have come together; the next look reads it whole.
            msg = f"{self.folder}: it changed while it was read"
            raise KeyringError(msg)
        return ring

    def halt(self, halt: Halt) -> None:
        """Have the canary of a generation sign nothing more, in every process.

        Raises:
            OSError: the folder cannot be written to; this process knows all the same.
        """
        write_halt(self.folder, halt)

    def _read(self, now: datetime) -> Keyring:
        _check_keyring(self.folder)
        document = manifest.load(self.folder)
        ring, keys = document.value, _KeyFiles(self.folder, document)
        partner = [
            keys.pair(("partner", index), entry)
            for index, entry in enumerate(ring.partner)
        ]
        theirs = [
            keys.public(("platform", index), entry)
            for index, entry in enumerate(ring.platform)
        ]
        if keys.problems:
            raise DocumentError(keys.problems)
        timeline = Timeline(
            ring,
            [public for public, _ in partner],
            [key for _, key in partner],
            theirs,
            halt_reason(self.folder, ring.generation),
        )
        try:
            schedule.check(ring)
            return timeline.at(now)
        except KeyringError as error:
            raise DocumentError([document.problem((), error.detail)]) from None

    def state(self) -> object:
        """Give a value that differs once anything in the folder has changed.

        Follows symbolic links, so swapping one counts as a change.
        """
        try:
            folder = self.folder.stat()
            entries = sorted(os.scandir(self.folder), key=lambda entry: entry.name)
        except OSError as error:
            return error.errno
        access = folder.st_mode, folder.st_uid
        return *access, *(_state_of(entry) for entry in entries)


class _KeyFiles:
    """The key files that a manifest names, and what is wrong with them."""

    def __init__(self, folder: Path, document: Document[Manifest]) -> None:
        self.problems: list[Problem] = []
        self._folder = folder
        self._document = document

    def pair(
        self, place: Location, entry: Entry
    ) -> tuple[PublicKey | None, PrivateKey | None]:
        """Read one of the partner's pairs, if it is held."""
        private = self._held(place, entry, read_private_key, Others.MAY_NOTHING)
        if private is None:
            return self._compromised(entry, _public_half), None
        key = FileKey(entry.version, private)
        self._check_fingerprint(place, entry, key.public)
        return key.public, key

    def public(self, place: Location, entry: Entry) -> PublicKey | None:
        """Read one of the platform's keys, if it is held."""
        rsa = self._held(place, entry, read_public_key, Others.MAY_READ)
        if rsa is None:
            return self._compromised(entry, read_public_key)
        key = PublicKey(entry.version, rsa)
        self._check_fingerprint(place, entry, key)
        return key

    def _check_fingerprint(self, place: Location, entry: Entry, key: PublicKey) -> None:
        """Refuse another key in the place of the one that was taken up."""
        if entry.fingerprint not in (None, fingerprint(key.rsa)):
            text = (
                f"{entry.key}: it is not the key of this fingerprint: it was replaced"
            )
            self.problems.append(self._document.problem((*place, "fingerprint"), text))

    def _held(
        self,
        place: Location,
        entry: Entry,
        read: Callable[[bytes], _Key],
        others: Others,
    ) -> _Key | None:
        """Read a key that is held; a problem is noted, not raised."""
        if entry.state not in HELD or entry.key is None:
            return None
        try:
            return read(read_key_file(self._folder / entry.key, others))
        except KeyringError as error:
            text = f"{entry.key}: {error.detail}"
            self.problems.append(self._document.problem((*place, "key"), text))
            return None

    def _compromised(
        self, entry: Entry, read: Callable[[bytes], RSAPublicKey]
    ) -> PublicKey | None:
        """Know a compromised key again, so that it cannot return as another version.

        Its file may be gone or unfit; nothing of it is used.
        """
        if entry.state is not KeyState.COMPROMISED or entry.key is None:
            return None
        try:
            data = read_key_file(self._folder / entry.key, Others.MAY_ALL)
            return PublicKey(entry.version, read(data))
        except KeyringError:
            return None


def read_key_file(file: Path, others: Others) -> bytes:
    """Read a key file, refusing one with which others may do more than `others`.

    Raises:
        KeyringError: it cannot be read, is no file, or is too open.
    """
    try:
        with open(file, "rb", opener=open_at_once) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_KEY_BYTES:
                msg = "it is not a file of a key's size"
                raise KeyringError(msg)
            _check_access(stream.fileno(), file, others)
            return stream.read(_MAX_KEY_BYTES)
    except OSError as error:
        msg = f"it cannot be read: {error.strerror}"
        raise KeyringError(msg) from None


def _check_access(descriptor: int, file: Path, others: Others) -> None:
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


def _public_half(data: bytes) -> RSAPublicKey:
    return read_private_key(data).public_key()


def _check_keyring(folder: Path) -> None:
    """Refuse a folder that is none, and a keyring.yaml that others may have written."""
    try:
        resolved = folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # links in circles, before Python 3.13
        reason = getattr(error, "strerror", None) or "links in circles"
        msg = (
            f"{folder}: the keyring's folder cannot be opened: {reason}. Make "
            "one with `gateway keys generate`, or with `gateway simulate` to try out"
        )
        raise KeyringError(msg) from None
    if not resolved.is_dir():
        msg = f"{folder}: a keyring is a folder with a {manifest.FILE_NAME} in it"
        raise KeyringError(msg)
    file = folder / manifest.FILE_NAME
    try:
        with open(file, "rb", opener=open_at_once) as stream:
            _check_access(stream.fileno(), file, Others.MAY_READ)
    except OSError:
        return  # reading it says so, with its place
    except KeyringError as error:
        msg = f"{file}: {error.detail}"
        raise KeyringError(msg) from None


def _state_of(entry: os.DirEntry[str]) -> object:
    try:
        status = entry.stat()
    except OSError as error:
        return entry.name, error.errno
    return (
        entry.name,
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
