"""The digest of what a ring holds: equal wherever rings do the same with the same keys.

Two machines may have different contents under one generation. The digest tells them
apart, and says nothing else apart: the order of entries, the names of files, the home
of a pair and the dates that commands noted down are not part of it, nor is the
generation itself. No private byte goes into it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from gateway.keys.changes import Party, section
from gateway.keys.formats import fingerprint
from gateway.keys.manifest import Entry, Manifest, format_moment
from gateway.keys.model import HELD
from gateway.protocol import PublicKey

_FORM: Final = "alipayhk-gateway keyring 1"
"""Changes with what is hashed, so that digests of two forms are never equal."""


def digest_of(
    manifest: Manifest,
    ours: Sequence[PublicKey | None],
    theirs: Sequence[PublicKey | None],
) -> str:
    """Return the SHA-256 of what a ring holds, in hex.

    It hashes one line of JSON for each entry: whose it is, version, state, uses,
    fingerprint, whether it is staged, its canary's steps and its planned steps.

    Args:
        manifest: as its file has it; what was planned counts as planned.
        ours: the public halves of our pairs, in its order; None where unknown.
        theirs: AlipayHK's keys, likewise.
    """
    lines = [
        *_lines(Party.PARTNER, manifest, ours),
        *_lines(Party.PLATFORM, manifest, theirs),
    ]
    text = "\n".join([_FORM, *sorted(lines)])
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(
    party: Party, manifest: Manifest, keys: Sequence[PublicKey | None]
) -> Iterable[str]:
    for entry, key in zip(section(manifest, party), keys, strict=True):
        facts = [
            str(party),
            entry.version,
            str(entry.state),
            sorted(entry.uses(party.uses)),
            _fingerprint(entry, key),
            entry.staged,
            [[step.share, format_moment(step.at)] for step in entry.canary],
            [format_moment(each) if each else None for each in _plans(entry)],
        ]
        yield json.dumps(facts, separators=(",", ":"))


def _fingerprint(entry: Entry, key: PublicKey | None) -> str | None:
    """Return the one noted down, else that of the key, where it must be there.

    A key that is given up may have its file still, or not.
    """
    if entry.fingerprint is not None or entry.state not in HELD or key is None:
        return entry.fingerprint
    return fingerprint(key.rsa)


def _plans(entry: Entry) -> tuple[datetime | None, ...]:
    return entry.activate_at, entry.deactivate_at, entry.destroy_at
