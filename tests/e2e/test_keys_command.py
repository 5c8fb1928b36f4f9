"""`gateway keys` as processes: the life of keys from the first to the last."""

import json
import re
import shutil
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from gateway.keys.backends.file import KeyringFolder
from gateway.keys.changes import Party
from gateway.keys.formats import fingerprint, private_pem, public_base64, public_pem
from tests.e2e.workspace import GATEWAY, error_of, examples, put, workspace

pytestmark = pytest.mark.e2e

ENCRYPTED = b"""-----BEGIN ENCRYPTED PRIVATE KEY-----
AA==
-----END ENCRYPTED PRIVATE KEY-----
"""
VERBS = (
    *("generate", "import", "list", "public", "activate", "stage"),
    *("deactivate", "destroy", "compromise", "rollback", "settle"),
)


@pytest.fixture
def place(tmp_path):
    return workspace(tmp_path)


@pytest.fixture
def ringed(place, complete_ring):
    """A workspace whose ring is complete."""
    shutil.copytree(complete_ring, place.ring)
    return place


def write(file, data, mode=0o600):
    file.write_bytes(data)
    file.chmod(mode)
    return file


def files(folder):
    return sorted(each.name for each in folder.iterdir())


# --- what the help says ------------------------------------------------------


@pytest.fixture
def example_place(ringed, other_key, monkeypatch):
    """What the examples take for granted: some keys, and files to import."""
    folder = ringed.folder
    monkeypatch.setenv("RING_PASSPHRASE", "correct horse")
    write(folder / "encrypted.pem", private_pem(other_key, b"correct horse"))
    write(folder / "alipayhk.pem", public_pem(other_key.public_key()).encode())
    write(folder / "ours.pem", private_pem(other_key))
    shutil.copytree(ringed.ring, folder / "keys/hk")
    return ringed


BEFORE = {
    "activate 2": ["generate"],
    "activate 2 --platform": ["import alipayhk.pem"],
    "public 2": ["generate"],
    "destroy 1": ["generate", "activate 2"],
    "destroy 1 --platform": ["import alipayhk.pem --activate"],
    "activate 2 --canary": ["generate"],
    "destroy 3": ["generate", "activate 2", "generate"],
    "compromise 3": ["generate", "generate"],
    "compromise 3 --platform": ["import alipayhk.pem --version 3"],
    "stage 3": ["generate", "generate"],
    "stage 3 --platform": ["import alipayhk.pem --version 3"],
    "rollback": ["generate", "activate 2"],
}
"""What has to have happened before an example, by how it goes on."""


def done_before(example):
    command = example.removeprefix("gateway keys ")
    fitting = [start for start in BEFORE if command.startswith(start)]
    platform = [start for start in fitting if "--platform" in start]
    return [step for start in (platform or fitting)[:1] for step in BEFORE[start]]


@pytest.mark.parametrize(
    "example",
    [line for verb in VERBS for line in examples(f"gateway.cli._keys_{verb}")],
)
def test_each_example_of_a_verb_runs(example, example_place):
    if " | jq" in example and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    for step in done_before(example):
        assert example_place.gateway("keys", *step.split()).returncode == 0
    done = example_place.example(example)
    assert done.returncode == 0, done.stderr
    assert done.stdout or ">" in example


def test_the_examples_of_a_new_ring_and_of_a_rotation_run_in_their_order(
    place, platform_key
):
    pem = public_pem(platform_key.public_key()).encode()
    write(place.folder / "alipayhk.pem", pem)
    story = examples("gateway.cli.keys")
    assert len(story) == 10
    done = place.shell(" && ".join(story))
    assert done.returncode == 0, done.stderr
    ring = KeyringFolder(place.ring).read()
    assert ring.signer.public.version == "2"
    assert [each.state for each in ring.partner] == ["destroyed", "active"]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself_by_examples(verb, place):
    done = place.gateway("keys", verb, "--help")
    assert done.returncode == 0
    assert f"\nExamples:\n  gateway keys {verb}" in done.stdout.decode()


# --- generate ----------------------------------------------------------------


