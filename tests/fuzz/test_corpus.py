"""The kept corpus of the fuzzing, replayed: what was found once stays mended."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(file for file in CORPUS.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}"
)
def test_the_kept_corpus_holds(file):
    TARGETS[file.parent.name](file.read_bytes())


@pytest.mark.parametrize("name", list(TARGETS))
def test_each_target_has_seeds_and_takes_an_empty_input(name):
    assert [file for file in FILES if file.parent.name == name]
    TARGETS[name](b"")
