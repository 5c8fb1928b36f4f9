"""PKCS#11 URIs (RFC 7512), as far as they name one of our pairs.

Every attribute that could make two people mean different keys by one text is
refused if it is not known here, where the RFC would let it pass.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn
from urllib.parse import unquote_to_bytes

from gateway.errors import KeyringError
from gateway.keys.locations import check_secret

SCHEME: Final = "pkcs11"
_TOKEN: Final = ("token", "serial", "manufacturer", "model")
_OBJECT: Final = ("object", "id", "type")
_QUERY: Final = ("module-path", "module-name", "pin-source")
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&/?|]|%[0-9A-Fa-f]{2})*")
_FOLDERS: Final = ("pkcs11", "softhsm", ".")
_LIBRARIES: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/*-linux-*")


@dataclass(frozen=True, slots=True)
class TokenUri:
    """What a URI says of a pair.

    Attributes:
        module: the library that leads to the token.
        token: what the token's own labels must be: token, serial, manufacturer, model.
        label: CKA_LABEL of the private key, if it is named so.
        id: its CKA_ID, likewise.
        pin_source: where the PIN is; None where the token asks for none.
    """

    module: Path
    token: Mapping[str, str]
    label: str | None
    id: bytes | None
    pin_source: str | None

    @property
    def key(self) -> tuple[str | None, bytes | None]:
        """What tells the pair from others of its token."""
        return self.label, self.id


def parse(text: str) -> TokenUri:
    """Read a URI.

    Raises:
        KeyringError: it is none, names no key, or has a PIN in it.
    """
    path, _, query = text.removeprefix(f"{SCHEME}:").partition("?")
    named = _attributes(path, ";", (*_TOKEN, *_OBJECT))
    asked = _attributes(query, "&", _QUERY)
    if named.get("type", b"private") != b"private":
        _fail("type= must be private: it is our pair that is wanted")
    if not named.keys() & {"object", "id"}:
        _fail("it names no key; add object=LABEL or id=%01 (CKA_LABEL, CKA_ID)")
    return TokenUri(
        _module(_text(asked, "module-path"), _text(asked, "module-name")),
        MappingProxyType(
            {name: str(_text(named, name)) for name in _TOKEN if name in named}
        ),
        _text(named, "object"),
        named.get("id"),
        _source(_text(asked, "pin-source")),
    )


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if name == "pin-value":
            _fail("pin-value puts the PIN into this file; use pin-source=file:/PATH")
        if not equals or name not in known:
            # Not quoted whole: what is misspelt may be a PIN.
            _fail(f"an attribute is not known here; known are {', '.join(known)}")
        if name in found:
            _fail(f"{name}= stands twice")
        if not value or not _VALUE.fullmatch(value):
            _fail(f"{name}= is empty, or has a character to be written as %XX")
        found[name] = unquote_to_bytes(value)
    return found


def _text(found: Mapping[str, bytes], name: str) -> str | None:
    try:
        return found[name].decode() if name in found else None
    except UnicodeDecodeError:
        _fail(f"{name}= is not UTF-8")


def _source(source: str | None) -> str | None:
    """Give where the PIN is, with its scheme: RFC 7512 lets a bare path stand, too."""
    if source is None:
        return None
    source = f"file:{source}" if source.startswith("/") else source
    try:
        return check_secret(source)
    except ValueError as error:
        _fail(f"pin-source= {error}")


def _module(path: str | None, name: str | None) -> Path:
    if path is not None:
        if name is not None or not path.startswith("/"):
            _fail("module-path= must be an absolute path, without a module-name=")
        return Path(path)
    if name is None or "/" in name:
        _fail("it names no library: add ?module-path=/PATH or ?module-name=NAME")
    found = next(_libraries(name), None)
    if found is None:
        _fail(f"no library {name}.so is installed where such are; use module-path=")
    return found


def _libraries(name: str) -> Iterator[Path]:
    """Find a library by its name, with or without `lib` before it."""
    for folder in _LIBRARIES:
        for place in _FOLDERS:
            for stem in (name, f"lib{name}"):
                pattern = Path(folder.lstrip("/")) / place / f"{stem}.so"
                yield from Path("/").glob(str(pattern))


def _fail(message: str) -> NoReturn:
    raise KeyringError(message)