def test_generating_makes_the_ring_and_prints_the_public_key_alone(place):
    done = place.process("keys", "generate")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    info = KeyringFolder(place.ring).read().partner[0]
    assert info.state == "pre-active"
    assert public_pem(info.public.rsa) in text
    assert f"\n{public_base64(info.public.rsa)}\n" in text
    assert info.fingerprint in text
    assert "gateway keys activate 1\n" in text
    assert "PRIVATE" not in text


def test_a_generated_key_is_for_its_owner_alone(place):
    place.gateway("keys", "generate")
    file = place.ring / "partner-1.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.ring.stat().st_mode) == 0o700


def test_generating_again_takes_the_next_version(place):
    place.gateway("keys", "generate")
    done = place.gateway("keys", "generate", "--json")
    facts = json.loads(done.stdout)
    assert facts["version"] == "2"
    assert facts["state"] == "pre-active"
    assert facts["bits"] == 2048
    assert facts["public_pem"].startswith("-----BEGIN PUBLIC KEY-----")


def test_generating_with_its_own_label_use_and_length(place):
    options = "--version 2026-11 --use sign --bits 3072 --json"
    facts = json.loads(place.gateway("keys", "generate", *options.split()).stdout)
    assert (facts["version"], facts["uses"], facts["bits"]) == (
        "2026-11",
        ["sign"],
        3072,
    )
    assert (place.ring / "partner-2026-11-sign.pem").exists()


def test_the_next_steps_name_the_ring_that_was_named(place):
    done = place.gateway("keys", "generate", "--keyring", "a ring")
    assert "gateway keys activate 1 --keyring 'a ring'" in done.stdout.decode()


def test_a_version_that_is_taken_is_not_generated(ringed):
    done = ringed.gateway("keys", "generate", "--version", "1")
    assert done.returncode == 1
    assert "partner version 1 is there already" in error_of(done)


def test_a_version_that_cannot_stand_in_a_header_is_refused(place):
    done = place.gateway("keys", "generate", "--version", "1,2")
    assert done.returncode == 1
    assert "a key version is 1 to 64 letters" in error_of(done)


# --- import ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pem", "base64"])
def test_a_public_key_is_taken_for_the_platforms(form, place, platform_key):
    key = platform_key.public_key()
    text = public_pem(key) if form == "pem" else public_base64(key)
    write(place.folder / "key", text.encode(), 0o644)
    done = place.gateway("keys", "import", "key", "--json")
    facts = json.loads(done.stdout)
    assert (facts["section"], facts["state"]) == ("platform", "pre-active")
    assert facts["fingerprint"] == fingerprint(key)


def test_a_private_key_is_taken_for_ours_and_not_printed(place, partner_key):
    write(place.folder / "key.pem", private_pem(partner_key))
    done = place.gateway("keys", "import", "key.pem", "--activate")
    assert done.returncode == 0, done.stderr
    assert b"PRIVATE" not in done.stdout
    assert KeyringFolder(place.ring).read().signer.public.version == "1"


def test_a_key_is_read_from_standard_input(place, platform_key):
    given = public_pem(platform_key.public_key()).encode()
    done = place.gateway("keys", "import", "-", "--activate", given=given)
    assert done.returncode == 0, done.stderr
    assert KeyringFolder(place.ring).read().recipient.version == "1"


def test_a_private_key_from_standard_input_has_no_mode_to_check(place, partner_key):
    given = private_pem(partner_key)
    done = place.gateway("keys", "import", "-", "--partner", given=given)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((place.ring / "partner-1.pem").stat().st_mode) == 0o600


def test_a_private_key_that_others_may_read_is_not_imported(place, partner_key):
    write(place.folder / "key.pem", private_pem(partner_key), 0o644)
    done = place.gateway("keys", "import", "key.pem")
    assert done.returncode == 1
    assert "key.pem: others may read or write it (mode 0644); chmod 600 it" in error_of(
        done
    )


def test_a_private_key_is_not_imported_as_the_platforms(place, partner_key):
    write(place.folder / "key.pem", private_pem(partner_key))
    done = place.gateway("keys", "import", "key.pem", "--platform")
    assert done.returncode == 1
    assert "it is a private key; a public key belongs here" in error_of(done)


