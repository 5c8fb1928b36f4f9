import subprocess
import sys

import pytest

from gateway import hardening
from gateway.errors import SetupError


def test_the_libraries_of_this_environment_are_fit():
    hardening.check_libraries()


@pytest.mark.parametrize(
    "version", ["OpenSSL 3.0.19 27 Jan 2026", "OpenSSL 1.1.1w", "LibreSSL 4.0", ""]
)
def test_an_openssl_without_implicit_rejection_is_refused(monkeypatch, version):
    class Backend:
        def openssl_version_text(self):
            return version

    monkeypatch.setattr(hardening, "backend", Backend())
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
