"""Every home of keys, laid out with the same pair, for one suite that all must pass.

To have another home tested, add a way to lay it out to `LAYOUTS`; see
docs/key-backends.md.
"""

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.keys import formats
from gateway.keys.backends.homes import Homes
from gateway.keys.backends.pem import FileHome
from gateway.keys.backends.pkcs11.home import Pkcs11Home
from gateway.keys.model import PARTNER_USES
from gateway.keys.ports import Place
from tests.integration.conftest import write_private
from tests.tokens import Served, SoftHsm

PASSPHRASE = "pass-PHRASE-0815"


@dataclass
class Layout:
    """A home with a pair in it.

    Attributes:
        secrets: texts that nothing may show.
        lose: takes the pair's home away; None where it cannot go without the pair.
        regain: brings it back.
    """

    homes: Homes
    place: Place
    secrets: list = field(default_factory=list)
    lose: object = None
    regain: object = None

    def open(self):
        return self.homes.open(self.place)


def place(key, folder, **more):
    return Place(key, "7", PARTNER_USES, folder, **more)


@contextmanager
def in_a_file(folder, key):
    write_private(folder / "partner-7.pem", key)
    yield Layout(Homes({"file": FileHome()}), place("partner-7.pem", folder))


@contextmanager
def in_an_encrypted_file(folder, key):
    file = folder / "elsewhere.pem"
    file.touch(0o600)
    file.write_bytes(formats.private_pem(key, PASSPHRASE.encode()))
    homes = Homes({"file": FileHome({"PASS": PASSPHRASE})})
    at = place(f"file:{file}", folder, passphrase="env:PASS")
    yield Layout(homes, at, [PASSPHRASE])


@contextmanager
def in_a_token(folder, key):
    softhsm = SoftHsm(folder / "hsm")
    softhsm.token()
    softhsm.put(key, "seven")
    with environment(softhsm.environment), token_homes() as homes:
        yield Layout(
            homes,
            place(softhsm.uri("seven"), folder),
            [softhsm.pin.read_text().strip()],
            softhsm.take_away,
            softhsm.bring_back,
        )


@contextmanager
def in_a_token_elsewhere(folder, key):
    softhsm = SoftHsm(folder / "hsm")
    softhsm.token()
    softhsm.put(key, "seven")
    token = Served(softhsm)
    token.start()
    try:
        with environment(token.environment), token_homes() as homes:
            yield Layout(
                homes,
                place(softhsm.uri("seven", module=token.module), folder),
                [softhsm.pin.read_text().strip()],
                token.stop,
                token.start,
            )
    finally:
        token.stop()


LAYOUTS = {
    "file": in_a_file,
    "encrypted file": in_an_encrypted_file,
    "SoftHSM": in_a_token,
    "SoftHSM in another process": in_a_token_elsewhere,
}


@contextmanager
def environment(variables):
    """Set variables that a C library reads in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setitem(os.environ, name, value)
        yield


@contextmanager
def token_homes(variables=None):
    home = Pkcs11Home(variables or {}, entropy=os.urandom, monotonic=time.monotonic)
    homes = Homes({"file": FileHome(), "pkcs11": home})
    yield homes
    homes.close()


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path: Path, partner_key):
    with LAYOUTS[request.param](tmp_path, partner_key) as made:
        yield made


@pytest.fixture
def key(layout):
    return layout.open()
