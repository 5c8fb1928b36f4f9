"""What this process refuses to run on, and what it does not leave behind.

* OpenSSL before 3.2 is refused: it has no implicit rejection, so unwrapping a
  content key by PKCS#1 v1.5 would be an oracle (protocol.md 3).
* No core file, and no reading of this process by others of its user, so that a
  crash or a neighbour does not give away a key.
"""

import ctypes
import re
import resource
import sys
from typing import Final

from gateway.errors import SetupError

_OPENSSL_AT_LEAST: Final = (3, 2)
_PR_SET_DUMPABLE: Final = 4


def check_libraries() -> None:
    """Check that what decrypts is fit for it.

    Raises:
        SetupError: a library is not; the text says which and what to install.
    """
    # Not at the top: a command that needs no cryptography does not wait for it.
    from cryptography.hazmat.backends.openssl import backend  # noqa: PLC0415

    text = backend.openssl_version_text()
    found = re.match(r"OpenSSL (\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < _OPENSSL_AT_LEAST:
        msg = f"cryptography uses {text}; OpenSSL 3.2 or newer is needed"
        raise SetupError(msg)


def leave_no_trace() -> None:
    """Forbid core files, and on Linux reading this process by others of its user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
