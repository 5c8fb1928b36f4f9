"""A wrapped content key: with which padding, for whose key, and in what form."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Final

from cryptography.hazmat.primitives.asymmetric.padding import (
    MGF1,
    OAEP,
    AsymmetricPadding,
    PKCS1v15,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import (
    SHA1,  # noqa: TID251 - OAEP's default, to recognise it
    SHA256,
    SHA384,
    SHA512,
    HashAlgorithm,
)

from gateway.protocol.diagnosis.ciphers import KEY_BYTES, Mistakes
from gateway.protocol.diagnosis.model import Diagnosis
from gateway.protocol.encoding import decode_base64

_HASHES: Final[tuple[HashAlgorithm, ...]] = (
    SHA1(),  # noqa: S303 - as above
    SHA256(),
    SHA384(),
    SHA512(),
)
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")


def unwrapped(key: RSAPrivateKey, wrapped: bytes) -> Iterator[tuple[Mistakes, bytes]]:
    """Give what may have been wrapped, with what is wrong about its padding.

    PKCS#1 v1.5 gives random bytes under a wrong key (implicit rejection): see
    `is_wrapped_for`.
    """
    for value in _unpadded(key, wrapped, PKCS1v15()):
        yield (), value
    for digest, mask in product(_HASHES, _HASHES):
        for value in _unpadded(key, wrapped, OAEP(MGF1(mask), digest, None)):
            finding = (
                f"The content key is wrapped with OAEP ({_name(digest)}, MGF1 with "
                f"{_name(mask)}), not with PKCS#1 v1.5."
            )
            advice = "Wrap it with RSA/ECB/PKCS1Padding, in Java's words."
            yield (Diagnosis("wrapped_oaep", finding, advice),), value


def is_wrapped_for(key: RSAPrivateKey, wrapped: bytes, value: bytes) -> bool:
    """Tell a value that was wrapped with PKCS#1 v1.5 from one that OpenSSL made up.

    The padding says so, and OpenSSL does not show it: so here is RSA without it. It
    takes as long as the numbers make it; whoever could time it runs this command.
    """
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    block = pow(int.from_bytes(wrapped, "big"), numbers.d, modulus)
    data = block.to_bytes((key.key_size + 7) // 8, "big")
    return data.startswith(b"\0\2") and data[2:].partition(b"\0")[2] == value


def content_keys(value: bytes) -> Iterator[tuple[Mistakes, bytes]]:
    """Give what may be the AES key in a wrapped value, which may be its text."""
    if len(value) in KEY_BYTES:
        yield (), value
    try:
        text = value.decode("ascii").strip()
    except ValueError:
        return
    if _HEX.fullmatch(text) and len(text) // 2 in KEY_BYTES:
        yield _as_text("in hexadecimal digits"), bytes.fromhex(text)
    try:
        key = decode_base64(text)
    except ValueError:
        return
    if len(key) in KEY_BYTES:
        yield _as_text("as base64"), key


def _unpadded(
    key: RSAPrivateKey, wrapped: bytes, padding: AsymmetricPadding
) -> Iterator[bytes]:
    try:
        yield key.decrypt(wrapped, padding)
    except ValueError:
        return


def _name(digest: HashAlgorithm) -> str:
    return digest.name.upper().replace("SHA", "SHA-")


def _as_text(how: str) -> Mistakes:
    finding = f"The content key was written {how} before it was wrapped."
    advice = "Wrap the bytes of the AES key themselves; base64 is for the result alone."
    return (Diagnosis("wrapped_text", finding, advice),)
