"""Options whose value is one of a few words of ours."""

import argparse
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TypeVar

Word = TypeVar("Word", bound=StrEnum)


def add_choice(
    parser: argparse.ArgumentParser,
    option: str,
    words: Iterable[Word],
    *,
    dest: str | None = None,
    default: Word | None = None,
    help: str,  # noqa: A002 - argparse's own name for it
) -> None:
    """Declare an option that takes one of `words` and gives it as such."""
    known = {word.value: word for word in words}
    parser.add_argument(
        option,
        type=_one_of(known),
        metavar="|".join(known),
        dest=dest or option.lstrip("-"),
        default=default,
        help=help,
    )


def _one_of(known: dict[str, Word]) -> Callable[[str], Word]:
    def read(text: str) -> Word:
        if text not in known:
            msg = f"it must be {' or '.join(known)}"
            raise argparse.ArgumentTypeError(msg)
        return known[text]

    return read
