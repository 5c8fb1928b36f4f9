"""YAML files into validated values, every problem at once, each with its line.

Scalars stay text until a model types them, so `client_id: 0211` keeps its zero and
`version: 1` is the label "1". Used for config.yaml and for keyring.yaml.
"""

import difflib
import re
import stat
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import SetupError

Location: TypeAlias = tuple[str | int, ...]
"""Where in a document: `("clients", 0, "upstream")`."""

Tree: TypeAlias = Any
"""A document as dicts, lists, text and None."""

_VARIABLE: Final = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")
_QUOTED: Final = re.compile(r"'[^']*'")
_SIGN: Final = re.compile(r"'(?:.|\\.|<[a-z ]+>)'")
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_MAX_BYTES: Final = 1 << 20


class Section(BaseModel):
    """A part of a document: unknown keys are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )


Model = TypeVar("Model", bound=Section)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at a place in a document, before its line is known."""

    location: Location
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a file. It never quotes a value: that may be a secret."""

    file: Path
    line: int | None
    where: str
    message: str

    def __str__(self) -> str:
        """Give one line: `config.yaml:12: clients[0].upstream: …`."""
        place = f"{self.file}:{self.line}" if self.line else f"{self.file}"
        return (
            f"{place}: {self.where}: {self.message}"
            if self.where
            else f"{place}: {self.message}"
        )


class DocumentError(SetupError):
    """A file with at least one problem; the text lists them all."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


Check: TypeAlias = Callable[[Tree], Iterable[Finding]]
"""Looks at the raw tree for what no single value can show, such as references."""


class Document(Generic[Model]):
    """A validated file, and where its parts stand in it."""

    def __init__(self, value: Model, reader: "_Reader") -> None:
        self.value = value
        self._reader = reader

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
    """Read a YAML file as a `model`.

    Args:
        file: the file. Relative paths inside it are relative to its folder, which
            validators find in `info.context["folder"]`.
        model: what the file must be.
        environment: values for `${NAME}`; None leaves such text alone.
        check: further findings on the raw tree; reported with the model's own.

    Raises:
        DocumentError: with every problem that was found.
    """
    reader = _Reader(file, environment)
    tree = reader.read()
    findings = [*reader.findings, *check(tree)]
    try:
        value = model.model_validate(tree, context={"folder": file.parent})
    except ValidationError as error:
        findings += [_finding(model, details) for details in error.errors()]
        raise reader.error(findings) from None
    if findings:
        raise reader.error(findings)
    return Document(value, reader)


class _Reader:
    """One pass over a YAML file: its tree, and the line of each place in it."""

    def __init__(self, file: Path, environment: Mapping[str, str] | None) -> None:
        self.findings: list[Finding] = []
        self._file = file
        self._environment = environment
        self._lines: dict[Location, int] = {}
        self._nodes: set[yaml.Node] = set()

    def read(self) -> Tree:
        try:
            node = yaml.compose(self._text(), Loader=yaml.SafeLoader)
            return {} if node is None else self._value(node, ())
        except OSError as error:
            message = f"cannot be read: {error.strerror}"
            raise self._unreadable(message) from None
        except (UnicodeDecodeError, yaml.reader.ReaderError):
            raise self._unreadable("is not UTF-8 text") from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else None
            message = f"not YAML: {_unquoted(error.problem or '')}"
            raise DocumentError([Problem(self._file, line, "", message)]) from None
        except RecursionError:
            raise self._unreadable("is nested too deeply") from None

    def _text(self) -> str:
        status = self._file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            raise self._unreadable("is not a file, or is over 1 MiB")
        return self._file.read_text("utf-8")

    def problem(self, finding: Finding) -> Problem:
        location = finding.location
        while location not in self._lines and location:
            location = location[:-1]
        return Problem(
            self._file,
            self._lines.get(location),
            _dotted(finding.location),
            finding.message,
        )

    def error(self, findings: Iterable[Finding]) -> DocumentError:
        problems = dict.fromkeys(self.problem(finding) for finding in findings)
        return DocumentError(sorted(problems, key=lambda problem: problem.line or 0))

    def _unreadable(self, message: str) -> DocumentError:
        return DocumentError([Problem(self._file, None, "", message)])

    def _value(self, node: yaml.Node, location: Location) -> Tree:
        if node in self._nodes:
            # Nine lines of aliases can stand for a billion values.
            raise self.error([Finding(location, "aliases are not read")])
        self._lines.setdefault(location, node.start_mark.line + 1)
        self._nodes.add(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            items = enumerate(node.value)
            return [self._value(item, (*location, index)) for index, item in items]
        assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - the third kind of three
        return self._scalar(node, location)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> Tree:
        tree: dict[str, Tree] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error([Finding(location, "a key here is not plain text")])
            key = str(key_node.value)
            place = (*location, key)
            if key in tree:
                self.findings.append(Finding(place, "this key stands here twice"))
            self._lines[place] = key_node.start_mark.line + 1
            tree[key] = self._value(value_node, place)
        return tree

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> str | None:
        text = str(node.value)
        if node.style is None and text in _NULLS:
            return None
        if self._environment is None:
            return text
        return _VARIABLE.sub(lambda found: self._variable(found, location), text)

    def _variable(self, found: re.Match[str], location: Location) -> str:
        name = found[1]
        if found[0] == "$$":
            return "$"
        if name is None:
            message = "a variable is written ${NAME}; a plain $ is written $$"
        elif name not in (self._environment or {}):
            message = f"the environment variable {name} is not set"
        else:
            return (self._environment or {})[name]
        self.findings.append(Finding(location, message))
        return found[0]


def _finding(model: type[BaseModel], details: ErrorDetails) -> Finding:
    location: Location = details["loc"]
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
        return Finding(location, f"unknown key; {hint}")
    message = {
        "missing": "this key is required",
        "enum": f"must be {context.get('expected')}",
        "literal_error": f"must be {context.get('expected')}",
        "int_parsing": "must be a whole number",
        "float_parsing": "must be a number",
        "bool_parsing": "must be true or false",
        "model_type": "must be a mapping of keys to values",
        "tuple_type": "must be a list",
        "string_type": "must be text",
        "value_error": str(context.get("error", "")),
    }.get(kind)
    return Finding(location, message or _lower_first(details["msg"]))


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


def _dotted(location: Location) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _unquoted(problem: str) -> str:
    """Take a parser's quotations out, but for signs: they may be a secret's."""
    return _QUOTED.sub(
        lambda found: found[0] if _SIGN.fullmatch(found[0]) else "a value", problem
    )


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
