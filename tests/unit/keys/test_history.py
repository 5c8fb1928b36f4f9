"""What a ring was before: kept for each generation, and found again."""

import stat

import pytest

from gateway.documents import DocumentError
from gateway.errors import KeyringError
from gateway.keys.backends import history as histories
from gateway.keys.backends.history import KEPT, generations
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import KeyState


def ring(generation, version="1"):
    entry = Entry(version=version, state=KeyState.ACTIVE, key="a.pem")
    return Manifest(generation=generation, partner=(entry,), platform=())


def keep(folder, manifest, successor=None):
    """Keep a manifest, replaced by the next generation."""
    successor = successor or ring(manifest.generation + 1)
    histories.keep(folder, manifest, successor)


def recall(folder, present, generation=None):
    """Recall from a ring of this generation."""
    return histories.recall(folder, ring(present), generation)


@pytest.fixture
def history(tmp_path):
    return tmp_path / ".history"


def test_a_ring_without_a_history_has_none(tmp_path):
    assert generations(tmp_path) == []
    with pytest.raises(KeyringError, match="no earlier ring is kept"):
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
    with pytest.raises(KeyringError, match="generation 7 is not kept; kept are: 6"):
        recall(tmp_path, 7, 7)


@pytest.mark.parametrize("wanted", [0, -6, 5])
def test_a_generation_that_is_not_kept_is_told_with_those_that_are(tmp_path, wanted):
    keep(tmp_path, ring(4))
    keep(tmp_path, ring(6))
    with pytest.raises(
        KeyringError, match=f"generation {wanted} is not kept; kept are: 4, 6"
    ):
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


@pytest.mark.parametrize(
    "present",
    [ring(8), ring(7, "2"), ring(9)],
    ids=["a copy that went on", "the same generation, edited", "by hand since"],
)
def test_the_last_that_is_kept_is_not_taken_for_the_one_before(tmp_path, present):
    """A ring that was copied without its history, or that was changed by hand."""
    keep(tmp_path, ring(6), ring(7))
    with pytest.raises(KeyringError, match=r"is not kept.*name it with --to 6"):
        histories.recall(tmp_path, present)
    assert histories.recall(tmp_path, present, 6) == ring(6)


def test_a_step_of_several_generations_has_what_was_before(tmp_path):
    keep(tmp_path, ring(6), ring(8))
    assert recall(tmp_path, 8) == ring(6)


def test_a_history_that_names_no_successor_is_not_relied_upon(tmp_path, history):
    keep(tmp_path, ring(6))
    file = history / "6.yaml"
    file.write_text(file.read_text().partition("# replaced")[0])
    with pytest.raises(KeyringError, match="--to 6"):
        recall(tmp_path, 7)
