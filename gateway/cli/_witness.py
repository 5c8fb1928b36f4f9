"""What a change of a keyring leaves in the audit log.

Two lines: `keys_changing`, written before the change is made, says what is about to
become of the ring; `keys_changed` or `keys_change_failed` what did. A first line alone
tells of a command that was killed between: the generation in the ring says on which
side. So there is never a change without a line, at most a line without its change.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from gateway import config
from gateway.audit.opening import actor
from gateway.cli._governing import Governing, governing
from gateway.cli.options import environment
from gateway.errors import AuditError
from gateway.keys.backends.folder import Witness
from gateway.keys.changes import Change, Party, difference
from gateway.keys.keyring import Keyring
from gateway.keys.manifest import Entry, Manifest


def witness_of(arguments: argparse.Namespace, folder: Path) -> Witness:
    """Return what notes the changes of the ring in `folder`, as its configuration says.

    Raises:
        UsageError, DocumentError, KeyringError: as `governing`.
    """
    ruling = governing(arguments, folder)
    audit = config.audit_of(ruling.document) if ruling is not None else None
    if ruling is None or audit is None:
        return _unseen
    return _Notes(audit, _facts_of_command(arguments, folder, ruling))


def _unseen(*_: object) -> nullcontext[None]:
    return nullcontext()


class _Notes:
    """Notes changes in the audit log. A `Witness`."""

    def __init__(self, audit: config.Audit, facts: dict[str, object]) -> None:
        self._audit = audit
        self._facts = facts

    @contextmanager
    def __call__(
        self, before: Manifest, after: Manifest, ring: Keyring
    ) -> Iterator[None]:
        """Write a line before the change and one after it."""
        changes = difference(before, after)
        told = (
            _facts(before.generation, (each.before for each in changes), changes),
            _facts(after.generation, (each.after for each in changes), changes, ring),
        )
        self._note("keys_changing", *told)
        try:
            yield
        except BaseException:
            self._try("keys_change_failed", *told)
            raise
        self._try("keys_changed", *told)

    def _note(self, what: str, source: object, target: object) -> None:
        """Write a line.

        Raises:
            AuditError: it cannot be written, and nothing may change without.
        """
        try:
            self._write(what, source, target)
        except AuditError as error:
            if self._audit.required:
                msg = f"audit: {error.detail}. Nothing was changed"
                raise AuditError(msg) from error
            _warn(error)

    def _try(self, what: str, source: object, target: object) -> None:
        """Write a line about what is done already."""
        try:
            self._write(what, source, target)
        except AuditError as error:
            _warn(error)

    def _write(self, what: str, source: object, target: object) -> None:
        # Not at the top: it loads all that a gateway is made of.
        from gateway.audit.trail import entry
        from gateway.plant import CLOCK, audit_file

        who = actor(environment())
        line = entry(CLOCK.now(), who, what, source, target, self._facts)
        audit_file(self._audit, who).append([line])


def _facts_of_command(
    arguments: argparse.Namespace, folder: Path, ruling: Governing
) -> dict[str, object]:
    facts: dict[str, object] = {
        "command": arguments.parser.prog,
        "keyring": os.path.realpath(folder),
    }
    return facts if ruling.client is None else {**facts, "client": ruling.client}


def _facts(
    generation: int,
    entries: Iterable[Entry | None],
    changes: Sequence[Change],
    ring: Keyring | None = None,
) -> dict[str, object]:
    """Give one side of a change: the generation, and the keys that differ."""
    keys = [
        {
            "section": change.party,
            **entry.model_dump(mode="json", exclude_defaults=True),
            **({} if ring is None else {"fingerprint": _fingerprint(change, ring)}),
        }
        for entry, change in zip(entries, changes, strict=True)
        if entry is not None
    ]
    return {"generation": generation, "keys": keys}


def _fingerprint(change: Change, ring: Keyring) -> str | None:
    keys = ring.partner if change.party is Party.PARTNER else ring.platform
    return keys[change.index].fingerprint


def _warn(error: AuditError) -> None:
    print(f"gateway: this is missing in the audit log: {error.detail}", file=sys.stderr)