def test_our_own_public_key_is_not_imported_as_the_platforms(ringed, partner_key):
    own = public_pem(partner_key.public_key()).encode()
    write(ringed.folder / "key.pem", own)
    before = files(ringed.ring)
    done = ringed.gateway("keys", "import", "key.pem")
    assert done.returncode == 1
    assert "our own public key stands where AlipayHK's belongs" in error_of(done)
    assert files(ringed.ring) == before


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"AAAA", "it is not an RSA public key"),
        (b"hello!", "it is neither PEM nor base64"),
        (ENCRYPTED, "it is encrypted with a passphrase"),
    ],
)
def test_what_is_no_key_is_named(data, says, place):
    write(place.folder / "key.pem", data)
    done = place.gateway("keys", "import", "key.pem")
    assert done.returncode == 1
    assert says in error_of(done)
    assert not place.ring.exists()


# --- list and public ---------------------------------------------------------


def test_listing_shows_every_version(ringed):
    ringed.gateway("keys", "generate")
    rows = ringed.process("keys", "list").stdout.decode().splitlines()
    assert [row.split()[:4] for row in rows[2:]] == [
        ["partner", "1", "active", "sign,decrypt"],
        ["partner", "2", "pre-active", "sign,decrypt"],
        ["platform", "1", "active", "verify,encrypt"],
    ]


def test_listing_as_json_has_the_whole_fingerprint(ringed, partner_key):
    facts = json.loads(ringed.gateway("keys", "list", "--json").stdout)
    assert facts["keys"][0]["fingerprint"] == fingerprint(partner_key.public_key())
    assert facts["problems"] == []


def noted(ringed, edit):
    """Edit the ring's manifest by hand, a generation on."""
    manifest = ringed.ring / "keyring.yaml"
    text = edit(manifest.read_text()).replace("generation: 5", "generation: 6")
    manifest.write_text(text)


def days_ago(days):
    moment = datetime.now(UTC) - timedelta(days=days)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def activated(days):
    """Give an edit that has our key activated so many days ago."""
    return lambda text: re.sub(
        r"(partner-1\.pem)([^}]*?)(, activated: [^,}]+)?([,}])",
        rf"\1\2, activated: {days_ago(days)}\4",
        text,
        count=1,
    )


def test_listing_tells_the_days_that_are_left_to_a_key_that_signs(ringed):
    noted(ringed, activated(100))
    facts = json.loads(ringed.gateway("keys", "list", "--json").stdout)
    assert [key["days_left"] for key in facts["keys"]] == [264, None]
    assert facts["live"] is None
    began = facts["keys"][0]["activated"]
    assert f"activated: {began}" in (ringed.ring / "keyring.yaml").read_text()
    (ours, _) = ringed.gateway("keys", "list").stdout.decode().splitlines()[2:]
    assert ours.split()[5:] == ["264", "2048", "file", began[:10]]


def test_listing_goes_by_the_clients_cryptoperiod(ringed):
    noted(ringed, activated(100))
    config = ringed.folder / "config.yaml"
    text = config.read_text()
    line = "    client_id:"
    config.write_text(text.replace(line, f"    cryptoperiod_days: 90\n{line}", 1))
    facts = json.loads(ringed.gateway("keys", "list", "--json").stdout)
    assert facts["keys"][0]["days_left"] == -11
    bare = ringed.gateway("keys", "list", "--json", "--keyring", ringed.ring)
    assert json.loads(bare.stdout)["keys"][0]["days_left"] == 264


def test_listing_takes_the_steps_that_are_due_and_names_those_to_come(ringed):
    ringed.gateway("keys", "generate")
    ringed.gateway("keys", "public", "2")
    at, later = days_ago(1), days_ago(-1)
    noted(
        ringed,
        lambda text: text.replace(
            "key: partner-2.pem", f"key: partner-2.pem, activate_at: {at}"
        ).replace(
            "key: platform-1.pem", f"key: platform-1.pem, deactivate_at: {later}"
        ),
    )
    lines = ringed.gateway("keys", "list").stdout.decode().splitlines()
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["partner", "1", "deactivated"],
        ["partner", "2", "active"],
        ["platform", "1", "active"],
    ]
    assert lines[5] == f"platform version 1 is to be deactivated at {later}"


