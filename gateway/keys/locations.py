"""Where a key lives, as the text of an entry in keyring.yaml names it.

A bare name is a file in the keyring's folder. Anything else is a URI, whose scheme
says who keeps the key: `file:NAME` (the same file), `file:/run/secrets/x.pem` (one
elsewhere), `pkcs11:…` (a token). A passphrase or PIN never stands here, only where
it is: `file:/PATH` or `env:NAME`.
"""

import re
from pathlib import Path
from typing import Final

from gateway import documents

FILE: Final = "file"
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_NAME: Final = "must be the name of a file in the keyring's folder"


def scheme_of(key: str) -> str:
    """Give the scheme of a key's URI; that of a bare name is `file`."""
    return _split(key)[0]


def path_of(key: str, folder: Path) -> Path:
    """Give the path of a key that is a file, for a keyring in `folder`."""
    return folder / _split(key)[1]


def name_in_folder(key: str) -> str | None:
    """Give the name of a key's file in the keyring's folder; None if it is elsewhere."""
    scheme, rest = _split(key)
    return rest if scheme == FILE and not rest.startswith("/") else None


def check_key(key: str) -> str:
    """Pass what names a key, as far as the text alone can show it.

    Raises:
        ValueError: it is no name of a file in the folder, and no URI.
    """
    scheme, rest = _split(key)
    absolute = rest.startswith("/") and key != rest
    named = rest not in ("", ".", "..") and Path(rest).name == rest
    if scheme == FILE and not absolute and not named:
        raise ValueError(_NO_NAME)
    documents.check_path(rest)
    return key


def check_secret(source: str) -> str:
    """Pass what names the place of a passphrase or PIN.

    Raises:
        ValueError: it is something else, such as the secret itself.
    """
    scheme, rest = _split(source)
    named = scheme == "env" and _VARIABLE.fullmatch(rest)
    if not named and not (scheme == FILE and rest.startswith("/") and source != rest):
        # Not quoted: somebody may have written the secret itself.
        msg = "must be file:/PATH or env:NAME, the place of the secret and not itself"
        raise ValueError(msg)
    documents.check_path(rest)
    return source


def secret_of(source: str) -> Path | str:
    """Give the file, or else the variable's name, that a secret is in."""
    scheme, rest = _split(source)
    return Path(rest) if scheme == FILE else rest


def _split(text: str) -> tuple[str, str]:
    """Give scheme and rest; `file:///a` is `file:/a`."""
    found = _SCHEME.fullmatch(text)
    if found is None:
        return FILE, text
    scheme, rest = found.groups()
    if scheme == FILE and rest.startswith("///"):
        rest = rest[2:]
    return scheme, rest
