"""Processes of a benchmark: started, pinned, measured and ended."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
ROOT = Path(__file__).parent.parent

SUBJECT_CORES = {CORES[-1]}
OTHER_CORES = set(CORES[:-1]) or SUBJECT_CORES
"""The subject has a core to itself; the load and AlipayHK share the others."""


@contextmanager
def running(
    command: list[str], cores: set[int] = OTHER_CORES, **options
) -> Iterator[subprocess.Popen]:
    """Run a command on these cores until the end of the block."""
    process = subprocess.Popen(command, cwd=ROOT, **options)
    try:
        os.sched_setaffinity(process.pid, cores)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def moved(pid: int, cores: set[int]) -> Iterator[None]:
    """Have a process run on these cores until the end of the block."""
    before = os.sched_getaffinity(pid)
    os.sched_setaffinity(pid, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(pid, before)


def module(name: str, *arguments: str) -> list[str]:
    """Give the command that runs a module with this Python."""
    return [sys.executable, "-m", name, *arguments]


def free_port() -> int:
    """Find a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def family(pid: int) -> list[int]:
    """Give a process and all that descend from it."""
    found = [pid]
    for each in found:
        for task in _tasks(each):
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def processor_seconds(pid: int) -> float:
    """Give what a process and its descendants used so far, to the nanosecond."""
    total = 0
    for each in family(pid):
        for task in _tasks(each):
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_mib(pid: int) -> float:
    """Give the resident memory of a process and its descendants."""
    total = 0
    for each in family(pid):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total / 1024


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
