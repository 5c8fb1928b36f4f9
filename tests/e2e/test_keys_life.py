"""`gateway keys`: steps that are planned, ended early, taken back, or final."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from gateway.keys import manifest, schedule
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.folder import locked
from gateway.keys.formats import private_pem, public_pem
from gateway.plant import CLOCK
from tests.e2e.workspace import error_of, workspace

SOON = "2031-12-01T02:00:00Z"
AT = datetime(2031, 12, 1, 2, tzinfo=UTC)


@pytest.fixture
def place(tmp_path, complete_ring):
    """A workspace whose ring has version 1 of each, and our version 2 to come."""
    place = workspace(tmp_path)
    shutil.copytree(complete_ring, place.ring)
    keys(place, "generate")
    return place


def keys(place, *words):
    done = place.gateway("keys", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def refused(place, *words):
    before = (place.ring / "keyring.yaml").read_bytes()
    done = place.gateway("keys", *words)
    assert done.returncode == 1, done.stdout
    assert (place.ring / "keyring.yaml").read_bytes() == before
    return error_of(done)


def ring(place):
    return manifest.load(place.ring).value


def states(place, now=schedule.FIRST_MOMENT):
    return [str(each.state) for each in KeyringFolder(place.ring).read(now).partner]


def due_at(place, **plans):
    """Have plans of our keys come due, as if so much time had passed."""
    text = (place.ring / "keyring.yaml").read_text()
    for old, new in plans.items():
        assert old in text
        text = text.replace(f"{old}: {SOON}", f"{old}: {new}")
    (place.ring / "keyring.yaml").write_text(text)


def test_an_activation_is_planned_with_the_end_of_the_key_before(place):
    said = keys(place, "activate", "2", "--at", SOON, "--overlap", "48h")
    assert f"partner version 2: to be activated at {SOON}" in said
    assert f"partner version 1: to be deactivated at {SOON}" in said
    assert "partner version 1: to be destroyed at 2031-12-03T02:00:00Z" in said
    assert states(place) == ["active", "pre-active"]
    assert states(place, AT - timedelta(seconds=1)) == ["active", "pre-active"]
    assert states(place, AT) == ["deactivated", "active"]
    assert states(place, AT + timedelta(hours=48)) == ["destroyed", "active"]


def test_a_plan_is_told_to_programs(place):
    facts = json.loads(keys(place, "activate", "2", "--at", SOON, "--json"))
    planned = {each["version"]: each["planned"] for each in facts["changes"]}
    assert planned == {"1": {"deactivate_at": SOON}, "2": {"activate_at": SOON}}


@pytest.mark.parametrize(
    "words",
    [
        ["generate"],
        ["activate", "2"],
        ["activate", "2", "--overlap", "1h"],
        ["activate", "2", "--at", SOON],
        ["destroy", "2"],
        ["destroy", "2", "--at", SOON],
        ["stage", "2"],
        ["compromise", "1"],
        ["deactivate", "1", "--leave-none"],
    ],
    ids=" ".join,
)
def test_a_dry_run_says_what_would_happen_and_changes_nothing(place, words):
    before = (place.ring / "keyring.yaml").read_bytes()
    assert keys(place, *words, "--dry-run").startswith("Dry run, nothing was changed.")
    assert (place.ring / "keyring.yaml").read_bytes() == before
    assert keys(place, *words) != ""
    assert (place.ring / "keyring.yaml").read_bytes() != before


def test_a_key_that_would_be_imported_is_told_and_not_taken_up(place, other_key):
    file = place.folder / "alipayhk-2.pem"
    file.write_text(public_pem(other_key.public_key()))
    before = sorted(place.ring.rglob("*"))
    said = keys(place, "import", str(file), "--version", "2", "--dry-run")
    assert said.startswith("Dry run, nothing was changed.")
    assert "platform version 2" in said
    facts = json.loads(keys(place, "import", str(file), "--dry-run", "--json"))
    assert (facts["dry_run"], facts["state"]) == (True, "pre-active")
    facts = json.loads(keys(place, "generate", "--dry-run", "--json"))
    assert (facts["dry_run"], facts["version"], facts["bits"]) == (True, "3", 2048)
    assert "fingerprint" not in facts
    assert sorted(place.ring.rglob("*")) == before


def test_a_ring_that_would_be_made_is_not_made(place):
    new = place.folder / "new"
    assert "version 1" in keys(place, "generate", "--keyring", new, "--dry-run")
    assert not new.exists()


def test_the_key_before_is_kept_for_its_overlap_and_no_shorter_by_accident(place):
    keys(place, "activate", "2", "--overlap", "48h")
    assert "is kept until" in refused(place, "destroy", "1")
    keys(place, "destroy", "1", "--early")
    assert states(place) == ["destroyed", "active"]


def test_a_moment_that_has_passed_is_no_plan(place):
    said = refused(place, "activate", "2", "--at", "2020-01-01T00:00:00Z")
    assert "has passed; leave --at out" in said


@pytest.mark.parametrize(
    "text", ["tomorrow", "2031-12-01T02:00:00", "2031-13-01T02:00Z"]
)
def test_a_time_without_a_zone_is_wrong_usage(place, text):
    done = place.gateway("keys", "activate", "2", "--at", text)
    assert done.returncode == 2
    assert b"must be a time with its zone" in done.stderr


def test_a_plan_that_would_leave_nothing_to_sign_is_refused(place):
    said = refused(place, "deactivate", "1", "--at", SOON)
    assert f"planned for {SOON}" in said
    assert "the only active key to sign" in said


def test_an_active_key_is_not_planned_to_be_destroyed(place):
    assert "plan for another to be activated before" in refused(
        place, "destroy", "1", "--at", SOON
    )


def test_what_is_due_is_written_down_by_the_next_change_and_by_settling(place):
    keys(place, "activate", "2", "--at", SOON, "--overlap", "48h")
    past = (CLOCK.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    due_at(place, activate_at=past, deactivate_at=past)
    said = keys(place, "settle")
    assert "partner version 2: pre-active -> active" in said
    assert "no longer" not in said
    first, second = ring(place).partner
    assert (first.state, second.state) == ("deactivated", "active")
    assert manifest.format_moment(second.activated) == past
    assert second.activate_at is None
    assert "nothing was changed" in keys(place, "settle")


def test_settling_deletes_the_file_of_a_key_whose_time_is_over(place):
    keys(place, "activate", "2", "--at", SOON, "--overlap", "1s")
    past = (CLOCK.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = (place.ring / "keyring.yaml").read_text()
    text = text.replace(SOON, past).replace("2031-12-01T02:00:01Z", past)
    (place.ring / "keyring.yaml").write_text(text)
    keys(place, "settle")
    assert states(place) == ["destroyed", "active"]
    assert not (place.ring / "partner-1.pem").exists()


def test_a_change_is_taken_back_as_a_new_generation(place):
    before = ring(place)
    keys(place, "activate", "2")
    said = keys(place, "rollback")
    assert "partner version 1: deactivated -> active; it signs and decrypts" in said
    assert states(place) == ["active", "deactivated"]
    assert ring(place).generation == before.generation + 2
    keys(place, "rollback")
    assert states(place) == ["deactivated", "active"]


def test_a_plan_is_taken_back(place):
    keys(place, "activate", "2", "--at", SOON)
    assert "no longer to be activated" in keys(place, "rollback")
    assert [each.activate_at for each in ring(place).partner] == [None, None]


def test_an_earlier_generation_is_returned_to_by_its_number(place):
    start = ring(place).generation
    keys(place, "activate", "2")
    keys(place, "stage", keys_of_next(place))
    keys(place, "rollback", "--to", str(start))
    assert states(place)[:2] == ["active", "deactivated"]
    said = refused(place, "rollback", "--to", "999")
    assert "999 is not kept" in said


def keys_of_next(place):
    return json.loads(keys(place, "generate", "--json"))["version"]


def test_a_compromised_key_never_returns(place):
    keys(place, "activate", "2")
    said = keys(place, "compromise", "2")
    assert "active -> compromised; it is refused for everything" in said
    assert "Still missing: a partner key that is active to sign" in said
    assert "no step leads back" in refused(place, "activate", "2")
    assert "past return" in refused(place, "rollback")
    keys(place, "rollback", "--to", str(ring(place).generation - 2))
    assert states(place) == ["active", "compromised"]


@pytest.mark.parametrize("state", ["pre-active", "active", "deactivated", "destroyed"])
def test_a_key_is_compromised_from_anywhere(place, state):
    version = "2" if state == "pre-active" else "1"
    if state in ("deactivated", "destroyed"):
        keys(place, "activate", "2")
    if state == "destroyed":
        keys(place, "destroy", "1")
    keys(place, "compromise", version)
    assert states(place)[int(version) - 1] == "compromised"


def test_a_staged_key_takes_what_comes_in(place, other_key):
    file = place.folder / "alipayhk-2.pem"
    file.write_text(public_pem(other_key.public_key()))
    keys(place, "import", str(file), "--version", "2")
    assert "it verifies already" in keys(place, "stage", "2", "--platform")
    assert "it decrypts already" in keys(place, "stage", "2")
    found = KeyringFolder(place.ring).read()
    assert [key.version for key in found.verifiers] == ["1", "2"]
    assert [key.public.version for key in found.decrypters] == ["1", "2"]
    assert (found.signer.public.version, found.recipient.version) == ("1", "1")
    assert "only a pre-active key is staged" in refused(place, "stage", "1")


def test_a_key_that_was_never_given_out_is_not_activated(place, other_key):
    file = place.folder / "ours.pem"
    file.write_bytes(private_pem(other_key))
    file.chmod(0o600)
    keys(place, "import", str(file), "--version", "9")
    for words in (["activate", "9"], ["activate", "9", "--at", SOON]):
        assert "the public key of partner version 9 was never given out" in refused(
            place, *words
        )
    keys(place, "public", "9")
    keys(place, "activate", "9")
    assert states(place)[2] == "active"


def test_a_key_is_printed_also_where_that_cannot_be_noted(place, other_key):
    file = place.folder / "ours.pem"
    file.write_bytes(private_pem(other_key))
    file.chmod(0o600)
    keys(place, "import", str(file), "--version", "9")
    with locked(place.ring):
        done = place.gateway("keys", "public", "9")
    assert b"not noted in the ring" in done.stderr
    assert done.stdout.decode() == public_pem(other_key.public_key())


@pytest.mark.parametrize("end", ["destroy", "compromise"])
def test_a_key_that_was_given_up_does_not_return_as_another_version(
    place, other_key, end
):
    """Its file is gone; its fingerprint stands in its entry."""
    ours, theirs = place.folder / "ours.pem", place.folder / "theirs.pem"
    ours.write_bytes(private_pem(other_key))
    ours.chmod(0o600)
    keys(place, "import", str(ours), "--version", "9")
    keys(place, end, "9")
    for name in ring(place).partner[-1].key, "partner-9.pem":
        (place.ring / str(name)).unlink(missing_ok=True)
    assert "versions 9 and 10 are the same key" in refused(place, "import", str(ours))
    theirs.write_text(public_pem(other_key.public_key()))
    assert "our own public key stands where AlipayHK's belongs" in refused(
        place, "import", str(theirs)
    )


def test_the_pair_that_is_generated_is_the_one_of_its_entry(place):
    noted = ring(place).partner[-1].fingerprint
    assert noted == KeyringFolder(place.ring).read().partner[-1].fingerprint


def test_the_times_of_a_keys_life_are_noted(place):
    keys(place, "activate", "2")
    first, second = ring(place).partner
    assert second.created <= second.exported <= second.activated <= CLOCK.now()
    assert first.deactivated == second.activated


# --- a ring that was copied --------------------------------------------------


def test_a_copied_ring_takes_back_no_other_change(place):
    """The files of the ring, and not its history, went over that of another node."""
    keys(place, "activate", "2")
    shutil.copytree(place.ring, place.folder / "node")
    keys(place, "activate", "1")
    keys(place, "generate")
    for name in ("keyring.yaml", "partner-3.pem"):
        shutil.copy(place.ring / name, place.folder / "node" / name)
    node = ("--keyring", "node")
    before = (place.folder / "node/keyring.yaml").read_bytes()
    done = place.gateway("keys", "rollback", *node)
    assert done.returncode == 1
    assert b"the ring was copied without its .history" in done.stderr
    assert (place.folder / "node/keyring.yaml").read_bytes() == before
    last = re.search(rb"name it with --to ([0-9]+)", done.stderr)[1].decode()
    assert int(last) == ring(place).generation - 3


def test_a_change_by_hand_is_not_passed_over_by_a_rollback(place):
    file = place.ring / "keyring.yaml"
    generation = ring(place).generation
    text = file.read_text()
    text = text.replace(f"generation: {generation}", f"generation: {generation + 1}")
    file.write_text(
        text.replace("state: pre-active", "state: pre-active, staged: true")
    )
    assert "or changed by hand" in refused(place, "rollback")


def test_a_ring_that_is_copied_whole_has_its_history(place):
    keys(place, "activate", "2")
    shutil.copytree(place.ring, place.folder / "node")
    done = place.gateway("keys", "rollback", "--keyring", "node")
    assert done.returncode == 0, done.stderr
    assert b"partner version 1: deactivated -> active" in done.stdout
