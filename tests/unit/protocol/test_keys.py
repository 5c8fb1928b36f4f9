"""What the protocol needs to know of a key."""

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from gateway.protocol import PublicKey
from gateway.protocol.keys import named


@pytest.mark.parametrize(
    ("bits", "length"), [(2048, 256), (2049, 257), (2055, 257), (2056, 257)]
)
def test_the_size_is_that_of_the_signatures(bits, length):
    modulus = (1 << (bits - 1)) + 1
    key = PublicKey("1", RSAPublicNumbers(65537, modulus).public_key())
    assert key.size_bytes == length


def test_the_size_of_a_real_key_is_256_bytes(platform_public):
    assert platform_public.size_bytes == 256


def test_a_key_does_not_show_in_its_repr(platform_public):
    assert repr(platform_public) == "PublicKey(version='1')"


def test_a_message_that_names_no_version_may_mean_any_key(platform_key, other_key):
    keys = [
        PublicKey("2", platform_key.public_key()),
        PublicKey("1", other_key.public_key()),
    ]
    assert list(named(keys, None)) == keys


def test_a_message_that_names_a_version_means_that_key_alone(platform_key, other_key):
    first = PublicKey("1", other_key.public_key())
    second = PublicKey("2", platform_key.public_key())
    assert list(named((first, second), "2")) == [second]


@pytest.mark.parametrize("version", ["", "01", "1 ", "1.0", "\u0661", "2"])
def test_versions_are_compared_as_text(version, platform_public):
    assert list(named((platform_public,), version)) == []
