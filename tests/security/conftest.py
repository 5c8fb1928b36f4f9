"""The house of the integration tests, and certificates, for tests of whole runs."""

from tests.integration.conftest import house, run_house
from tests.integration.test_tls import pki

__all__ = ["house", "pki", "run_house"]
