"""What a ring was before: each change keeps the manifest that it replaces.

Manifests alone, no keys: what was destroyed stays so. They stand in `.history` inside
the ring's folder, one file for each generation, the last `KEPT` of them.
"""

from pathlib import Path
from typing import Final

from gateway.errors import KeyringError
from gateway.keys import manifest as manifests
from gateway.keys.backends.disk import replace_file, sync
from gateway.keys.manifest import Manifest

KEPT: Final = 50
FOLDER: Final = ".history"


def keep(folder: Path, manifest: Manifest) -> None:
    """Keep a manifest that is about to be replaced.

    Raises:
        OSError: it cannot be written.
    """
    history = folder / FOLDER
    if not history.exists():
        history.mkdir(mode=0o700)
        sync(folder)
    file = history / f"{manifest.generation}.yaml"
    replace_file(file, manifests.dump(manifest).encode())
    for generation in generations(folder)[:-KEPT]:
        (history / f"{generation}.yaml").unlink(missing_ok=True)


def generations(folder: Path) -> list[int]:
    """Give the generations that are kept, the oldest first."""
    names = (file.name for file in (folder / FOLDER).glob("*.yaml"))
    return sorted(
        int(stem)
        for name in names
        if (stem := name.removesuffix(".yaml")).isascii() and stem.isdigit()
    )


def recall(folder: Path, before: int, generation: int | None = None) -> Manifest:
    """Give an earlier manifest of a ring.

    Args:
        folder: the ring's.
        before: the generation that the ring has.
        generation: which one is wanted; None for the last before.

    Raises:
        KeyringError: it is not kept.
        DocumentError: it cannot be used.
    """
    there = [each for each in generations(folder) if each < before]
    if generation is None and there:
        generation = there[-1]
    if generation not in there:
        kept = ", ".join(map(str, there)) or "none"
        wanted = "no earlier one" if generation is None else f"not {generation}"
        msg = f"{folder}: {wanted} is kept; kept are: {kept}"
        raise KeyringError(msg)
    return manifests.load_file(folder / FOLDER / f"{generation}.yaml").value
