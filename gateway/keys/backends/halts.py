"""The mark beside a ring that its canary was halted, for every process that reads it.

It names the generation whose canary it ends. A change of the ring takes it over as long
as nobody tells the canary anew: while it is taken back, it says why, so that the version
is not put in use by oversight. A mark that cannot be read halts: the earlier key is
known to work.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from gateway.keys.backends.disk import open_at_once, replace_file
from gateway.keys.manifest import Manifest, Share
from gateway.keys.model import KeyState

FILE_NAME: Final = ".canary-halted"
_MAX_BYTES: Final = 4096
_OUT_OF_USE: Final = (KeyState.PRE_ACTIVE, KeyState.DEACTIVATED)


@dataclass(frozen=True, slots=True)
class Halt:
    """Which canary was halted, and why.

    Attributes:
        version: empty where the mark cannot be read.
    """

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
    """Return why the canary of a generation was halted; None where it was not."""
    halt = read_halt(folder, generation)
    return None if halt is None else halt.reason


def read_halt(folder: Path, generation: int) -> Halt | None:
    """Return the halt that counts for a generation; None where there is none."""
    try:
        with open(folder / FILE_NAME, "rb", opener=open_at_once) as stream:
            halt = _MARK.validate_json(stream.read(_MAX_BYTES), strict=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return Halt(generation, "", f"{FILE_NAME} cannot be read")
    return halt if halt.generation == generation else None


def carry_over(folder: Path, before: Manifest, after: Manifest) -> None:
    """Take a halt over to the ring that comes next, unless the canary is told anew.

    It ends too where its version was put in use, or is given up for good.

    Raises:
        OSError: the folder cannot be written to.
    """
    halt, canary = read_halt(folder, before.generation), _canary_of(after)
    if halt is None:
        return
    stays = canary == _canary_of(before)
    if canary is None:
        stays = any(
            each.version == halt.version and each.state in _OUT_OF_USE
            for each in after.partner
        )
    if stays:
        write_halt(folder, replace(halt, generation=after.generation))


def _canary_of(manifest: Manifest) -> tuple[str, tuple[Share, ...]] | None:
    found = ((each.version, each.canary) for each in manifest.partner if each.canary)
    return next(found, None)
