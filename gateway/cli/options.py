"""Options that several commands share."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from gateway.keys.backends.known import known_homes


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare `-c FILE`."""
    parser.add_argument(
        "-c",
        "--config",
        type=path,
        default=Path("config.yaml"),
        metavar="FILE",
        help="the configuration (default: config.yaml)",
    )


def path(text: str) -> Path:
    """Read the name of a file or folder. An empty one is no name for this folder."""
    if not text:
        msg = "it is empty: name a file or a folder"
        raise argparse.ArgumentTypeError(msg)
    return Path(text)


def add_json(parser: argparse._ActionsContainer) -> None:
    """Declare `--json`, also in a group of options that exclude each other."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_homes(parser: argparse.ArgumentParser) -> None:
    """Have the homes of private keys among a command's arguments, as `homes`."""
    parser.set_defaults(
        homes=known_homes(environment(), entropy=_entropy, monotonic=_monotonic)
    )


def environment() -> Mapping[str, str]:
    """Give the environment that `${NAME}` in a configuration is read from."""
    return os.environ  # noqa: TID251 - the one place that reads it


# The real ones are bound in the composition root, which is slow to load: only a key
# in a token needs them.


def _entropy(count: int) -> bytes:
    from gateway.plant import ENTROPY

    return ENTROPY(count)


def _monotonic() -> float:
    from gateway.plant import CLOCK

    return CLOCK.monotonic()