def test_listing_a_plan_that_cannot_be_carried_out_shows_the_states_as_they_stand(
    ringed,
):
    ringed.gateway("keys", "generate")
    at = days_ago(1)
    noted(
        ringed,
        lambda text: re.sub(r", exported: [^,}]+", "", text).replace(
            "key: partner-2.pem", f"key: partner-2.pem, activate_at: {at}"
        ),
    )
    done = ringed.gateway("keys", "list")
    assert done.returncode == 1
    assert b"was never given out" in done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line.split()[2] for line in lines[2:5]] == [
        "active",
        "pre-active",
        "active",
    ]


def test_listing_tells_staged_keys_and_canaries(ringed):
    ringed.gateway("keys", "generate")
    ringed.gateway("keys", "public", "2")
    share = f"canary: [{{share: 5, at: {days_ago(1)}}}]"
    noted(
        ringed,
        lambda text: text.replace("state: pre-active", f"state: pre-active, {share}"),
    )
    done = ringed.gateway("keys", "list")
    assert done.returncode == 0, done.stderr
    assert "  canary 5%  " in done.stdout.decode().splitlines()[3]
    facts = json.loads(ringed.gateway("keys", "list", "--json").stdout)
    assert facts["keys"][1]["canary_percent"] == 5
    assert facts["keys"][1]["state"] == "pre-active"
    noted(ringed, lambda text: text.replace(share, "staged: true"))
    lines = ringed.gateway("keys", "list").stdout.decode().splitlines()
    assert "  staged  " in lines[3]


def test_a_list_has_room_in_100_columns(ringed):
    ringed.gateway("keys", "generate", "--version", "2026-11")
    noted(ringed, activated(100))
    lines = ringed.gateway("keys", "list").stdout.decode().splitlines()
    assert len(lines) == 2 + 3
    assert max(map(len, lines)) <= 100


def test_listing_with_live_where_nothing_runs_is_one_line(ringed):
    done = ringed.gateway("keys", "list", "--live")
    assert (done.returncode, done.stdout) == (1, b"")
    assert error_of(done).startswith("gateway: admin.listen 127.0.0.1:")


def test_listing_a_ring_that_would_be_refused_names_why(ringed):
    (ringed.ring / "partner-1.pem").chmod(0o640)
    done = ringed.gateway("keys", "list")
    assert done.returncode == 1
    assert "partner  " in done.stdout.decode()
    assert "partner-1.pem: others may read or write it (mode 0640)" in error_of(done)


def test_listing_names_files_that_no_entry_names(ringed):
    (ringed.ring / "partner-0.pem").write_text("left over")
    done = ringed.gateway("keys", "list")
    assert done.returncode == 0
    assert "partner-0.pem: no entry names it" in done.stdout.decode()


def test_listing_shows_destroyed_and_compromised_keys(ringed):
    ringed.gateway("keys", "generate")
    ringed.gateway("keys", "activate", "2")
    ringed.gateway("keys", "destroy", "1")
    manifest = ringed.ring / "keyring.yaml"
    text = manifest.read_text().replace("state: active", "state: compromised")
    manifest.write_text(text)
    facts = json.loads(ringed.gateway("keys", "list", "--json").stdout)
    found = [(key["state"], bool(key["fingerprint"])) for key in facts["keys"]]
    assert found == [
        ("destroyed", False),
        ("compromised", True),
        ("compromised", True),
    ]


def test_the_public_key_is_printed_and_nothing_else(ringed, partner_key, platform_key):
    done = ringed.gateway("keys", "public")
    assert done.stdout.decode() == public_pem(partner_key.public_key())
    done = ringed.gateway("keys", "public", "1", "--platform", "--format", "base64")
    assert done.stdout.decode().strip() == public_base64(platform_key.public_key())


def test_without_an_active_key_the_one_to_come_is_printed(place):
    place.gateway("keys", "generate")
    facts = json.loads(place.gateway("keys", "public", "--json").stdout)
    assert facts["version"] == "1"
    assert facts["state"] == "pre-active"


