"""Measure the price of an exchange.

All subjects run at the same time and take turns under load, in short windows, with
the floor measured between them: so a machine that slows down slows all alike, and
the ratios mean something.
"""

import argparse
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import resources
from benchmarks.floor import Floor
from benchmarks.load import Window, load, need_wrk
from benchmarks.process import (
    ROOT,
    SUBJECT_CORES,
    module,
    moved,
    resident_mib,
    running,
)
from benchmarks.report import (
    Bound,
    Row,
    bounds_table,
    machine,
    table,
    write_page,
    write_plot,
)
from benchmarks.sample import KIB, SIZES, TARGET, Keys
from benchmarks.subjects import Subject, all_subjects, has_workers

CONNECTIONS = (1, 32, 256)
QUICK_CELLS = ((KIB, 1), (KIB, 32), (KIB, 256), (64 * KIB, 32), (1024 * KIB, 32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a couple of minutes")
    parser.add_argument("--memory", action="store_true", help="watch memory alone")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.*")
    parser.add_argument("--exchanges", type=int, default=300_000)
    options = parser.parse_args()
    need_wrk()
    with (
        tempfile.TemporaryDirectory() as name,
        upstream(Path(name)) as alipayhk,
    ):
        folder = Path(name)
        if options.memory:
            bounds = resources.flatness(folder, alipayhk.port, options.exchanges)
            print(*bounds_table(bounds), sep="\n")
            return
        rows, floors = measure(folder, alipayhk, quick=options.quick)
        bounds = [
            *promises(rows, floors),
            *resources.memory(folder, alipayhk.port),
            *resources.starts(folder, alipayhk.port, 3 if options.quick else 9),
        ]
        if has_workers(folder):
            bounds += resources.killed_worker(folder, alipayhk.port)
    how = "quick, 3 turns of 1 s" if options.quick else "5 turns of 3 s"
    figures = ["", *machine(), f"* {how} for each figure", *_floors(floors), ""]
    figures += [*bounds_table(bounds), "", *table(rows), ""]
    print(*figures, sep="\n")
    if options.write:
        plot = "![processor time over the floor](benchmarks.svg)"
        write_page(ROOT / "docs" / "benchmarks.md", ["", plot, *figures])
        write_plot(ROOT / "docs" / "benchmarks.svg", rows)


@dataclass(frozen=True)
class Upstream:
    """AlipayHK for a benchmark, while it runs."""

    keys: Keys
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{TARGET}"


@contextmanager
def upstream(folder: Path) -> Iterator[Upstream]:
    """Run AlipayHK with keys of its own, and ours.

    They have a folder to themselves: the gateway watches it for changes.
    """
    keys = Keys.new()
    keys.write(folder / "keys")
    command = module("benchmarks.upstream", str(folder / "keys"))
    with running(command, stdout=subprocess.PIPE, text=True) as process:
        yield Upstream(keys, int(process.stdout.readline()), process.pid)


def measure(
    folder: Path, alipayhk: Upstream, *, quick: bool
) -> tuple[list[Row], dict[tuple[int, bool], float]]:
    """Measure all subjects in all cells. Gives the rows, and the floors."""
    cells = QUICK_CELLS if quick else [(s, c) for s in SIZES for c in CONNECTIONS]
    seconds, rounds = (1, 3) if quick else (3, 5)
    rows: list[Row] = []
    floors: dict[tuple[int, bool], list[float]] = {}
    with all_subjects(folder, alipayhk.port) as subjects:
        for subject in subjects:  # compilers and pools warm up
            load(subject.url, folder, size=KIB, connections=32, seconds=2)
        for size, connections in cells:
            print(f"{size // KIB} KiB, {connections} connections ...", flush=True)
            cell = Cell(folder, alipayhk, size, connections, seconds)
            for _ in range(rounds):
                cell.take_turns(subjects)
            rows += cell.rows()
            for encrypted, prices in cell.floors.items():
                floors.setdefault((size, encrypted), []).extend(prices)
    return rows, {kind: statistics.median(prices) for kind, prices in floors.items()}


class Cell:
    """One size of body and number of connections, for all subjects."""

    def __init__(
        self,
        folder: Path,
        alipayhk: Upstream,
        size: int,
        connections: int,
        seconds: float,
    ) -> None:
        self._folder, self._size = folder, size
        self._connections, self._seconds = connections, seconds
        self._alipayhk = alipayhk
        self._floors = {
            e: Floor(alipayhk.keys, size, encrypted=e) for e in (False, True)
        }
        self.floors: dict[bool, list[float]] = {False: [], True: []}
        self._direct: list[Window] = []
        self._windows: dict[tuple[str, bool], list[Window]] = {}
        self._resident: dict[tuple[str, bool], float] = {}

    def take_turns(self, subjects: list[Subject]) -> None:
        """Measure the floors, the upstream alone, and each subject once."""
        for encrypted, floor in self._floors.items():
            self.floors[encrypted].append(floor.seconds())
        # Where the subjects run: else its caller would reach it without waking another
        # core, as no caller reaches a gateway, or AlipayHK, and a gateway would be
        # charged for that.
        with moved(self._alipayhk.pid, SUBJECT_CORES):
            self._direct.append(self._load(self._alipayhk.url, seconds=1))
        for subject in subjects:
            for encrypted in (False, True) if subject.log else (False,):
                window = self._load(
                    subject.url,
                    pid=subject.pid,
                    encrypted=encrypted,
                    seconds=self._seconds,
                )
                kind = subject.name, encrypted
                self._windows.setdefault(kind, []).append(window)
                self._resident[kind] = resident_mib(subject.pid)

    def _load(self, url: str, **how) -> Window:
        return load(
            url, self._folder, size=self._size, connections=self._connections, **how
        )

    def rows(self) -> list[Row]:
        return [
            self._row(name, windows, encrypted=encrypted)
            for (name, encrypted), windows in self._windows.items()
        ]

    def _row(self, name: str, windows: list[Window], *, encrypted: bool) -> Row:
        pairs = zip(windows, self.floors[encrypted], strict=True)
        ratios = [window.price_s / floor for window, floor in pairs]
        return Row(
            name,
            encrypted,
            self._size,
            self._connections,
            _median(windows, "per_second"),
            _median(windows, "p50_s") - _median(self._direct, "p50_s"),
            _median(windows, "p99_s") - _median(self._direct, "p99_s"),
            _median(windows, "price_s"),
            statistics.median(ratios),
            (max(ratios) - min(ratios)) / 2,
            self._resident[name, encrypted],
            sum(window.failed + window.cut for window in windows),
        )


def promises(rows: list[Row], floors: dict[tuple[int, bool], float]) -> list[Bound]:
    """Judge what must hold of bodies of 1 KiB."""
    found = {
        (row.name, row.encrypted, row.connections): row
        for row in rows
        if row.size == KIB
    }
    one, two = "gateway, 1 worker", "gateway, 2 workers"
    plain, alone = found[one, False, 32], found[one, False, 1]
    added_us = (floors[KIB, False] + 250e-6) * 1e6
    bounds = [
        Bound("processor time / floor, plain, 32 connections", plain.ratio, 1.32, ""),
        Bound("the same, encrypted", found[one, True, 32].ratio, 1.20, ""),
        Bound("added p50, 1 connection", alone.added_p50_s * 1e6, added_us, "µs"),
        Bound("added p99, 1 connection", alone.added_p99_s * 1e6, 3 * added_us, "µs"),
    ]
    if both := found.get((two, False, 32)):
        growth = both.price_s / plain.price_s
        bounds.append(Bound("processor time, 2 workers / 1", growth, 1.08, ""))
    failed = sum(row.failed for row in rows if "gateway" in row.name)
    bounds.append(Bound("exchanges that failed", failed, 0, ""))
    return bounds


def _floors(floors: dict[tuple[int, bool], float]) -> list[str]:
    return [
        f"* floor, {'encrypted' if encrypted else 'plain'}, {size // KIB} KiB: "
        f"{price * 1e6:.0f} µs"
        for (size, encrypted), price in floors.items()
    ]


def _median(windows: list[Window], name: str) -> float:
    return statistics.median(getattr(window, name) for window in windows)


if __name__ == "__main__":
    main()
