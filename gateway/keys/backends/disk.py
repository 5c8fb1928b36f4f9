"""Files that are on the disk, whole, when a function returns."""

import contextlib
import os
from pathlib import Path


def open_at_once(name: str, flags: int) -> int:
    """Open without waiting: a pipe in a file's place must not hold up a reload."""
    return os.open(name, flags | os.O_NONBLOCK)


def make_folder(folder: Path) -> None:
    """Make a folder for its owner alone, and those missing above it, on the disk.

    Those are 0755 at most: under a umask of 002 they would be open to a group, and the
    ring refused for it (`gateway.keys.backends.access`).

    Raises:
        OSError: it cannot be made, or is there already.
    """
    for each in reversed(folder.parents):
        if not each.exists():
            each.mkdir(mode=0o755)
            sync(each.parent)
    folder.mkdir(mode=0o700)
    sync(folder.parent)


def write_new(file: Path, data: bytes, mode: int) -> None:
    """Write a new file, on the disk when this returns. It is never more open.

    Raises:
        OSError: it cannot be written, or is there already.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)


def replace_file(file: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file in one step: whoever reads it finds all of it, or what was before.

    Raises:
        OSError: it cannot be written.
    """
    draft = file.with_name(f"{file.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):  # of a process that was killed
        draft.unlink()
    write_new(draft, data, mode)
    draft.rename(file)
    sync(file.parent)


def sync(folder: Path) -> None:
    """Put a folder's entries on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
