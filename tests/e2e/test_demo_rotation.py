"""`gateway demo rotation` as a process: what it shows, what it keeps to itself, its end."""

import os
import re
import shlex
import signal
import subprocess

import pytest

from gateway.cli import _parse, _rotation_watch
from gateway.cli._inside import run_line
from gateway.errors import GatewayError
from tests.e2e.workspace import GATEWAY

ROTATION = [*GATEWAY, "demo", "rotation"]
PEOPLE = ("The service developer", "The security engineer", "The operator")
SECRETS = (
    "PRIVATE KEY",
    "Peak Tram",
    "山頂",
    "requestId",
    "signature=",
    "symmetricKey",
)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Play it once; a folder for temporary files comes with it."""
    folder = tmp_path_factory.mktemp("temporary")
    done = subprocess.run(
        ROTATION,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    return done, folder


@pytest.fixture(scope="module")
def shown(played):
    return played[0].stdout


@pytest.fixture(scope="module")
def acts(shown):
    """What is shown of each act."""
    return re.split(r"^(?=Act \d: |In all )", shown, flags=re.MULTILINE)[1:-1]


def test_it_ends_well_and_leaves_nothing(played):
    done, folder = played
    assert (done.returncode, done.stderr) == (0, "")
    assert list(folder.iterdir()) == []


def test_each_act_shows_what_the_three_people_see(acts):
    assert len(acts) == 3
    for act in acts:
        assert all(f"\n{person} " in act for person in PEOPLE)
        assert "$ gateway keys list" in act
        assert re.search(r"^ +\d+  keys_changed  generation \d", act, re.MULTILINE)
        assert "GET /readyz  200 ready" in act


def test_no_call_fails_in_any_act_or_in_all(shown):
    calls = re.findall(r"(\d+) calls \((\d+) encrypted\): (\d+) verified, 0 f", shown)
    *each, total = [tuple(map(int, found)) for found in calls]
    assert len(each) == 3
    assert total == tuple(map(sum, zip(*each, strict=True)))
    assert all(0 < encrypted < sent == verified for sent, encrypted, verified in each)


def test_our_key_grows_to_all_and_the_old_one_goes_by_itself(acts):
    shares = re.findall(
        r"(\d+) % are version 2's: it signed (\d+) of the next (\d+)", acts[0]
    )
    assert [share for share, _, _ in shares] == ["20", "50", "100"]
    assert all(0 < int(signed) <= int(of) for _, signed, of in shares)
    assert "the gateway gave version 1 up by itself" in acts[0]
    assert re.search(r"^  partner   1        destroyed ", acts[0], re.MULTILINE)


def test_the_way_back_is_seen_by_all_who_look(acts):
    assert "canary_halted  signs 3, 2 → 2: " in acts[1]
    assert "canary_halted  key_version=3" in acts[1]
    assert 'gateway_canary_halted{client="hk-sandbox"} 1.0' in acts[1]
    assert "warning: hk-sandbox: the canary of partner version 3 is over" in acts[1]
    assert "canary=3  canary_attempts=1" in acts[1]
    assert "no longer a canary" in acts[1]


def test_alipayhks_next_key_is_seen_before_the_old_one_goes(acts):
    assert "platform_key_first_seen  key_version=2" in acts[2]
    assert re.search(r"^  platform  1        destroyed ", acts[2], re.MULTILINE)


def test_what_alipayhk_was_asked_beyond_the_calls_are_the_refused_exchanges(shown):
    """A few more than were counted may be under way when the gateway goes back."""
    refused = int(re.search(r"AlipayHK refused version 3 (\d+) times", shown)[1])
    repeats = int(re.search(r"AlipayHK was asked \d+ times: (\d+) repeats", shown)[1])
    assert refused <= repeats <= refused + 16


def test_the_audit_log_verifies_at_the_end(shown):
    assert re.search(
        r"\$ gateway audit verify\n.*: \d+ lines hold, \d+ of them checkpoints", shown
    )


def test_the_commands_that_are_shown_are_command_lines(shown):
    lines = re.findall(r"^  \$ gateway (.*)$", shown, re.MULTILINE)
    assert len(lines) > 15
    for line in lines:
        assert _parse(shlex.split(line))


@pytest.mark.parametrize("secret", SECRETS)
def test_nothing_secret_is_shown(secret, shown):
    assert secret not in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("moment", ["SECTION", "registers our version 2", "% are"])
def test_one_that_is_ended_on_its_way_leaves_nothing(number, moment, tmp_path):
    done, errors = ended(
        number, tmp_path, lambda demo: any(moment in line for line in demo.stdout)
    )
    assert (done, errors) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_ended_while_it_sets_up_leaves_nothing(number, tmp_path):
    def begun(demo):
        while not list(tmp_path.iterdir()):
            assert demo.poll() is None
        return True

    done, errors = ended(number, tmp_path, begun)
    assert (done, errors) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []


def ended(number, folder, moment):
    """Send a signal at a moment. Gives the status and what went to standard error."""
    with subprocess.Popen(
        ROTATION,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            assert moment(demo)
            demo.send_signal(number)
            _, errors = demo.communicate(timeout=30)
        finally:
            demo.kill()
    return demo.returncode, errors


def test_one_whose_reader_goes_away_ends_without_a_word(tmp_path):
    line = '"$0" -m gateway demo rotation | head -n 1; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", line, GATEWAY[0]],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout.splitlines()[-1], done.stderr) == ("1", "")
    assert list(tmp_path.iterdir()) == []


def test_another_play_is_wrong_usage(tmp_path):
    done = subprocess.run(
        [*GATEWAY, "demo", "hamlet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "hamlet" in done.stderr


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("gateway keys list --keyring nowhere", "status 1: gateway: nowhere: there is"),
        ("gateway keys stage", "status 2: gateway keys stage: "),
    ],
)
async def test_a_command_that_fails_ends_the_play_with_its_words(line, text):
    with pytest.raises(GatewayError, match=text):
        await run_line(line)


async def test_a_wait_in_vain_says_for_what(monkeypatch):
    async def never():
        return False

    monkeypatch.setattr(_rotation_watch, "_PATIENCE_S", 0.1)
    with pytest.raises(GatewayError, match=r"0\.1 s in vain: the way back"):
        await _rotation_watch.until(never, "the way back")
