"""Whatever a configuration holds, it is read or refused in the house's words."""

import copy
import re

import pytest
import yaml
from hypothesis import example, given, strategies as st

from gateway import config
from gateway.config import Settings
from gateway.documents import DocumentError
from gateway.keys import manifest
from gateway.keys.manifest import Manifest
from tests.unit.test_config import SHIPPED

ENVIRONMENT = {"SET": "set", "EMPTY": "", "HALF": "\udcff"}
RING = {
    "generation": 1,
    "partner": [{"version": "1", "state": "active", "key": "a.pem"}],
    "platform": [
        {"version": "1", "state": "active", "key": "b.pem", "use": ["verify"]}
    ],
}
FOREIGN = re.compile(
    r"[Ii]nput should|should (be|have)|valid (integer|string|number|path|dict)|"
    r"pydantic|Traceback|object at 0x|(?<!\$)\{\w+\}"
)

WORDS = st.sampled_from(
    [
        *("inbound", "admin", "clients", "routes", "listen", "name", "client", "path"),
        *("keyring", "tls", "ca_file", "encryption", "timeout_s", "time_offset"),
        *("generation", "partner", "platform", "version", "state", "key", "use"),
        *("active", "sign", "verify", "off", "hk-sandbox", "127.0.0.1:8080", ":1"),
        *("${SET}", "${EMPTY}", "${UNSET}", "${HALF}", "${", "$$", "~", "", "0", "-1"),
        *(
            "9" * 5000,
            "1e999",
            "nan",
            "inf",
            "٣",
            "\0",
            "a\0b",
            "\x1b[31m",
            "<<",
            "a/b",
        ),
    ]
)
SCALARS = (
    WORDS
    | st.text(max_size=8)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(WORDS | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Give a function that writes a text and gives what it is read as, or problems."""
    folder = tmp_path_factory.mktemp("documents")

    def read(text, reader):
        file = folder / ("keyring.yaml" if reader is manifest else "config.yaml")
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            if reader is manifest:
                return manifest.load(folder).value
            return config.load(file, ENVIRONMENT)
        except DocumentError as error:
            problems = error.problems
        check_problems(problems, file)
        return None

    return read


def check_problems(problems, file):
    """Check that problems are of this file, fit in lines and are in our words."""
    assert problems
    assert len(set(problems)) == len(problems)
    for problem in problems:
        assert problem.file == file
        assert problem.line is not None
        assert problem.line >= 1
        assert str(problem).isprintable()
        assert len(problem.where) < 400
        assert not FOREIGN.search(problem.message)


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def mutated(draw, tree):
    """Change some places of a tree: another value, another key, one more, one less."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(tree))
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "remove", "rename", "repeat"])):
            case "replace":
                holder[key] = draw(TREES)
            case "remove":
                del holder[key]
            case "rename" if isinstance(holder, dict):
                holder[draw(WORDS)] = holder.pop(key)
            case _ if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case _:
                holder[str(key)[:-1]] = copy.deepcopy(holder[key])
        if not tree:
            break
    return tree


def _places(tree):
    keys = tree if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


@st.composite
def changed(draw, tree):
    return yaml.dump(mutated(draw, tree), Dumper=_NoAliases, allow_unicode=True)


@given(TREES)
def test_any_document_is_settings_or_problems_with_their_lines(outcome, tree):
    text = yaml.dump(tree, Dumper=_NoAliases)
    assert isinstance(outcome(text, config), Settings | None)
    assert isinstance(outcome(text, manifest), Manifest | None)


@given(changed(yaml.safe_load(SHIPPED.read_text())))
def test_any_change_of_the_shipped_file_is_settings_or_problems(outcome, text):
    assert isinstance(outcome(text, config), Settings | None)


@given(changed(RING))
def test_any_change_of_a_keyrings_file_is_a_manifest_or_problems(outcome, text):
    assert isinstance(outcome(text, manifest), Manifest | None)


@given(
    st.integers(0, len(SHIPPED.read_bytes())),
    st.integers(0, 20),
    st.binary(max_size=4) | WORDS.map(str.encode),
)
@example(0, 0, b"%YAML 1." + b"9" * 5000 + b"\n---\n")
@example(0, 0, b'"\\U00110000": x\n')
@example(0, 0, b'"\\ud800": "\\ud800"\n')
def test_any_damage_of_the_shipped_file_is_settings_or_problems(
    outcome, start, length, put
):
    data = SHIPPED.read_bytes()
    damaged = data[:start] + put + data[start + length :]
    assert isinstance(outcome(damaged, config), Settings | None)


@given(st.integers(33, 3000), st.lists(st.sampled_from(["[", "- ", "{a: ", "? "])))
def test_any_nesting_is_refused_without_an_end_of_the_stack(outcome, depth, opening):
    signs = opening or ["["]
    text = "".join(signs[index % len(signs)] for index in range(depth))
    assert outcome(text, config) is None


@given(st.integers(2, 200), st.integers(2, 9))
def test_any_number_of_laughs_is_refused_before_they_are_written_out(
    outcome, levels, each
):
    lines = [
        f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * each)}]"
        for level in range(1, levels)
    ]
    assert outcome("\n".join(["l0: &l0 [ha]", *lines]), config) is None
