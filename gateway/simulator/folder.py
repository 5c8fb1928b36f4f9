"""The simulator's keys on disk: AlipayHK's half, and the gateway's half of a sandbox.

    DIR/simulator/simulator.yaml    AlipayHK's private keys, partners' public keys
    DIR/hk-sandbox/keyring.yaml     the keyring that the shipped config.yaml names

Both are made with throw-away keys where neither exists. A gateway may be watching
already: key files come first, each private from its first byte, the manifest last
and in one step.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)
from pydantic import AfterValidator, Field

from gateway.documents import (
    Document,
    DocumentError,
    Location,
    Problem,
    Section,
    check_path,
    load,
)
from gateway.errors import KeyringError, SetupError
from gateway.keys import manifest
from gateway.keys.formats import (
    private_pem,
    public_pem,
    read_private_key,
    read_public_key,
)
from gateway.keys.model import KeyState
from gateway.protocol.fields import check_key_version

SANDBOX: Final = "hk-sandbox"
SANDBOX_CLIENT_ID: Final = "4Q5Y8W0WSG45P907917"
"""The client of the shipped config.yaml."""

_FILE_NAME: Final = "simulator.yaml"
_VERSION: Final = "1"
_TEXT: Final = f"""\
# AlipayHK's half of the simulator's keys. Not for production.
# To register another public key, add it under the partner's keys; a file's path is
# relative to this folder. It counts from the simulator's next start.
active: "{_VERSION}"
keys:
  - {{version: "{_VERSION}", key: platform-{_VERSION}.pem}}
partners:
  - client_id: {SANDBOX_CLIENT_ID}
    keys:
      - {{version: "{_VERSION}", key: {SANDBOX}-{_VERSION}.pem}}
"""

_Parsed = TypeVar("_Parsed")


class _Key(Section):
    version: Annotated[str, AfterValidator(check_key_version)]
    key: Annotated[str, AfterValidator(check_path)]


class _Partner(Section):
    client_id: str
    keys: tuple[_Key, ...] = Field(min_length=1)


class _Manifest(Section):
    active: str
    keys: tuple[_Key, ...] = Field(min_length=1)
    partners: tuple[_Partner, ...]


@dataclass(frozen=True, slots=True)
class SimulatorKeys:
    """What `AlipayHK` is made of: its keys, the active one, the partners' keys."""

    keys: dict[str, RSAPrivateKey] = field(repr=False)
    active: str
    partners: dict[str, dict[str, RSAPublicKey]] = field(repr=False)


def open_keys(folder: Path) -> SimulatorKeys:
    """Read the simulator's keys; make both halves first where neither is there.

    Raises:
        SetupError: only one half is there, or a file cannot be used.
    """
    ours = folder / "simulator" / _FILE_NAME
    theirs = folder / SANDBOX / manifest.FILE_NAME
    if ours.exists() != theirs.exists():
        missing, there = (theirs, ours) if ours.exists() else (ours, theirs)
        msg = (
            f"{missing} is missing, and {there} is there; they belong together. "
            f"Remove the folder {there.parent} to have both made anew, or write "
            f"{missing} by hand to keep its keys (gateway simulate --help)."
        )
        raise SetupError(msg)
    if not ours.exists():
        _create(ours, theirs)
    return _read(ours)


def _create(ours: Path, theirs: Path) -> None:
    platform, partner = new_key(), new_key()
    ring = manifest.Manifest(
        generation=1,
        partner=(_entry("partner-1.pem"),),
        platform=(_entry("platform-1.pem"),),
    )
    base = ours.parent.parent
    # One by one: a folder that the umask left open to a group has its ring refused.
    for folder in (*reversed(base.parents), base, ours.parent, theirs.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    _write(ours.parent / "platform-1.pem", private_pem(platform))
    _write(ours.parent / f"{SANDBOX}-1.pem", public_pem(partner.public_key()).encode())
    _write_whole(ours, _TEXT)
    _write(theirs.parent / "partner-1.pem", private_pem(partner))
    _write(theirs.parent / "platform-1.pem", public_pem(platform.public_key()).encode())
    _write_whole(theirs, manifest.dump(ring))


def _entry(file: str) -> manifest.Entry:
    return manifest.Entry(version=_VERSION, state=KeyState.ACTIVE, key=file)


def new_key() -> RSAPrivateKey:
    """Make a throw-away key."""
    return generate_private_key(public_exponent=65537, key_size=2048)


def _write(file: Path, data: bytes) -> None:
    """Write a file that did not exist, readable by its owner alone throughout."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        msg = (
            f"{file} is in the way of new throw-away keys. Remove the folder "
            f"{file.parent}, if nothing in it is needed, and start again."
        )
        raise SetupError(msg) from None
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)


def _write_whole(file: Path, text: str) -> None:
    """Write a file so that nobody sees it before it is complete."""
    draft = file.with_name(f".{file.name}.new")
    _write(draft, text.encode())
    draft.rename(file)


def _read(file: Path) -> SimulatorKeys:
    document = load(file, _Manifest)
    value, files = document.value, _KeyFiles(file.parent, document)
    if value.active not in {key.version for key in value.keys}:
        files.problems.append(document.problem(("active",), "no key has this version"))
    keys = files.read(value.keys, ("keys",), read_private_key)
    partners = {
        partner.client_id: files.read(
            partner.keys, ("partners", index, "keys"), read_public_key
        )
        for index, partner in enumerate(value.partners)
    }
    if files.problems:
        raise DocumentError(files.problems)
    return SimulatorKeys(keys, value.active, partners)


class _KeyFiles:
    """The key files that a manifest names, and what is wrong with them."""

    def __init__(self, folder: Path, document: Document[_Manifest]) -> None:
        self.problems: list[Problem] = []
        self._folder = folder
        self._document = document

    def read(
        self, keys: Sequence[_Key], place: Location, parse: Callable[[bytes], _Parsed]
    ) -> dict[str, _Parsed]:
        """Read the keys at `place`, by version; problems are noted, not raised."""
        found: dict[str, _Parsed] = {}
        for index, key in enumerate(keys):
            try:
                found[key.version] = parse((self._folder / key.key).read_bytes())
            except OSError as error:
                self._note(key, (*place, index, "key"), f"{error.strerror}")
            except KeyringError as error:
                self._note(key, (*place, index, "key"), error.detail)
        return found

    def _note(self, key: _Key, place: Location, message: str) -> None:
        self.problems.append(self._document.problem(place, f"{key.key}: {message}"))
