"""`gateway audit`, and what `gateway keys` leaves in the log."""

import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.audit.chain import read
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.formats import private_pem
from tests.e2e.workspace import GATEWAY, Workspace, error_of, examples, workspace

pytestmark = pytest.mark.e2e

VERBS = ("show", "verify", "head", "keygen")


@pytest.fixture
def place(tmp_path):
    return workspace(tmp_path)


@pytest.fixture
def ringed(place, complete_ring):
    """A workspace with a whole ring and an audit log that is configured."""
    shutil.copytree(complete_ring, place.ring)
    assert place.gateway("audit", "keygen", "audit.pem").returncode == 0
    configure(place, "{file: audit.jsonl, key: audit.pem}")
    return place


def configure(place, audit):
    file = place.folder / "config.yaml"
    text = file.read_text().partition("\naudit:")[0]
    file.write_text(f"{text}\naudit: {audit}\n")


def lines(place):
    return (place.folder / "audit.jsonl").read_bytes().splitlines(keepends=True)


def noted(place):
    return [read(line[:-1]).fields for line in lines(place)]


def changes(place):
    return [each for each in noted(place) if each["what"].startswith("keys_")]


def verified(place, *options):
    done = place.gateway("audit", "verify", "--json", *options)
    return done.returncode, json.loads(done.stdout)


# --- keys --------------------------------------------------------------------


def test_each_verb_explains_itself_by_examples(place):
    for verb in VERBS:
        done = place.gateway("audit", verb, "--help")
        assert done.returncode == 0
        assert b"Examples:" in done.stdout


@pytest.mark.parametrize(
    "example",
    [line for verb in VERBS for line in examples(f"gateway.cli._audit_{verb}")],
)
def test_each_example_of_the_help_works(example, ringed):
    ringed.gateway("keys", "generate")
    kept = ringed.folder / "kept"
    kept.write_bytes(ringed.gateway("audit", "head").stdout)
    ringed.gateway("keys", "generate")
    if "keygen" in example:
        (ringed.folder / "audit.pem").unlink()
        (ringed.folder / "audit.pem.pub").unlink()
    if "--from" in example:
        seq = int(kept.read_text().partition(":")[0])
        (ringed.folder / "audit.jsonl").write_bytes(b"".join(lines(ringed)[seq:]))
    done = ringed.shell(example) if "$(" in example else ringed.example(example)
    assert done.returncode == 0, done


def test_a_key_is_for_its_owner_and_never_written_over(place):
    before = os.umask(0)
    try:
        done = place.gateway("audit", "keygen", "audit.pem", "--json")
    finally:
        os.umask(before)
    key, public = (place.folder / name for name in ("audit.pem", "audit.pem.pub"))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    facts = json.loads(done.stdout)
    assert (facts["key"], facts["public"]) == ("audit.pem", "audit.pem.pub")
    spki = subprocess.run(
        ["openssl", "pkey", "-in", key, "-pubout"], capture_output=True, check=True
    ).stdout
    assert spki == public.read_bytes()
    held = key.read_bytes()
    assert held not in done.stdout
    done = place.gateway("audit", "keygen", "audit.pem")
    assert done.returncode == 1
    assert "File exists" in error_of(done)
    assert key.read_bytes() == held


def test_a_change_is_two_lines_who_what_from_and_to(ringed, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "alice")
    ringed.gateway("keys", "generate")
    ringed.gateway("keys", "activate", "2")
    whats = [each["what"] for each in noted(ringed)]
    assert whats == ["keys_changing", "keys_changed"] * 2
    line = noted(ringed)[2]
    assert line["who"].endswith(" for alice")
    assert line["command"] == "gateway keys activate"
    assert (line["from"]["generation"], line["to"]["generation"]) == (6, 7)
    before = [(k["section"], k["version"], k["state"]) for k in line["from"]["keys"]]
    after = [(k["section"], k["version"], k["state"]) for k in line["to"]["keys"]]
    assert before == [("partner", "1", "active"), ("partner", "2", "pre-active")]
    assert after == [("partner", "1", "deactivated"), ("partner", "2", "active")]
    ring = KeyringFolder(ringed.ring).read()
    assert ring.generation == 7
    assert [k["fingerprint"] for k in line["to"]["keys"]] == [
        key.fingerprint for key in ring.partner
    ]
    assert verified(ringed)[0] == 0


