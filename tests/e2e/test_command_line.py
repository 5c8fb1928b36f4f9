"""The command line as such, as a process: signals, streams, version, errors."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
GATEWAY = [sys.executable, "-m", "gateway"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# Runs the entry point that is given, and sends this process a signal at the moment at
# which a module is about to be imported.
_SIGNALLED = """
import os, runpy, sys

number, moment, entry = int(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.argv = ["gateway", *sys.argv[4:]]

class Moment:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

if moment in sys.modules:
    sys.exit("it is loaded already")
sys.meta_path.insert(0, Moment())
if entry == "-m":
    runpy.run_module("gateway", run_name="__main__", alter_sys=True)
else:
    module, _, function = entry.partition(":")
    start = getattr(__import__(module, fromlist=[function]), function)
    sys.exit(start())
"""


def signalled(number, moment, *words, entry="-m"):
    """Give the command line of a process that gets a signal when it is importing."""
    script = [sys.executable, "-c", _SIGNALLED, str(int(number)), moment, entry]
    return [*script, *words]


def run(*words, cwd, command=GATEWAY, **options):
    return subprocess.run(
        [*command, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


def run_to(device, *words, cwd):
    """Run a command whose standard output goes to `device`."""
    with Path(device).open("w") as out:
        return subprocess.run(
            [*GATEWAY, *words],
            cwd=cwd,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )


# --- signals -----------------------------------------------------------------


@pytest.mark.parametrize("entry", ["-m", PROJECT["scripts"]["gateway"]])
@pytest.mark.parametrize(
    "moment",
    ["enum", "argparse", "gateway.cli", "gateway.cli.demo", "aiohttp", "gateway.app"],
)
def test_an_interrupt_while_it_starts_is_quiet(moment, entry, tmp_path):
    done = run(cwd=tmp_path, command=signalled(2, moment, "demo", entry=entry))
    if "loaded already" in done.stderr:
        pytest.skip(f"something has loaded {moment} before us, such as coverage")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_interrupt_that_the_parent_ignores_stays_ignored(tmp_path):
    line = signalled(2, "gateway.cli", "--help")
    done = run(
        cwd=tmp_path,
        command=line,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert (done.returncode, done.stderr) == (0, "")


def write_config(folder):
    """Put the shipped configuration into a folder, with free ports."""
    text = (ROOT / "config.yaml").read_text()
    text = re.sub(r"listen: 127.0.0.1:\d+", "listen: 127.0.0.1:0", text)
    (folder / "config.yaml").write_text(text)


@pytest.mark.parametrize("moment", ["gateway.cli", "gateway.cli.serve", "gateway.app"])
def test_sigterm_while_serve_starts_is_held_until_it_can_end(moment, tmp_path):
    write_config(tmp_path)
    done = run(cwd=tmp_path, command=signalled(signal.SIGTERM, moment, "serve"))
    assert done.returncode == 0
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events[-2:] == ["draining", "stopped"]


@pytest.mark.parametrize("moment", ["gateway.cli", "gateway.cli.simulate", "aiohttp"])
def test_sigterm_while_simulate_starts_is_held_until_it_can_end(moment, tmp_path):
    free = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
    line = signalled(signal.SIGTERM, moment, "simulate", *free)
    done = run(cwd=tmp_path, command=line)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["gateway.cli", "gateway.cli.demo", "gateway.app"])
def test_a_signal_while_demo_starts_is_held_until_it_can_end(moment, number, tmp_path):
    done = run(
        cwd=tmp_path,
        command=signalled(number, moment, "demo"),
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["gateway.cli", "gateway.cli.serve", "gateway.app"])
def test_sighup_while_serve_starts_is_held_until_it_can_reload(moment, tmp_path):
    write_config(tmp_path)
    with subprocess.Popen(
        signalled(signal.SIGHUP, moment, "serve"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as serve:
        try:
            events = (json.loads(line)["event"] for line in serve.stderr)
            assert next((e for e in events if e.startswith("reload")), None)
        finally:
            serve.terminate()
            serve.communicate(timeout=15)
    assert serve.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_demo_that_is_ended_leaves_no_keys_behind(number, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    with subprocess.Popen(
        [*GATEWAY, "demo"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            assert any("curl -i" in line for line in demo.stdout)
            assert [each.name[:13] for each in folder.iterdir()] == ["gateway-demo-"]
            demo.send_signal(number)
            _, errors = demo.communicate(timeout=15)
        finally:
            demo.kill()
    assert (demo.returncode, errors) == (128 + number, "")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_demo_that_is_ended_while_it_makes_keys_leaves_none(number, tmp_path):
    """The folder is there from its first file on; the signal comes at that moment."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    with subprocess.Popen(
        [*GATEWAY, "demo"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            while not list(folder.iterdir()):
                assert demo.poll() is None
            demo.send_signal(number)
            _, errors = demo.communicate(timeout=15)
        finally:
            demo.kill()
    assert (demo.returncode, errors) == (128 + number, "")
    assert list(folder.iterdir()) == []


def test_a_demo_that_ends_invites_to_no_call_that_nobody_would_answer(tmp_path):
    done = run("demo", "--once", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "curl" not in done.stdout
    assert "Both have ended." in done.stdout
    assert re.search(r"^  gateway demo ", done.stdout, re.MULTILINE)


# --- streams -----------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["keys", "list", "--help"],
        ["check", "--json"],
        ["keys", "generate", "--keyring", "ring"],
        ["demo", "--once"],
        ["simulate", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"],
    ],
    ids=" ".join,
)
def test_a_full_standard_output_is_one_line(words, tmp_path):
    done = run_to("/dev/full", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "gateway: standard output: No space left on device\n"


@pytest.mark.parametrize(
    "words",
    [["--help"], ["check"], ["demo", "--once"], ["keys", "list", "--json"]],
    ids=" ".join,
)
def test_a_closed_standard_output_is_one_line(words, tmp_path):
    line = 'exec "$0" -m gateway "$@" >&-'
    done = run(*words, cwd=tmp_path, command=["sh", "-c", line, sys.executable])
    assert done.returncode == 1
    assert done.stderr == (
        "gateway: standard output is closed; send it to /dev/null if nobody reads it\n"
    )


def test_with_standard_error_closed_no_error_gets_into_the_output(tmp_path):
    line = 'exec "$0" -m gateway check -c nowhere.yaml 2>&-'
    done = run(cwd=tmp_path, command=["sh", "-c", line, sys.executable])
    assert (done.returncode, done.stdout) == (1, "")


def test_a_closed_standard_input_is_one_line(tmp_path):
    line = 'exec "$0" -m gateway keys import - --keyring ring <&-'
    done = run(cwd=tmp_path, command=["sh", "-c", line, sys.executable])
    assert done.returncode == 1
    assert done.stderr == "gateway: -: standard input is closed\n"


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
@pytest.mark.parametrize("workers", [1, 2])
def test_it_serves_with_a_standard_stream_closed(closed, workers, tmp_path):
    """libuv ends a process that closes descriptor 0, 1 or 2 of something else."""
    write_config(tmp_path)
    file = tmp_path / "config.yaml"
    admin = f"workers: {workers}\nadmin:\n  listen: unix:admin\n"
    text = re.sub(r"admin:.*\n  listen: .*\n", admin, file.read_text())
    file.write_text(text)
    line = f'exec "$0" -m gateway serve {closed}'
    with subprocess.Popen(
        ["sh", "-c", line, sys.executable],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as serve:
        try:
            while not answers(tmp_path / "admin"):
                assert serve.poll() is None
            for standard in ("0", "1", "2"):
                assert Path(f"/proc/{serve.pid}/fd/{standard}").exists()
        finally:
            serve.terminate()
            serve.communicate(timeout=30)
    assert serve.returncode == 0


def answers(path):
    """Tell whether something answers on a socket in the file system."""
    with socket.socket(socket.AF_UNIX) as trial:
        if trial.connect_ex(str(path)):
            return False
        trial.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return trial.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    "name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"]
)
@pytest.mark.parametrize("exists", [True, False])
def test_metrics_are_not_put_where_another_program_has_its_own(name, exists, tmp_path):
    folder = tmp_path / "theirs"
    if exists:
        folder.mkdir()
    done = run(
        *("demo", "--once"),
        cwd=tmp_path,
        env={**os.environ, name: str(folder)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not exists or list(folder.iterdir()) == []


def test_a_demo_whose_reader_goes_away_ends_without_a_word(tmp_path):
    line = '"$0" -m gateway demo --once | head -n 1; echo "${PIPESTATUS[0]}"'
    done = run(cwd=tmp_path, command=["bash", "-c", line, sys.executable])
    assert (done.stdout.splitlines()[-1], done.stderr) == ("1", "")


@pytest.mark.parametrize(
    "words",
    [["demo", "--once"], ["keys", "generate", "--keyring", "香港"]],
    ids=["demo", "keys generate"],
)
def test_a_sign_that_the_locale_does_not_have_ends_nothing(words, tmp_path):
    """A key that was made, and then status 1, would be made a second time."""
    narrow = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run(*words, cwd=tmp_path, env=narrow)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u" in done.stdout


# --- failures for programs ---------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("sign body.json --target /a", "keyring's folder cannot be opened"),
        ("verify message.http --target /a", "keyring's folder cannot be opened"),
        ("encrypt body.json", "keyring's folder cannot be opened"),
        ("decrypt message.http --target /a", "keyring's folder cannot be opened"),
        ("keys list", "there is no keyring"),
        ("keys public", "there is no keyring"),
        ("keys activate 1", "keyring's folder cannot be opened"),
        ("keys import nowhere.pem", "nowhere.pem: it cannot be read"),
        ("check -c nowhere.yaml", "nowhere.yaml: cannot be read"),
        ("simulate --listen 192.0.2.1:0 --keys made", "192.0.2.1:0: "),
    ],
)
def test_a_failure_is_told_to_programs_too(words, says, tmp_path):
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    done = run(*words.split(), "--json", cwd=tmp_path)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert facts["ok"] is False
    (problem,) = facts["problems"]
    assert set(problem) == {"file", "line", "key", "message"}
    assert says in f"{problem['file']}: {problem['message']}"


def test_every_problem_of_a_ring_is_told_to_programs(tmp_path):
    ring = tmp_path / "ring"
    ring.mkdir()
    text = "generation: 1\npartner: []\nplatform: []\nfoo: 1\nbar: 2\n"
    (ring / "keyring.yaml").write_text(text)
    done = run("keys", "list", "--keyring", "ring", "--json", cwd=tmp_path)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert facts["code"] == "setup_error"
    assert [(each["line"], each["key"]) for each in facts["problems"]] == [
        (4, "foo"),
        (5, "bar"),
    ]
    assert len(done.stderr.splitlines()) == 2


# --- version and wrong words -------------------------------------------------


def test_the_version_is_that_of_the_package(tmp_path):
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"gateway {PROJECT['version']}\n"


def test_the_help_names_the_version_option(tmp_path):
    assert "--version" in run("--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["simulate", "--keys", ""], "--keys"),
        (["keys", "list", "--keyring", ""], "--keyring"),
        (["check", "-c", ""], "-c/--config"),
    ],
)
def test_an_empty_name_of_a_file_is_wrong_usage(words, option, tmp_path):
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"argument {option}: it is empty: name a file or a folder" in line
    assert list(tmp_path.iterdir()) == []
