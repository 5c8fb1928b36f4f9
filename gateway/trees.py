"""YAML text as a tree of plain text, and the line of each place in it.

Scalars stay text, variables are put in, and what cannot be read is told in words for
operators. What the tree must hold is for `gateway.documents`.
"""

import itertools
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from gateway.errors import SetupError

Location: TypeAlias = tuple[str | int, ...]
"""Where in a document: `("clients", 0, "upstream")`."""

Tree: TypeAlias = Any
"""A document as dicts, lists, text and None; UNKNOWN where a text could not be made."""

UNKNOWN: Final = object()
"""In place of a text whose variable is not set: no mistake but that one is told."""

_VARIABLE: Final = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")
_BRACED: Final = re.compile(r"\$\{([^{}\r\n]*)\}")
_PRIVATE_USE: Final = range(0xE000, 0xF900)
_QUOTED: Final = re.compile(r"'[^']*'")
_SIGN: Final = re.compile(r"'(?:.|\\.|<[a-z ]+>)'")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_MAX_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 32
_MAX_SHOWN: Final = 64

_HALF: Final = "has half a character in it (a surrogate); write the whole one, as UTF-8"
_SLIPS: Final = (
    (
        "found character '\\t' that",
        "a tab stands where a key or value begins; indent with spaces",
    ),
    (
        "mapping values are not allowed here",
        "a colon stands where no key can; mend the indentation, or quote the value",
    ),
    (
        "but found another document",
        "a second document begins; a file holds one, so take the --- out",
    ),
    (
        "could not find expected ':'",
        "a key has no colon; write KEY: VALUE",
    ),
    (
        "expected <block end>, but found",
        "what stands here does not fit what is above; mend the indentation",
    ),
    (
        "found unexpected end of stream",
        "a quotation has no end; close it with the sign that opens it",
    ),
    (
        "found undefined alias",
        "a value that begins with * is an alias, which is not read; quote it",
    ),
    (
        "found undefined tag handle",
        "a value that begins with ! is a tag; quote it",
    ),
)
"""How the parser's complaint begins, and what its reader has to know."""


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

    def facts(self) -> dict[str, str | int | None]:
        """Give it for a program: file, line, key and message."""
        return {
            "file": str(self.file),
            "line": self.line,
            "key": self.where or None,
            "message": self.message,
        }