def test_an_import_is_noted_without_the_key(ringed, other_key):
    file = ringed.folder / "ours.pem"
    file.touch(mode=0o600)
    file.write_bytes(private_pem(other_key))
    assert ringed.gateway("keys", "import", "ours.pem").returncode == 0
    text = (ringed.folder / "audit.jsonl").read_text()
    assert noted(ringed)[1]["to"]["keys"][0]["version"] == "2"
    for line in file.read_text().splitlines():
        assert line not in text


def test_a_dry_run_and_a_step_that_was_taken_leave_no_line(ringed):
    ringed.gateway("keys", "activate", "1", "--dry-run")
    ringed.gateway("keys", "activate", "1")
    assert not (ringed.folder / "audit.jsonl").exists()


def test_a_configuration_that_cannot_be_read_stops_a_change(ringed):
    """Nobody could tell whether the change has to be noted."""
    (ringed.folder / "config.yaml").write_text("{")
    done = ringed.gateway("keys", "generate", "--keyring", ringed.ring)
    assert done.returncode == 1
    assert KeyringFolder(ringed.ring).read().generation == 5


def test_a_ring_elsewhere_is_changed_without_a_configuration(ringed):
    (ringed.folder / "config.yaml").unlink()
    done = ringed.gateway("keys", "generate", "--keyring", ringed.ring)
    assert done.returncode == 0
    assert not (ringed.folder / "audit.jsonl").exists()


@pytest.fixture
def elsewhere(tmp_path_factory):
    """A folder that knows nothing of the workspace."""
    return Workspace(tmp_path_factory.mktemp("elsewhere"))


def link_to(ring, elsewhere):
    (elsewhere.folder / "link").symlink_to(ring)
    return "link"


