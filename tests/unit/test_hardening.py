import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.backends import openssl

from gateway import cli, hardening
from gateway.errors import SetupError

ROOT = Path(__file__).parents[2]


def test_the_libraries_of_this_environment_are_fit():
    hardening.check_libraries()


@pytest.mark.parametrize(
    "version", ["OpenSSL 3.0.19 27 Jan 2026", "OpenSSL 1.1.1w", "LibreSSL 4.0", ""]
)
def test_an_openssl_without_implicit_rejection_is_refused(monkeypatch, version):
    class Backend:
        def openssl_version_text(self):
            return version

    monkeypatch.setattr(openssl, "backend", Backend())
    with pytest.raises(SetupError, match=r"OpenSSL 3\.2 or newer is needed"):
        hardening.check_libraries()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")
def test_a_hardened_process_leaves_no_core_and_is_not_dumpable():
    code = (
        "import ctypes, resource\n"
        "from gateway.hardening import leave_no_trace\n"
        "leave_no_trace()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(0, 0) 0\n"


_RUNS = """
import ctypes, importlib, resource, sys

def run(options):
    print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3))
    return 0

importlib.import_module(f"gateway.cli.{sys.argv[1]}").run = run
from gateway.__main__ import main
sys.exit(main())
"""

_ALLOWED = ["sh", "-c", 'ulimit -c "$(ulimit -H -c)"; exec "$0" "$@"', sys.executable]
"""A process that may leave core files, as far as this one may let it."""

_LINES = {
    "demo": "--once",
    "serve": "",
    "check": "",
    "simulate": "",
    "callers": "new catalogue",
    "audit": "keygen audit.pem",
    "keys": "generate",
    "sign": "body.json --target /a",
    "verify": "message.http --target /a",
    "encrypt": "body.json",
    "decrypt": "message.http --target /a",
}


def test_every_command_has_a_line_to_be_tried_with():
    assert set(_LINES) == set(cli._COMMANDS)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")
@pytest.mark.parametrize("command", _LINES)
def test_every_command_begins_hardened(command):
    done = subprocess.run(
        [*_ALLOWED, "-c", _RUNS, command, *_LINES[command].split()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "(0, 0) 0\n"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")
def test_a_command_at_work_can_leave_no_core():
    """As the system sees it: a command that waits for its standard input."""
    with subprocess.Popen(
        [*_ALLOWED, "-m", "gateway", "verify", "-", "--target", "/a"],
        stdin=subprocess.PIPE,
        cwd=ROOT,
    ) as command:
        try:
            limits = Path(f"/proc/{command.pid}/limits")
            while not re.search(r"core file size +0 +0 ", limits.read_text()):
                assert command.poll() is None
        finally:
            command.kill()
