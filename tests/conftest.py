"""Fixtures and settings that every test may use.

RSA keys are slow to make, so there are three, made once per session (and per
xdist worker). They belong to no one: never write one to a shared place.

* `partner_key`: ours. It signs requests and unwraps the content keys of responses.
* `platform_key`: AlipayHK's. It signs responses and unwraps those of requests.
* `other_key`: a stranger's, for whatever must not be accepted.

`partner_public` and `platform_public` are the public halves, as the protocol
takes them, under the key version "1".

Hypothesis runs the profile "dev" (new examples each time) or, where CI is set,
"ci" (the same examples each time); `--hypothesis-profile NAME` overrides both.
"""

import os
import signal

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    generate_private_key,
)
from hypothesis import HealthCheck, settings

from gateway.protocol import PublicKey

# Whatever started the tests (nohup, a runner in the background) may ignore these, and
# processes that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Examples that use RSA take milliseconds, and this machine may be busy: no
# deadlines, and no complaint about slow data.
_COMMON = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", _COMMON)
settings.register_profile(
    "ci", _COMMON, derandomize=True, database=None, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def _new_key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def partner_key() -> RSAPrivateKey:
    """Our key pair."""
    return _new_key()


@pytest.fixture(scope="session")
def platform_key() -> RSAPrivateKey:
    """AlipayHK's key pair."""
    return _new_key()


@pytest.fixture(scope="session")
def other_key() -> RSAPrivateKey:
    """The key pair of a stranger."""
    return _new_key()


@pytest.fixture(scope="session")
def partner_public(partner_key: RSAPrivateKey) -> PublicKey:
    """The public half of `partner_key`, version "1"."""
    return PublicKey("1", partner_key.public_key())


@pytest.fixture(scope="session")
def platform_public(platform_key: RSAPrivateKey) -> PublicKey:
    """The public half of `platform_key`, version "1"."""
    return PublicKey("1", platform_key.public_key())
