"""The figures as text, as a page of the docs, and as a plot."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend

from benchmarks.process import CORES

_BEGIN, _END = "<!-- measured: written by `make bench` -->", "<!-- end -->"


@dataclass(frozen=True)
class Row:
    """Medians of one subject at one size of body and number of connections."""

    name: str
    encrypted: bool
    size: int
    connections: int
    per_second: float
    added_p50_s: float
    added_p99_s: float
    price_s: float
    ratio: float
    spread: float
    resident_mib: float
    failed: int

    @property
    def kind(self) -> str:
        return "encrypted" if self.encrypted else "plain"


@dataclass(frozen=True)
class Bound:
    """A figure that must not be over its bound."""

    what: str
    value: float
    at_most: float
    unit: str

    @property
    def holds(self) -> bool:
        return self.value <= self.at_most

    def __str__(self) -> str:
        verdict = "pass" if self.holds else "MISS"
        return (
            f"| {self.what} | {_short(self.value)} {self.unit} "
            f"| {_short(self.at_most)} {self.unit} | {verdict} |"
        )


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


_COLUMNS = (
    *("subject", "body", "KiB", "conn.", "per s", "added p50 ms", "added p99 ms"),
    *("cpu µs", "/ floor", "±", "MiB", "failed"),
)


def table(rows: list[Row]) -> list[str]:
    heads = [_cells(_COLUMNS), _cells(["---"] * 2 + ["--:"] * (len(_COLUMNS) - 2))]
    return heads + [
        _cells(
            (
                *(row.name, row.kind, row.size // 1024, row.connections),
                f"{row.per_second:.0f}",
                f"{row.added_p50_s * 1e3:.2f}",
                f"{row.added_p99_s * 1e3:.2f}",
                f"{row.price_s * 1e6:.0f}",
                f"{row.ratio:.2f}",
                f"{row.spread:.2f}",
                f"{row.resident_mib:.0f}",
                row.failed,
            )
        )
        for row in rows
    ]


def _cells(values: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, values))} |"


def bounds_table(bounds: list[Bound]) -> list[str]:
    head = ["| what | measured | bound | |", "|---|--:|--:|---|"]
    return [*head, *(str(bound) for bound in bounds)]


def machine() -> list[str]:
    """Say what it was measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    python = platform.python_version()
    ssl = backend.openssl_version_text()
    libraries = [f"{name} {version(name)}" for name in ("aiohttp", "cryptography")]
    tools = [
        f"Node {_first_line('node', '--version') or 'missing'}",
        _first_line("nginx", "-v") or "nginx missing",
        _first_line("wrk", "-v"),
    ]
    return [
        f"* {datetime.now(UTC):%F %H:%M} UTC, revision {_revision()}",
        f"* {model}, {len(CORES)} cores, Linux {platform.release()}",
        f"* Python {python}, {', '.join(libraries)} with {ssl}",
        f"* {', '.join(tools)}",
        f"* others' load on the machine (1 and 5 minutes, before the run): {_LOAD}",
    ]


_LOAD = " and ".join(f"{load:.1f}" for load in os.getloadavg()[:2])


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    lines = (done.stdout + done.stderr).splitlines()
    return re.sub(r" \[.*| Copyright.*", "", lines[0]) if lines else ""


def _revision() -> str:
    return _first_line("git", "describe", "--always", "--dirty") or "unknown"


def write_page(page: Path, lines: list[str]) -> None:
    """Put the figures where the page has its mark."""
    text = page.read_text()
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    page.write_text(f"{before}{_BEGIN}\n" + "\n".join(lines) + f"\n{_END}{after}")


def write_plot(file: Path, rows: list[Row]) -> None:
    """Draw processor time over the floor: one bar per subject, 1 KiB, 32 connections."""
    bars = [row for row in rows if (row.size, row.connections) == (1024, 32)]
    step, top, left = 30, 40, 220
    scale = 420 / max(2.0, *(row.ratio for row in bars))
    end = top + step * len(bars)
    parts = [_SVG.format(height=end + 26)]
    for place, row in enumerate(bars):
        parts.append(
            _BAR.format(
                what=f"{row.name}, {row.kind}",
                figure=f"{row.ratio:.2f} ({row.price_s * 1e6:.0f} µs)",
                y=top + step * place,
                base=top + step * place + 15,
                left=left,
                middle=left + scale,
                floor=scale,
                rest=max(row.ratio - 1, 0) * scale,
                right=left + max(row.ratio, 1) * scale + 6,
            )
        )
    parts.append(_END_OF_SVG.format(base=end + 14, date=f"{datetime.now(UTC):%F}"))
    file.write_text("".join(parts))


_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}"
 font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#fff"/>
<text x="12" y="22" font-size="15">Processor time per exchange, as a multiple of its \
cryptography</text>
"""
_BAR = """\
<text x="12" y="{base}">{what}</text>
<rect x="{left}" y="{y}" width="{floor:.0f}" height="20" fill="#9aa5b1"/>
<rect x="{middle:.0f}" y="{y}" width="{rest:.0f}" height="20" fill="#2f6db5"/>
<text x="{right:.0f}" y="{base}">{figure}</text>
"""
_END_OF_SVG = """\
<text x="12" y="{base}" font-size="11">1 KiB bodies, 32 connections; grey is the floor. \
{date}</text>
</svg>
"""
