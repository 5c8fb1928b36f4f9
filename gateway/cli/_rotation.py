"""The play of rotations: a service calls from beginning to end, and keys change thrice."""

import asyncio
from contextlib import AsyncExitStack, chdir
from pathlib import Path
from typing import Final

import aiohttp

from gateway.cli._demo_stage import Stage, set_up
from gateway.cli._inside import run_line
from gateway.cli._rotation_acts import our_key, refused_key, their_key
from gateway.cli._rotation_rehearsal import Rehearsal
from gateway.cli._rotation_service import Service
from gateway.cli._rotation_story import Story
from gateway.cli._rotation_waits import Act
from gateway.cli._rotation_watch import Log

_AUDIT: Final = Path("audit/audit.jsonl")
_KEY: Final = "audit.pem"
_CONFIG: Final = f"audit: {{file: {_AUDIT}, key: {_KEY}}}\n"


async def play(folder: Path) -> int:
    """Play all acts in a folder. Gives 0 if no call failed.

    Raises:
        GatewayError: a command failed, or what it should lead to was not seen.
    """
    story = Story()
    with chdir(folder):
        _AUDIT.parent.mkdir(mode=0o700)
        await run_line(f"gateway audit keygen {_KEY}")
        async with AsyncExitStack() as stack:
            log, events = Log(), Log()
            stage = await set_up(folder, stack, log, events, _CONFIG)
            service = await _acts(stage, Act(log, events, _AUDIT), story)
        verdict = await run_line("gateway audit verify")
    story.end(service.total, len(stage.seen), verdict.splitlines())
    return 1 if service.total.failed else 0


async def _acts(stage: Stage, logs: Act, story: Story) -> Service:
    """Play them while the service calls. Gives the service, which has ended."""
    service = Service(stage.gateway_url)
    story.begin(stage.gateway_url, stage.control_url)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(service.call())
        rehearsal = Rehearsal(stage, session, logs, service, story)
        for act in (our_key, refused_key, their_key):
            await act(rehearsal)
        await service.stop()
    return service
