"""keyring.yaml: which versions there are, the state of each, and the steps to come.

The file is the contract with the security team; its form is in docs/operations.md.
Three kinds of keys stand in an entry: what it is (`version`, `key`, `use`), where it
is in its life (`state`, `staged`, `canary`), and times: plans (`activate_at`), which
`gateway.keys.schedule` carries out, and facts (`activated`), which steps note down.
"""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from gateway import documents
from gateway.keys.locations import FILE, check_key, check_secret, scheme_of
from gateway.keys.model import (
    HELD,
    PARTNER_USES,
    PLATFORM_USES,
    KeyState,
    Life,
    Plans,
    Use,
)
from gateway.protocol.fields import check_key_version

FILE_NAME: Final = "keyring.yaml"
PLANS: Final = ("activate_at", "deactivate_at", "destroy_at")
"""The keys of an entry that say when a step is to be taken."""

CANARY_STATES: Final = frozenset({KeyState.PRE_ACTIVE, KeyState.DEACTIVATED})
"""Those in which a key of ours may sign a share: it does not sign all."""

_GREATEST: Final = 1 << 53
"""What the metric, a float, still tells apart."""

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\.[A-Za-z0-9_.-]+")
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)", re.ASCII
)
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_HEADER: Final = """\
# A keyring: see docs/operations.md. `gateway keys` edits it; by hand, raise
# `generation` with each change and replace the file in one step (mv).
"""


def parse_moment(text: object) -> datetime:
    """Read an ISO 8601 time with a time zone, as UTC.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(text, datetime):
        return text
    if isinstance(text, str) and _TIME.fullmatch(text):
        with contextlib.suppress(ValueError, OverflowError):
            return datetime.fromisoformat(text).astimezone(UTC)
    msg = "must be a time with its zone, such as 2026-12-01T02:00:00Z"
    raise ValueError(msg)


def format_moment(moment: datetime) -> str:
    """Give an aware time as it stands in the file: UTC, with no more than it has."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _check_fingerprint(text: str) -> str:
    if not _FINGERPRINT.fullmatch(text):
        msg = "must be the SHA-256 of the key's SPKI: 64 hex digits"
        raise ValueError(msg)
    return text


Moment = Annotated[datetime, BeforeValidator(parse_moment)]


class Share(documents.Section):
    """A step of a canary: from `at` on, the key signs `share` per cent."""

    share: float = Field(gt=0, le=100, allow_inf_nan=False)
    at: Moment


class Entry(documents.Section):
    """One key version. `use` is both where the pair is not split.

    Attributes:
        staged: a pre-active key that decrypts or verifies already.
        canary: the shares of the exchanges that a key of ours signs, not active yet or
            not any more.
        key, passphrase: say where, as `gateway.keys.locations` reads it.
        fingerprint: of the key that this version is, whatever its file holds.
    """

    version: Annotated[str, AfterValidator(check_key_version)]
    state: KeyState
    key: Annotated[str, AfterValidator(check_key)] | None = None
    use: tuple[Use, ...] | None = Field(default=None, min_length=1)
    passphrase: Annotated[str, AfterValidator(check_secret)] | None = None
    staged: bool = False
    canary: tuple[Share, ...] = ()
    activate_at: Moment | None = None
    deactivate_at: Moment | None = None
    destroy_at: Moment | None = None
    created: Moment | None = None
    exported: Moment | None = None
    activated: Moment | None = None
    deactivated: Moment | None = None
    compromised: Moment | None = None
    destroyed: Moment | None = None
    fingerprint: Annotated[str, AfterValidator(_check_fingerprint)] | None = None

    def uses(self, default: frozenset[Use]) -> frozenset[Use]:
        """Give what the key is for, in a section whose default is `default`."""
        return default if self.use is None else frozenset(self.use)

    @property
    def processes_early(self) -> bool:
        """Whether it decrypts or verifies before it is active."""
        return self.staged or bool(self.canary)

    @property
    def is_to_sign(self) -> bool:
        """Whether it is planned to come into use, or a canary."""
        return self.activate_at is not None or bool(self.canary)

    @property
    def life(self) -> Life:
        """The facts that are recorded of it."""
        return Life(
            self.created,
            self.activated,
            self.deactivated,
            self.compromised,
            self.destroyed,
        )

    @property
    def plans(self) -> Plans:
        """The steps that are planned for it."""
        return Plans(self.activate_at, self.deactivate_at, self.destroy_at)


