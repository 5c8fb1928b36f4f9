"""The command line: one module per subcommand, loaded only when it is called.

A subcommand's module has `add_arguments(parser)` and `run(arguments) -> int`.
Exit status: 0 done, 1 it failed or found a problem, 2 wrong usage, 130 interrupted.
With --json a failure (status 1) is an object on standard output too: `ok` false, a
`code`, and `problems`, each with file, line, key and message, null where unknown.
"""

import argparse
import importlib
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from gateway.cli._streams import check_streams, lost_output
from gateway.errors import ExchangeError, GatewayError, InternalError, SetupError

_COMMANDS: Final = {
    "demo": "see a plain and an encrypted exchange, hop by hop, without setting up",
    "serve": "run the gateway",
    "check": "validate the configuration and the keys without serving",
    "simulate": "run a simulator of AlipayHK, for development and tests",
    "callers": "the services that may call: new makes a token for one",
    "audit": "the audit log: show it, verify it, print its end, make its key",
    "keys": "the life of keys: generate, import, list, public, activate, ...",
    "sign": "sign a message from a file or standard input",
    "verify": "verify a captured message, and name what is wrong with it",
    "encrypt": "encrypt a message as it goes on the wire",
    "decrypt": "decrypt a captured message",
}

_HELP: Final = """\
Signs, encrypts, forwards, verifies and decrypts for AlipayHK.

try it:
  gateway demo --once          watch two exchanges, nothing to set up
  gateway simulate             a stand-in for AlipayHK on 127.0.0.1:8089
  gateway serve                the gateway on 127.0.0.1:8080, as config.yaml says
  gateway COMMAND --help       what a command does, with examples

exit status: 0 done, 1 it failed or found a problem, 2 wrong usage, 130 interrupted.
With --json, a failure (1) is a JSON object on standard output too.
"""


class UsageError(GatewayError):
    """The command line asks for what cannot be: exit status 2."""


class DiagnosedError(GatewayError):
    """A captured message is not what it should be, with what was found of it.

    Attributes:
        code: as in the error table of the documentation.
        diagnoses: each with `code`, `finding` and `advice`.
    """

    def __init__(
        self, detail: str, code: str, diagnoses: Sequence[dict[str, str]]
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.diagnoses = diagnoses


class _Version(argparse.Action):
    """`--version`, which looks the version up only when it is asked for."""

    def __call__(
        self, parser: argparse.ArgumentParser, *_: object, **__: object
    ) -> NoReturn:
        """Print the package's version and end."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            text = version("alipayhk-gateway")
        except PackageNotFoundError:
            text = "(not installed as a package)"
        print(f"{parser.prog} {text}")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line that says where help is."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where to read on; exit status 2."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")

    def explain(self, text: str | None) -> None:
        """Take a module's docstring as the help: its summary, then all the rest."""
        self.description, _, self.epilog = (text or "").partition("\n\n")
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.allow_abbrev = False


def main(
    arguments: Sequence[str] | None = None, *, loaded: Callable[[], None] | None = None
) -> int:
    """Run one command. Gives the exit status; never raises for a known error.

    Args:
        arguments: what stands after `gateway`; by default the process's own.
        loaded: called when every module is loaded, before the command begins.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        check_streams()
        try:
            return _command(given, loaded)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last resort: a line, no traceback
        return _failed(error, given)


def _command(given: Sequence[str], loaded: Callable[[], None] | None) -> int:
    options = _parse(given)
    if loaded is not None:
        loaded()
    try:
        status: int = options.run(options)
    except UsageError as error:
        parser: Parser = options.parser
        parser.error(error.detail)
    finally:
        if (homes := getattr(options, "homes", None)) is not None:
            homes.close()
    return status


def _parse(given: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="gateway")
    parser.explain(_HELP)
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="print the version and end"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((word for word in given if not word.startswith("-")), None)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == chosen:
            _complete(command, name)
    options, unknown = parser.parse_known_args(given)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _complete(command: Parser, name: str) -> None:
    module = importlib.import_module(f"gateway.cli.{name}")
    command.explain(module.__doc__)
    command.set_defaults(run=module.run, parser=command)
    module.add_arguments(command)
    command.add_argument(
        "--debug", action="store_true", help="show a traceback where it fails"
    )


def _failed(raised: Exception, given: Sequence[str]) -> int:
    """Say what went wrong, for people and, with --json, for programs."""
    error = lost_output() or _first(raised)
    if isinstance(error, BrokenPipeError):
        # The reader of our output went away (`| head`); nobody is left to tell.
        return 1
    if "--debug" in given:
        traceback.print_exception(raised)
    lines = _explanation(error).splitlines()
    if "--json" in given:
        facts = {"ok": False, "code": _code(error), "problems": _facts(error, lines)}
        if isinstance(error, DiagnosedError):
            facts["diagnoses"] = error.diagnoses
        print(json.dumps(facts))
        lost_output()
    for line in lines:
        print(f"gateway: {line}", file=sys.stderr)
    return 1


def _facts(error: Exception, lines: list[str]) -> list[dict[str, str | int | None]]:
    """Give what is wrong with its place; where there is none, in words alone."""
    if isinstance(error, SetupError) and error.places:
        return list(error.places)
    placeless = {"file": None, "line": None, "key": None}
    return [{**placeless, "message": line} for line in lines]


def _first(raised: Exception) -> Exception:
    """Give the error itself where tasks have wrapped it into a group."""
    while isinstance(raised, ExceptionGroup):
        raised = raised.exceptions[0]
    return raised


def _code(error: Exception) -> str:
    if isinstance(error, ExchangeError | DiagnosedError):
        return error.code
    known = isinstance(error, GatewayError | OSError)
    return "setup_error" if known else InternalError.code


def _explanation(error: Exception) -> str:
    if isinstance(error, GatewayError):
        return error.detail
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return f"internal error ({type(error).__name__}); --debug shows where"
