"""config.yaml as validated values. Its keys are the contract; see docs/operations.md.

Relative paths are relative to the file. `${NAME}` comes from the environment that
`load` is given.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta, timezone
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)

from gateway import documents
from gateway.documents import Document, Finding, Location, Section, Tree
from gateway.protocol import HONG_KONG
from gateway.protocol.messages import JSON_UTF8
from gateway.protocol.outgoing import check_client_id, check_target

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OFFSET: Final = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)
_HOST: Final = r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\])"
_ADDRESS: Final = re.compile(rf"{_HOST}:(?P<port>[0-9]{{1,5}})")
_NETLOC: Final = re.compile(rf"{_HOST}(:[0-9]{{1,5}})?")
_CONTENT_TYPE: Final = re.compile(r"[\x21-\x7e]+/[\x21-\x7e]+(; ?[\x21-\x7e]+)?")
_MAX_LISTED: Final = 8


class Address(NamedTuple):
    """Where a listener binds. Port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return _is_loopback(self.host)

    def meets(self, other: "Address") -> bool:
        """Tell whether the two plainly cannot be bound at once.

        Two names may be one address all the same: the second to be bound is then
        refused at the start.
        """
        if not self.port or self.port != other.port:
            return False
        ours, theirs = _ip(self.host), _ip(other.host)
        if isinstance(ours, str) or isinstance(theirs, str):
            return ours == theirs
        same_kind = ours.version == theirs.version
        everywhere = ours.is_unspecified or theirs.is_unspecified
        return ours == theirs or (same_kind and everywhere)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Encryption(StrEnum):
    """Whether requests of a route are encrypted."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


def parse_address(text: object) -> Address:
    """Read `HOST:PORT`, `[IPV6]:PORT`.

    Raises:
        ValueError: it is something else.
    """
    found = _ADDRESS.fullmatch(str(text))
    if found is None or int(found["port"]) > 65535:
        msg = "must be HOST:PORT, such as 127.0.0.1:8080"
        raise ValueError(msg)
    return Address(found["host"].strip("[]"), int(found["port"]))


def _origin(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        msg = "must be a URL such as https://open.alipay.hk"
        raise ValueError(msg)
    if "@" not in parts.netloc and not _NETLOC.fullmatch(parts.netloc):
        msg = "its host must be written in ASCII, as in DNS (xn--...)"
        raise ValueError(msg)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in text:
        msg = "must be scheme and host alone: routes have the paths"
        raise ValueError(msg)
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        msg = "must be https: plain http is for a simulator on loopback alone"
        raise ValueError(msg)
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _ip(host: str) -> IPv4Address | IPv6Address | str:
    """Give the address that a host is, or its name where that is to be looked up."""
    name = host.lower()
    try:
        return ip_address("127.0.0.1" if name == "localhost" else host)
    except ValueError:
        return name


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        msg = "must be 1 to 64 letters, digits, dots, hyphens or underscores"
        raise ValueError(msg)
    return text


def _path(text: str) -> str:
    if "?" in text or {".", ".."} & set(check_target(text).split("/")):
        msg = "must be a path alone, without dot segments or a query string"
        raise ValueError(msg)
    return text


def _offset(text: object) -> timezone:
    found = _OFFSET.fullmatch(str(text))
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        msg = "must be an offset from UTC such as +08:00"
        raise ValueError(msg)
    offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(-offset if found[1] == "-" else offset)


def _content_type(text: str) -> str:
    if not _CONTENT_TYPE.fullmatch(text):
        msg = "must be a media type such as text/plain; charset=UTF-8"
        raise ValueError(msg)
    return text


def _beside(path: Path, info: ValidationInfo) -> Path:
    return Path(info.context["folder"]) / path if info.context else path


Listen = Annotated[Address, BeforeValidator(parse_address)]
Name = Annotated[str, AfterValidator(_name)]
File = Annotated[Path, BeforeValidator(documents.check_path), AfterValidator(_beside)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0, le=1 << 30)]


class Inbound(Section):
    """Where internal services call."""

    listen: Listen = Address("127.0.0.1", 8080)
    max_body_bytes: Bytes = 1 << 20
    max_concurrent: int = Field(default=512, ge=1)
    body_timeout_s: Seconds = 30.0


class Admin(Section):
    """Health and metrics; never for services."""

    listen: Listen = Address("127.0.0.1", 9090)


class Tls(Section):
    """What TLS to AlipayHK adds to the system's trust: it is always verified.

    `ca_file` replaces the system's authorities; `certificate` with `private_key`
    is what the gateway shows of itself.
    """

    ca_file: File | None = None
    certificate: File | None = None
    private_key: File | None = None

    @model_validator(mode="after")
    def _pair(self) -> "Tls":
        if (self.certificate is None) != (self.private_key is None):
            msg = "certificate and private_key come together"
            raise ValueError(msg)
        return self


class Client(Section):
    """One Client-Id at one AlipayHK host, with its keyring."""

    name: Name
    client_id: Annotated[str, AfterValidator(check_client_id)]
    upstream: Annotated[str, AfterValidator(_origin)]
    keyring: File
    clock_tolerance_s: Seconds = 300.0
    connect_timeout_s: Seconds = 5.0
    max_response_bytes: Bytes = 8 << 20
    time_offset: Annotated[timezone, BeforeValidator(_offset)] = HONG_KONG
    send_key_version: bool = True
    encrypted_content_type: Annotated[str, AfterValidator(_content_type)] = JSON_UTF8
    reuse_content_key: bool = False
    tls: Tls = Tls()


class Route(Section):
    """A path that may be called. Anything else is `unknown_route`."""

    path: Annotated[str, AfterValidator(_path)]
    client: Name
    encryption: Encryption = Encryption.OPTIONAL
    timeout_s: Seconds = 10.0


_FILE: Final[TypeAdapter[Path]] = TypeAdapter(File)


class Settings(Section):
    """A whole config.yaml."""

    inbound: Inbound = Inbound()
    admin: Admin = Admin()
    clients: tuple[Client, ...] = Field(min_length=1)
    routes: tuple[Route, ...] = Field(min_length=1)


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
        check=_check_references,
        remedy="name the configuration with -c FILE",
    )


def files_of(document: Document[Settings]) -> list[Files]:
    """Give what each client names on disk, also where the rest of it is wrong."""
    tree = document.tree
    names = dict(_texts(tree, "clients", "name"))
    modes = dict(_texts(tree, "routes", "encryption"))
    encrypting = {
        name
        for index, name in _texts(tree, "routes", "client")
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
        for index in range(len(_entries(tree, "clients")))
    ]


def _check_references(tree: Tree) -> Iterator[Finding]:
    """Find addresses that clash, what stands twice and names that nothing has."""
    yield from _clashes(tree)
    yield from _repeated("clients", "name", _texts(tree, "clients", "name"))
    yield from _strangers(tree)
    owners = dict(_texts(tree, "routes", "client"))
    paths = [
        (index, f"{path} {owners[index]}")
        for index, path in _texts(tree, "routes", "path")
        if index in owners
    ]
    yield from _repeated("routes", "path", paths)


def _clashes(tree: Tree) -> Iterator[Finding]:
    inbound, admin = (_listen(tree, section) for section in ("inbound", "admin"))
    if inbound is None or admin is None or not inbound.meets(admin):
        return
    # A default has no place in the file; two defaults do not clash.
    ours, other = ("admin", "inbound") if "admin" in tree else ("inbound", "admin")
    message = f"is the port of {other}.listen too; give each a port of its own"
    yield Finding((ours, "listen"), message)


def _listen(tree: Tree, section: str) -> Address | None:
    """Give a section's address, by default too; None where it cannot be read."""
    part = tree.get(section, {}) if isinstance(tree, dict) else None
    default = Settings.model_fields[section].default.listen
    try:
        return (
            parse_address(part.get("listen", default))
            if isinstance(part, dict)
            else None
        )
    except ValueError:
        return None