def test_without_any_key_to_print_a_version_is_asked_for(place, platform_key):
    put(place.ring, Party.PLATFORM, platform_key)
    done = place.gateway("keys", "public")
    assert done.returncode == 1
    assert "no partner key is active or about to be" in error_of(done)


def test_a_destroyed_key_has_nothing_to_print(place):
    place.gateway("keys", "generate")
    place.gateway("keys", "destroy", "1")
    done = place.gateway("keys", "public", "1")
    assert done.returncode == 1
    assert "partner version 1: it is destroyed and has no file" in error_of(done)


def test_a_key_that_cannot_be_read_is_not_printed(ringed):
    (ringed.ring / "partner-1.pem").write_text("AAAA")
    done = ringed.gateway("keys", "public")
    assert done.returncode == 1
    assert "partner version 1: it is not an RSA private key" in error_of(done)


# --- activate, deactivate, destroy -------------------------------------------


def test_a_rotation_says_what_each_key_does(ringed):
    ringed.gateway("keys", "generate")
    before = (ringed.ring / "keyring.yaml").read_text()
    trial = ringed.gateway("keys", "activate", "2", "--dry-run").stdout.decode()
    assert trial.startswith("Dry run, nothing was changed.")
    assert (ringed.ring / "keyring.yaml").read_text() == before
    done = ringed.gateway("keys", "activate", "2").stdout.decode()
    for line in (
        "partner version 2: pre-active -> active; it signs and decrypts from now on",
        "partner version 1: active -> deactivated; it still decrypts",
    ):
        assert line in done
        assert line in trial


def test_changes_are_told_to_programs_too(ringed):
    done = ringed.gateway(
        "keys", "deactivate", "1", "--platform", "--leave-none", "--json"
    )
    facts = json.loads(done.stdout)
    assert facts["changes"] == [
        {
            "section": "platform",
            "version": "1",
            "before": "active",
            "after": "deactivated",
            "does": ["verify"],
            "planned": {},
            "canary": [],
        }
    ]
    assert facts["missing"] == ["a platform key that is active to encrypt"]


def test_a_destroyed_key_is_gone_from_the_folder(ringed):
    ringed.gateway("keys", "generate")
    ringed.gateway("keys", "activate", "2")
    done = ringed.gateway("keys", "destroy", "1")
    assert b"partner-1.pem is deleted" in done.stdout
    assert files(ringed.ring) == [
        ".history",
        "keyring.yaml",
        "partner-2.pem",
        "platform-1.pem",
    ]


@pytest.mark.parametrize("option", [[], ["--platform"]])
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_activating_the_active_key_again_changes_nothing(dry_run, option, ringed):
    before = (ringed.ring / "keyring.yaml").read_bytes()
    party = "platform" if option else "partner"
    words = ("keys", "activate", "1", *option, *dry_run)
    done = ringed.gateway(*words)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        f"{party} version 1 is active already: nothing was changed.",
        "keys/hk-sandbox is at generation 5.",
    ]
    facts = json.loads(ringed.gateway(*words, "--json").stdout)
    assert (facts["changes"], facts["generation"]) == ([], 5)
    assert (ringed.ring / "keyring.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("verb", "state"), [("deactivate", "deactivated"), ("destroy", "destroyed")]
)
def test_other_steps_that_were_taken_already_change_nothing_either(verb, state, ringed):
    ringed.gateway("keys", "generate")
    ringed.gateway("keys", "activate", "2")
    ringed.gateway("keys", verb, "1")
    before = (ringed.ring / "keyring.yaml").read_bytes()
    done = ringed.gateway("keys", verb, "1")
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"version 1 is {state} already: nothing was changed." in (
        done.stdout.decode()
    )
    assert (ringed.ring / "keyring.yaml").read_bytes() == before


def test_the_active_key_is_not_destroyed(ringed):
    done = ringed.gateway("keys", "destroy", "1")
    assert done.returncode == 1
    assert "activate another version first" in error_of(done)
    assert (ringed.ring / "partner-1.pem").exists()


# --- which ring --------------------------------------------------------------


