"""YAML into values: every problem with its line, and no value in any text."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import example, given, strategies as st
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationInfo,
)

from gateway.documents import (
    UNKNOWN,
    Document,
    DocumentError,
    Finding,
    Problem,
    Section,
    check_path,
    load,
    read as read_whole,
)
from gateway.errors import SetupError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def beside(path: Path, info: ValidationInfo) -> Path:
    return info.context["folder"] / path


class Part(Section):
    name: str
    count: int = Field(default=1, ge=1)
    ratio: float = 0.5
    ready: bool = False
    colour: Colour = Colour.RED
    notes: tuple[str, ...] = ()
    place: Annotated[Path, AfterValidator(beside)] | None = None


class Whole(Section):
    title: str = "untitled"
    main: Part | None = None
    parts: tuple[Part, ...] = ()


class Named(Section):
    by_name: dict[str, Part]


class Texts(Section):
    a: str
    b: str = ""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "whole.yaml"


@pytest.fixture
def read(file):
    """Give a function that writes a text (or bytes) and reads it as a model."""

    def write_and_load(text, model=Whole, **options):
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(file, model, **options)

    return write_and_load


@pytest.fixture
def problems(read):
    """Give a function that tells what is wrong with a text: [(line, where, what)]."""

    def refused(text, model=Whole, **options):
        with pytest.raises(DocumentError) as caught:
            read(text, model, **options)
        return [(each.line, each.where, each.message) for each in caught.value.problems]

    return refused


def texts(**entries):
    return "".join(f"{name}: {text}\n" for name, text in entries.items())


# --- what is read ------------------------------------------------------------


def test_a_file_becomes_the_values_of_its_model(read):
    value = read(
        "# a comment\n"
        "title: Whole\n"
        "main: {name: m, count: 3, ratio: 1.5, ready: yes, colour: blue}\n"
        "parts:\n"
        "  - name: p\n"
        "    notes: [x, y]\n"
    ).value
    assert value == Whole(
        title="Whole",
        main=Part(name="m", count=3, ratio=1.5, ready=True, colour=Colour.BLUE),
        parts=(Part(name="p", notes=("x", "y")),),
    )


@pytest.mark.parametrize(
    "text",
    [
        *("0211", "01", "1e3", "0x1F", "0o7", "1_000", "1.0", ".5", "-1"),
        *("yes", "no", "on", "off", "true", "False"),
        *("2026-11-23", "12:30:45", ".inf", ".nan", "=", "<<"),
    ],
)
def test_a_scalar_stays_the_text_that_it_is(read, text):
    assert read(texts(a=text), Texts).value.a == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'single'", "single"),
        ('"do\\tuble"', "do\tuble"),
        ("two words", "two words"),
        ("|\n  block\n  text", "block\ntext\n"),
        (">-\n  folded\n  text", "folded text"),
        ("香港", "香港"),
        ("!!int 7", "7"),
        ("!anything x", "x"),
        ("'~'", "~"),
        ('"null"', "null"),
        ('""', ""),
    ],
)
def test_every_style_of_text_is_text(read, text, value):
    assert read(texts(a=text), Texts).value.a == value


@pytest.mark.parametrize("null", ["", "~", "null", "Null", "NULL"])
def test_a_plain_null_is_no_value(read, problems, null):
    assert read(f"main: {null}\n").value.main is None
    assert problems(texts(a=null), Texts) == [(1, "a", "must be text")]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n"])
def test_an_empty_file_is_a_mapping_without_keys(read, problems, text):
    assert read(text).value == Whole()
    assert problems(text, Texts) == [(1, "a", "this key is required")]


def test_a_byte_order_mark_is_no_part_of_the_first_key(read):
    assert read(b"\xef\xbb\xbftitle: x\n").value.title == "x"


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"])
def test_line_ends_of_every_world_count_alike(problems, end):
    text = end.join([b"title: x", b"main:", b"  name: n", b"  count: none", b""])
    assert problems(text) == [(4, "main.count", "must be a whole number")]


def test_validators_find_the_folder_of_the_file(read, file):
    assert read("main: {name: m, place: here}").value.main.place == file.parent / "here"


def test_values_cannot_be_changed(read):
    value = read("title: x").value
    with pytest.raises(ValueError, match="frozen"):
        value.title = "y"


# --- what is wrong, and where ------------------------------------------------


def test_every_problem_is_told_at_once_in_the_order_of_lines(problems):
    found = problems(
        "titel: x\n"  # 1
        "main:\n"  # 2
        "  count: 0\n"  # 3
        "  ready: maybe\n"  # 4
        "parts:\n"  # 5
        "  - name: a\n"  # 6
        "    ratio: much\n"  # 7
        "    colour: green\n"  # 8
        "  - count: 1.5\n"  # 9
        "    name: b\n"  # 10
        "  - text\n"  # 11
        "  - name: c\n"  # 12
        "    notes: none\n"  # 13
        "    notes: [n]\n"  # 14
    )
    assert found == [
        (1, "titel", "unknown key; did you mean title?"),
        (2, "main.name", "this key is required"),
        (3, "main.count", "must be at least 1"),
        (4, "main.ready", "must be true or false"),
        (7, "parts[0].ratio", "must be a number"),
        (8, "parts[0].colour", "must be 'red' or 'blue'"),
        (9, "parts[1].count", "must be a whole number"),
        (11, "parts[2]", "must be a mapping of keys to values"),
        (14, "parts[3].notes", "this key stands here twice"),
    ]


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("titles: x", "titles", "unknown key; did you mean title?"),
        ("colour: x", "colour", "unknown key; known are: title, main, parts"),
        ("main: {name: m, redy: x}", "main.redy", "unknown key; did you mean ready?"),
        (
            "parts: [{name: m, plaice: x}]",
            "parts[0].plaice",
            "unknown key; did you mean place?",
        ),
        ("Title: x", "Title", "unknown key; did you mean title?"),
    ],
)
def test_an_unknown_key_is_told_with_the_likely_one(problems, text, where, message):
    assert problems(text) == [(1, where, message)]


def test_a_part_that_stands_under_a_name_is_known_by_its_kind(problems):
    found = problems("by_name:\n  one:\n    name: n\n    cuont: 2\n", Named)
    assert found == [(4, "by_name.one.cuont", "unknown key; did you mean count?")]


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("title: [x]", "title", "must be text"),
        ("title: {x: y}", "title", "must be text"),
        ("main: text", "main", "must be a mapping of keys to values"),
        ("main: [x]", "main", "must be a mapping of keys to values"),
        ("parts: text", "parts", "must be a list"),
        ("parts: {name: x}", "parts", "must be a list"),
        ("parts:", "parts", "must be a list"),
        ("parts: [~]", "parts[0]", "must be a mapping of keys to values"),
        ("parts: [[]]", "parts[0]", "must be a mapping of keys to values"),
        ("main: {name: m, notes: [[]]}", "main.notes[0]", "must be text"),
    ],
)
def test_a_value_of_another_kind_is_told_as_what_it_must_be(
    problems, text, where, message
):
    assert problems(text) == [(1, where, message)]


@pytest.mark.parametrize("text", ["text", "- a\n- b\n", "~", "[]", "'quoted'"])
def test_a_document_that_is_no_mapping_is_refused(problems, text):
    assert problems(text) == [(1, "", "must be a mapping of keys to values")]


def test_a_key_that_stands_twice_is_an_error_on_its_second_line(problems):
    assert problems("title: x\nmain:\ntitle: x\n") == [
        (3, "title", "this key stands here twice")
    ]


def test_a_problem_names_its_file_and_reads_as_one_line(read, file):
    with pytest.raises(DocumentError) as caught:
        read("main:\n  count: 2\n")
    error = caught.value
    assert isinstance(error, SetupError)
    assert str(error) == error.detail == f"{file}:1: main.name: this key is required"
    assert str(Problem(file, None, "", "is odd")) == f"{file}: is odd"
    assert str(Problem(file, 0, "a", "is odd")) == f"{file}: a: is odd"


def test_a_problem_that_only_the_use_of_a_value_shows_has_its_line_too(read, file):
    document = read("title: x\nparts:\n  - name: a\n  - name: b\n    count: 7\n")
    assert isinstance(document, Document)
    for location, line in (
        (("parts", 1, "count"), 5),
        (("parts", 1), 4),
        (("parts", 1, "colour", 0), 4),  # not in the file: the nearest that is
        (("parts", 7), 2),
        (("main",), 1),
        ((), 1),
    ):
        assert document.problem(location, "no").line == line
    problem = document.problem(("parts", 1, "count"), "too many")
    assert str(problem) == f"{file}:5: parts[1].count: too many"


def test_findings_on_the_raw_tree_are_told_with_the_models_own(problems):
    def check(tree):
        main = {"name": "m", "count": "0"}
        assert tree == {"title": "x", "main": main, "parts": None}
        yield Finding(("title",), "is not good")
        yield Finding(("title",), "is not good")

    assert problems("title: x\nmain: {name: m, count: 0}\nparts:\n", check=check) == [
        (1, "title", "is not good"),
        (2, "main.count", "must be at least 1"),
        (3, "parts", "must be a list"),
    ]


def test_a_finding_alone_refuses_a_file_whose_values_are_all_right(problems):
    found = problems("title: x", check=lambda _: [Finding((), "is too plain")])
    assert found == [(1, "", "is too plain")]


# --- one mistake, one problem ------------------------------------------------


class Needy(Section):
    name: str
    notes: tuple[int, ...] = Field(min_length=1)


def test_a_required_key_that_is_misspelt_is_not_missing_as_well(problems):
    assert problems("nam: x\nnotes: [1]\n", Needy) == [
        (1, "nam", "unknown key; did you mean name?")
    ]


def test_a_required_key_is_missing_where_an_unknown_one_is_nothing_like_it(problems):
    assert problems("colour: x\nnotes: [1]\n", Needy) == [
        (1, "name", "this key is required"),
        (1, "colour", "unknown key; known are: name, notes"),
    ]


@pytest.mark.parametrize(
    ("notes", "found"),
    [
        ("[]", (1, "notes", "at least one is needed")),
        ("[x]", (1, "notes[0]", "must be a whole number")),
    ],
)
def test_a_list_whose_only_entry_is_wrong_is_not_empty_as_well(problems, notes, found):
    assert problems(f"notes: {notes}\nname: x\n", Needy) == [found]


def test_a_finding_on_the_raw_tree_gives_way_to_the_models_at_its_place(problems):
    found = problems(
        "title: [x]\nmain:\n",
        check=lambda _: [Finding(("title",), "is odd"), Finding(("main",), "is odd")],
    )
    assert found == [(1, "title", "must be text"), (2, "main", "is odd")]


# --- what is quoted ----------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("\\e[31mred", "\\x1b[31mred"),
        ("a\\nb", "a\\nb"),
        ("a\\0b", "a\\x00b"),
        ("a\\u2028b", "a\\u2028b"),
        ("a\\u202eb", "a\\u202eb"),
        ("é 香港", "é 香港"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 64 + "..."),
    ],
)
def test_a_key_is_shown_with_its_signs_escaped_and_a_long_one_cut(problems, key, shown):
    ((line, where, _),) = problems(f'"{key}": x')
    assert (line, where) == (1, shown)


HALF = "has half a character in it (a surrogate); write the whole one, as UTF-8"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('title: "\\ud800"', "title"),
        ('title: "\\ud83d\\ude00"', "title"),
        ('main: {name: n, count: "\\udfff"}', "main.count"),
        ('"tit\\ud800le": x', "tit\\ud800le"),
        ("title: ${BYTES}", "title"),
    ],
)
def test_half_a_character_is_one_problem(problems, text, where):
    environment = {"BYTES": b"\xff".decode("utf-8", "surrogateescape")}
    assert problems(text, environment=environment) == [(1, where, HALF)]


# --- paths -------------------------------------------------------------------


class Placed(Section):
    place: Annotated[Path, BeforeValidator(check_path)]


@pytest.mark.parametrize("path", ["a", "/a/b", ".", "..", "a b", "香港/\u3000", "-"])
def test_a_path_may_have_what_files_have(read, path):
    assert read(f'place: "{path}"', Placed).value.place == Path(path)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("a\\0", "U+0000"),
        ("\\n", "U+000A"),
        ("\\e", "U+001B"),
        ("\\x7f", "U+007F"),
        ("\\x85", "U+0085"),
        ("\\u2028", "U+2028"),
        ("\\u2029", "U+2029"),
    ],
)
def test_a_path_has_no_control_characters(problems, path, code):
    message = f"the character {code} cannot stand in a path; take it out"
    assert problems(f'place: "{path}"', Placed) == [(1, "place", message)]


def test_a_path_is_not_empty(problems):
    message = "must not be empty; write the path of a file or folder"
    for text in ('place: ""', "place: ${EMPTY}"):
        found = problems(text, Placed, environment={"EMPTY": ""})
        assert found == [(1, "place", message)]


def test_what_is_no_text_is_no_path(problems):
    assert problems("place: [a]", Placed) == [(1, "place", "must be a path")]


# --- parts -------------------------------------------------------------------


def test_a_part_is_read_whatever_is_wrong_elsewhere(file):
    file.write_text("main: {name: n, count: 0, place: here}\nparts: [{name: p}, x]\n")
    document = read_whole(file, Whole)
    assert len(document.problems) == 2
    for location, kind, value in (
        (("main", "name"), str, "n"),
        (
            ("main", "place"),
            Annotated[Path, AfterValidator(beside)],
            file.parent / "here",
        ),
        (("parts", 0), Part, Part(name="p")),
        (("main", "count"), Annotated[int, Field(ge=1)], None),
        (("main", "notes"), str, None),
        (("parts", 2), Part, None),
        (("parts", 1, "name"), str, None),
        (("parts", "name"), str, None),
        (("title", 0), str, None),
    ):
        assert document.part(location, TypeAdapter(kind)) == value


# --- the environment ---------------------------------------------------------

ENVIRONMENT = {"ONE": "1", "_two": "x y", "EMPTY": "", "SIGN": "${ONE} $$ $"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${ONE}", "1"),
        ("'${ONE}'", "1"),
        ('"${ONE}"', "1"),
        ("|-\n  ${ONE}", "1"),
        ("a${ONE}b${_two}c", "a1bx yc"),
        ("${ONE}${ONE}", "11"),
        ("'${EMPTY}'", ""),
        ("a$$b", "a$b"),
        ("$${ONE}", "${ONE}"),
        ("$$$${ONE}", "$${ONE}"),
        ("$$${ONE}", "$1"),
        ("$ONE", "$ONE"),
        ("cost$", "cost$"),
        ("${SIGN}", "${ONE} $$ $"),
    ],
)
def test_variables_are_put_in_once_wherever_they_stand(read, text, value):
    read_as = read(texts(a=text), Texts, environment=ENVIRONMENT).value
    assert read_as.a == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: ${ONE}, b: x}", "1"),
        ("{b: x, a: ${ONE}}", "1"),
        ("{a: ${ONE} , b: x}", "1"),
        ("{a: p${ONE}q${_two}, b: x}", "p1qx y"),
        ("{a: ${ONE}#x, b: x}", "1#x"),
        ("{a: $${ONE}, b: x}", "${ONE}"),
        ("{a: '${ONE}', b: x}", "1"),
        ("{a: ${SIGN}, b: x}", "${ONE} $$ $"),
        ("{\n  b: x, # ${no such}\n  a: ${ONE}\n}", "1"),
        ("{a: \ue000${ONE}\ue001\ue002, b: x}", "\ue0001\ue001\ue002"),
    ],
)
def test_variables_are_put_in_in_flow_style_too(read, text, value):
    assert read(text, Texts, environment=ENVIRONMENT).value == Texts(a=value, b="x")


def test_a_problem_in_flow_style_has_its_line(problems):
    text = "{a: ${ONE},\n b: ${UNSET},\n c: ${A-B}}"
    assert problems(text, Texts, environment=ENVIRONMENT) == [
        (2, "b", "the environment variable UNSET is not set"),
        (3, "c", "a variable is written ${NAME}; a plain $ is written $$"),
        (3, "c", "unknown key; known are: a, b"),
    ]


def test_a_list_in_flow_style_takes_variables(read):
    text = "title: t\nmain: {name: n}\nparts: [{name: ${ONE}}, {name: ${_two}}]\n"
    parts = read(text, environment=ENVIRONMENT).value.parts
    assert [part.name for part in parts] == ["1", "x y"]


def test_a_text_with_every_character_of_private_use_is_read_as_it_stands(read):
    every = "".join(map(chr, range(0xE000, 0xF900)))
    value = read(f"{{a: {every}, b: '${{ONE}}'}}", Texts, environment=ENVIRONMENT).value
    assert value == Texts(a=every, b="1")


@pytest.mark.parametrize("text", ["${ONE}", "$$", "${", "${no such}"])
def test_without_an_environment_such_text_is_left_alone(read, text):
    assert read(texts(a=f"'{text}'"), Texts).value.a == text


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("main: ${UNSET}", "main"),
        ("parts: ${UNSET}", "parts"),
        ("parts: ['${UNSET}']", "parts[0]"),
        ("main: {name: '${UNSET}'}", "main.name"),
        ("main: {name: n, count: '${UNSET}'}", "main.count"),
        ("main: {name: n, count: '1${UNSET}'}", "main.count"),
        ("main: {name: n, ratio: '${UNSET}'}", "main.ratio"),
        ("main: {name: n, ready: '${UNSET}'}", "main.ready"),
        ("main: {name: n, colour: '${UNSET}'}", "main.colour"),
        ("main: {name: n, notes: '${UNSET}'}", "main.notes"),
        ("main: {name: n, place: '${UNSET}'}", "main.place"),
    ],
)
def test_a_variable_that_is_not_set_is_one_problem_whatever_it_was_to_be(
    problems, text, where
):
    unset = (1, where, "the environment variable UNSET is not set")
    assert problems(text, environment={}) == [unset]


def test_what_a_file_holds_has_no_text_where_a_variable_is_not_set(file):
    file.write_text("title: a ${UNSET}\nmain: {name: n}\n")
    document = read_whole(file, Whole, environment={})
    assert document.tree == {"title": UNKNOWN, "main": {"name": "n"}}
    with pytest.raises(DocumentError, match="UNSET is not set"):
        _ = document.value


@pytest.mark.parametrize("environment", [{}, {"OTHER": "x"}, {"unset": "x"}])
def test_a_variable_that_is_not_set_is_an_error_and_never_its_text(
    problems, environment
):
    text = "a: x\nb: a ${UNSET} b\n"
    assert problems(text, Texts, environment=environment) == [
        (2, "b", "the environment variable UNSET is not set")
    ]


def test_each_variable_that_is_not_set_is_told(problems):
    found = problems("a: ${ONE}${TWO}\nb: ${ONE}\n", Texts, environment={})
    assert found == [
        (1, "a", "the environment variable ONE is not set"),
        (1, "a", "the environment variable TWO is not set"),
        (2, "b", "the environment variable ONE is not set"),
    ]


@pytest.mark.parametrize(
    "text", ["${}", "${1A}", "${A-B}", "${A B}", "${ONE", "${ONE:-x}", "${É}"]
)
def test_a_variable_in_another_form_is_an_error(problems, text):
    assert problems(f"a: '{text}'", Texts, environment=ENVIRONMENT) == [
        (1, "a", "a variable is written ${NAME}; a plain $ is written $$")
    ]


@pytest.mark.parametrize(
    "value", ["x\nb: injected", "[1, 2]", "{a: b}", "*alias", "# none", "null", "~", ""]
)
def test_a_variable_cannot_change_the_structure_of_the_file(read, value):
    read_as = read(texts(a="${V}"), Texts, environment={"V": value}).value
    assert read_as == Texts(a=value, b="")


def test_keys_are_not_put_together_from_variables(problems):
    found = problems("${ONE}: x\na: x\n", Texts, environment=ENVIRONMENT)
    assert found == [(1, "${ONE}", "unknown key; known are: a, b")]


SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        "main: ${SECRET}",
        "parts: ${SECRET}",
        "parts: ['${SECRET}']",
        "main: {name: m, count: '${SECRET}'}",
        "main: {name: m, ratio: '${SECRET}'}",
        "main: {name: m, ready: '${SECRET}'}",
        "main: {name: m, colour: '${SECRET}'}",
        "main: {name: m, notes: '${SECRET}'}",
        "title: '${SECRET} ${UNSET}'",
        "title: '${SECRET}'\ntitle: '${SECRET}'",
        "title: '${SECRET}'\nname: '${SECRET}'",
    ],
)
def test_a_value_from_the_environment_is_never_quoted(read, text):
    with pytest.raises(DocumentError) as caught:
        read(text, environment={"SECRET": SECRET})
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.problems!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# --- files that are no documents ---------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "title: x\n\tmain: y\n",
            2,
            "a tab stands where a key or value begins; indent with spaces",
        ),
        ("title: x\nmain: [a\n", 3, "expected ',' or ']', but got '<stream end>'"),
        (
            "title: x\n---\ntitle: y\n",
            2,
            "a second document begins; a file holds one, so take the --- out",
        ),
        (
            "title: x\n y: z\n",
            2,
            "a colon stands where no key can; mend the indentation, or quote the value",
        ),
        (
            'title: "x\n',
            2,
            "a quotation has no end; close it with the sign that opens it",
        ),
        ("title: x\nmain\nparts: y\n", 3, "a key has no colon; write KEY: VALUE"),
        (
            "parts:\n  - name: a\n - name: b\n",
            3,
            "what stands here does not fit what is above; mend the indentation",
        ),
        (
            "title: *x\n",
            1,
            "a value that begins with * is an alias, which is not read; quote it",
        ),
        ("title: !x!y z\n", 1, "a value that begins with ! is a tag; quote it"),
        (
            'a: x\ntitle: "\\U00110000"\n',
            2,
            "the number of an escape or a version is too great",
        ),
        (
            'title: "\\UFFFFFFFF"\n',
            1,
            "the number of an escape or a version is too great",
        ),
        (
            f"%YAML 1.{'9' * 5000}\n---\ntitle: x\n",
            1,
            "the number of an escape or a version is too great",
        ),
    ],
)
def test_text_that_is_no_yaml_is_told_with_its_line(problems, text, line, message):
    assert problems(text) == [(line, "", f"not YAML: {message}")]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("*hunter2", "hunter2"),
        ("*h-u-n-t-e-r", "h-u-n-t-e-r"),
        ("*1_2-3", "1_2-3"),
        ("!hunter2!x y", "hunter2"),
    ],
)
def test_a_value_that_yaml_takes_for_its_own_sign_is_not_quoted(read, text, secret):
    with pytest.raises(DocumentError, match="not YAML") as caught:
        read(f"title: {text}")
    assert secret not in caught.value.problems[0].message


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"title: \xff", 1),
        ("title: é".encode("latin-1"), 1),
        ("title: x".encode("utf-16"), 1),
        (b"# a\r# b\n# c\r\ntitle: \xff\n", 4),
    ],
)
def test_bytes_that_are_no_utf_8_are_refused(problems, data, line):
    assert problems(data) == [(line, "", "is not UTF-8 text; save it as UTF-8")]


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f", "\ufffe"])
def test_control_characters_are_refused(problems, character):
    message = f"the character U+{ord(character):04X} cannot stand in YAML; take it out"
    assert problems(f"# é\ntitle: a{character}b") == [(2, "", message)]


def test_a_file_that_is_not_there_is_told_as_such(tmp_path):
    with pytest.raises(DocumentError) as caught:
        load(tmp_path / "none.yaml", Whole)
    assert str(caught.value) == (
        f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory"
    )


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for place, what in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a pipe, socket or device"),
        (tmp_path / "zero", "a pipe, socket or device"),
    ):
        with pytest.raises(DocumentError) as caught:
            load(place, Whole)
        assert str(caught.value) == f"{place}: is not a file but {what}"


def test_a_file_that_cannot_be_opened_is_told_with_what_to_do(tmp_path):
    for place in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(DocumentError, match="; name it"):
            read_whole(place, Whole, remedy="name it")


def test_a_file_over_a_mebibyte_is_refused_before_it_is_read(file):
    largest = 1 << 20
    file.write_text("title: x\n#" + "x" * (largest - 10))
    assert file.stat().st_size == largest
    assert load(file, Whole).value.title == "x"
    os.truncate(file, largest + 1)
    with pytest.raises(DocumentError, match="is over 1 MiB"):
        load(file, Whole)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused_and_breaks_nothing(problems, opening):
    for depth in (33, 1000, 100_000):
        text = f"{opening * depth}x"
        assert problems(text) == [(1, "", "is nested too deeply")]


def test_nesting_that_is_refused_is_told_with_its_line(problems):
    text = "".join(f"{' ' * depth}a:\n" for depth in range(40))
    assert problems(text) == [(32, "", "is nested too deeply")]


# --- aliases -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("title: &t x\nmain: {name: *t}\n", "main.name"),
        ("main: &m {name: n}\nparts:\n  - *m\n", "parts[0]"),
        ("main: &m\n  name: *m\n", "main.name"),
    ],
)
def test_aliases_are_not_read(problems, text, where):
    assert [found[1:] for found in problems(text)] == [(where, "aliases are not read")]


def test_an_alias_is_told_with_its_own_line_not_with_its_anchors(problems):
    assert problems("title: &t x\nmain:\n  name: *t\n") == [
        (3, "main.name", "aliases are not read")
    ]


def test_an_anchor_that_nothing_names_harms_nothing(read):
    assert read("title: &t x").value.title == "x"


def test_merge_keys_are_unknown_keys(problems):
    assert problems("main: {name: n, <<: {count: 2}}") == [
        (
            1,
            "main.<<",
            "unknown key; known are: name, count, ratio, ready, colour, notes, place",
        )
    ]


def laughs(levels):
    """Write lists that double at each level, by aliases alone."""
    lists = [
        f"&l{i} [{f'*l{i - 1}, *l{i - 1}' if i else SECRET}]" for i in range(levels)
    ]
    return f"[{', '.join(lists)}]"


@pytest.mark.parametrize("place", ["parts: {}", "main: {{x: {}}}", "{}"])
def test_a_billion_laughs_are_not_laughed(problems, place):
    found = problems(place.format(laughs(60)))
    assert [message for _, _, message in found] == ["aliases are not read"]


def test_a_key_that_is_no_text_is_refused_without_showing_it(read):
    with pytest.raises(DocumentError) as caught:
        read("? [hunter2, b]\n: x\n")
    assert SECRET not in str(caught.value)


def test_laughs_inside_a_key_are_not_written_out(read):
    # 12 levels are 4096 words: enough to see, too few to hang a machine.
    with pytest.raises(DocumentError) as caught:
        read(f"? {laughs(12)}\n: x\n")
    assert len(str(caught.value)) < 2000


# --- nothing else escapes ----------------------------------------------------


def outcome(file):
    try:
        return load(file, Whole, environment={}).value
    except DocumentError as error:
        return error


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`$?,~ \n\t\\é0"), max_size=40))
@example("? a")
@example("&a : *a")
@example("!!binary x")
def test_any_text_is_read_or_refused_as_a_document(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, "utf-8", newline="")
    found = outcome(file)
    assert isinstance(found, Whole) or all(p.file == file for p in found.problems)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_as_a_document(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(data)
    found = outcome(file)
    assert isinstance(found, Whole) or found.problems
