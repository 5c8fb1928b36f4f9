"""What a ring was before: each change keeps the manifest that it replaces.

Manifests alone, no keys: what was destroyed stays so. They stand in `.history` inside
the ring's folder, one file for each generation, the last `KEPT` of them. Each names the
manifest that replaced it by a digest, so that nobody takes back another change than the
last one where a ring was copied without its history or edited by hand.
"""

import hashlib
import re
from pathlib import Path
from typing import Final

from gateway.errors import KeyringError
from gateway.keys import manifest as manifests
from gateway.keys.backends.disk import replace_file, sync
from gateway.keys.manifest import Manifest

KEPT: Final = 50
FOLDER: Final = ".history"
_SUCCESSOR: Final = "# replaced by the manifest of SHA-256 "
_DIGEST: Final = re.compile(rf"^{_SUCCESSOR}([0-9a-f]{{64}})$", re.MULTILINE)


def keep(folder: Path, manifest: Manifest, successor: Manifest) -> None:
    """Keep a manifest that `successor` is about to replace.

    Raises:
        OSError: it cannot be written.
    """
    history = folder / FOLDER
    if not history.exists():
        history.mkdir(mode=0o700)
        sync(folder)
    file = history / f"{manifest.generation}.yaml"
    text = f"{manifests.dump(manifest)}{_SUCCESSOR}{_digest_of(successor)}\n"
    replace_file(file, text.encode())
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


def recall(folder: Path, present: Manifest, generation: int | None = None) -> Manifest:
    """Return an earlier manifest of a ring.

    Args:
        folder: the ring's.
        present: the manifest that the ring has.
        generation: which one is wanted; None for the one that `present` replaced.

    Raises:
        KeyringError: it is not kept.
        DocumentError: it cannot be used.
    """
    there = [each for each in generations(folder) if each < present.generation]
    wanted = there[-1] if generation is None and there else generation
    if wanted not in there:
        kept = ", ".join(map(str, there)) or "none"
        msg = f"{folder}: generation {wanted} is not kept; kept are: {kept}"
        if wanted is None:
            msg = (
                f"{folder}: no earlier ring is kept: it was never changed here, or was "
                "copied without its .history"
            )
        raise KeyringError(msg)
    earlier = manifests.load_file(folder / FOLDER / f"{wanted}.yaml").value
    if generation is None:
        _check_followed(folder, earlier.generation, present)
    return earlier


def _check_followed(folder: Path, generation: int, present: Manifest) -> None:
    """Pass if what the change after this generation made is the present ring."""
    file = folder / FOLDER / f"{generation}.yaml"
    found = _DIGEST.search(file.read_text("utf-8", "replace"))
    if found is None or found[1] != _digest_of(present):
        msg = (
            f"{folder}: what generation {present.generation} was before is not kept: "
            "the ring was copied without its .history, or changed by hand. The last "
            f"that is kept is {file}: if that is the one, name it with --to {generation}"
        )
        raise KeyringError(msg)


def _digest_of(manifest: Manifest) -> str:
    return hashlib.sha256(manifests.dump(manifest).encode()).hexdigest()
