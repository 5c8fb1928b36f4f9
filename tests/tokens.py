"""SoftHSM tokens for tests: in this process, or in one of their own behind p11-kit.

On a laptop without the packages these tests are skipped; where CI is set they fail.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.keys import formats

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
CLIENTS = ("usr/lib/*/pkcs11/p11-kit-client.so", "usr/lib/pkcs11/p11-kit-client.so")
PIN = "tok-PIN-4711"


def require(*commands):
    """Skip the test where a command is missing; in CI, fail."""
    missing = [each for each in commands if shutil.which(each) is None]
    if not SOFTHSM.exists():
        missing.append(str(SOFTHSM))
    if missing:
        tell = pytest.fail if os.environ.get("CI") else pytest.skip
        tell(f"{', '.join(missing)} missing: apt-get install softhsm2 p11-kit")


class SoftHsm:
    """A folder of tokens with SoftHSM's configuration for it."""

    def __init__(self, folder):
        require("softhsm2-util")
        self.folder = folder
        self.tokens = folder / "tokens"
        self.tokens.mkdir(parents=True)
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(
            f"directories.tokendir = {self.tokens}\n"
            "objectstore.backend = file\nlog.level = ERROR\n"
        )
        self.pin = folder / "pin"
        self.pin.touch(0o600)
        self.pin.write_text(f"{PIN}\n")
        self.environment = {"SOFTHSM2_CONF": str(self.configuration)}

    def util(self, *arguments):
        subprocess.run(
            ["softhsm2-util", *arguments],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
        )

    def token(self, label="ours"):
        """Make a token."""
        more = ("--so-pin", "87654321", "--pin", PIN)
        self.util("--init-token", "--free", "--label", label, *more)

    def put(self, key, label, number="01", token="ours"):
        """Put a pair into a token."""
        file = self.folder / "import.pem"
        file.touch(0o600)
        file.write_bytes(formats.private_pem(key))
        where = ("--token", token, "--pin", PIN)
        self.util("--import", str(file), "--label", label, "--id", number, *where)
        file.unlink()

    def uri(self, label, token="ours", module=SOFTHSM, **more):
        extra = "".join(f";{name}={value}" for name, value in more.items())
        query = f"module-path={module}&pin-source=file:{self.pin}"
        return f"pkcs11:token={token};object={label}{extra}?{query}"

    def take_away(self):
        self.tokens.rename(self.folder / "away")

    def bring_back(self):
        (self.folder / "away").rename(self.tokens)


class Served:
    """A token in a process of its own: `p11-kit server`, reached over a socket.

    That is what a hardware token looks like from the gateway: somewhere else.
    """

    def __init__(self, softhsm, token="ours"):
        require("p11-kit")
        found = [each for name in CLIENTS for each in Path("/").glob(name)]
        if not found:
            require("p11-kit-client.so of p11-kit-modules")
        self.module = found[0]
        self.socket = softhsm.folder / "p11"
        self._softhsm = softhsm
        self._token = token
        self.environment = {"P11_KIT_SERVER_ADDRESS": f"unix:path={self.socket}"}
        self.process = None

    def start(self):
        options = ("-f", "-n", str(self.socket), "--provider", str(SOFTHSM))
        self.process = subprocess.Popen(
            ["p11-kit", "server", *options, f"pkcs11:token={self._token}"],
            env=os.environ
            | self._softhsm.environment
            | {"XDG_RUNTIME_DIR": str(self._softhsm.folder)},
            stdout=subprocess.DEVNULL,
        )
        for _ in range(500):
            if self._is_served():
                return
            time.sleep(0.01)
        pytest.fail("p11-kit server does not start")

    def _is_served(self):
        """Tell whether connections are taken: the socket is there before that."""
        with socket.socket(socket.AF_UNIX) as trial:
            return trial.connect_ex(str(self.socket)) == 0

    def children(self):
        """Give the processes that serve a connection each: SoftHSM runs in those."""
        file = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(each) for each in file.read_text().split()]

    def stop(self):
        """End it, with the connections that it serves; again does no harm."""
        if self.process.returncode is not None:
            return
        for each in self.children():
            with suppress(ProcessLookupError):
                os.kill(each, 9)
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)
