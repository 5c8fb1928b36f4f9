"""Load by `wrk`, and what it took."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import OTHER_CORES, processor_seconds, running
from benchmarks.sample import request_body

SCRIPT = Path(__file__).parent / "load.lua"


@dataclass(frozen=True)
class Window:
    """What a subject did in a short while under load."""

    exchanges: int
    seconds: float
    p50_s: float
    p99_s: float
    failed: int
    cut: int
    processor_s: float

    @property
    def per_second(self) -> float:
        return self.exchanges / self.seconds

    @property
    def price_s(self) -> float:
        """Processor seconds of one exchange."""
        return self.processor_s / max(self.exchanges, 1)


def need_wrk() -> None:
    if not shutil.which("wrk"):
        msg = "wrk makes the load and is not installed. Debian: apt-get install wrk"
        raise SystemExit(msg)


def load(
    url: str,
    folder: Path,
    *,
    pid: int | None = None,
    size: int,
    connections: int,
    seconds: float,
    encrypted: bool = False,
) -> Window:
    """Send exchanges for a while; measure the process `pid` and its descendants."""
    body = folder / f"body-{size}.json"
    if not body.exists():
        body.write_bytes(request_body(size))
    command = [
        *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"),
        *("--timeout", "15s", "-s", str(SCRIPT), url, "--"),
        *(str(body), str(encrypted).lower()),
    ]
    before = processor_seconds(pid) if pid else 0.0
    with running(command, OTHER_CORES, stdout=subprocess.PIPE, text=True) as wrk:
        printed = wrk.stdout.read()
    spent = processor_seconds(pid) - before if pid else 0.0
    return Window(**json.loads(printed.splitlines()[-1]), processor_s=spent)