class DocumentError(SetupError):
    """A file with at least one problem; the text lists them all."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
        self.places = tuple(problem.facts() for problem in self.problems)


class _TooDeep(yaml.MarkedYAMLError):
    """Nesting that no model has, refused before the stack ends."""


class _Loader(yaml.SafeLoader):
    """Composes nodes, to a depth."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth == _MAX_DEPTH:
            raise _TooDeep(problem_mark=self.get_mark())
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class Reader:
    """One pass over a YAML file.

    Args:
        file: the file.
        environment: values for `${NAME}`; None leaves such text alone.
    """

    def __init__(self, file: Path, environment: Mapping[str, str] | None) -> None:
        self.file = file
        self.findings: list[Finding] = []
        """What is wrong, and leaves a tree all the same."""
        self.unknown: set[Location] = set()
        """Where the tree has UNKNOWN."""
        self._environment = environment
        self._lines: dict[Location, int] = {(): 1}
        self._nodes: set[yaml.Node] = set()
        self._braces: dict[int, str] = {}

    def read(self, remedy: str) -> Tree:
        """Give the tree.

        Args:
            remedy: what to do where the file cannot be opened.

        Raises:
            DocumentError: the file cannot be read, or is not YAML.
        """
        text = self._text(self._data(remedy))
        if self._environment is not None:
            text = self._with_plain_variables(text)
        node = self._node(text)
        return {} if node is None else self._value(node, ())

    def _data(self, remedy: str) -> bytes:
        then = f"; {remedy}" if remedy else ""
        try:
            status = self.file.stat()
            if stat.S_ISDIR(status.st_mode):
                raise self._refused(None, f"is not a file but a folder{then}")
            if not stat.S_ISREG(status.st_mode):
                message = f"is not a file but a pipe, socket or device{then}"
                raise self._refused(None, message)
            if status.st_size > _MAX_BYTES:
                raise self._refused(None, f"is over 1 MiB, the most that is read{then}")
            return self.file.read_bytes()
        except OSError as error:
            message = f"cannot be read: {error.strerror}{then}"
            raise self._refused(None, message) from None

    def _text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            line = len(_LINE_END.findall(data, 0, error.start)) + 1
            message = "is not UTF-8 text; save it as UTF-8"
            raise self._refused(line, message) from None

    def _with_plain_variables(self, text: str) -> str:
        """Replace the braces of `${NAME}`, which end a plain scalar in flow style.

        Two characters that the text does not have stand in for them until the scalars
        are read (`_braces`); lines and columns stay.
        """
        unused = (chr(each) for each in _PRIVATE_USE if chr(each) not in text)
        pair = [*itertools.islice(unused, 2)]
        if len(pair) < 2:  # then such a variable has to be quoted
            return text
        opening, closing = pair
        self._braces = str.maketrans({opening: "{", closing: "}"})
        return _BRACED.sub(lambda found: f"${opening}{found[1]}{closing}", text)

    def _node(self, text: str) -> yaml.Node | None:
        try:
            loader = _Loader(text)
        except yaml.reader.ReaderError as error:
            before = text[: error.position].encode()
            line = len(_LINE_END.findall(before)) + 1
            message = f"the character U+{error.character:04X} cannot stand in YAML; take it out"
            raise self._refused(line, message) from None
        try:
            return loader.get_single_node()
        except _TooDeep:
            raise self._refused(loader.line + 1, "is nested too deeply") from None
        except yaml.MarkedYAMLError as error:
            line = (error.problem_mark or loader.get_mark()).line + 1
            message = f"not YAML: {_complaint(error.problem or '')}"
            raise self._refused(line, message) from None
        except (ValueError, OverflowError):  # what int and chr say to the parser
            message = "not YAML: the number of an escape or a version is too great"
            raise self._refused(loader.line + 1, message) from None

    def problem(self, finding: Finding) -> Problem:
        """Give a finding the line of its place, or of the nearest one around it."""
        location = finding.location
        while location not in self._lines:
            location = location[:-1]
        return Problem(
            self.file,
            self._lines[location],
            _dotted(finding.location),
            finding.message,
        )

    def problems(self, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        """Give each problem once, in the order of lines."""
        problems = dict.fromkeys(self.problem(finding) for finding in findings)
        return tuple(sorted(problems, key=lambda problem: problem.line or 0))

    def _refused(self, line: int | None, message: str) -> DocumentError:
        return DocumentError([Problem(self.file, line, "", message)])

    def _stop(self, location: Location, message: str) -> DocumentError:
        return DocumentError([self.problem(Finding(location, message))])

    def _value(self, node: yaml.Node, location: Location) -> Tree:
        if node in self._nodes:
            # Nine lines of aliases can stand for a billion values.
            raise self._stop(location, "aliases are not read")
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
                raise self._stop(location, "a key here is not plain text")
            key = str(key_node.value).translate(self._braces)
            place = (*location, key)
            self._lines[place] = key_node.start_mark.line + 1
            value = self._value(value_node, place)
            if _SURROGATE.search(key):
                self.findings.append(Finding(place, _HALF))
                continue
            if key in tree:
                self.findings.append(Finding(place, "this key stands here twice"))
            tree[key] = value
        return tree

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> Tree:
        text, found = node.value.translate(self._braces), len(self.findings)
        if node.style is None and text in _NULLS:
            return None
        if self._environment is not None:
            text = _VARIABLE.sub(lambda match: self._variable(match, location), text)
        if _SURROGATE.search(text):
            self.findings.append(Finding(location, _HALF))
        if len(self.findings) == found:
            return text
        self.unknown.add(location)
        return UNKNOWN

    def _variable(self, found: re.Match[str], location: Location) -> str:
        name = found[1]
        if found[0] == "$$":
            return "$"
        if name is None:
            message = "a variable is written ${NAME}; a plain $ is written $$"
        elif name not in (self._environment or {}):
            message = f"the environment variable {shown(name)} is not set"
        else:
            return (self._environment or {})[name]
        self.findings.append(Finding(location, message))
        return ""


def _dotted(location: Location) -> str:
    parts = (
        f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in location
    )
    return "".join(parts).removeprefix(".")


def shown(text: str) -> str:
    """Give a text as a line may show it: signs escaped, a long one cut."""
    cut = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return repr(cut)[1:-1]


def _complaint(problem: str) -> str:
    """Put a parser's complaint into our words, or at least take its quotations out."""
    for start, words in _SLIPS:
        if problem.startswith(start):
            return words
    return _unquoted(problem)


def _unquoted(problem: str) -> str:
    """Take a parser's quotations out, but for signs: they may be a secret's."""
    return _QUOTED.sub(
        lambda found: found[0] if _SIGN.fullmatch(found[0]) else "a value", problem
    )
