"""How the demo shows an exchange: four hops, and what each adds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

_WIDEST: Final = 56
_ADDED: Final = {"client-id", "request-time", "signature", "encrypt", "response-time"}
_RESULT: Final = {"gateway-verified", "gateway-exchange-id"}
_DULL: Final = {
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "date",
    "host",
    "server",
    "user-agent",
}
_LOGGED: Final = ("code", "encrypted", "status", "key_version", "verified_by")
_PLACES: Final = (
    ("service → gateway", "plain JSON, nothing else"),
    ("gateway → AlipayHK", "the same bytes, signed"),
    ("AlipayHK → gateway", "signed by AlipayHK"),
    ("gateway → service", "verified, byte for byte"),
)
_ENCRYPTED: Final = ("encrypted, then signed", "encrypted and signed by AlipayHK")


@dataclass(frozen=True, slots=True)
class Hop:
    """A message as it was between two parties."""

    start: str
    headers: Sequence[tuple[str, str]]
    body: bytes


class Story:
    """Tells the demo on the terminal; plain text where that is no terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def begin(self, url: str) -> None:
        """Say what is running."""
        self._console.print(
            Panel(
                "A simulator of AlipayHK and a gateway, on this machine alone, with "
                "throw-away keys.\n"
                f"The gateway listens on [bold]{url}[/]; what it adds is in "
                "[cyan]colour[/].",
                title="gateway demo",
                border_style="dim",
            )
        )

    def tell(self, title: str, hops: Sequence[Hop]) -> None:
        """Show one exchange, hop by hop."""
        self._console.print()
        self._console.print(Rule(f"[bold]{title}", align="left", style="dim"))
        for number, hop in enumerate(hops):
            place, what = _PLACES[number]
            if any(name.lower() == "encrypt" for name, _ in hop.headers):
                what = _ENCRYPTED[number - 1]
            self._console.print(f"\n[bold]{place}[/]  [dim]{what}[/]")
            self._console.print(_text(hop))

    def show_log(self, log: str) -> None:
        """Show the gateway's log lines."""
        self._console.print()
        self._console.print(
            Rule("[bold]What the operator sees", align="left", style="dim")
        )
        for line in log.splitlines():
            fields = json.loads(line)
            text = "  ".join(f"{name}={fields[name]}" for name in _LOGGED)
            self._console.print(f"  {escape(text)}", soft_wrap=True)

    def invite(self, url: str, body: str) -> None:
        """Show a call to try, of a gateway that goes on running."""
        quoted = body.replace("'", "'\\''")
        self._try(
            f"curl -i {url} \\\n    -H 'Gateway-Encrypt: true' \\\n    -d '{quoted}'"
        )

    def say_ended(self) -> None:
        """Say that nothing runs any more, and how to have it stay."""
        self._try(
            "Both have ended. This keeps them running, and shows a call to try:\n\n"
            "  gateway demo              (in a checkout: .venv/bin/gateway demo)"
        )

    def _try(self, text: str) -> None:
        self._console.print()
        self._console.print(Rule("[bold]Try it", align="left", style="dim"))
        self._console.print(f"  {text}", markup=False, soft_wrap=True)

    def note(self, target: str, result: str) -> None:
        """Say that another exchange went through."""
        self._console.print(f"  {escape(target)}  {escape(result)}")


def _text(hop: Hop) -> Text:
    text = Text(f"  {hop.start}\n")
    for name, value in hop.headers:
        if name.lower() in _DULL:
            continue
        style = "cyan" if name.lower() in _ADDED else ""
        style = "bold green" if name.lower() in _RESULT else style
        text.append(_line(f"{name}: {value}") + "\n", style)
    text.append("\n" + _line(hop.body.decode("utf-8")))
    return text


def _line(value: str) -> str:
    """Give one line of the terminal, with the length of what was cut."""
    if len(value) <= _WIDEST:
        return f"  {value}"
    return f"  {value[:_WIDEST]}… ({len(value)} characters)"
