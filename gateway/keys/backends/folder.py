"""Changing a keyring's folder so that whoever reads it finds a whole ring.

`file` reads such a folder, this module writes it. A change is put together in
`.change` inside the folder and read there as the gateway would read it. Only then
is it moved into place, each step on the disk before the next begins:

1. a copy of keyring.yaml as it was, for `gateway.keys.backends.history`;
2. new key files, which nothing names yet;
3. keyring.yaml, by one rename: until here the ring is the old one, from here the
   new one;
4. key files that only the old keyring.yaml named are deleted.

A crash leaves the old ring or the new one, and at worst a file beside it that no
entry names: `unnamed` finds those.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from gateway.documents import DocumentError
from gateway.errors import KeyringError
from gateway.keys import manifest as manifests
from gateway.keys.backends.access import check_folder
from gateway.keys.backends.disk import make_folder, sync, write_new
from gateway.keys.backends.file import STAGING, KeyringFolder
from gateway.keys.backends.halts import carry_over
from gateway.keys.backends.history import keep
from gateway.keys.backends.homes import Homes
from gateway.keys.backends.pem import FILES
from gateway.keys.changes import EMPTY
from gateway.keys.keyring import Keyring
from gateway.keys.locations import name_in_folder
from gateway.keys.manifest import FILE_NAME, Manifest
from gateway.keys.schedule import FIRST_MOMENT

Witness: TypeAlias = Callable[
    [Manifest, Manifest, Keyring], AbstractContextManager[None]
]
"""Is entered right before a change is made, with the manifests before and after it and
the ring that will be read, and left when it is made. What it raises forbids the change."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file that a change adds. A private one is for its owner alone."""

    name: str
    data: bytes = field(repr=False)
    private: bool


class LockedFolder:
    """A keyring's folder that nobody else changes. `locked` gives one."""

    def __init__(
        self,
        folder: Path,
        witness: Witness = lambda *_: nullcontext(),
        homes: Homes = FILES,
    ) -> None:
        self._folder = folder
        self._witness = witness
        self._homes = homes

    @property
    def manifest(self) -> Manifest:
        """The manifest as it stands.

        Raises:
            DocumentError: it cannot be used.
        """
        return manifests.load(self._folder).value

    def replace(
        self, manifest: Manifest, *added: KeyFile, now: datetime = FIRST_MOMENT
    ) -> Keyring:
        """Make `manifest` the folder's, with the key files it adds.

        Key files that it no longer names are deleted. Gives the ring as the gateway
        will read it at `now`.

        Raises:
            KeyringError: the gateway would refuse that ring, or a file is in the
                way. Nothing was changed.
        """
        before = self.manifest
        dropped = _key_files(before) - _key_files(manifest)
        self._check_free(added)
        self._check_deletable(dropped)
        with self._staging() as staging:
            _compose(staging, self._folder, manifest, added)
            ring = _read(staging, self._folder, before, now, self._homes)
            with self._witness(before, manifest, ring):
                keep(self._folder, before, manifest)
                carry_over(self._folder, before, manifest)
                for file in added:
                    (staging / file.name).rename(self._folder / file.name)
                sync(self._folder)
                (staging / FILE_NAME).rename(self._folder / FILE_NAME)
                sync(self._folder)
        for name in dropped:
            (self._folder / name).unlink(missing_ok=True)
        sync(self._folder)
        return ring

    def begin(self) -> None:
        """Write the empty ring's manifest where there is none.

        Raises:
            KeyringError: there are other files: this was not meant to be a ring.
        """
        if (self._folder / FILE_NAME).exists():
            return
        if any(each.name != STAGING for each in self._folder.iterdir()):
            msg = (
                f"{self._folder} holds files and no {FILE_NAME}: it is no keyring. "
                "Name a new folder or an empty one"
            )
            raise KeyringError(msg)
        with self._staging() as staging:
            _compose(staging, self._folder, EMPTY, ())
            (staging / FILE_NAME).rename(self._folder / FILE_NAME)
            sync(self._folder)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """Give a new `.change`; what a killed change left there is removed."""
        staging = self._folder / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        try:
            yield staging
        finally:
            shutil.rmtree(staging)

    def _check_free(self, added: Iterable[KeyFile]) -> None:
        for file in added:
            if os.path.lexists(self._folder / file.name):
                msg = (
                    f"{self._folder / file.name} is in the way, and no entry names it: "
                    "move it out of the folder, or delete it"
                )
                raise KeyringError(msg)

    def _check_deletable(self, names: Iterable[str]) -> None:
        for name in names:
            if (self._folder / name).is_symlink():
                msg = (
                    f"{self._folder / name} is a symbolic link: deleting it would leave "
                    "the key where it is. Put the file itself in its place first"
                )
                raise KeyringError(msg)


