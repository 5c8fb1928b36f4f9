"""Where the time of an exchange goes: a running gateway under load, sampled by py-spy.

    python -m benchmarks.profile [--seconds 15] [--encrypted] [--native]

Writes a flame graph, and prints the functions by their own time and by their time
with all they call. py-spy has to be allowed to read the process: as root, or with
`sysctl kernel.yama.ptrace_scope=0`.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from benchmarks.__main__ import upstream
from benchmarks.load import load, need_wrk
from benchmarks.process import ROOT, SUBJECT_CORES, running
from benchmarks.sample import KIB
from benchmarks.subjects import Subject, check, config, until_ready

GRAPH = ROOT / ".cache" / "profile.svg"

# The gateway forbids others to read it (gateway/hardening.py); this one lets them.
_READABLE = (
    "from gateway import hardening; hardening.leave_no_trace = lambda: None; "
    "from gateway.__main__ import main; main()"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--encrypted", action="store_true")
    parser.add_argument("--native", action="store_true", help="C functions too")
    options = parser.parse_args()
    need_wrk()
    with (
        tempfile.TemporaryDirectory() as name,
        upstream(Path(name)) as alipayhk,
    ):
        folder = Path(name)
        file, inbound, admin = config(folder, alipayhk.port)
        command = [sys.executable, "-c", _READABLE, "serve", "-c", str(file)]
        with (
            (folder / "log").open("w") as log,
            running(command, SUBJECT_CORES, stdout=log, stderr=log) as process,
        ):
            until_ready(admin)
            subject = Subject("gateway", inbound, process.pid)
            check(subject)
            stacks = sample(subject, folder, options)
    show(stacks)


def sample(
    subject: Subject, folder: Path, options: argparse.Namespace
) -> Counter[tuple[str, ...]]:
    """Put the gateway under load and give how often each stack was seen."""
    loading = threading.Thread(
        target=load,
        args=(subject.url, folder),
        kwargs={
            "size": KIB,
            "connections": options.connections,
            "encrypted": options.encrypted,
            "seconds": options.seconds + 4,
        },
    )
    loading.start()
    raw, half = folder / "stacks", str(max(options.seconds // 2, 1))
    spy = [str(Path(sys.executable).parent / "py-spy"), "record", "--function"]
    spy += ["--rate", "250", "--duration", half, "--pid", str(subject.pid)]
    spy += ["--native"] if options.native else []
    GRAPH.parent.mkdir(exist_ok=True)
    for how in ("raw", str(raw)), ("flamegraph", str(GRAPH)):
        command = [*spy, "--format", how[0], "--output", how[1]]
        subprocess.run(command, check=True, capture_output=True)
    loading.join()
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        functions = tuple(stack.split(";"))
        if not functions[-1].startswith("_worker ("):  # a thread that waits for work
            stacks[functions] += int(count)
    return stacks


def show(stacks: Counter[tuple[str, ...]], most: int = 30) -> None:
    """Print the functions that take most."""
    total = stacks.total()
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for function in set(stack):
            whole[function] += count
    files: Counter[str] = Counter()
    for function, count in own.items():
        files[function.partition("(")[2].partition(":")[0] or function] += count
    for title, counts in (
        ("own time, by file", files),
        ("own time", own),
        ("with all they call", whole),
    ):
        print(f"\n{title}, of {total} samples")
        for function, count in counts.most_common(most):
            print(f"{count / total:7.1%}  {function}")
    print(f"\nflame graph: {GRAPH.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
