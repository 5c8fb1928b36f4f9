"""A log in a folder, with a clock that stands still between ticks."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.file import AuditFile
from gateway.audit.seal import Seal
from gateway.audit.segments import lines_of, opened
from gateway.audit.verification import verify


class Log:
    """A log, and what a test does with it."""

    def __init__(self, folder):
        self.file = folder / "audit.jsonl"
        self.head = folder / "audit.jsonl.head"
        self.key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
        self.seal = Seal(self.key)
        self._moment = datetime(2026, 11, 26, tzinfo=UTC)

    def now(self):
        self._moment += timedelta(seconds=1)
        return self._moment

    def writer(self, **settings):
        return AuditFile(
            self.file,
            self.seal,
            **{"max_bytes": 1 << 20, "checkpoint_every": 4, "who": "t", **settings},
            now=self.now,
        )

    def verify(self, **settings):
        with opened(self.file) as (segments, head):
            link = self.seal.public.read_head(head).link
            return verify(lines_of(segments), link, self.seal.public, **settings)

    def lines(self):
        return self.file.read_bytes().splitlines(keepends=True)


def entries(*names):
    return [{"what": name, "who": "t"} for name in names]


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path)


@pytest.fixture
def written(log):
    """A log of six lines, of which the fourth is a checkpoint."""
    log.writer().append(entries("a", "b", "c", "d", "e"))
    return log
