"""A worker's process: started by `gateway serve`, not by people.

It hears no signal: its supervisor tells it what to do, and that the supervisor is gone
it sees by itself. A service manager may send SIGTERM to every process of a service.
"""

import asyncio
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import uvloop

from gateway.cli.options import environment
from gateway.cli.serve import collect_seldom
from gateway.hardening import check_libraries, leave_no_trace
from gateway.sharing import Memory
from gateway.threads import Threads
from gateway.workers.title import show_as
from gateway.workers.worker import Worker


def main() -> int:
    """Serve to the end. Gives the exit status."""
    for heard in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(heard, signal.SIG_IGN)
    number, workers, channel, memory, *sockets = map(int, sys.argv[1:])
    show_as(f"gateway-w{number}", f"gateway worker {number} of {workers}")
    check_libraries()
    leave_no_trace()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            serving = _serve((number, workers), channel, Memory(memory), sockets)
            return runner.run(serving)
    except Exception as error:  # noqa: BLE001 - the last resort: a line, no traceback
        print(f"gateway: worker {number}: {_defect(error)}", file=sys.stderr)
        return 1


def _defect(error: Exception) -> str:
    """Say what failed and where, and nothing of its text."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"internal error ({type(error).__name__} at {where})"


async def _serve(
    place: tuple[int, int], channel: int, memory: Memory, sockets: Sequence[int]
) -> int:
    asyncio.get_running_loop().set_default_executor(Threads())
    worker = Worker(
        place,
        memory,
        tuple(socket.socket(fileno=each) for each in sockets),
        stdout=sys.stdout,
        stderr=sys.stderr,
        environment=environment(),
    )
    collect_seldom()
    return await worker.run(socket.socket(fileno=channel))
