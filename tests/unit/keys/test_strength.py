"""Numbers that are no RSA key, or one whose private half anybody can work out."""

import base64
import math
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.errors import KeyringError
from gateway.keys import strength
from gateway.keys.formats import check_strength, read_private_key, read_public_key

DICE = random.Random(20261128)
E = 65537


def der(kind, body):
    size = len(body)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1)
    head = bytes([size]) if size < 128 else bytes([128 + len(length)]) + length
    return bytes([kind]) + head + body


def sequence(*numbers):
    """Write numbers as PKCS#1 does."""
    parts = (each.to_bytes(each.bit_length() // 8 + 1) for each in numbers)
    return base64.b64encode(der(0x30, b"".join(der(2, part) for part in parts)))


def public(n, e=E):
    return sequence(n, e)


def private(p, q, *, e=E, d=None):
    if d is None:
        d = pow(e, -1, math.lcm(p - 1, q - 1))
    parts = d % (p - 1), d % (q - 1), pow(q, -1, p) if p != q else 1
    return sequence(0, p * q, e, d, p, q, *parts)


def is_prime(n):
    return all(pow(base, n - 1, n) == 1 for base in (2, 3, 5, 7))


def prime(bits, *, start=None):
    """Find a prime with its two highest bits set, and no factor of E below it."""
    n = start or DICE.getrandbits(bits) | 3 << bits - 2
    n |= 1
    while math.gcd(n, strength._small_primes()) != 1 or n % E == 1 or not is_prime(n):
        n += 2
    return n


@pytest.fixture(scope="module")
def primes():
    return prime(1024), prime(1024)


@pytest.fixture(scope="module")
def modulus(primes):
    return primes[0] * primes[1]


def refusal(data, read=read_public_key):
    with pytest.raises(KeyringError) as caught:
        read(data)
    return caught.value.detail


def test_what_is_made_here_is_read_where_nothing_is_wrong(primes, modulus):
    """Or the tests below would show nothing."""
    assert read_public_key(public(modulus)).public_numbers().n == modulus
    assert read_private_key(private(*primes)).private_numbers().p in primes


def roca(bits=1024):
    """Make a prime as Infineon's library did: k * M + (65537 ** a mod M)."""
    product = math.prod(strength._primes_below(702))
    assert bits - product.bit_length() < 64
    low = pow(E, DICE.getrandbits(200), product)
    while True:
        k = DICE.getrandbits(bits - product.bit_length()) | 3 << (
            bits - product.bit_length() - 2
        )
        n = k * product + low
        if n.bit_length() == bits and n % E != 1 and is_prime(n):
            return n


NO_KEYS = {
    "an even modulus": (lambda p, q: p * q * 2, "its modulus is even, or divisible by"),
    "a modulus plus one": (lambda p, q: p * q + 1, "its modulus is even, or divisible"),
    "a small factor": (
        lambda p, _: p * prime(1024) * 3,
        "or divisible by a small prime",
    ),
    "a factor of 16 bits": (
        lambda p, q: p * q * 65521,
        "or divisible by a small prime",
    ),
    "a prime": (
        lambda *_: (1 << 2203) - 1,
        "its modulus is a prime, or the power of one",
    ),
    "a cube": (lambda *_: prime(700) ** 3, "its modulus is a prime, or the power of"),
    "a square": (lambda p, _: p * p, "its primes are so close that they are found"),
    "primes beside each other": (
        lambda p, _: p * prime(1024, start=p + 2),
        "its primes are so close that they are found",
    ),
    "keys of a chip": (lambda *_: roca() * roca(), "(ROCA, CVE-2017-15361)"),
}


@pytest.mark.parametrize(("make", "says"), NO_KEYS.values(), ids=NO_KEYS.keys())
def test_a_modulus_without_a_secret_is_refused(primes, make, says):
    n = make(*primes)
    assert 2048 <= n.bit_length() <= 8192
    assert says in refusal(public(n))


@pytest.mark.parametrize("bits", [8193, 16384, 60_000])
def test_a_modulus_that_is_too_large_is_refused_before_anything_is_worked_out(
    bits, monkeypatch
):
    monkeypatch.setattr(strength, "_flaw_of_modulus", lambda _: pytest.fail("it was"))
    n = (1 << bits) - 1
    assert refusal(public(n)) == f"it has {bits} bits; at most 8192 are taken"
    half = (1 << bits // 2 + 1) - 1
    text = sequence(0, half * half, E, half, half, half, half, half, half)
    assert refusal(text, read_private_key).endswith("at most 8192 are taken")


@pytest.mark.parametrize(
    ("e", "says"),
    [
        (65538, "its public exponent is even"),
        (1 << 63, "its public exponent is even"),
        ((1 << 64) + 1, "its public exponent has 65 bits; at most 64 are taken"),
        ((1 << 2000) + 1, "its public exponent has 2001 bits"),
        (1, "its public exponent is 1; at least 65537"),
    ],
)
def test_an_exponent_that_is_none_or_takes_long_is_refused(modulus, e, says):
    told = refusal(public(modulus, e))
    assert says in told or told == "it is not an RSA public key in SPKI or PKCS#1"


def test_the_largest_exponent_is_read(modulus):
    e = (1 << 64) - 1
    assert read_public_key(public(modulus, e)).public_numbers().e == e


PAIRS = {
    "primes of other lengths": (
        lambda *_: private(prime(548), prime(1500)),
        "its primes have 548 and 1500 bits, and must have the same length",
    ),
    "a prime twice": (lambda p, _: private(p, p), "it is not an RSA private key"),
    "primes beside each other": (
        lambda p, _: private(p, prime(1024, start=p + 2)),
        "its primes are so close that they are found",
    ),
    "primes that are near each other": (
        lambda p, _: private(p, prime(1024, start=p + (1 << 900))),
        "its primes are so close that they are found",
    ),
    "keys of a chip": (lambda *_: private(roca(), roca()), "(ROCA, CVE-2017-15361)"),
    "an exponent of another pair": (
        lambda p, q: private(p, q, d=pow(E, -1, math.lcm(p - 1, q - 1)) + 2),
        "it is not an RSA private key",
    ),
    "a number that is no prime": (
        lambda p, _: private(p, prime(512) * prime(512)),
        "it is not an RSA private key",
    ),
}


@pytest.mark.parametrize(("make", "says"), PAIRS.values(), ids=PAIRS.keys())
def test_a_pair_that_is_none_is_refused(primes, make, says):
    assert says in refusal(make(*primes), read_private_key)


def test_a_small_private_exponent_is_refused(primes):
    """Wiener's attack: no honest pair has one (FIPS 186-5, A.1.1)."""
    p, q = primes
    d = (1 << 1000) + 1
    numbers = rsa.RSAPrivateNumbers(p, q, d, 0, 0, 0, rsa.RSAPublicNumbers(E, p * q))
    assert "its private exponent is so small" in strength.flaw_of_private(numbers)


def test_a_key_in_a_token_is_looked_at_likewise(primes):
    key = rsa.RSAPublicNumbers(E, primes[0] * primes[0]).public_key()
    with pytest.raises(KeyringError, match="so close"):
        check_strength(key)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_an_honest_key_passes(bits):
    for _ in range(3 if bits == 2048 else 1):
        key = rsa.generate_private_key(E, bits)
        assert strength.flaw_of_public(key.public_key().public_numbers()) is None
        assert strength.flaw_of_private(key.private_numbers()) is None


def test_a_key_is_examined_once(monkeypatch, modulus):
    """Every change of a ring has all of it read again."""
    calls = []
    real = strength._is_prime_power
    monkeypatch.setattr(
        strength, "_is_prime_power", lambda n: calls.append(n) or real(n)
    )
    strength._flaw_of_modulus.cache_clear()
    for _ in range(100):
        read_public_key(public(modulus))
    assert calls == [modulus]
