"""A ring over time: the keys that a source holds, and the ring of each moment.

The source is read once. From then on the planned steps of its manifest are carried
out by whoever has the timeline, to the second, though the source be gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.keys import schedule
from gateway.keys.changes import Party
from gateway.keys.formats import fingerprint
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.locations import FILE, scheme_of
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import HELD, KeyInfo
from gateway.keys.ports import PrivateKey
from gateway.protocol import PublicKey


@dataclass(frozen=True, slots=True)
class Timeline:
    """A manifest with its keys, in the manifest's order.

    Attributes:
        ours: the public halves of our pairs; None where a key cannot be known.
        pairs: our private halves; None where one is not held.
        theirs: AlipayHK's keys; None where one cannot be known.
        halted: why the canary signs nothing; None while it may.
        digest: of all of it, as it was read (`gateway.keys.digest`).
    """

    manifest: Manifest
    ours: Sequence[PublicKey | None] = field(repr=False)
    pairs: Sequence[PrivateKey | None] = field(repr=False)
    theirs: Sequence[PublicKey | None] = field(repr=False)
    halted: str | None = None
    digest: str = ""

    def at(self, now: datetime) -> Keyring:
        """Give the ring of this moment, which knows the one that comes after it.

        Raises:
            KeyringError: a plan cannot be carried out, a version or a key stands
                twice, or two keys are active for one use.
        """
        return self.until(now).ring(now)

    def until(self, now: datetime) -> "Timeline":
        """Carry out what is due, and let go of the keys that this gives up."""
        settled = schedule.at(self.manifest, now)
        pairs = [
            key if entry.state in HELD else None
            for entry, key in zip(settled.partner, self.pairs, strict=True)
        ]
        return replace(self, manifest=settled, pairs=pairs)

    def ring(self, now: datetime) -> Keyring:
        """Give the ring of the states as they stand, up to the next planned step."""
        partner = [
            (info_of(entry, Party.PARTNER, public), key)
            for entry, public, key in zip(
                self.manifest.partner, self.ours, self.pairs, strict=True
            )
        ]
        platform = [
            info_of(entry, Party.PLATFORM, public)
            for entry, public in zip(self.manifest.platform, self.theirs, strict=True)
        ]
        due = [each for each in schedule.moments(self.manifest) if each > now]
        ring = Keyring.of(
            self.manifest.generation,
            partner,
            platform,
            canary=self._canary(now),
            due=due[0] if due else None,
            later=self.at if due else None,
        )
        digests = [info.fingerprint for info in (*ring.partner, *ring.platform)]
        return replace(ring, content=(self.manifest, digests), digest=self.digest)

    def _canary(self, now: datetime) -> Canary | None:
        for entry, key in zip(self.manifest.partner, self.pairs, strict=True):
            if entry.canary and key is not None:
                steps = schedule.shares_begun(entry, now)
                share = schedule.share_at(entry, now)
                return Canary(key, share, self.halted, steps)
        return None


def info_of(entry: Entry, party: Party, public: PublicKey | None) -> KeyInfo:
    """Give what is known of one entry.

    Args:
        entry: as its manifest has it.
        party: whose it is.
        public: its key; None where that cannot be known.
    """
    known = fingerprint(public.rsa) if public else None
    return KeyInfo(
        entry.version,
        entry.state,
        entry.uses(party.uses),
        entry.fingerprint or known,
        public,
        staged=entry.processes_early,
        life=entry.life,
        home=scheme_of(entry.key) if entry.key else FILE,
        plans=entry.plans,
    )