def test_a_client_is_named_where_there_are_several(ringed):
    config = ringed.folder / "config.yaml"
    text = config.read_text()
    client = text[text.index("  - name: hk-sandbox") : text.index("routes:")]
    other = client.replace("hk-sandbox", "other")
    config.write_text(text.replace("\nroutes:", f"{other}\nroutes:"))
    done = ringed.gateway("keys", "list")
    assert done.returncode == 2
    assert "name a client with --client: config.yaml has hk-sandbox, other" in (
        error_of(done)
    )
    assert ringed.gateway("keys", "list", "--client", "hk-sandbox").returncode == 0


def test_a_client_that_is_not_there_is_wrong_usage(ringed):
    done = ringed.gateway("keys", "list", "--client", "nobody")
    assert done.returncode == 2


def test_without_any_ring_the_options_are_named(tmp_path, place):
    (place.folder / "config.yaml").unlink()
    done = place.gateway("keys", "list")
    assert done.returncode == 2
    assert "name a keyring with --keyring" in error_of(done)


def test_a_ring_that_is_not_there_says_how_to_make_one(place):
    for verb in (["list"], ["public"], ["activate", "1", "--dry-run"]):
        done = place.gateway("keys", *verb)
        assert done.returncode == 1
        assert "`gateway keys generate` makes one" in error_of(done)


# --- wrong usage, and accidents ----------------------------------------------


def test_wrong_usage_ends_a_process_with_status_2(place):
    done = place.process("keys", "revoke", "1")
    assert done.returncode == 2
    assert "invalid choice: 'revoke'" in error_of(done)


@pytest.mark.parametrize(
    "words",
    [
        "keys",
        "keys revoke",
        "keys activate",
        "keys activate 1 2",
        "keys generate --bits 1024",
        "keys generate --use verify",
        "keys import key.pem --platform --partner",
        "keys public --format der",
        "keys list --nonsense",
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(words, place):
    done = place.gateway(*words.split())
    assert done.returncode == 2
    assert done.stdout == b""
    assert " --help`" in error_of(done)


def test_a_traceback_is_shown_only_where_it_is_asked_for(place):
    assert b"Traceback" not in place.gateway("keys", "list").stderr
    for words in (["--debug", "list"], ["list", "--debug"]):
        assert b"Traceback" in place.gateway("keys", *words).stderr


def test_a_defect_is_one_line_without_its_text(ringed, monkeypatch):
    def fail(_):
        raise ValueError("SECRET")

    monkeypatch.setattr("gateway.cli._keys_list.run", fail)
    done = ringed.gateway("keys", "list")
    assert done.returncode == 1
    assert error_of(done) == (
        "gateway: internal error (ValueError); --debug shows where"
    )


def test_an_interrupt_ends_a_command_with_its_own_status(ringed, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.cli._keys_list.run", interrupt)
    done = ringed.gateway("keys", "list")
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_a_reader_that_goes_away_is_no_error(ringed):
    done = ringed.shell("gateway keys list | true; echo ${PIPESTATUS[0]}")
    assert b"Traceback" not in done.stderr


def test_two_commands_at_once_do_not_mix(ringed):
    """Some are told to try again; each that was done is there, whole."""
    commands = [
        subprocess.Popen(
            [*GATEWAY, "keys", "generate", "--version", f"v{number}"],
            cwd=ringed.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for number in range(4)
    ]
    failed = 0
    for command in commands:
        _, errors = command.communicate(timeout=30)
        if command.returncode:
            failed += 1
            assert b"another command is changing this keyring" in errors
    ring = KeyringFolder(ringed.ring).read()
    assert len(ring.partner) == 1 + len(commands) - failed
    assert failed < len(commands)


def test_a_command_that_is_killed_leaves_a_ring_that_reads(ringed):
    """Wherever it is; the sweep over every operation is in tests/unit/keys."""
    for delay in (0.2, 0.35, 0.5):
        command = subprocess.Popen(
            [*GATEWAY, "keys", "generate"],
            cwd=ringed.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            command.wait(delay)
        except subprocess.TimeoutExpired:
            command.send_signal(signal.SIGKILL)
            command.wait()
        assert KeyringFolder(ringed.ring).read().signer.public.version == "1"


def test_the_help_of_the_whole_loads_nothing_heavy(place):
    code = "import sys, gateway.cli; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"pydantic", "yaml", "cryptography", "aiohttp"})
