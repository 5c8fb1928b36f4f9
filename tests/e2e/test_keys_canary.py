"""`gateway keys activate --canary`: begun, grown, completed, taken back, and shown."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.halts import Halt
from tests.e2e.test_keys_life import SOON, keys, refused, ring, states
from tests.e2e.workspace import workspace


@pytest.fixture
def place(tmp_path, complete_ring):
    """A workspace whose ring has version 1 of each, and our version 2 to come."""
    place = workspace(tmp_path)
    shutil.copytree(complete_ring, place.ring)
    keys(place, "generate")
    return place


def canary(place, later=timedelta(0)):
    now = datetime.now(UTC) + later
    return KeyringFolder(place.ring).read(now).canary


def misused(place, *words):
    before = (place.ring / "keyring.yaml").read_bytes()
    done = place.gateway("keys", *words)
    assert done.returncode == 2, done.stdout
    assert (place.ring / "keyring.yaml").read_bytes() == before
    return done.stderr.decode()


@pytest.mark.parametrize(
    ("given", "share"),
    [("5%", 0.05), ("5", 0.05), ("0.5%", 0.005), ("100%", 1.0), ("0.0001", 1e-6)],
)
def test_a_canary_begins_now_with_its_share(place, given, share):
    said = keys(place, "activate", "2", "--canary", given)
    assert f"signs {share * 100:g} % of the exchanges from now on" in said
    assert "version 1 signs the rest" in said
    assert "->" not in said
    assert canary(place).share == pytest.approx(share)
    assert canary(place).version == "2"
    assert states(place) == ["active", "pre-active"]


def test_a_dry_run_says_so_and_changes_nothing(place):
    before = (place.ring / "keyring.yaml").read_bytes()
    said = keys(place, "activate", "2", "--canary", "5%", "--dry-run")
    assert said.startswith("Dry run, nothing was changed.")
    assert "signs 5 % of the exchanges from now on" in said
    assert (place.ring / "keyring.yaml").read_bytes() == before


def test_it_grows_by_a_schedule_that_begins_now(place):
    said = keys(place, "activate", "2", "--canary", "5%,25%,100%", "--every", "1h")
    assert "signs 25 % of the exchanges from 20" in said
    assert canary(place).share == 0.05
    assert canary(place, timedelta(minutes=59)).share == 0.05
    assert canary(place, timedelta(minutes=61)).share == 0.25
    assert canary(place, timedelta(minutes=121)).share == 1.0


def test_it_may_begin_at_a_moment(place):
    said = keys(place, "activate", "2", "--canary", "5", "--at", SOON)
    assert f"signs 5 % of the exchanges from {SOON} on" in said
    assert canary(place).share == 0


def test_it_grows_by_command(place):
    keys(place, "activate", "2", "--canary", "5%")
    before = ring(place).generation
    said = keys(place, "activate", "2", "--canary", "25%")
    assert "signs 25 %" in said
    assert "5 % of the exchanges from now on\npartner version 2: signs" not in said
    assert canary(place).share == 0.25
    assert ring(place).generation == before + 1


def test_the_same_command_without_it_completes_it(place):
    keys(place, "activate", "2", "--canary", "5%")
    said = keys(place, "activate", "2")
    assert "partner version 2: pre-active -> active" in said
    assert canary(place) is None
    assert states(place) == ["deactivated", "active"]


def test_a_rollback_takes_it_back(place):
    keys(place, "activate", "2", "--canary", "5%")
    said = keys(place, "rollback")
    assert "partner version 2: no longer a canary; it signs nothing\n" in said
    assert canary(place) is None
    assert states(place) == ["active", "pre-active"]


def test_programs_are_told_its_steps(place):
    facts = json.loads(
        keys(place, *["activate", "2", "--canary", "5,50", "--every", "30s", "--json"])
    )
    (told,) = facts["changes"]
    assert [step["share"] for step in told["canary"]] == [5.0, 50.0]
    first, second = (datetime.fromisoformat(step["at"]) for step in told["canary"])
    assert second - first == timedelta(seconds=30)
    assert told["planned"] == {}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("activate 2 --canary 0", "over 0 and up to 100"),
        ("activate 2 --canary 101%", "over 0 and up to 100"),
        ("activate 2 --canary half", "such as 5%"),
        ("activate 2 --canary 5%,", "such as 5%"),
        ("activate 2 --canary 25%,5% --every 1h", "greater than the one before"),
        ("activate 2 --canary 5%,25%", "--every"),
        ("activate 2 --canary 5% --every 1h", "--every needs several"),
        ("activate 2 --every 1h", "--every needs several"),
        ("activate 2 --canary 5% --overlap 48h", "completes the canary"),
        ("activate 2 --canary 5%,25% --every soon", "such as 30s"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(place, words, text):
    assert text in misused(place, *words.split())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("activate 1 --canary 5%", "a canary begins as pre-active or deactivated"),
        ("activate 1 --platform --canary 5%", "does not sign"),
        ("activate 9 --canary 5%", "there is no partner version 9"),
        ("activate 2 --canary 5% --at 2026-01-01T00:00:00Z", "has passed"),
    ],
)
def test_a_key_that_cannot_be_tried_is_refused(place, words, text):
    assert text in refused(place, *words.split())


def test_a_list_shows_how_it_stands(place):
    assert "canary" not in keys(place, "list")
    assert json.loads(keys(place, "list", "--json"))["canary"] is None
    keys(place, *["activate", "2", "--canary", "5%,25%", "--every", "1h"])
    assert "partner version 2 is a canary: it signs 5 % of the exchanges\n" in keys(
        place, "list"
    )
    told = json.loads(keys(place, "list", "--json"))["canary"]
    assert (told["version"], told["share"], told["halted"]) == ("2", 5.0, None)
    assert [step["share"] for step in told["steps"]] == [5.0, 25.0]


def test_a_list_shows_that_it_is_over_until_the_next_change(place):
    keys(place, *["activate", "2", "--canary", "5%"])
    halt = Halt(ring(place).generation, "2", "6 of 6 failed")
    KeyringFolder(place.ring).halt(halt)
    assert (
        "partner version 2 is a canary, and over: 6 of 6 failed; the active version "
        "signs all\n"
    ) in keys(place, "list")
    told = json.loads(keys(place, "list", "--json"))["canary"]
    assert (told["share"], told["halted"]) == (0.0, "6 of 6 failed")
    keys(place, *["activate", "2", "--canary", "5%"])
    assert "it signs 5 %" in keys(place, "list")


# --- after it was halted -----------------------------------------------------


def halted(place):
    """Have version 2 tried, and halted by a gateway."""
    keys(place, "activate", "2", "--canary", "5%")
    halt = Halt(ring(place).generation, "2", "6 of 6 failed")
    KeyringFolder(place.ring).halt(halt)


BETWEEN = {
    "at once": (),
    "after a rollback": (("rollback",),),
    "after another change": (("generate",), ("generate",)),
}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_a_halted_canary_is_put_in_use_only_where_that_is_said(place, between):
    halted(place)
    for words in between:
        keys(place, *words)
    before = ring(place)
    for more in ((), ("--dry-run",), ("--overlap", "48h")):
        text = refused(place, "activate", "2", *more)
        assert (
            "version 2 was tried as a canary, and that was halted: 6 of 6 failed"
            in (text)
        )
        assert "--despite-halt" in text
    assert ring(place) == before
    said = keys(place, "activate", "2", "--despite-halt")
    assert "partner version 2: pre-active -> active" in said
    keys(place, "activate", "1")
    keys(place, "activate", "2")


def test_a_halt_that_was_tried_again_is_no_hindrance(place):
    halted(place)
    keys(place, "activate", "2", "--canary", "5%")
    keys(place, "activate", "2")
    assert states(place) == ["deactivated", "active"]


def test_a_plan_that_would_not_heed_a_halt_is_not_made(place):
    keys(place, "activate", "2", "--canary", "5%")
    assert "though it was halted" in refused(place, "activate", "2", "--at", SOON)
    keys(place, "rollback")
    keys(place, "activate", "2", "--at", SOON)
    assert "whatever becomes of a canary" in refused(
        place, "activate", "2", "--canary", "5%"
    )


def test_other_keys_are_put_in_use_as_ever(place):
    halted(place)
    keys(place, "generate")
    keys(place, "activate", "3")
    assert states(place) == ["deactivated", "pre-active", "active"]


# --- a key that was active ---------------------------------------------------


def test_a_key_that_was_active_is_tried_again_with_a_word_of_it(place):
    keys(place, "activate", "2", "--overlap", "48h")
    assert ring(place).partner[0].plans.destroy_at is not None
    said = keys(place, "activate", "1", "--canary", "5%")
    assert "partner version 1: was active before, and deactivated at 20" in said
    assert "partner version 1: no longer to be destroyed at " in said
    assert "partner version 1: signs 5 % of the exchanges from now on\n" in said
    assert (canary(place).version, canary(place).share) == ("1", 0.05)
    assert states(place) == ["deactivated", "active"]
    said = keys(place, "activate", "1")
    assert "partner version 1: deactivated -> active" in said
    assert canary(place) is None


def test_a_key_that_was_active_goes_back_to_what_it_was(place):
    keys(place, "activate", "2")
    keys(place, "activate", "1", "--canary", "5%")
    said = keys(place, "rollback")
    assert "partner version 1: no longer a canary; it signs nothing\n" in said
    assert (canary(place), states(place)) == (None, ["deactivated", "active"])
