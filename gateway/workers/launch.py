"""Starting a worker: the same program anew, by exec.

It has nothing of the supervisor but what is named here: no thread, no event loop, no
library of a token. It is in a session of its own, so that no terminal's signal reaches
it.
"""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

_PROGRAM: Final = """\
# a worker of gateway serve
import sys
sys.path[:] = sys.argv.pop(1).split("\\n")
from gateway.cli.worker import main
sys.exit(main())
"""
"""The worker finds its modules where the supervisor found its own, whatever folder it
is started in."""


async def launch(
    place: tuple[int, int], end: socket.socket, descriptors: Sequence[int]
) -> asyncio.subprocess.Process:
    """Start a worker.

    Args:
        place: its number, and how many workers there are.
        end: its end of the pair of sockets.
        descriptors: of the shared memory, then of the sockets that listen.
    """
    inherited = [end.fileno(), *descriptors]
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *flags, "-c", _PROGRAM, "\n".join(sys.path)),
        *map(str, (*place, *inherited)),
        pass_fds=inherited,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
