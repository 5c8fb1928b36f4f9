"""The command line: one module per subcommand, loaded only when it is called.

A subcommand's module has `add_arguments(parser)` and `run(arguments) -> int`.
Exit status: 0 done, 1 it failed or found a problem, 2 wrong usage.
"""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

from gateway.errors import GatewayError

_COMMANDS: Final = {
    "demo": "see a plain and an encrypted exchange, hop by hop, without setting up",
    "serve": "run the gateway",
    "check": "validate the configuration and the keys without serving",
    "simulate": "run a simulator of AlipayHK, for development and tests",
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
"""


class UsageError(GatewayError):
    """The command line asks for what cannot be: exit status 2."""


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Gives the exit status; never raises for a known error."""
    options = _parse(sys.argv[1:] if arguments is None else list(arguments))
    parser: Parser = options.parser
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except UsageError as error:
        parser.error(error.detail)
    except Exception as error:  # noqa: BLE001 - the last resort: a line, no traceback
        if options.debug:
            traceback.print_exception(error)
        return _fail(error)
    return status


def _parse(given: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="gateway")
    parser.explain(_HELP)
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


def _fail(error: Exception) -> int:
    for line in _explanation(error).splitlines():
        print(f"gateway: {line}", file=sys.stderr)
    return 1


def _explanation(error: Exception) -> str:
    if isinstance(error, GatewayError):
        return error.detail
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return f"internal error ({type(error).__name__}); --debug shows where"
