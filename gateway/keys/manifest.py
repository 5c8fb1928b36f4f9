"""keyring.yaml: which versions there are and the state of each.

The file is the contract with the security team; its form is in docs/operations.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import AfterValidator, Field

from gateway import documents
from gateway.keys.locations import FILE, check_key, check_secret, scheme_of
from gateway.keys.model import PARTNER_USES, PLATFORM_USES, KeyState, Use
from gateway.protocol.fields import check_key_version

FILE_NAME: Final = "keyring.yaml"
_GREATEST: Final = 1 << 53
"""What the metric, a float, still tells apart."""

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\.[A-Za-z0-9_.-]+")
_HEADER: Final = """\
# A keyring: see docs/operations.md. `gateway keys` edits it; by hand, raise
# `generation` with each change and replace the file in one step (mv).
"""


class Entry(documents.Section):
    """One key version. `use` is both where the pair is not split.

    `key` and `passphrase` say where, as `gateway.keys.locations` reads it.
    """

    version: Annotated[str, AfterValidator(check_key_version)]
    state: KeyState
    key: Annotated[str, AfterValidator(check_key)] | None = None
    use: tuple[Use, ...] | None = Field(default=None, min_length=1)
    passphrase: Annotated[str, AfterValidator(check_secret)] | None = None

    def uses(self, default: frozenset[Use]) -> frozenset[Use]:
        """Give what the key is for, in a section whose default is `default`."""
        return default if self.use is None else frozenset(self.use)


class Manifest(documents.Section):
    """A whole keyring.yaml. Both sections are required: half a file is none."""

    generation: int = Field(ge=1, le=_GREATEST)
    partner: tuple[Entry, ...]
    platform: tuple[Entry, ...]


def load(folder: Path) -> documents.Document[Manifest]:
    """Read the manifest of a keyring's folder.

    Raises:
        DocumentError: it cannot be used; every problem with its line.
    """
    return documents.load(folder / FILE_NAME, Manifest, check=_check_uses)


def dump(manifest: Manifest) -> str:
    """Give the manifest as the text of a keyring.yaml."""
    lines = [f"{_HEADER}generation: {manifest.generation}"]
    for name, section in (
        ("partner", manifest.partner),
        ("platform", manifest.platform),
    ):
        lines.append(f"{name}:" if section else f"{name}: []")
        lines += [f"  - {_flow(entry)}" for entry in section]
    return "\n".join(lines) + "\n"


def _flow(entry: Entry) -> str:
    parts = [f'version: "{entry.version}"', f"state: {entry.state}"]
    if entry.key is not None:
        parts.append(f"key: {_scalar(entry.key)}")
    if entry.use is not None:
        parts.append(f"use: [{', '.join(entry.use)}]")
    if entry.passphrase is not None:
        parts.append(f"passphrase: {_scalar(entry.passphrase)}")
    return "{" + ", ".join(parts) + "}"


def _scalar(name: str) -> str:
    if _PLAIN.fullmatch(name):
        return name
    return yaml.safe_dump(name, default_style='"', width=_GREATEST).strip()


def _check_uses(tree: documents.Tree) -> list[documents.Finding]:
    """Find uses that a section's keys cannot have, and keys without a file."""
    findings: list[documents.Finding] = []
    if not isinstance(tree, dict):
        return findings
    for name, allowed in (("partner", PARTNER_USES), ("platform", PLATFORM_USES)):
        section = tree.get(name)
        for index, entry in enumerate(section if isinstance(section, list) else ()):
            if not isinstance(entry, dict):
                continue
            uses = entry.get("use")
            for use in uses if isinstance(uses, list) else ():
                if isinstance(use, str) and use in set(Use) - allowed:
                    message = f"a {name} key cannot {use}; it may {' and '.join(sorted(allowed))}"
                    findings.append(documents.Finding((name, index, "use"), message))
            if entry.get("state") != KeyState.DESTROYED and entry.get("key") is None:
                message = "this key is required"
                findings.append(documents.Finding((name, index, "key"), message))
            findings += _check_place((name, index), entry)
    return findings


def _check_place(
    place: documents.Location, entry: dict[object, documents.Tree]
) -> Iterator[documents.Finding]:
    """Find a public key that is no file, and a passphrase where nothing has one."""
    key = entry.get("key")
    is_file = not isinstance(key, str) or scheme_of(key) == FILE
    if place[0] == "platform" and not is_file:
        message = "AlipayHK's public key is a file in the keyring's folder"
        yield documents.Finding((*place, "key"), message)
    if entry.get("passphrase") is not None and (place[0] == "platform" or not is_file):
        what = "a public key has" if place[0] == "platform" else "a token's key has"
        hint = "" if place[0] == "platform" else "; its PIN is named by pin-source"
        message = f"{what} no passphrase{hint}"
        yield documents.Finding((*place, "passphrase"), message)
