"""What a ring was before: kept for each generation, and found again."""

import stat

import pytest

from gateway.documents import DocumentError
from gateway.errors import KeyringError
from gateway.keys.backends.history import KEPT, generations, keep, recall
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import KeyState


def ring(generation, version="1"):
    entry = Entry(version=version, state=KeyState.ACTIVE, key="a.pem")
    return Manifest(generation=generation, partner=(entry,), platform=())


@pytest.fixture
def history(tmp_path):
    return tmp_path / ".history"


def test_a_ring_without_a_history_has_none(tmp_path):
    assert generations(tmp_path) == []
    with pytest.raises(KeyringError, match="no earlier one is kept; kept are: none"):
        recall(tmp_path, 7)


def test_what_is_kept_is_recalled_as_it_was(tmp_path, history):
    for generation in (2, 10, 9):
        keep(tmp_path, ring(generation, str(generation)))
    assert generations(tmp_path) == [2, 9, 10]
    assert recall(tmp_path, 11) == ring(10, "10")
    assert recall(tmp_path, 11, 2) == ring(2, "2")
    assert stat.S_IMODE(history.stat().st_mode) == 0o700


def test_the_last_before_is_before_the_present_one(tmp_path):
    """A change that was killed has kept the manifest that is still in place."""
    keep(tmp_path, ring(6))
    keep(tmp_path, ring(7))
    assert recall(tmp_path, 7) == ring(6)
    with pytest.raises(KeyringError, match="not 7 is kept; kept are: 6"):
        recall(tmp_path, 7, 7)


@pytest.mark.parametrize("wanted", [0, -6, 5])
def test_a_generation_that_is_not_kept_is_told_with_those_that_are(tmp_path, wanted):
    keep(tmp_path, ring(4))
    keep(tmp_path, ring(6))
    with pytest.raises(KeyringError, match=f"not {wanted} is kept; kept are: 4, 6"):
        recall(tmp_path, 7, wanted)


def test_a_generation_that_is_kept_again_is_kept_as_it_was_last(tmp_path):
    keep(tmp_path, ring(4, "1"))
    keep(tmp_path, ring(4, "2"))
    assert recall(tmp_path, 5) == ring(4, "2")


def test_the_oldest_go(tmp_path):
    for generation in range(1, KEPT + 3):
        keep(tmp_path, ring(generation))
    assert generations(tmp_path) == list(range(3, KEPT + 3))


def test_other_files_beside_them_are_passed_over(tmp_path, history):
    keep(tmp_path, ring(4))
    for name in ("5.yaml.77.new", "five.yaml", "\u0665.yaml", "notes"):
        (history / name).write_text("")
    assert generations(tmp_path) == [4]


def test_a_kept_manifest_that_was_broken_is_told_with_its_place(tmp_path, history):
    keep(tmp_path, ring(4))
    (history / "4.yaml").write_text("generation: four\n")
    with pytest.raises(DocumentError, match=r"\.history/4\.yaml:1: generation"):
        recall(tmp_path, 5)
