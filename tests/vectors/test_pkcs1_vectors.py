"""RSA Laboratories' and NIST's PKCS#1 v1.5 vectors, for keys of 2048 bits and more.

They come from the PyPI package `cryptography-vectors`. Our hash is pinned to
SHA-256, so the good signatures under every other hash are bad ones here.
"""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateNumbers,
    RSAPublicNumbers,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
    rsa_recover_prime_factors,
)

from gateway.errors import DecryptionFailed
from gateway.protocol import PublicKey, sign, unwrap
from gateway.protocol.signature import matches

FOLDER = Path(cryptography_vectors.__file__).with_name("asymmetric") / "RSA"
MIN_BITS = 2048


@cache
def public_key(modulus, exponent):
    return PublicKey("1", RSAPublicNumbers(exponent, modulus).public_key())


@cache
def private_key(modulus, exponent, secret):
    p, q = rsa_recover_prime_factors(modulus, exponent, secret)
    return RSAPrivateNumbers(
        p=p,
        q=q,
        d=secret,
        dmp1=rsa_crt_dmp1(secret, p),
        dmq1=rsa_crt_dmq1(secret, q),
        iqmp=rsa_crt_iqmp(p, q),
        public_numbers=RSAPublicNumbers(exponent, modulus),
    ).private_key()


def read_nist(name, last):
    """Give the records of a NIST file: `name = value` lines, each ended by `last`."""
    record = {}
    for line in (FOLDER / name).read_text("ascii").splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or line.startswith(("#", "[")):
            continue
        record[key] = value
        if key == last and int(record["n"], 16).bit_length() >= MIN_BITS:
            yield dict(record)


def read_rsa_labs(name, heading, first, last):
    """Give the last key of an RSA Laboratories file, and its examples' two texts."""
    text = (FOLDER / name).read_text("ascii").replace("\r", "")
    text = text[text.index("# Example 15: A 2048-bit RSA key pair") :]

    def number(title, source):
        found = re.search(rf"^# {title}: *\n((?:[0-9a-f ]+\n)+)", source, re.MULTILINE)
        return bytes.fromhex(found[1])

    private = text[text.index("# Private key") :]
    key = tuple(
        int.from_bytes(number(title, private))
        for title in ("Modulus", "Public exponent", "Exponent")
    )
    examples = text.split(f"# PKCS#1 v1.5 {heading} Example 15.")[1:]
    return key, [(number(first, one), number(last, one)) for one in examples]


VERIFIED = list(read_nist("FIPS_186-2/SigVer15_186-3.rsp", "Result"))
MALFORMED = list(read_nist("SigVer15EMTest.txt", "Result"))
GENERATED = list(read_nist("FIPS_186-2/SigGen15_186-2.txt", "S"))
SHA1_KEY, SHA1_SIGNATURES = read_rsa_labs(
    "pkcs1v15sign-vectors.txt", "Signature", "Message to be signed", "Signature"
)
WRAPPING_KEY, WRAPPED = read_rsa_labs(
    "pkcs1v15crypt-vectors.txt", "Encryption", "Message", "Encryption"
)


def parts_of(record):
    key = public_key(int(record["n"], 16), int(record["e"], 16))
    return key, bytes.fromhex(record["S"]), bytes.fromhex(record["Msg"])


def test_the_files_have_what_they_had():
    sha256 = [record for record in VERIFIED if record["SHAAlg"] == "SHA256"]
    assert Counter(record["Result"][0] for record in sha256) == {"P": 9, "F": 45}
    assert Counter(record["Result"][0] for record in VERIFIED) == {"P": 45, "F": 225}
    assert {record["Result"][0] for record in MALFORMED} == {"F"}
    assert len(MALFORMED) == 90
    assert len(GENERATED) == 150
    assert len(SHA1_SIGNATURES) == 20
    assert len(WRAPPED) == 20


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(record, id=f"{index}-{record['SHAAlg']}-{record['Result'][:5]}")
        for index, record in enumerate(VERIFIED + MALFORMED)
    ],
)
def test_a_signature_matches_if_nist_says_so_and_the_hash_is_ours(record):
    expected = record["SHAAlg"] == "SHA256" and record["Result"].startswith("P")
    assert matches(*parts_of(record)) is expected


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA224", "SHA256", "SHA384", "SHA512"])
def test_nists_signatures_are_ours_under_sha_256_alone(algorithm):
    records = [record for record in GENERATED if record["SHAAlg"] == algorithm]
    assert len(records) == 30
    for record in records:
        key, signature, message = parts_of(record)
        numbers = key.rsa.public_numbers()
        signer = private_key(numbers.n, numbers.e, int(record["d"], 16))
        ours = algorithm == "SHA256"
        assert (sign(signer, message) == signature) is ours
        assert matches(key, signature, message) is ours


def test_no_signature_over_sha_1_matches():
    modulus, exponent, _ = SHA1_KEY
    for message, signature in SHA1_SIGNATURES:
        assert not matches(public_key(modulus, exponent), signature, message)


def test_a_wrapped_text_is_unwrapped_to_the_known_one():
    key = private_key(*WRAPPING_KEY)
    for plaintext, wrapped in WRAPPED:
        assert unwrap(key, wrapped) == plaintext


@pytest.mark.parametrize("end", [slice(1, None), slice(None, -1), slice(0)])
def test_a_wrapped_text_cut_short_is_the_one_error(end):
    key = private_key(*WRAPPING_KEY)
    for _, wrapped in WRAPPED:
        with pytest.raises(DecryptionFailed):
            unwrap(key, wrapped[end])
