"""Options that several commands share."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path


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


def environment() -> Mapping[str, str]:
    """Give the environment that `${NAME}` in a configuration is read from."""
    return os.environ  # noqa: TID251 - the one place that reads it
