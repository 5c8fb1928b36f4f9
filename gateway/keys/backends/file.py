"""A keyring in the files of a folder; its pairs may live elsewhere.

The folder is read whole or not at all. What others could have put there is refused
(`gateway.keys.backends.access`). Public keys are files; where a pair is, its entry
says, and `Homes` finds it.
"""

import os
from collections.abc import Container
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway import documents
from gateway.documents import Document, DocumentError, Location, Problem
from gateway.errors import KeyringError, KeyUnavailable, SetupError
from gateway.keys import manifest, schedule
from gateway.keys.backends.access import Others, check_file, read_key_file
from gateway.keys.backends.halts import (
    FILE_NAME as HALTED,
    Halt,
    halt_reason,
    write_halt,
)
from gateway.keys.backends.history import FOLDER
from gateway.keys.backends.homes import Homes
from gateway.keys.backends.pem import FILES
from gateway.keys.digest import digest_of
from gateway.keys.formats import fingerprint, read_private_key, read_public_key
from gateway.keys.keyring import Keyring
from gateway.keys.locations import FILE, path_of, scheme_of, secret_of
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import HELD, PARTNER_USES, KeyState, Use
from gateway.keys.ports import Place, PrivateKey
from gateway.keys.timeline import Timeline
from gateway.protocol import PublicKey

STAGING: Final = ".change"
"""Where a command puts a change together, inside the folder."""

_NOT_THE_RING: Final = frozenset({STAGING, FOLDER})
_MOST_READS: Final = 8
"""A change by command disturbs one read or two, and the next one reads the new ring.
Who is disturbed so often is not: something writes there without an end."""


class KeyringFolder:
    """A keyring in a folder, which may be, or hold, symbolic links that swap.

    Args:
        folder: the folder.
        homes: where its pairs may live; by default in files alone.
        spared: entries whose pair may be out of reach, even if it is active.
    """

    def __init__(
        self, folder: Path, homes: Homes = FILES, *, spared: Container[Entry] = ()
    ) -> None:
        self.folder = folder
        self._homes = homes
        self._spared = spared
        self._seen: object = None
        self._elsewhere: list[Path] = []

    def __repr__(self) -> str:
        return f"KeyringFolder({str(self.folder)!r})"

    def read(self, now: datetime = schedule.FIRST_MOMENT) -> Keyring:
        """Read the manifest and every key it holds. Blocks: call it in a thread.

        A pair that is out of reach stops it only if it is active, or is to be: one
        that is not would keep us from going on without its home. It is then left out.

        Args:
            now: the moment whose ring is wanted; by default one before every plan,
                so that the states are those that stand in the file.

        Where it changes meanwhile, it is read again: it is one ring or the other.

        Raises:
            SetupError: something is wrong; every problem, each with its place.
        """
        for _ in range(_MOST_READS):
            parts = _Parts()
            try:
                ring = self._read(now, parts)
            except SetupError:
                if parts.are_as_before():
                    raise
            else:
                if parts.are_as_before():
                    return ring
            # Parts of two rings may have come together, as when a command changed it.
        msg = f"{self.folder}: it changed each of the {_MOST_READS} times it was read"
        raise KeyringError(msg)

    def halt(self, halt: Halt) -> None:
        """Have the canary of a generation sign nothing more, in every process.

        Raises:
            OSError: the folder cannot be written to; this process knows all the same.
        """
        write_halt(self.folder, halt)

    def _read(self, now: datetime, parts: "_Parts") -> Keyring:
        parts.note(self.folder / manifest.FILE_NAME)
        _check_keyring(self.folder)
        document = manifest.load(self.folder)
        parts.note(self.folder / HALTED, *_files_of(document.value, self.folder))
        ring, keys = (
            document.value,
            _Keys(self.folder, document, self._homes, self._spared),
        )
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
            digest_of(ring, [public for public, _ in partner], theirs),
        )
        try:
            schedule.check(ring)
            return timeline.at(now)
        except KeyringError as error:
            raise DocumentError([document.problem((), error.detail)]) from None

    def state(self) -> object:
        """Give a value that differs once anything that the ring is made of has changed.

        That is anything in the folder, and the key and passphrase files elsewhere.
        Follows symbolic links, so swapping one counts as a change.
        """
        seen = self._state_of_folder()
        if seen != self._seen:
            self._seen, self._elsewhere = seen, _files_elsewhere(self.folder)
        return seen, [_state_of(file) for file in self._elsewhere]

    def _state_of_folder(self) -> object:
        try:
            folder = self.folder.stat()
            entries = sorted(os.scandir(self.folder), key=lambda entry: entry.name)
        except OSError as error:
            return error.errno
        access = folder.st_mode, folder.st_uid
        ring = (entry for entry in entries if entry.name not in _NOT_THE_RING)
        return *access, *((entry.name, _state_of(entry)) for entry in ring)


