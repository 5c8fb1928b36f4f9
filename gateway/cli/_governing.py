"""The configuration that a keyring belongs to, however a command names the keyring.

It says whether changes are audited, and where private keys may live. In this order:

1. the one that is named with --config: it is meant, whatever its clients are;
2. ./config.yaml, or a config.yaml in a folder above the keyring, if one of its clients
   has that very keyring;
3. ./config.yaml, which is there and says nothing of this keyring.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway import config
from gateway.cli import UsageError
from gateway.cli.options import environment
from gateway.config import Settings
from gateway.documents import Document
from gateway.errors import KeyringError
from gateway.keys.backends.access import others_may_write
from gateway.keys.backends.homes import Homes

_NAME: Final = "config.yaml"


@dataclass(frozen=True, slots=True)
class Governing:
    """A configuration, right or wrong, and what it calls the keyring.

    Attributes:
        client: the client that has the keyring; None where none has.
    """

    file: Path
    document: Document[Settings]
    client: str | None


def governing(arguments: argparse.Namespace, folder: Path) -> Governing | None:
    """Return the configuration that the keyring in `folder` belongs to, if one is there.

    Raises:
        UsageError: a configuration is named that is not there.
        DocumentError: one cannot be read, so that nobody can tell what it says.
        KeyringError: one has this keyring, and others may write to it.
    """
    named: Path = arguments.config
    if named is not arguments.parser.get_default("config"):
        if not named.exists():
            msg = f"there is no {named}, which --config names"
            raise UsageError(msg)
        return _read(named, folder)
    here = _read(named, folder) if named.exists() else None
    if here is not None and here.client is not None:
        return here
    for file in _above(folder):
        found = _read(file, folder)
        if found.client is not None:
            _check_ours(file, folder)
            return found
    return here


def homes_of(arguments: argparse.Namespace, folder: Path) -> Homes:
    """Return the homes in which the private keys of the ring in `folder` may live.

    Raises:
        UsageError, DocumentError, KeyringError: as `governing`.
    """
    homes: Homes = arguments.homes
    ruling = governing(arguments, folder)
    return homes if ruling is None else homes.only(config.key_homes_of(ruling.document))


def _read(file: Path, folder: Path) -> Governing:
    document = config.read(file, environment())
    wanted = os.path.realpath(folder)
    names = dict(config.texts(document.tree, "clients", "name"))
    for files in config.files_of(document):
        if files.keyring is not None and os.path.realpath(files.keyring) == wanted:
            place = int(files.place[1])
            return Governing(file, document, names.get(place, f"[{place}]"))
    return Governing(file, document, None)


def _above(folder: Path) -> Iterator[Path]:
    """Find each config.yaml above a folder, by its own name and by where links lead."""
    named, real = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))  # noqa: PTH100 - links stay
    for each in dict.fromkeys((*named.parents, *real.parents)):
        if (each / _NAME).is_file():
            yield each / _NAME


def _check_ours(file: Path, folder: Path) -> None:
    """Refuse to write an audit log where a stranger's file says."""
    status = file.stat()
    if status.st_uid not in (0, os.geteuid()) or others_may_write(status):
        msg = (
            f"{file} has a client with the keyring {folder}, and others may write to "
            "that file: chmod go-w it (chown it to this user), or name the "
            "configuration with --config"
        )
        raise KeyringError(msg)