NAMES = {
    "its path": lambda ringed, elsewhere: ringed.ring,
    "a path with ..": lambda ringed, elsewhere: ringed.ring / "../hk-sandbox",
    "a link": lambda ringed, elsewhere: link_to(ringed.ring, elsewhere),
    "a link to the folder above": lambda ringed, elsewhere: (
        link_to(ringed.ring.parent, elsewhere) + "/hk-sandbox"
    ),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_ring_s_change_is_noted_however_the_ring_is_named(name, ringed, elsewhere):
    ring = name(ringed, elsewhere)
    done = elsewhere.gateway("keys", "generate", "--keyring", ring)
    assert done.returncode == 0, done.stderr
    assert [each["what"] for each in noted(ringed)] == ["keys_changing", "keys_changed"]
    line = noted(ringed)[0]
    assert (line["client"], line["keyring"]) == ("hk-sandbox", str(ringed.ring))


def test_without_its_line_a_ring_named_by_its_folder_is_not_changed(ringed, elsewhere):
    configure(ringed, "{file: audit.jsonl, key: audit.pem, required: true}")
    spoil(ringed)
    for verb in (["generate"], ["rollback"], ["activate", "1"], ["compromise", "1"]):
        before = (ringed.ring / "keyring.yaml").read_bytes()
        elsewhere.gateway("keys", *verb, "--keyring", ringed.ring)
        assert (ringed.ring / "keyring.yaml").read_bytes() == before
    done = elsewhere.gateway("keys", "generate", "--keyring", ringed.ring)
    assert done.returncode == 1
    assert error_of(done).endswith("Nothing was changed")


def test_the_configuration_that_has_the_ring_goes_before_the_one_that_is_here(
    ringed, tmp_path_factory
):
    other = workspace(tmp_path_factory.mktemp("other"))
    other.gateway("audit", "keygen", "audit.pem")
    configure(other, "{file: audit.jsonl, key: audit.pem}")
    other.gateway("keys", "generate", "--keyring", ringed.ring)
    assert len(changes(ringed)) == 2
    assert not (other.folder / "audit.jsonl").exists()
    ring = other.folder / "new"
    other.gateway("keys", "generate", "--keyring", ring)
    assert [each.get("client") for each in changes(other)] == [None, None]
    assert {each["keyring"] for each in changes(other)} == {str(ring)}


def test_a_configuration_that_is_named_is_the_one_that_is_meant(ringed, elsewhere):
    other = elsewhere.folder / "other.yaml"
    other.write_text(
        (ringed.folder / "config.yaml").read_text().partition("\naudit")[0]
    )
    words = ("keys", "generate", "--keyring", ringed.ring, "-c")
    assert elsewhere.gateway(*words, other).returncode == 0
    assert not (ringed.folder / "audit.jsonl").exists()
    done = elsewhere.gateway(*words, "nowhere.yaml")
    assert done.returncode == 2
    assert "there is no nowhere.yaml, which --config names" in error_of(done)


@pytest.mark.parametrize("mode", [0o646, 0o666])
def test_a_log_is_not_written_where_a_file_of_others_says(mode, ringed, elsewhere):
    (ringed.folder / "config.yaml").chmod(mode)
    done = elsewhere.gateway("keys", "generate", "--keyring", ringed.ring)
    assert done.returncode == 1
    assert "others may write to that file" in error_of(done)
    assert KeyringFolder(ringed.ring).read().generation == 5


# --- show --------------------------------------------------------------------


def shown(place, *options):
    done = place.gateway("audit", "show", *options)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().splitlines()


def test_the_log_is_printed_for_people(ringed):
    ringed.gateway("keys", "generate")
    ringed.gateway("keys", "activate", "2")
    text = shown(ringed)
    firsts = [line.split("  ") for line in text if not line.startswith(" ")]
    assert [(line[0], line[2]) for line in firsts] == [
        ("1", "keys_changing"),
        ("2", "keys_changed"),
        ("3", "keys_changing"),
        ("4", "keys_changed"),
    ]
    assert [line[1] for line in firsts] == [each["time"] for each in noted(ringed)]
    assert "    command: gateway keys activate" in text
    change = [line for line in text if line.startswith("    to: ")][-1]
    assert change.startswith("    to: generation 7; keys partner 1 is deactivated (")
    assert "partner 2 is active (" in change
    assert not any("{" in line for line in text)


def test_the_log_is_filtered_by_event_client_and_time(ringed):
    ringed.gateway("keys", "generate")
    seqs = lambda *options: [  # noqa: E731
        json.loads(line)["seq"] for line in shown(ringed, "--json", *options)
    ]
    assert seqs() == [1, 2]
    assert seqs("--event", "keys_changed") == [2]
    assert seqs("--event", "keys_changed", "--event", "keys_changing") == [1, 2]
    assert seqs("--client", "hk-sandbox") == [1, 2]
    assert seqs("--client", "other") == []
    assert seqs("--since", "1h") == [1, 2]
    assert seqs("--since", noted(ringed)[1]["time"])[-1:] == [2]
    assert seqs("--since", "2999-01-01T00:00:00Z") == []
    done = ringed.gateway("audit", "show", "--since", "yesterday")
    assert (done.returncode, b"must be a time with its zone" in done.stderr) == (
        2,
        True,
    )


def test_a_program_gets_the_lines_as_they_stand(ringed):
    ringed.gateway("keys", "generate")
    assert shown(ringed, "--json") == b"".join(lines(ringed)).decode().splitlines()


def test_a_log_is_shown_without_a_key(ringed):
    ringed.gateway("keys", "generate")
    (ringed.folder / "audit.pem").unlink()
    assert shown(ringed, "--file", "audit.jsonl")


def test_what_is_no_line_is_told_and_the_others_are_shown(ringed):
    ringed.gateway("keys", "generate")
    with (ringed.folder / "audit.jsonl").open("ab") as log:
        log.write(b'{"what": "\x1b[2Jhidden"}\n')
    done = ringed.gateway("audit", "show")
    assert done.returncode == 1
    assert error_of(done) == (
        "gateway: audit.jsonl, line 3: not a line of an audit log; see `gateway audit "
        "verify`"
    )
    assert len([x for x in done.stdout.splitlines() if not x.startswith(b" ")]) == 2


def test_what_a_line_holds_cannot_speak_to_the_terminal(ringed):
    from gateway.audit.chain import BEGINNING, line_after

    line = line_after(BEGINNING, {"what": "x\x1b[2J", "reason": "a\nb\u202e", "n": [1]})
    (ringed.folder / "audit.jsonl").write_bytes(line + b"\n")
    assert shown(ringed) == [
        "1  ?  x\\x1b[2J  ?",
        "    n: 1",
        "    reason: a\\nb\\u202e",
    ]


def spoil(place):
    (place.folder / "audit.jsonl").mkdir()


def test_a_change_that_cannot_be_noted_is_refused_where_it_must_be(ringed):
    configure(ringed, "{file: audit.jsonl, key: audit.pem, required: true}")
    spoil(ringed)
    before = sorted(
        (each.name, each.stat().st_mtime_ns) for each in ringed.ring.iterdir()
    )
    done = ringed.gateway("keys", "generate")
    assert done.returncode == 1
    assert error_of(done).endswith("Nothing was changed")
    after = sorted(
        (each.name, each.stat().st_mtime_ns) for each in ringed.ring.iterdir()
    )
    assert after == before


def test_a_change_that_cannot_be_noted_is_made_with_a_warning_where_it_may(ringed):
    spoil(ringed)
    done = ringed.gateway("keys", "generate")
    assert done.returncode == 0
    assert len(done.stderr.decode().splitlines()) == 2
    assert b"missing in the audit log" in done.stderr
    assert KeyringFolder(ringed.ring).read().generation == 6


def test_a_change_that_fails_leaves_a_line_that_says_so(ringed, monkeypatch):
    real = Path.rename

    def fail(file, target):
        if file.name == "keyring.yaml":
            raise OSError(5, "Input/output error")
        return real(file, target)

    monkeypatch.setattr(Path, "rename", fail)
    assert ringed.gateway("keys", "generate").returncode == 1
    whats = [each["what"] for each in noted(ringed)]
    assert whats == ["keys_changing", "keys_change_failed"]


def test_a_full_disk_refuses_the_change_in_a_process(ringed):
    configure(ringed, "{file: audit.jsonl, key: audit.pem, required: true}")
    log = ringed.folder / "audit.jsonl"
    ringed.gateway("keys", "generate")
    while log.stat().st_size < 20_000:
        ringed.gateway("keys", "activate", "2")
        ringed.gateway("keys", "activate", "1")
    before = KeyringFolder(ringed.ring).read().generation
    limit = log.stat().st_size + 100
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run(
        [*GATEWAY, "keys", "generate"],
        cwd=ringed.folder,
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    assert b"File too large" in done.stderr
    assert KeyringFolder(ringed.ring).read().generation == before
    assert verified(ringed)[0] == 0


KILL = """
import os, signal, sys
from pathlib import Path
from gateway.cli import main
steps, taken, real = int(sys.argv[1]), 0, os.fsync
def fsync(descriptor):
    global taken
    if taken == steps:
        os.kill(os.getpid(), signal.SIGKILL)
    taken += 1
    return real(descriptor)
os.fsync = fsync
sys.exit(main(["keys", "generate"]))
"""


@pytest.mark.chaos
@pytest.mark.timeout(800)
def test_a_command_that_is_killed_is_never_a_change_without_a_line(ringed):
    """Killed before each time that it waits for the disk."""
    ends = set()
    for steps in range(40):
        before = KeyringFolder(ringed.ring).read().generation
        done = subprocess.run(
            [sys.executable, "-c", KILL, str(steps)],
            cwd=ringed.folder,
            capture_output=True,
            check=False,
            timeout=60,
        )
        after = KeyringFolder(ringed.ring).read().generation
        log = ringed.folder / "audit.jsonl"
        told = (
            [each["to"]["generation"] for each in changes(ringed)]
            if log.exists()
            else []
        )
        assert after == before or after in told
        ends.add((after - before, done.returncode))
        if done.returncode == 0:
            break
        assert done.returncode in (-signal.SIGKILL, 1)
        for each in ringed.ring.glob("partner-*"):
            if f"key: {each.name}" not in (ringed.ring / "keyring.yaml").read_text():
                each.unlink()
    assert {(0, -signal.SIGKILL), (1, -signal.SIGKILL), (1, 0)} <= ends
    assert verified(ringed)[0] == 0


# --- verify and head ---------------------------------------------------------


def test_verifying_names_the_first_bad_line_and_why(ringed):
    for _ in range(3):
        ringed.gateway("keys", "generate")
    done = ringed.gateway("audit", "verify")
    assert done.returncode == 0
    assert b"6 lines hold" in done.stdout
    whole = lines(ringed)
    log = ringed.folder / "audit.jsonl"
    log.write_bytes(b"".join(whole).replace(b"pre-active", b"active", 1))
    done = ringed.gateway("audit", "verify")
    assert done.returncode == 1
    assert done.stdout.startswith(
        b"audit.jsonl, line 1: line 1 of the chain was changed"
    )
    log.write_bytes(b"".join(whole[:2] + whole[3:]))
    status, report = verified(ringed)
    assert status == 1
    assert report["ok"] is False
    assert report["fault"] == {
        "kind": "removed",
        "file": "audit.jsonl",
        "line": 3,
        "seq": 4,
        "message": "follows line 2: line 3 before it removed",
    }
    log.unlink()
    status, report = verified(ringed)
    assert (status, report["fault"]["kind"], report["fault"]["file"]) == (
        1,
        "cut_off",
        None,
    )
    assert ringed.gateway("audit", "verify").stdout.startswith(b"audit.jsonl: line 1")


def test_a_log_that_was_rewritten_with_the_key_fails_against_what_was_kept(ringed):
    ringed.gateway("keys", "generate")
    kept = ringed.gateway("audit", "head").stdout.decode().strip()
    for name in ("audit.jsonl", "audit.jsonl.head"):
        (ringed.folder / name).unlink()
    ringed.gateway("keys", "generate")
    ringed.gateway("keys", "generate")
    assert verified(ringed)[0] == 0
    status, report = verified(ringed, "--expect", kept)
    assert (status, report["fault"]["seq"]) == (1, 2)


def test_what_was_kept_of_a_line_twice_must_be_the_same(ringed):
    """Else a log that was written anew passes for whoever kept its end again since."""
    ringed.gateway("keys", "generate")
    kept = ringed.gateway("audit", "head").stdout.decode().strip()
    other = f"2:{'0' * 64}"
    for options in (("--expect", other, "--expect", kept), ("--from", other)):
        done = ringed.gateway("audit", "verify", "--expect", kept, *options)
        assert done.returncode == 1
        assert "line 2 was kept with two hashes" in error_of(done)
    assert verified(ringed, "--expect", kept, "--expect", kept)[0] == 0


def test_a_log_that_a_killed_writer_left_is_noted(ringed):
    ringed.gateway("keys", "generate")
    with (ringed.folder / "audit.jsonl").open("ab") as stream:
        stream.write(b"{")
    assert verified(ringed)[1]["fault"]["kind"] == "unsigned"
    ringed.gateway("keys", "generate")
    assert verified(ringed)[0] == 0
    assert ringed.gateway("audit", "verify").stdout.startswith(b"note: ")


def test_the_head_is_what_verify_ends_with(ringed):
    ringed.gateway("keys", "generate")
    head = json.loads(ringed.gateway("audit", "head", "--json").stdout)
    assert head["seq"] == 2
    assert verified(ringed)[1]["last"] == {"seq": 2, "hash": head["hash"]}


@pytest.mark.parametrize("verb", ["verify", "head"])
def test_a_log_without_its_signed_end_proves_nothing(ringed, verb):
    ringed.gateway("keys", "generate")
    head = ringed.folder / "audit.jsonl.head"
    text = head.read_bytes()
    for spoilt, says in (
        (text.replace(b'"seq":2', b'"seq":1'), "does not hold"),
        (b"{", "not what a gateway wrote"),
        (None, "there is no"),
    ):
        head.unlink()
        if spoilt is not None:
            head.write_bytes(spoilt)
        done = ringed.gateway("audit", verb)
        assert done.returncode == 1
        assert says in error_of(done)


def test_another_key_is_told_as_such(ringed):
    ringed.gateway("keys", "generate")
    ringed.gateway("audit", "keygen", "other.pem")
    done = ringed.gateway("audit", "verify", "--key", "other.pem.pub")
    assert done.returncode == 1
    assert "another key signed it" in error_of(done)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "--expect", "1"], "must be SEQ:HASH"),
        (["verify", "-c", "none.yaml"], "name the log with --file"),
        (["head", "-c", "bare.yaml"], "has no section audit"),
        (["verify", "--file", ""], "it is empty"),
    ],
)
def test_wrong_usage_is_told(ringed, arguments, says):
    text = (ringed.folder / "config.yaml").read_text()
    (ringed.folder / "bare.yaml").write_text(text.partition("\naudit:")[0])
    done = ringed.gateway("audit", *arguments)
    assert done.returncode == 2
    assert says in done.stderr.decode()


def test_a_folder_that_is_not_there_is_told(ringed):
    done = ringed.gateway("audit", "verify", "--file", "none/audit.jsonl")
    assert done.returncode == 1
    assert "there is no folder none" in error_of(done)


# --- check -------------------------------------------------------------------


def test_checking_looks_at_the_audit_too(ringed):
    assert ringed.gateway("check").returncode == 0
    (ringed.folder / "audit.pem").chmod(0o644)
    spoil(ringed)
    done = ringed.gateway("check", "--json")
    assert done.returncode == 1
    problems = {
        each["key"]: each["message"] for each in json.loads(done.stdout)["problems"]
    }
    assert "others may read" in problems["audit.key"]
    assert problems["audit.file"] == "it is not a file"