class _Parts:
    """The files that a ring is read from, as they were before they were read."""

    def __init__(self) -> None:
        self._seen: dict[Path, object] = {}

    def note(self, *files: Path) -> None:
        """Note what these are like now."""
        for file in files:
            self._seen[file] = _state_of(file)

    def are_as_before(self) -> bool:
        """Check whether no file changed since it was noted."""
        return all(_state_of(file) == state for file, state in self._seen.items())


class _Keys:
    """The keys that a manifest names, and what is wrong with them."""

    def __init__(
        self,
        folder: Path,
        document: Document[Manifest],
        homes: Homes,
        spared: Container[Entry],
    ) -> None:
        self.problems: list[Problem] = []
        self._folder = folder
        self._document = document
        self._homes = homes
        self._spared = spared

    def pair(
        self, place: Location, entry: Entry
    ) -> tuple[PublicKey | None, PrivateKey | None]:
        """Open one of the partner's pairs, if it is held."""
        key = self._opened(place, entry) if entry.state in HELD else None
        if key is None:
            return self._compromised(entry), None
        self._check_fingerprint(place, entry, key.public)
        return key.public, key

    def public(self, place: Location, entry: Entry) -> PublicKey | None:
        """Read one of the platform's keys, if it is held."""
        if entry.key is None or entry.state not in HELD:
            return self._compromised_file(entry)
        try:
            file = path_of(entry.key, self._folder)
            rsa = read_public_key(read_key_file(file, Others.MAY_READ))
        except KeyringError as error:
            self._note(place, entry, error.detail)
            return None
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

    def _opened(self, place: Location, entry: Entry) -> PrivateKey | None:
        """Open a pair; a problem is noted, not raised."""
        at = place_of(entry, self._folder)
        if at is None:
            return None
        try:
            return self._homes.open(at)
        except KeyringError as error:
            self._note(place, entry, error.detail)
        except KeyUnavailable as error:
            needed = entry.state is KeyState.ACTIVE or entry.is_to_sign
            if needed and entry not in self._spared:
                self._note(place, entry, error.detail)
        return None

    def _note(self, place: Location, entry: Entry, reason: str) -> None:
        text = f"{entry.key}: {reason}"
        self.problems.append(self._document.problem((*place, "key"), text))

    def _compromised(self, entry: Entry) -> PublicKey | None:
        """Know a compromised key again, so that it cannot return as another version.

        It may be gone or unfit; nothing of it is used.
        """
        at = place_of(entry, self._folder, uses=frozenset())
        if entry.state is not KeyState.COMPROMISED or at is None:
            return None
        if scheme_of(at.key) == FILE and at.passphrase is None:
            return self._compromised_file(entry)
        try:
            return self._homes.open(at).public
        except (KeyringError, KeyUnavailable):
            return None

    def _compromised_file(self, entry: Entry) -> PublicKey | None:
        """Read the public half of a file that is compromised, whoever may read it."""
        if entry.state is not KeyState.COMPROMISED or entry.key is None:
            return None
        try:
            data = read_key_file(path_of(entry.key, self._folder), Others.MAY_ALL)
            return PublicKey(entry.version, _either_half(data))
        except KeyringError:
            return None


def place_of(
    entry: Entry, folder: Path, uses: frozenset[Use] | None = None
) -> Place | None:
    """Give where one of our pairs is; None where its entry names no key.

    Args:
        entry: the pair's, in the keyring in `folder`.
        folder: the keyring's.
        uses: what it must be able to do; by default what its entry says.
    """
    if entry.key is None:
        return None
    needs = entry.uses(PARTNER_USES) if uses is None else uses
    return Place(entry.key, entry.version, needs, folder, entry.passphrase)


def _files_elsewhere(folder: Path) -> list[Path]:
    """Give the files that a ring needs and that are not in its folder."""
    try:
        ring = documents.load(folder / manifest.FILE_NAME, Manifest).value
    except DocumentError:
        return []  # what is wrong is told when it is read
    return [each for each in _files_of(ring, folder) if each.parent != folder]


def _files_of(ring: Manifest, folder: Path) -> list[Path]:
    """Return the key and passphrase files of a ring, wherever they are."""
    entries = (*ring.partner, *ring.platform)
    keys = [each.key for each in entries if each.key is not None]
    secrets = [secret_of(each.passphrase) for each in entries if each.passphrase]
    return [
        *(path_of(key, folder) for key in keys if scheme_of(key) == FILE),
        *(each for each in secrets if isinstance(each, Path)),
    ]


def _either_half(data: bytes) -> RSAPublicKey:
    """Give the public half of a pair, or a public key."""
    try:
        return read_private_key(data).public_key()
    except KeyringError:
        return read_public_key(data)


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
        check_file(file, Others.MAY_READ)
    except OSError:
        return  # reading it says so, with its place
    except KeyringError as error:
        msg = f"{file}: {error.detail}"
        raise KeyringError(msg) from None


def _state_of(file: os.DirEntry[str] | Path) -> object:
    try:
        status = file.stat()
    except OSError as error:
        return error.errno
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
