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
from typing import Final

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

_EPILOG: Final = """\
try it:
  gateway demo --once          watch two exchanges, nothing to set up
  gateway simulate             a stand-in for AlipayHK on 127.0.0.1:8089
  gateway serve                the gateway on 127.0.0.1:8080, as config.yaml says
  gateway COMMAND --help       what a command does, with examples
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Gives the exit status; never raises for a known error."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(given).parse_args(given)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except GatewayError as error:
        return _fail(error, error.detail, debug=options.debug)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(error, f"{where}{error.strerror or error}", debug=options.debug)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last resort: a line, no traceback
        text = f"internal error ({type(error).__name__}); --debug shows where"
        return _fail(error, text, debug=options.debug)
    return status


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="Signs, encrypts, forwards, verifies and decrypts for AlipayHK.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((word for word in given if not word.startswith("-")), None)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            _complete(command, name)
    return parser


def _complete(command: argparse.ArgumentParser, name: str) -> None:
    module = importlib.import_module(f"gateway.cli.{name}")
    command.description, _, command.epilog = module.__doc__.partition("\n\n")
    module.add_arguments(command)
    command.add_argument(
        "--debug", action="store_true", help="show a traceback where it fails"
    )
    command.set_defaults(run=module.run)


def _fail(error: BaseException, text: str, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    for line in text.splitlines():
        print(f"gateway: {line}", file=sys.stderr)
    return 1