def _strangers(tree: Tree) -> Iterator[Finding]:
    """Find routes of clients that are not there, once each client has a name.

    While one has none, or a bad one, a route may well mean that client. So all the
    names that are quoted here are short and plain.
    """
    clients = [
        name for _, name in _texts(tree, "clients", "name") if _NAME.fullmatch(name)
    ]
    if not clients or len(clients) < len(_entries(tree, "clients")):
        return
    for index, client in _texts(tree, "routes", "client"):
        if client not in clients:
            near = difflib.get_close_matches(client, clients, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else f"there is {_listed(clients)}"
            )
            message = f"no client has this name; {hint}"
            yield Finding(("routes", index, "client"), message)


def _listed(names: list[str]) -> str:
    more = len(names) - _MAX_LISTED
    listed = ", ".join(names[:_MAX_LISTED])
    return f"{listed} and {more} more" if more > 0 else listed


def _repeated(
    section: str, key: str, items: list[tuple[int, str]]
) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, text in items:
        if text in seen:
            message = "stands twice: one of them could never be meant"
            yield Finding((section, index, key), message)
        seen.add(text)


def _texts(tree: Tree, section: str, key: str) -> list[tuple[int, str]]:
    return [
        (index, entry[key])
        for index, entry in enumerate(_entries(tree, section))
        if isinstance(entry, dict) and isinstance(entry.get(key), str)
    ]


def _entries(tree: Tree, section: str) -> list[Tree]:
    entries = tree.get(section) if isinstance(tree, dict) else None
    return entries if isinstance(entries, list) else []
