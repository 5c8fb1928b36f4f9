"""The kinds of values that stand in a config.yaml, and what each must be."""

import re
import socket
from datetime import timedelta, timezone
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
)

from gateway import documents
from gateway.addresses import is_public
from gateway.protocol.outgoing import check_target
from gateway.protocol.results import check_code

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OFFSET: Final = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)
_LABEL: Final = r"[A-Za-z0-9_-]{1,63}"
"""Part of a host's name. Others do not even reach the look-up of it (RFC 1035, 2.3.4)."""

_NAME: Final = rf"{_LABEL}(?:\.{_LABEL})*\.?"
_HOST: Final = rf"(?P<host>{_NAME}|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\])"
_ADDRESS: Final = re.compile(rf"{_HOST}:(?P<port>[0-9]{{1,5}})")
_NETLOC: Final = re.compile(rf"{_HOST}(:[0-9]{{1,5}})?")
_HOST_ALONE: Final = re.compile(_HOST)
_UNIX: Final = "unix:"
_MAX_UNIX_PATH: Final = 107
"""What Linux has room for in a socket's address."""

AUTO: Final = "auto"
_COUNT: Final = re.compile(r"[0-9]{1,4}")
_MAX_WORKERS: Final = 256
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")
_SAN: Final = re.compile(r"[\x21-\x7e]{1,255}")
_CONTENT_TYPE: Final = re.compile(r"[\x21-\x7e]+/[\x21-\x7e]+(; ?[\x21-\x7e]+)?")


class Address(NamedTuple):
    """Where a listener binds. Port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return _is_loopback(self.host)

    def meets(self, other: "Listen") -> bool:
        """Tell whether the two plainly cannot be bound at once.

        Two names may be one address all the same: the second to be bound is then
        refused at the start.
        """
        if isinstance(other, UnixAddress) or not self.port or self.port != other.port:
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


class UnixAddress(NamedTuple):
    """A socket in the file system: whoever may write to it may call."""

    path: Path

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return True

    def meets(self, other: "Listen") -> bool:
        """Tell whether the two plainly cannot be bound at once."""
        return self == other

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


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


def parse_listen(text: object) -> "Listen":
    """Read where to listen: `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(text, Address | UnixAddress):
        return text
    if not str(text).startswith(_UNIX):
        return parse_address(text)
    return UnixAddress(Path(str(documents.check_path(str(text).removeprefix(_UNIX)))))


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
        msg = "its host must be a name as DNS has it, in ASCII (xn--...)"
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


def is_never_public(host: str) -> bool:
    """Tell whether a host is an address outside the public internet.

    A name may be one all the same: whoever looks it up has to see. Addresses are
    known in every form that the operating system takes, such as 127.1.
    """
    try:
        return not is_public(host)
    except ValueError:
        try:
            return not is_public(socket.inet_ntoa(socket.inet_aton(host)))
        except OSError:
            return host.removesuffix(".").lower() == "localhost"


def _ip(host: str) -> IPv4Address | IPv6Address | str:
    """Give the address that a host is, or its name where that is to be looked up."""
    name = host.lower()
    try:
        return ip_address("127.0.0.1" if name == "localhost" else host)
    except ValueError:
        return name


def name(text: str) -> str:
    """Read a name.

    Raises:
        ValueError: it is none.
    """
    if not NAME.fullmatch(text):
        msg = "must be 1 to 64 letters, digits, dots, hyphens or underscores"
        raise ValueError(msg)
    return text


def _path(text: str) -> str:
    if "?" in text or {".", ".."} & set(check_target(text).split("/")):
        msg = "must be a path alone, without dot segments or a query string"
        raise ValueError(msg)
    return text


def _workers(value: object) -> int | str:
    """Read a number of processes, or `auto`."""
    text = str(value)
    if text == AUTO:
        return AUTO
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= _MAX_WORKERS:
        msg = f"must be a whole number from 1 to {_MAX_WORKERS}, or {AUTO}"
        raise ValueError(msg)
    return int(text)


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


def _listen_at(text: object, info: ValidationInfo) -> "Listen":
    """Read where to listen; a socket's path is relative to the file."""
    listen = parse_listen(text)
    if isinstance(listen, Address):
        return listen
    path = _beside(listen.path, info)
    if len(bytes(path)) > _MAX_UNIX_PATH:
        msg = f"must be a path of at most {_MAX_UNIX_PATH} bytes, folders included"
        raise ValueError(msg)
    return UnixAddress(path)


def _digest(text: object) -> bytes:
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        msg = "must be the SHA-256 of a token, 64 hex digits: `gateway callers new`"
        raise ValueError(msg)
    return bytes.fromhex(text)


def _digests(value: object) -> object:
    """Take one digest as a list of one."""
    return [value] if isinstance(value, str) else value


def _host(text: str) -> str:
    if not _HOST_ALONE.fullmatch(text):
        msg = (
            "must be a host as it stands in a URL, without a port, such as gateway.lan"
        )
        raise ValueError(msg)
    return text.lower()


def _subject_name(text: str) -> str:
    if not _SAN.fullmatch(text):
        msg = "must be a subject alternative name, such as spiffe://prod/catalogue"
        raise ValueError(msg)
    return text


Listen: TypeAlias = Address | UnixAddress
ListenAt = Annotated[Listen, PlainValidator(_listen_at)]
TokenDigest = Annotated[bytes, PlainValidator(_digest)]
TokenDigests = Annotated[
    tuple[TokenDigest, ...],
    BeforeValidator(_digests),
    Field(min_length=1, max_length=2),
]
Workers = Annotated[int | str, PlainValidator(_workers)]
SubjectName = Annotated[str, AfterValidator(_subject_name)]
HostName = Annotated[str, AfterValidator(_host)]
Target = Annotated[str, AfterValidator(_path)]
Origin = Annotated[str, AfterValidator(_origin)]
Offset = Annotated[timezone, BeforeValidator(_offset)]
ResultCode = Annotated[str, AfterValidator(check_code)]
MediaType = Annotated[str, AfterValidator(_content_type)]
Count = Annotated[int, Field(ge=1, le=1 << 20)]
Name = Annotated[str, AfterValidator(name)]
File = Annotated[Path, BeforeValidator(documents.check_path), AfterValidator(_beside)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0, le=1 << 30)]
