"""What a gateway takes beside processor time, and how long it takes to start."""

import http.client
import os
import resource
import signal
import statistics
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.load import load
from benchmarks.process import family, module, resident_mib, running
from benchmarks.report import Bound
from benchmarks.sample import KIB, TARGET, request_body
from benchmarks.subjects import Subject, config, gateway, serving, until_ready

_IDLE = 1000


def start_seconds(folder: Path, upstream: int) -> float:
    """Give the seconds from the command to a `/readyz` of 200."""
    file, _, admin = config(folder, upstream)
    command = module("gateway", "serve", "-c", str(file))
    null = subprocess.DEVNULL
    started = time.perf_counter()
    with running(command, stdout=null, stderr=null):
        until_ready(admin)
        return time.perf_counter() - started


def help_seconds() -> float:
    """Give the seconds of `gateway --help`."""
    started = time.perf_counter()
    subprocess.run(module("gateway", "--help"), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def starts(folder: Path, upstream: int, times: int) -> list[Bound]:
    ready = statistics.median(start_seconds(folder, upstream) for _ in range(times))
    shown = statistics.median(help_seconds() for _ in range(times))
    return [
        Bound("start to ready", ready, 0.8, "s"),
        Bound("`gateway --help`", shown, 0.25, "s"),
    ]


def memory(folder: Path, upstream: int) -> list[Bound]:
    """Give what one worker holds at rest, and for a thousand idle callers."""
    with gateway(folder, upstream) as subject:
        at_rest = resident_mib(subject.pid)
        _warm(subject, folder)
        before = resident_mib(subject.pid)
        with ExitStack() as stack:
            _open_idle(stack, subject.port)
            idle = resident_mib(subject.pid) - before
    return [
        Bound("resident at rest, one worker", at_rest, 90, "MiB"),
        Bound(f"{_IDLE:,} idle keep-alive callers", idle, 40, "MiB"),
    ]


def flatness(folder: Path, upstream: int, exchanges: int) -> list[Bound]:
    """Watch the memory of one worker over so many exchanges, after a tenth of them."""
    done, seen = 0, []
    with gateway(folder, upstream) as subject:
        while done < exchanges * 1.1:
            window = load(
                subject.url,
                folder,
                pid=subject.pid,
                size=KIB,
                connections=32,
                seconds=10,
            )
            done += window.exchanges
            print(
                f"{done:>9,} exchanges {resident_mib(subject.pid):8.2f} MiB", flush=True
            )
            if done > exchanges / 10:
                seen.append(resident_mib(subject.pid))
    first, last = statistics.median(seen[:3]), statistics.median(seen[-3:])
    growth = abs(last / first - 1) * 100
    return [
        Bound(f"resident memory changes over {exchanges:,} exchanges", growth, 2, "%")
    ]


def killed_worker(folder: Path, upstream: int) -> list[Bound]:
    """Kill one of two workers under load: what fails, and when it is back."""
    with gateway(folder, upstream, 2) as subject:
        _warm(subject, folder)
        workers = set(family(subject.pid)[1:])
        back: list[float] = []
        killer = threading.Timer(1.5, _kill_one, (subject, workers, back))
        killer.start()
        window = load(
            subject.url, folder, pid=subject.pid, size=KIB, connections=32, seconds=6
        )
        killer.join()
    return [
        Bound("connections cut by the end of one worker of two", window.cut, 32, ""),
        Bound("other answers that are not 200", window.failed, 0, ""),
        Bound("until the worker is back", back[0] if back else 99.0, 2.0, "s"),
    ]


def _kill_one(subject: Subject, workers: set[int], back: list[float]) -> None:
    victim = max(workers, key=resident_mib)
    os.kill(victim, signal.SIGKILL)
    started = time.perf_counter()
    while time.perf_counter() < started + 4:
        present = set(family(subject.pid)[1:])
        replaced = victim not in present and len(present) >= len(workers)
        if replaced and serving(subject.admin_port) == len(workers):
            back.append(time.perf_counter() - started)
            return
        time.sleep(0.01)


def _warm(subject: Subject, folder: Path) -> None:
    load(subject.url, folder, size=KIB, connections=32, seconds=1)


def _open_idle(stack: ExitStack, port: int) -> None:
    """Open connections that had one exchange each and stay."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * _IDLE:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * _IDLE, hard), hard))
    for _ in range(_IDLE):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        stack.callback(connection.close)
        connection.request("POST", TARGET, request_body(KIB))
        connection.getresponse().read()
