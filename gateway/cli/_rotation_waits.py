"""The waits of the play of rotations: until something was seen, and no longer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.cli._rotation_watch import Admin, Fields, Log, audit_lines, until
from gateway.keys import manifest
from gateway.keys.backends import halts

_ENOUGH: Final = 8
"""Exchanges of a canary, to see what it does."""


@dataclass(slots=True)
class Act:
    """What an act adds to the logs.

    Attributes:
        audit: the audit log.
    """

    exchange_log: Log
    event_log: Log
    audit: Path
    _exchanges: int = field(default=0, init=False)
    _events: int = field(default=0, init=False)
    _seq: int = field(default=0, init=False)

    def begin(self) -> None:
        """Leave out what is there already."""
        self._exchanges = len(self.exchange_log.lines)
        self._events = len(self.event_log.lines)
        self._seq += len(self.audited)

    @property
    def exchanges(self) -> list[Fields]:
        """The exchanges since it began."""
        return self.exchange_log.lines[self._exchanges :]

    @property
    def events(self) -> list[Fields]:
        """The events since then."""
        return self.event_log.lines[self._events :]

    @property
    def audited(self) -> list[Fields]:
        """The lines of the audit log since then."""
        return audit_lines(self.audit, self._seq)


class Waits:
    """Waits for what the gateway does. Each raises a GatewayError if it does not.

    Args:
        act: the act that is played.
        admin: the gateway's admin pages.
    """

    def __init__(self, act: Act, admin: Admin) -> None:
        self._act = act
        self._admin = admin

    async def event(self, fits: Callable[[Fields], bool], what: str) -> Fields:
        """Wait for an event of this act, and give it."""
        found: list[Fields] = []

        async def seen() -> bool:
            found.extend(filter(fits, self._act.events))
            return bool(found)

        await until(seen, what)
        return found[0]

    async def share(self, version: str, percent: int) -> tuple[int, int]:
        """Wait until a canary signs its share. Gives what it signed, and of how many."""

        def has_share(event: Fields) -> bool:
            share = event.get("canary_share", 0)
            return isinstance(share, float) and share >= percent / 100

        await self.event(has_share, f"a canary of {percent} %")
        began, signed = len(self._act.exchanges), 0

        async def enough() -> bool:
            nonlocal signed
            since = self._act.exchanges[began:]
            signed = sum(each.get("canary") == version for each in since)
            return signed >= _ENOUGH

        await until(enough, f"exchanges with version {version}")
        return signed, len(self._act.exchanges) - began

    async def destroyed(self, section: str, version: str) -> None:
        """Wait until the gateway has given a key up."""

        async def gone() -> bool:
            return await self._admin.state_of(section, version) == "destroyed"

        await until(gone, f"{section} version {version} destroyed")

    async def halt_kept(self, ring: Path) -> None:
        """Wait until a canary's end stands beside its ring, and in the audit log."""

        async def kept() -> bool:
            noted = any(line["what"] == "canary_halted" for line in self._act.audited)
            return noted and (ring / halts.FILE_NAME).exists()

        await until(kept, "the canary's end on the disk")

    async def taken_up(self, ring: Path) -> None:
        """Wait until the gateway uses the ring as it stands in its folder."""
        generation = manifest.load(ring).value.generation
        await self.event(
            lambda event: event.get("generation") == generation,
            f"generation {generation} taken up",
        )
