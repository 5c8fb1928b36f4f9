"""Fixtures of the commands' tests."""

import pytest

from gateway.keys.changes import Party
from tests.e2e.workspace import put


@pytest.fixture(scope="session")
def complete_ring(tmp_path_factory, partner_key, platform_key):
    """A ring with a key of each party in use, to copy."""
    folder = tmp_path_factory.mktemp("rings") / "complete"
    put(folder, Party.PARTNER, partner_key)
    put(folder, Party.PLATFORM, platform_key)
    return folder
