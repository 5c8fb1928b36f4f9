"""The mark beside a ring that its canary was halted, for every process that reads it.

It names the generation whose canary it ends, so that the next change of the ring
makes it void. A mark that cannot be read halts: the earlier key is known to work.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from gateway.keys.backends.disk import open_at_once, replace_file
from gateway.keys.manifest import Manifest, Share

FILE_NAME: Final = ".canary-halted"
_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Halt:
    """Which canary was halted, and why."""

    generation: int
    version: str
    reason: str


_MARK: Final = TypeAdapter(Halt)


def write_halt(folder: Path, halt: Halt) -> None:
    """Mark a canary as halted.

    Raises:
        OSError: the folder cannot be written to.
    """
    replace_file(folder / FILE_NAME, json.dumps(asdict(halt)).encode())


def halt_reason(folder: Path, generation: int) -> str | None:
    """Give why the canary of a generation was halted; None where it was not."""
    try:
        with open(folder / FILE_NAME, "rb", opener=open_at_once) as stream:
            halt = _MARK.validate_json(stream.read(_MAX_BYTES), strict=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return f"{FILE_NAME} cannot be read"
    return halt.reason if halt.generation == generation else None


def carry_over(folder: Path, before: Manifest, after: Manifest) -> None:
    """Keep a canary halted over a change of the ring that is not about it.

    Raises:
        OSError: the folder cannot be written to.
    """
    reason, canary = halt_reason(folder, before.generation), _canary_of(before)
    if reason is not None and canary is not None and canary == _canary_of(after):
        write_halt(folder, Halt(after.generation, canary[0], reason))


def _canary_of(manifest: Manifest) -> tuple[str, tuple[Share, ...]] | None:
    found = ((each.version, each.canary) for each in manifest.partner if each.canary)
    return next(found, None)
