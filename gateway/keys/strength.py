"""What makes numbers an RSA key that somebody else cannot work out the private half of.

A modulus that has no secret in it verifies signatures all the same: of an even one, of
a prime, or of one with a small factor, anybody can work out the private key and sign.
So keys are examined when they are read. FIPS 186-5 (A.1.1) says what a pair is; what can
be seen of a public key alone, NIST SP 800-56B Rev. 2 (6.4.2.2) and the CA/Browser Forum
(Baseline Requirements, 6.1.1.3) say. A factor over 2^16 that a search of years would
find, of a modulus whose factors differ in length, cannot be seen: of a pair of ours it is.
"""

import math
from functools import cache, lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateNumbers,
    RSAPublicNumbers,
)

MINIMUM_BITS: Final = 2048
MAXIMUM_BITS: Final = 8192
"""A signature with such a key takes a hundred times that of 2,048 bits, on the event
loop, and to check its primes takes seconds. Go's TLS has the same bound, for that reason
(CVE-2023-29409); OpenSSL's own is 16,384."""

_LEAST_EXPONENT: Final = 65537
"""FIPS 186-5, A.1.1."""

_EXPONENT_BITS: Final = 64
"""OpenSSL's OPENSSL_RSA_MAX_PUBEXP_BITS: it verifies with no greater one."""

_SMALL: Final = 1 << 16
_FERMAT_ROUNDS: Final = 100
"""CA/Browser Forum, Baseline Requirements, 6.1.1.3: the Close Primes vulnerability."""

_CLOSE_BITS: Final = 100
"""FIPS 186-5, A.1.3: |p - q| > 2^(nlen/2 - 100)."""

_UNBALANCED_BITS: Final = 32
"""FIPS 186-5 wants two primes of one length; makers of keys were less exact."""

_ROCA_PRIMES: Final = 167
"""Of which the fingerprint of CVE-2017-15361 is made."""


def flaw_of_size(numbers: RSAPublicNumbers) -> str | None:
    """Return what is wrong with the size of a key's numbers; None if nothing is.

    It takes no time: nothing else may be worked out of a key that is too large.
    """
    bits, e = numbers.n.bit_length(), numbers.e
    if bits < MINIMUM_BITS:
        return f"it has {bits} bits; at least {MINIMUM_BITS} are needed"
    if bits > MAXIMUM_BITS:
        return f"it has {bits} bits; at most {MAXIMUM_BITS} are taken"
    if e < _LEAST_EXPONENT:
        return f"its public exponent is {e}; at least {_LEAST_EXPONENT} is needed"
    if e.bit_length() > _EXPONENT_BITS:
        length = e.bit_length()
        return (
            f"its public exponent has {length} bits; at most {_EXPONENT_BITS} are taken"
        )
    return "its public exponent is even: it is no RSA key" if e % 2 == 0 else None


def flaw_of_public(numbers: RSAPublicNumbers) -> str | None:
    """Return what is wrong with a public key; None if nothing can be seen.

    A modulus that was examined before is not examined again: it takes 30 ms for 2,048
    bits.
    """
    return flaw_of_size(numbers) or _flaw_of_modulus(numbers.n)


def flaw_of_private(numbers: RSAPrivateNumbers) -> str | None:
    """Return what is wrong with a pair of a right size; None if nothing is.

    That its numbers belong together and its primes are prime is OpenSSL's to check.
    """
    p, q = numbers.p, numbers.q
    if abs(p.bit_length() - q.bit_length()) > _UNBALANCED_BITS:
        return (
            f"its primes have {p.bit_length()} and {q.bit_length()} bits, and must "
            f"have the same length; {_ANOTHER}"
        )
    n = numbers.public_numbers.n
    half = n.bit_length() // 2
    if abs(p - q).bit_length() <= half - _CLOSE_BITS:
        return _TOO_CLOSE
    if numbers.d.bit_length() <= half:
        return f"its private exponent is so small that it is found; {_ANOTHER}"
    return _ROCA if _is_roca(n) else None


_ANOTHER: Final = "make another pair"
_TOO_CLOSE: Final = f"its primes are so close that they are found; {_ANOTHER}"
_ROCA: Final = (
    "its primes are those of a chip whose keys are found (ROCA, CVE-2017-15361); "
    f"{_ANOTHER}, elsewhere"
)


@lru_cache(maxsize=1024)
def _flaw_of_modulus(n: int) -> str | None:
    if math.gcd(n, _small_primes() % n) != 1:
        return "its modulus is even, or divisible by a small prime: it is no RSA key"
    if _has_close_factors(n):
        return _TOO_CLOSE
    if _is_roca(n):
        return _ROCA
    if _is_prime_power(n):
        return "its modulus is a prime, or the power of one: it is no RSA key"
    return None


@cache
def _small_primes() -> int:
    """Return the product of all primes below 2^16."""
    return math.prod(_primes_below(_SMALL))


def _primes_below(bound: int) -> list[int]:
    is_prime = bytearray(2) + bytearray([1]) * (bound - 2)
    for number in range(2, math.isqrt(bound) + 1):
        if is_prime[number]:
            multiples = range(number * number, bound, number)
            is_prime[multiples.start :: number] = bytes(len(multiples))
    return [number for number in range(bound) if is_prime[number]]


def _has_close_factors(n: int) -> bool:
    """Search as Fermat did, from the root of the modulus; finds equal primes too."""
    middle = math.isqrt(n - 1) + 1
    for each in range(middle, middle + _FERMAT_ROUNDS):
        square = each * each - n
        if math.isqrt(square) ** 2 == square:
            return True
    return False


def _is_roca(n: int) -> bool:
    """Check for the fingerprint of keys that Infineon's library made.

    Its primes, and so their products, are powers of 65537 modulo each small prime
    (Nemec et al., The Return of Coppersmith's Attack, CCS 2017, section 2.3). One in
    2^27 other moduli has it by chance.
    """
    return all(n % prime in powers for prime, powers in _roca_powers())


@cache
def _roca_powers() -> tuple[tuple[int, frozenset[int]], ...]:
    primes = _primes_below(_ROCA_PRIMES + 1)[1:]
    return tuple(
        (prime, frozenset(pow(65537, power, prime) for power in range(prime)))
        for prime in primes
    )


def _is_prime_power(n: int) -> bool:
    """Check whether an odd modulus is p or p^k.

    p - 1 divides n - 1 then, so that 2^(n-1) is 1 modulo p. Of a product of two primes
    it is for neither, but by a chance that nobody meets. One squaring after the other
    where `pow` would do: it would hold up the event loop's thread until it ends.
    """
    power = 1
    for digit in f"{n - 1:b}":
        power = power * power % n
        if digit == "1":
            power = power * 2 % n
    return math.gcd(power - 1, n) != 1
