"""The documentation says what the code has: names, defaults, links, cited tests."""

import re
import typing
from datetime import timezone
from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway.cli import _COMMANDS
from gateway.cli.keys import _VERBS
from gateway.config import Settings
from gateway.edge.problems import STATUS
from gateway.edge.request import _OURS
from gateway.events import ExchangeRecord
from gateway.keys.model import KeyState
from gateway.relay.breaker import BreakerState
from gateway.telemetry.answers import AnswerWatch
from gateway.telemetry.levels import LEVELS
from gateway.telemetry.merging import exposed, read
from gateway.telemetry.metrics import Metrics
from gateway.workers.standing import Standing

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_TEST = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")
_SOURCE = re.compile(r"`(gateway/[\w/]*(?:\.py|/))`")
_SECTION = re.compile(r"protocol\.md (\d+)(?:, (\d+))?(?: and (\d+))?")
_EVENT = re.compile(r'(?:\bevent|\b_note)\(\s*"(\w+)"')


def settings_of(model, prefix=""):
    """Give each key of the configuration by its dotted name, with its field."""
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        if inner is None:
            yield f"{prefix}{name}", field
        else:
            many = typing.get_origin(field.annotation) is tuple
            yield from settings_of(inner, f"{prefix}{name}{'[]' if many else ''}.")


def model_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_in, typing.get_args(annotation))), None)


def as_written(field):
    """Give a default as the table has it."""
    if field.is_required():
        return "required"
    match field.default:
        case None | ():
            return "none"
        case bool(value):
            text = str(value).lower()
        case float(value):
            text = f"{value:g}"
        case tuple(values) if type(values) is tuple:
            text = ", ".join(map(str, values))
        case timezone() as value:
            text = str(value).removeprefix("UTC")
        case value:
            text = str(value)
    return f"`{text}`"


def anchors_of(page):
    """Give what headings of a page are called in links, as GitHub makes it."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def links():
    for page in PAGES:
        for target in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))):
            if not re.match(r"[a-z]+:", target):
                yield pytest.param(page, target, id=f"{page.name}: {target}")


def matches_of(pattern):
    """Give every match in any page, once."""
    texts = (page.read_text("utf-8") for page in PAGES)
    return sorted({found for text in texts for found in pattern.findall(text)})


@pytest.mark.parametrize(("key", "field"), list(settings_of(Settings)))
def test_each_configuration_key_is_documented_with_its_default(key, field):
    row = re.search(rf"^\| `{re.escape(key)}` \| (.+?) \|", OPERATIONS, re.MULTILINE)
    assert row, f"{key} has no row"
    assert row[1] == as_written(field)


def test_no_configuration_key_is_documented_that_does_not_exist():
    section = OPERATIONS.partition("\n## Configuration\n")[2].partition("\n### ")[0]
    written = re.findall(r"^\| `([\w.\[\]]+)` \|", section, re.MULTILINE)
    assert sorted(written) == sorted(key for key, _ in settings_of(Settings))


@pytest.mark.parametrize("code", list(STATUS))
def test_each_error_code_says_what_an_operator_does(code):
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", OPERATIONS, re.MULTILINE)
    assert any(f"`{code}`" in cell for cell in cells)


def test_each_metric_has_a_row():
    watch = AnswerWatch(print, print, float)
    own = read(Metrics().told())
    several = exposed(Standing(2, watch).metrics(own)).decode()
    names = re.findall(r"^# TYPE (\w+)", several, re.MULTILINE)
    assert names
    for name in names:
        assert f"| `{name}` |" in OPERATIONS


@pytest.mark.parametrize("field", list(ExchangeRecord.__dataclass_fields__))
def test_each_log_field_is_documented(field):
    assert f"`{field}`" in OPERATIONS


def test_each_event_is_documented():
    texts = (file.read_text("utf-8") for file in (ROOT / "gateway").rglob("*.py"))
    events = {name for text in texts for name in _EVENT.findall(text)}
    assert {"listening", "keyring_refused", "clock_skewed"} <= events
    events |= {f"breaker_{state.name.lower()}" for state in BreakerState}
    assert {name for name in events if f"`{name}`" not in OPERATIONS} == set()
    assert events - {"keys_changing"} <= LEVELS.keys()  # a line of the audit log


@pytest.mark.parametrize(("event", "level"), LEVELS.items())
def test_each_event_has_its_level_in_the_table(event, level):
    row = rf"^\| [^|]*`{event}`[^|]* \| (\w+) \|"
    assert re.findall(row, OPERATIONS, re.MULTILINE) == [level]


@pytest.mark.parametrize("header", sorted(_OURS))
def test_each_request_header_of_ours_has_a_row(header):
    readme = (ROOT / "README.md").read_text("utf-8")
    assert re.search(rf"^\| `{header}: ", readme, re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize("state", list(KeyState))
def test_each_key_state_is_documented(state):
    assert f"| `{state}` |" in OPERATIONS


@pytest.mark.parametrize("verb", list(_VERBS))
def test_each_key_command_is_documented(verb):
    assert f"`gateway keys {verb}" in OPERATIONS


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_each_command_is_documented(command):
    assert any(f"gateway {command}" in page.read_text("utf-8") for page in PAGES)


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_each_relative_link_leads_somewhere(page, target):
    path, _, anchor = target.partition("#")
    linked = (page.parent / path).resolve() if path else page
    assert linked.is_relative_to(ROOT)
    assert linked.exists()
    if anchor:
        assert anchor in anchors_of(linked)


@pytest.mark.parametrize(("file", "name"), matches_of(_TEST))
def test_each_test_that_is_cited_exists(file, name):
    text = (ROOT / file).read_text("utf-8")
    assert not name or re.search(rf"^(async )?def {name}\(", text, re.MULTILINE)


@pytest.mark.parametrize("path", matches_of(_SOURCE))
def test_each_source_that_is_named_exists(path):
    assert (ROOT / path).exists()


def test_each_section_of_the_protocol_that_the_code_cites_exists():
    protocol = (ROOT / "docs/protocol.md").read_text("utf-8")
    sections = set(re.findall(r"^## (\d+) ", protocol, re.MULTILINE))
    texts = (file.read_text("utf-8") for file in (ROOT / "gateway").rglob("*.py"))
    cited = {n for text in texts for found in _SECTION.findall(text) for n in found}
    assert len(cited) > 5
    assert cited - {""} <= sections


def test_no_promise_stands_twice():
    promises = (ROOT / "docs/promises.md").read_text("utf-8")
    firsts = re.findall(r"^\| ([^|]+) \| `", promises, re.MULTILINE)
    assert len(firsts) > 40
    assert len(set(firsts)) == len(firsts)


def test_a_release_has_each_section_once():
    releases = (ROOT / "docs/CHANGELOG.md").read_text("utf-8").split("\n## ")[1:]
    assert releases
    for release in releases:
        sections = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert sections == sorted(set(sections))
