"""The mark that a canary was halted: for one generation, and safe where it is torn."""

import json
import os
import stat
from dataclasses import replace

import pytest

from gateway.keys.backends.halts import (
    FILE_NAME,
    Halt,
    carry_over,
    halt_reason,
    read_halt,
    write_halt,
)
from gateway.keys.manifest import Manifest
from gateway.keys.model import KeyState

HALT = Halt(5, "2", "AlipayHK refused 9 of 20 signatures")
UNREADABLE = f"{FILE_NAME} cannot be read"


def mark(folder, text):
    (folder / FILE_NAME).write_text(text)
    return halt_reason(folder, 5)


def test_without_a_mark_nothing_is_halted(tmp_path):
    assert halt_reason(tmp_path, 5) is None


def test_a_mark_halts_the_canary_of_its_generation(tmp_path):
    write_halt(tmp_path, HALT)
    assert halt_reason(tmp_path, 5) == HALT.reason


@pytest.mark.parametrize("generation", [4, 6])
def test_a_mark_of_another_generation_is_void(tmp_path, generation):
    write_halt(tmp_path, HALT)
    assert halt_reason(tmp_path, generation) is None


def test_the_last_mark_counts(tmp_path):
    write_halt(tmp_path, Halt(4, "2", "before"))
    write_halt(tmp_path, HALT)
    assert halt_reason(tmp_path, 5) == HALT.reason
    assert [each.name for each in tmp_path.iterdir()] == [FILE_NAME]


def test_a_mark_is_for_its_owner(tmp_path):
    write_halt(tmp_path, HALT)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_halt(tmp_path / "none", HALT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        "[" * 4000,
        json.dumps({"generation": 5, "version": "2"}),
        json.dumps({"generation": 5, "version": "2", "reason": None}),
        json.dumps({"generation": "5", "version": "2", "reason": "x"}),
        json.dumps({"generation": 5, "version": "2", "reason": "x" * 5000}),
        json.dumps({"generation": 5, "version": "2", "reason": "x"})[:-1],
    ],
)
def test_a_mark_that_cannot_be_read_halts(tmp_path, text):
    assert mark(tmp_path, text) == UNREADABLE


def test_a_mark_of_other_bytes_than_text_halts(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe")
    assert halt_reason(tmp_path, 5) == UNREADABLE


def test_what_is_no_file_halts_and_holds_nothing_up(tmp_path):
    os.mkfifo(tmp_path / FILE_NAME)
    assert halt_reason(tmp_path, 5) == UNREADABLE
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    assert halt_reason(tmp_path, 5) == UNREADABLE


def canary(generation, at="2026-12-01T00:00:00Z", version="2"):
    tried = {
        "version": version,
        "state": "pre-active",
        "key": "2.pem",
        "canary": [{"share": 5, "at": at}],
    }
    return Manifest.model_validate(
        {"generation": generation, "partner": [tried], "platform": []}
    )


def test_a_change_that_is_not_about_the_canary_leaves_it_halted(tmp_path):
    write_halt(tmp_path, Halt(4, "2", "refused"))
    carry_over(tmp_path, canary(4), canary(5))
    assert halt_reason(tmp_path, 5) == "refused"


@pytest.mark.parametrize(
    "after",
    [
        canary(5, at="2026-12-02T00:00:00Z"),
        canary(5, version="3"),
        Manifest(generation=5, partner=(), platform=()),
    ],
    ids=["told again", "another version", "taken out"],
)
def test_a_change_of_the_canary_ends_its_halt(tmp_path, after):
    write_halt(tmp_path, Halt(4, "2", "refused"))
    carry_over(tmp_path, canary(4), after)
    assert halt_reason(tmp_path, 5) is None


def test_where_nothing_is_halted_nothing_is_carried_over(tmp_path):
    carry_over(tmp_path, canary(4), canary(5))
    assert list(tmp_path.iterdir()) == []


def without_canary(generation, state="pre-active", version="2"):
    (tried,) = canary(generation, version=version).partner
    plain = tried.model_copy(update={"canary": (), "state": KeyState(state)})
    return Manifest(generation=generation, partner=(plain,), platform=())


@pytest.mark.parametrize("state", ["pre-active", "deactivated"])
def test_a_canary_that_is_taken_back_is_still_known_to_have_been_halted(
    tmp_path, state
):
    write_halt(tmp_path, HALT)
    carry_over(tmp_path, canary(5), without_canary(6, state))
    carry_over(tmp_path, without_canary(6, state), without_canary(7, state))
    assert read_halt(tmp_path, 7) == replace(HALT, generation=7)
    carry_over(tmp_path, without_canary(7, state), canary(8))
    assert read_halt(tmp_path, 8) is None


@pytest.mark.parametrize("state", ["active", "compromised", "destroyed"])
def test_a_halt_ends_with_what_was_decided_on_its_version(tmp_path, state):
    write_halt(tmp_path, HALT)
    carry_over(tmp_path, canary(5), without_canary(6, state))
    assert read_halt(tmp_path, 6) is None


def test_a_mark_that_cannot_be_read_is_that_of_no_version(tmp_path):
    mark(tmp_path, "")
    assert read_halt(tmp_path, 5) == Halt(5, "", UNREADABLE)
    carry_over(tmp_path, canary(5), without_canary(6))
    assert halt_reason(tmp_path, 6) == UNREADABLE
