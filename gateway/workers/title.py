"""What `ps` shows of a worker: which one it is, not how it was started."""

import ctypes
import sys
from pathlib import Path
from typing import Final

_PR_SET_NAME: Final = 15
_STARTS_AT, _ENDS_AT = 48, 49
"""Fields of /proc/self/stat, from 1: where the process's arguments are (proc(5))."""


def show_as(name: str, title: str) -> None:
    """Have tools show this process by a name and a title. Linux only.

    Args:
        name: what `ps -o comm` and `top` show; 15 bytes of it.
        title: what `ps -o args` shows; cut where the arguments had less room.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
    fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2]
    # The name before it may have spaces; so count from the field behind, the third.
    start, end = (int(fields.split()[at - 3]) for at in (_STARTS_AT, _ENDS_AT))
    if 0 < start < end:
        # Python has copied its arguments. The kernel shows this memory until its end.
        room = end - start
        text = title.encode()[: room - 1].ljust(room, b"\0")
        ctypes.memmove(start, text, room)
