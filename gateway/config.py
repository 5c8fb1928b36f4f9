"""config.yaml as validated values. Its keys are the contract; see docs/operations.md.

Relative paths are relative to the file. `${NAME}` comes from the environment that
`load` is given.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta, timezone
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from gateway import documents
from gateway.documents import Document, Finding, Section, Tree
from gateway.protocol import HONG_KONG
from gateway.protocol.messages import JSON_UTF8
from gateway.protocol.outgoing import check_client_id, check_target

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OFFSET: Final = re.compile(r"([+-])(\d\d):(\d\d)")
_HOST: Final = r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\])"
_ADDRESS: Final = re.compile(rf"{_HOST}:(?P<port>[0-9]{{1,5}})")
_NETLOC: Final = re.compile(rf"{_HOST}(:[0-9]{{1,5}})?")
_CONTENT_TYPE: Final = re.compile(r"[\x21-\x7e]+/[\x21-\x7e]+(; ?[\x21-\x7e]+)?")


class Address(NamedTuple):
    """Where a listener binds. Port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return _is_loopback(self.host)

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
File = Annotated[Path, AfterValidator(_beside)]
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


class Settings(Section):
    """A whole config.yaml."""

    inbound: Inbound = Inbound()
    admin: Admin = Admin()
    clients: tuple[Client, ...]
    routes: tuple[Route, ...]


def load(file: Path, environment: Mapping[str, str]) -> Settings:
    """Read a configuration.

    Raises:
        DocumentError: every problem of the file, each with its line.
    """
    return read(file, environment).value


def read(file: Path, environment: Mapping[str, str]) -> Document[Settings]:
    """Read a configuration, with the places of its parts; as `load`."""
    return documents.load(
        file, Settings, environment=environment, check=_check_references
    )


def _check_references(tree: Tree) -> Iterator[Finding]:
    """Find empty lists, names that stand twice and names that nothing has."""
    for section in ("clients", "routes"):
        if isinstance(tree, dict) and tree.get(section) == []:
            yield Finding((section,), "at least one is needed")
    clients = dict.fromkeys(name for _, name in _texts(tree, "clients", "name"))
    yield from _repeated(_texts(tree, "clients", "name"), "name")
    for index, client in _texts(tree, "routes", "client"):
        if clients and client not in clients:
            near = difflib.get_close_matches(client, clients, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else f"there is {', '.join(clients)}"
            )
            message = f"no client has this name; {hint}"
            yield Finding(("routes", index, "client"), message)
    owners = dict(_texts(tree, "routes", "client"))
    paths = [
        (index, f"{path} {owners.get(index)}")
        for index, path in _texts(tree, "routes", "path")
    ]
    yield from _repeated(paths, "path")


def _repeated(items: list[tuple[int, str]], key: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, text in items:
        if text in seen:
            section = "clients" if key == "name" else "routes"
            message = "stands twice: one of them could never be meant"
            yield Finding((section, index, key), message)
        seen.add(text)


def _texts(tree: Tree, section: str, key: str) -> list[tuple[int, str]]:
    entries = tree.get(section) if isinstance(tree, dict) else None
    return [
        (index, entry[key])
        for index, entry in enumerate(entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get(key), str)
    ]
