"""How the play of rotations is told: each act as three people see it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from gateway.cli._rotation_service import A_SECOND, Calls
from gateway.cli._rotation_watch import Fields, Readiness

_NOT_SHOWN: Final = {"time", "event", "level", "client", "fingerprint", "consequence"}
_OF_EXCHANGE: Final = (
    *("encrypted", "code", "attempts", "canary", "canary_attempts"),
    *("key_version", "verified_by"),
)


class Story:
    """Tells it on the terminal; plain text where that is no terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def begin(self, url: str, control: str) -> None:
        """Say what is running."""
        self._console.print(
            Panel(
                f"A service calls a gateway on [bold]{url}[/], {A_SECOND} times a second "
                "from beginning to end, every other call encrypted. Behind it a simulator "
                f"of AlipayHK; on [bold]{control}[/] one tells it which keys there are.\n"
                "All on this machine, with throw-away keys. Each command is run as it "
                "stands here, inside this process, by `gateway.cli.main`.",
                title="gateway demo rotation",
                border_style="dim",
            )
        )

    def act(self, title: str, text: str) -> None:
        """Begin an act, with what the security engineer does."""
        self._console.print()
        self._console.print(Rule(f"[bold]{title}", align="left", style="dim"))
        self._console.print(f"[dim]{text}[/]")
        self._person("The security engineer", "types commands")

    def command(self, line: str, printed: Sequence[str], left_out: int) -> None:
        """Show a command, and what of its output is worth it."""
        self._line(f"$ {line}", "bold cyan")
        for each in printed:
            self._line(each)
        if left_out:
            self._line(f"… and {left_out} more lines", "dim")

    def aside(self, text: str) -> None:
        """Say what happens while nobody types."""
        self._line(f"· {text}", "green")

    def audit(self, lines: Iterable[Fields]) -> None:
        """Show what the audit log holds of the act."""
        self._person("The security engineer", "reads in the audit log")
        for line in lines:
            self._line(_audited(line))

    def operator(
        self,
        events: Iterable[Fields],
        exchanges: Sequence[Fields],
        metrics: Iterable[str],
        readiness: Readiness,
    ) -> None:
        """Show log, metrics and readiness."""
        self._person("The operator", "sees log, metrics and readiness")
        for event in events:
            shown = [name for name in event if name not in _NOT_SHOWN]
            self._line(f"{event['event']}  {_pairs(event, shown)}")
        signed = Counter(str(each["key_version"]) for each in exchanges)
        codes = Counter(str(each["code"]) for each in exchanges)
        self._line(
            f"{len(exchanges)} exchange lines: code {_counted(codes)}; "
            f"key_version {_counted(signed)}"
        )
        repeated = [each for each in exchanges if "canary_attempts" in each]
        for each in repeated[:1]:
            self._line(f"one of {len(repeated)}: {_pairs(each, _OF_EXCHANGE)}")
        for sample in metrics:
            self._line(sample)
        self._ready(readiness)

    def developer(self, calls: Calls, text: str) -> None:
        """Show what the service got."""
        self._person("The service developer", "sees her calls")
        self._line(_said_of(calls), "bold")
        self._line(text)

    def end(self, calls: Calls, seen: int, verdict: Sequence[str]) -> None:
        """Sum up."""
        self._console.print()
        self._console.print(Rule("[bold]In all", align="left", style="dim"))
        style = "bold red" if calls.failed else "bold green"
        self._line(_said_of(calls), style)
        self._line(f"AlipayHK was asked {seen} times: {seen - calls.sent} repeats.")
        self._line("$ gateway audit verify", "bold cyan")
        for line in verdict:
            self._line(line)

    def _person(self, who: str, what: str) -> None:
        self._console.print(f"\n[bold]{who}[/] [dim]{what}[/]")

    def _ready(self, readiness: Readiness) -> None:
        said = "; ".join(readiness.reasons) or "ready"
        warned = "" if readiness.warnings else ", no warnings"
        self._line(f"GET /readyz  {readiness.status} {said}{warned}")
        for warning in readiness.warnings:
            self._line(f"warning: {warning}", "yellow")

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(Text(f"  {text}", style), soft_wrap=True)


def _said_of(calls: Calls) -> str:
    return (
        f"{calls.sent} calls ({calls.encrypted} encrypted): {calls.verified} verified, "
        f"{calls.failed} failed; the slowest took {calls.slowest_s * 1000:.0f} ms"
    )


def _audited(line: Fields) -> str:
    start = f"{line['seq']:>3}  {line['what']}"
    if line["what"] == "canary_halted":
        return f"{start}  signs {_of(line, 'signs')}: {line['reason']}"
    by = line.get("command", "the gateway takes it up")
    before, _, after = (generations := _of(line, "generation")).partition(" → ")
    if before == after:
        return f"{start}  generation {after}  the gateway takes a planned step"
    return f"{start}  generation {generations}  {by}"


def _of(line: Fields, name: str) -> str:
    sides = (line.get(side) for side in ("from", "to"))
    values = [side[name] for side in sides if isinstance(side, dict)]
    texts = (
        ", ".join(each) if isinstance(each, list) else str(each) for each in values
    )
    return " → ".join(texts)


def _pairs(fields: Fields, names: Iterable[str]) -> str:
    return "  ".join(f"{name}={fields[name]}" for name in names if name in fields)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name}: {times}" for name, times in sorted(counter.items()))
