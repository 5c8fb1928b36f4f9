"""YAML files into validated values, every problem at once, each with its line.

Scalars stay text until a model types them, so `client_id: 0211` keeps its zero and
`version: 1` is the label "1". Used for config.yaml and for keyring.yaml.
"""

import difflib
import typing
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gateway.trees import (
    UNKNOWN,
    DocumentError,
    Finding,
    Location,
    Problem,
    Reader,
    Tree,
)

__all__ = [
    "UNKNOWN",
    "Check",
    "Document",
    "DocumentError",
    "Finding",
    "Location",
    "Problem",
    "Section",
    "Tree",
    "check_path",
    "load",
    "read",
]

_MAX_COMPARED: Final = 64
_UNFIT_IN_PATHS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's controls, halves of characters, and ends of lines and paragraphs."""

_MESSAGES: Final = {
    "missing": "this key is required",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "model_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "too_short": "at least one is needed",
    "too_long": "at most {max_length} may stand here",
    "string_type": "must be text",
    "path_type": "must be a path",
    "value_error": "{error}",
}
"""What pydantic's kinds of errors are called here; in braces, what it knows of one."""


class Section(BaseModel):
    """A part of a document: unknown keys are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )


Model = TypeVar("Model", bound=Section)
Part = TypeVar("Part")


Check: TypeAlias = Callable[[Tree], Iterable[Finding]]
"""Looks at the raw tree for what no single value can show, such as references."""


class Document(Generic[Model]):
    """A file that was read: its value, or what is wrong, and where its parts stand."""

    def __init__(
        self,
        reader: Reader,
        tree: Tree,
        value: Model | None,
        findings: Iterable[Finding],
    ) -> None:
        self.tree = tree
        """What stands in the file, also where it is wrong."""
        self.problems = reader.problems(findings)
        self._context = _context(reader.file)
        self._reader = reader
        self._value = value

    @property
    def value(self) -> Model:
        """The validated whole.

        Raises:
            DocumentError: there is at least one problem.
        """
        if self._value is None or self.problems:
            raise DocumentError(self.problems)
        return self._value

    def part(self, location: Location, kind: TypeAdapter[Part]) -> Part | None:
        """Read one part by itself: a mistake elsewhere does not matter to it.

        Gives None where it is not in the file or is wrong itself.
        """
        tree = self.tree
        try:
            for step in location:
                tree = tree[step]
            return kind.validate_python(tree, context=self._context)
        except (LookupError, TypeError, ValidationError):
            return None

    def problem(self, location: Location, message: str) -> Problem:
        """Name a problem that only the use of a value showed."""
        return self._reader.problem(Finding(location, message))


def load(
    file: Path,
    model: type[Model],
    *,
    environment: Mapping[str, str] | None = None,
    check: Check = lambda _: (),
) -> Document[Model]:
    """Read a YAML file as a `model`; as `read`, and refuse it with any problem.

    Raises:
        DocumentError: with every problem that was found.
    """
    document = read(file, model, environment=environment, check=check)
    if document.problems:
        raise DocumentError(document.problems)
    return document


def read(
    file: Path,
    model: type[Model],
    *,
    environment: Mapping[str, str] | None = None,
    check: Check = lambda _: (),
    remedy: str = "",
) -> Document[Model]:
    """Read a YAML file, right or wrong.

    Args:
        file: the file. Relative paths inside it are relative to its folder, which
            validators find in `info.context["folder"]`.
        model: what the file must be.
        environment: values for `${NAME}`; None leaves such text alone.
        check: further findings on the raw tree; reported with the model's own.
        remedy: what to do where the file cannot be opened.

    Raises:
        DocumentError: it cannot be read, or is not YAML.
    """
    reader = Reader(file, environment)
    tree = reader.read(remedy)
    value, errors = None, []
    try:
        value = model.model_validate(tree, context=_context(file))
    except ValidationError as error:
        errors = error.errors()
    found = [*reader.findings, *_findings(model, errors, reader.unknown)]
    places = {finding.location for finding in found}
    further = [each for each in check(tree) if each.location not in places]
    return Document(reader, tree, value, further + found)


def _context(file: Path) -> dict[str, Path]:
    return {"folder": file.parent}


def check_path(text: object) -> object:
    """Pass a path that a file can have. What is no text is left to others.

    Raises:
        ValueError: it is empty, or has a character that no path should have.
    """
    if text == "":
        msg = "must not be empty; write the path of a file or folder"
        raise ValueError(msg)
    for sign in text if isinstance(text, str) else "":
        if unicodedata.category(sign) in _UNFIT_IN_PATHS:
            msg = f"the character U+{ord(sign):04X} cannot stand in a path; take it out"
            raise ValueError(msg)
    return text


def _findings(
    model: type[BaseModel], errors: list[ErrorDetails], unknown: set[Location]
) -> Iterator[Finding]:
    """Give each mistake once: what only follows from another one is left out."""
    places = [error["loc"] for error in errors]
    misspelt = {
        error["loc"]: _near(model, error["loc"])
        for error in errors
        if error["type"] == "extra_forbidden"
    }
    meant = {(*place[:-1], near) for place, near in misspelt.items() if near}
    for error in errors:
        place = error["loc"]
        if place in misspelt:
            yield Finding(place, _unknown_key(model, place, misspelt[place]))
            continue
        follows = {
            "missing": place in meant,
            "too_short": any(_is_inside(each, place) for each in places),
        }.get(error["type"], False)
        if not follows and not any(place[:end] in unknown for end in _ends(place)):
            yield Finding(place, _message(error))


def _ends(place: Location) -> range:
    return range(len(place) + 1)


def _is_inside(place: Location, other: Location) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _near(model: type[BaseModel], place: Location) -> str | None:
    known = _keys_at(model, place[:-1])
    near = difflib.get_close_matches(str(place[-1])[:_MAX_COMPARED], known, n=1)
    return near[0] if near else None


def _unknown_key(model: type[BaseModel], place: Location, near: str | None) -> str:
    known = ", ".join(_keys_at(model, place[:-1]))
    return f"unknown key; {f'did you mean {near}?' if near else f'known are: {known}'}"


def _message(error: ErrorDetails) -> str:
    """Put an error into words of our own: the library's are not for operators."""
    context = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in error.get("ctx", {}).items()
    }
    message = _MESSAGES.get(error["type"], "is not a value that this key can have")
    return message.format_map(context)


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            model = next(_models_in(annotation), model)
    return list(model.model_fields)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
