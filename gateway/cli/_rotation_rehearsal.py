"""What an act of the play of rotations is made of: commands, waits, and what is told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from gateway.cli._demo_stage import Stage
from gateway.cli._inside import run_line
from gateway.cli._rotation_service import Service
from gateway.cli._rotation_story import Story
from gateway.cli._rotation_waits import Act, Waits
from gateway.cli._rotation_watch import Admin, Fields, Readiness

_AUDITED: Final = {"keys_changed", "keyring_loaded", "canary_halted"}
_TOLD: Final = _AUDITED | {"partner_key_first_used", "platform_key_first_seen"}


@dataclass(frozen=True, slots=True)
class View:
    """What the operator sees at a moment."""

    metrics: list[str]
    readiness: Readiness


class Rehearsal:
    """The acts' hands and eyes. The present folder is that of the configuration.

    Args:
        stage: what runs.
        session: to ask the admin listener and the simulator with.
        act: takes in what the gateway logs.
        service: calls all the time.
        story: is told.

    Attributes:
        wait: waits for what the gateway does.
    """

    def __init__(
        self,
        stage: Stage,
        session: aiohttp.ClientSession,
        act: Act,
        service: Service,
        story: Story,
    ) -> None:
        self._admin = Admin(session, stage.admin_url)
        self._session = session
        self._control = stage.control_url
        self._act = act
        self._service = service
        self._story = story
        self.wait: Final = Waits(act, self._admin)

    def begin_act(self, title: str, text: str) -> None:
        """Begin an act."""
        self._act.begin()
        self._service.begin_act()
        self._story.act(title, text)

    async def run(self, words: str, most: int | None = None) -> str:
        """Run a command of `gateway`, and show it with its first lines, or all."""
        line = f"gateway {words}"
        printed = await run_line(line)
        lines = printed.splitlines()
        shown = lines[:most]
        self._story.command(line, shown, len(lines) - len(shown))
        return printed

    async def ask_alipayhk(self, path: str, data: str, said: str) -> str:
        """Have the simulator take something, and say so."""
        async with self._session.put(f"{self._control}{path}", data=data) as answer:
            answer.raise_for_status()
            self._story.aside(f"{said} (PUT {path} on the simulator)")
            return await answer.text()

    async def try_canary(self, version: str, percent: int) -> None:
        """Wait until a canary was seen to sign its share, and say what it signed."""
        signed, of = await self.wait.share(version, percent)
        self._story.aside(
            f"{percent} % are version {version}'s: it signed {signed} of the next {of}"
        )

    def aside(self, text: str) -> None:
        """Say what happens while nobody types."""
        self._story.aside(text)

    async def view(self, *metrics: str) -> View:
        """Look at metrics and readiness as the operator does."""
        return View(await self._admin.metrics(*metrics), await self._admin.readiness())

    async def end_act(self, text: str, *metrics: str, view: View | None = None) -> None:
        """Tell what the act left in the logs, and what the service got.

        No call is under way at that moment, so that all figures agree.
        """
        async with self._service.between_calls():
            seen = view or await self.view(*metrics)
            self._story.audit(_some(self._act.audited, "what", _AUDITED))
            self._story.operator(
                _some(self._act.events, "event", _TOLD),
                self._act.exchanges,
                seen.metrics,
                seen.readiness,
            )
            self._story.developer(self._service.act, text)


def keep(file: Path, text: str) -> None:
    """Write what somebody sent to a file."""
    file.write_text(text, "ascii")


def _some(lines: list[Fields], name: str, values: set[str]) -> list[Fields]:
    return [line for line in lines if line[name] in values]