_FACTS: Final = (
    *("created", "exported", "activated"),
    *("deactivated", "compromised", "destroyed"),
)
_ONLY_IN: Final = {
    "staged": frozenset({KeyState.PRE_ACTIVE}),
    "canary": CANARY_STATES,
    "activate_at": frozenset({KeyState.PRE_ACTIVE, KeyState.DEACTIVATED}),
    "deactivate_at": HELD,
    "destroy_at": HELD,
    "compromised": frozenset(KeyState) - HELD,
    "destroyed": frozenset(KeyState) - HELD,
}
"""The states in which a key may have a step to come, or one of no return behind it."""


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
    return load_file(folder / FILE_NAME)


def load_file(file: Path) -> documents.Document[Manifest]:
    """Read a manifest, whatever its name.

    Raises:
        DocumentError: it cannot be used; every problem with its line.
    """
    return documents.load(file, Manifest, check=_check_entries)


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
    if entry.staged:
        parts.append("staged: true")
    if entry.canary:
        parts.append(f"canary: [{', '.join(map(_step, entry.canary))}]")
    parts += [
        f"{name}: {format_moment(moment)}"
        for name in (*PLANS, *_FACTS)
        if (moment := getattr(entry, name)) is not None
    ]
    if entry.fingerprint is not None:
        parts.append(f'fingerprint: "{entry.fingerprint}"')
    return "{" + ", ".join(parts) + "}"


def _step(step: Share) -> str:
    share = repr(step.share).removesuffix(".0")
    return f"{{share: {share}, at: {format_moment(step.at)}}}"


def _scalar(name: str) -> str:
    if _PLAIN.fullmatch(name):
        return name
    return yaml.safe_dump(name, default_style='"', width=_GREATEST).strip()


def _check_entries(tree: documents.Tree) -> list[documents.Finding]:
    """Find what an entry says that cannot be true of its section or its state."""
    findings: list[documents.Finding] = []
    if not isinstance(tree, dict):
        return findings
    for name, allowed in (("partner", PARTNER_USES), ("platform", PLATFORM_USES)):
        section = tree.get(name)
        for index, entry in enumerate(section if isinstance(section, list) else ()):
            if isinstance(entry, dict):
                findings += [
                    documents.Finding((name, index, key), message)
                    for key, message in _flaws(name, allowed, entry)
                ]
    return findings


def _flaws(
    name: str, allowed: frozenset[Use], entry: dict[str, documents.Tree]
) -> Iterator[tuple[str, str]]:
    uses, state = entry.get("use"), entry.get("state")
    for use in uses if isinstance(uses, list) else ():
        if isinstance(use, str) and use in set(Use) - allowed:
            may = " and ".join(sorted(allowed))
            yield "use", f"a {name} key cannot {use}; it may {may}"
    gone = state == KeyState.DESTROYED or "destroyed" in entry
    if entry.get("key") is None and not gone:
        yield "key", "this key is required"
    yield from _misplaced(name, entry)
    if "canary" in entry:
        yield from _flaws_of_canary(name, entry)
    for key, states in _ONLY_IN.items():
        if key in entry and state in tuple(set(KeyState) - states):
            yield key, f"a key that is {state} has none"


def _flaws_of_canary(
    name: str, entry: dict[str, documents.Tree]
) -> Iterator[tuple[str, str]]:
    uses = entry.get("use")
    if name != "partner":
        yield "canary", "AlipayHK's keys sign nothing of ours; stage this one instead"
    if isinstance(uses, list) and Use.SIGN not in uses:
        yield "canary", "a key that does not sign cannot sign a share"
    if entry.get("activate_at") is not None:
        yield "activate_at", "it would not heed the canary; let its last share be 100"


def _misplaced(
    name: str, entry: dict[str, documents.Tree]
) -> Iterator[tuple[str, str]]:
    """Find a public key that is no file, and a passphrase where nothing has one."""
    key, is_public = entry.get("key"), name == "platform"
    is_file = not isinstance(key, str) or scheme_of(key) == FILE
    if is_public and not is_file:
        yield "key", "AlipayHK's public key is a file in the keyring's folder"
    if entry.get("passphrase") is not None and (is_public or not is_file):
        what = "a public key has" if is_public else "a token's key has"
        hint = "" if is_public else "; its PIN is named by pin-source"
        yield "passphrase", f"{what} no passphrase{hint}"
