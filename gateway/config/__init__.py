"""config.yaml as validated values. Its keys are the contract; see docs/operations.md.

Relative paths are relative to the file. `${NAME}` comes from the environment that
`load` is given.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from gateway import documents
from gateway.config.digests import digest_of, policy_change
from gateway.config.references import check_references, entries, texts
from gateway.config.sections import (
    Admin,
    Audit,
    Caller,
    Client,
    Encryption,
    Inbound,
    KeyHome,
    Keys,
    ListenerTls,
    Route,
    Settings,
    Tls,
)
from gateway.config.values import (
    Address,
    File,
    Listen,
    UnixAddress,
    parse_address,
)
from gateway.documents import Document, Location

__all__ = [
    "Address",
    "Admin",
    "Audit",
    "Caller",
    "Client",
    "Encryption",
    "Files",
    "Inbound",
    "KeyHome",
    "Keys",
    "Listen",
    "ListenerTls",
    "Route",
    "Settings",
    "Tls",
    "UnixAddress",
    "audit_of",
    "digest_of",
    "files_of",
    "key_homes_of",
    "listeners_of",
    "load",
    "parse_address",
    "policy_change",
    "read",
    "texts",
]

_LISTENER_TLS: Final[TypeAdapter[ListenerTls]] = TypeAdapter(ListenerTls)
_AUDIT: Final[TypeAdapter[Audit]] = TypeAdapter(Audit)
_KEYS: Final[TypeAdapter[Keys]] = TypeAdapter(Keys)
_FILE: Final[TypeAdapter[Path]] = TypeAdapter(File)


class Files(NamedTuple):
    """What a client's entry names on disk, as far as that can be read.

    Attributes:
        place: where the entry stands.
        keyring: the folder; None where its key is missing or wrong.
        tls: the TLS files, each None where it is not named or its key is wrong.
        encrypts: whether a route may have requests of this client encrypted.
    """

    place: Location
    keyring: Path | None
    tls: Tls
    encrypts: bool


def listeners_of(document: Document[Settings]) -> list[tuple[str, ListenerTls]]:
    """Give the TLS files of each listener that has any, right or wrong elsewhere."""
    parts = [
        (section, document.part((section, "tls"), _LISTENER_TLS))
        for section in ("inbound", "admin")
    ]
    return [(section, tls) for section, tls in parts if tls is not None]


def audit_of(document: Document[Settings]) -> Audit | None:
    """Give the audit log that is configured, right or wrong elsewhere."""
    return document.part(("audit",), _AUDIT)


def key_homes_of(document: Document[Settings]) -> tuple[KeyHome, ...]:
    """Return where private keys may live, right or wrong elsewhere.

    None where that itself is wrong: nobody can tell what was meant.
    """
    if not isinstance(document.tree, dict) or "keys" not in document.tree:
        return Keys().homes
    keys = document.part(("keys",), _KEYS)
    return () if keys is None else keys.homes


def load(file: Path, environment: Mapping[str, str]) -> Settings:
    """Read a configuration.

    Raises:
        DocumentError: every problem of the file, each with its line.
    """
    return read(file, environment).value


def read(file: Path, environment: Mapping[str, str]) -> Document[Settings]:
    """Read a configuration, right or wrong, with the places of its parts.

    Raises:
        DocumentError: it cannot be read at all, or is not YAML.
    """
    return documents.read(
        file,
        Settings,
        environment=environment,
        check=check_references,
        remedy="name the configuration with -c FILE",
    )


def files_of(document: Document[Settings]) -> list[Files]:
    """Give what each client names on disk, also where the rest of it is wrong."""
    tree = document.tree
    names = dict(texts(tree, "clients", "name"))
    modes = dict(texts(tree, "routes", "encryption"))
    encrypting = {
        name
        for index, name in texts(tree, "routes", "client")
        if modes.get(index) != Encryption.OFF
    }

    def path(*place: str | int) -> Path | None:
        return document.part(("clients", *place), _FILE)

    return [
        Files(
            ("clients", index),
            path(index, "keyring"),
            Tls.model_construct(
                ca_file=path(index, "tls", "ca_file"),
                certificate=path(index, "tls", "certificate"),
                private_key=path(index, "tls", "private_key"),
            ),
            names.get(index) in encrypting,
        )
        for index in range(len(entries(tree, "clients")))
    ]