@contextmanager
def locked(
    folder: Path,
    *,
    create: bool = False,
    witness: Witness = lambda *_: nullcontext(),
    homes: Homes = FILES,
) -> Iterator[LockedFolder]:
    """Hold a keyring's folder against other changes, until the block ends.

    Readers are not held up: they find the old ring or the new one.

    Args:
        folder: the folder, or a symbolic link to it.
        create: whether to make it, with an empty ring, where it is missing.
        witness: is there at each change.
        homes: where its pairs may live.

    Raises:
        KeyringError: it is not there, is being changed, or is not ours to change.
    """
    if create and not folder.exists():
        make_folder(folder)
    try:
        resolved = folder.resolve(strict=True)
        descriptor = os.open(resolved, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        msg = (
            f"{folder}: the keyring's folder cannot be opened: {error.strerror}. "
            "`gateway keys generate` makes one"
        )
        raise KeyringError(msg) from None
    try:
        _lock(descriptor, folder)
        check_ours(resolved, folder)
        ring = LockedFolder(resolved, witness, homes)
        if create:
            ring.begin()
        yield ring
    finally:
        os.close(descriptor)  # gives up the lock, as does the end of the process


def preview(
    folder: Path,
    manifest: Manifest,
    now: datetime = FIRST_MOMENT,
    homes: Homes = FILES,
) -> Keyring:
    """Give the ring that a folder would hold at `now` with another manifest.

    Writes nothing to the folder.

    Raises:
        KeyringError: the gateway would refuse it.
    """
    check_ours(folder.resolve(), folder)
    with TemporaryDirectory(prefix="keyring-") as staging:
        _compose(Path(staging), folder.resolve(), manifest, ())
        before = manifests.load(folder).value
        return _read(Path(staging), folder, before, now, homes)


def unnamed(folder: Path, manifest: Manifest) -> list[str]:
    """Give the names of what lies in a ring's folder without belonging to it.

    Names with a dot before them are passed over, as Kubernetes has such of its own,
    but for what a killed change has left.
    """
    known = _key_files(manifest) | {FILE_NAME}
    names = (each.name for each in folder.iterdir())
    return sorted(
        name
        for name in names
        if name not in known and (name == STAGING or not name.startswith("."))
    )


def _key_files(manifest: Manifest) -> set[str]:
    """Give the names of the files in the folder that a manifest's keys are in."""
    entries = (*manifest.partner, *manifest.platform)
    keys = [entry.key for entry in entries if entry.key is not None]
    return {name for key in keys if (name := name_in_folder(key)) is not None}


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        msg = (
            f"{folder}: another command is changing this keyring. Try again when it "
            "has finished"
        )
        raise KeyringError(msg) from None


def check_ours(resolved: Path, folder: Path) -> None:
    """Refuse a folder in which no command changes a ring.

    Args:
        resolved: the folder, through all links.
        folder: as it was named.

    Raises:
        KeyringError: it is another user's, others may write to it, or it is mounted.
    """
    if resolved.stat().st_uid not in (0, os.geteuid()):
        # Root too: a key that root writes there is one its gateway cannot read.
        msg = f"{folder}: this folder is another user's; run this as that user"
        raise KeyringError(msg)
    try:
        check_folder(folder)
    except KeyringError as error:
        msg = f"{folder}: {error.detail}"
        raise KeyringError(msg) from None
    if (resolved / FILE_NAME).is_symlink():
        msg = (
            f"{folder}: {FILE_NAME} is a symbolic link, as in a mounted secret. Change "
            "the ring where it comes from"
        )
        raise KeyringError(msg)


def _compose(
    staging: Path, folder: Path, manifest: Manifest, added: Iterable[KeyFile]
) -> None:
    """Lay out a ring in `staging`: what is new as files, what stays as links."""
    for file in added:
        write_new(staging / file.name, file.data, 0o600 if file.private else 0o644)
    for name in _key_files(manifest) - {file.name for file in added}:
        (staging / name).symlink_to(folder / name)
    write_new(staging / FILE_NAME, manifests.dump(manifest).encode(), 0o644)
    sync(staging)


def _read(
    staging: Path, folder: Path, before: Manifest, now: datetime, homes: Homes
) -> Keyring:
    """Read a composed ring as the gateway would.

    A pair that is out of reach is no reason against a change that leaves its entry as
    it is: the way on may be to another pair.

    Raises:
        KeyringError: it would be refused.
    """
    try:
        return KeyringFolder(staging, homes, spared=before.partner).read(now)
    except DocumentError as error:
        found = "; ".join(
            f"{problem.where}: {problem.message}" if problem.where else problem.message
            for problem in error.problems
        )
        msg = f"{folder}: nothing was changed, as the gateway would refuse it: {found}"
        raise KeyringError(msg) from None
