"""A captured ciphertext: how it is written, in which mode and padding it was made.

A body that becomes a JSON object is proof of all of that: nothing else does by chance.
"""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.padding import PKCS7

from gateway.protocol.diagnosis.model import Diagnosis
from gateway.protocol.encoding import decode_base64
from gateway.protocol.results import parse_object

KEY_BYTES: Final = (16, 24, 32)
_BLOCK: Final = 16
_CONTINUATION: Final = bytes(range(0x80, 0xC0))
_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{32})+")

Mistakes: TypeAlias = tuple[Diagnosis, ...]

_WRITTEN_AS_HEX: Final = Diagnosis(
    "ciphertext_hex",
    "The ciphertext is written in hexadecimal digits, not as base64.",
    "Write it as standard base64 on one line.",
)
_ECB_WANTED: Final = "Encrypt the body with AES/ECB/PKCS5Padding: there is no IV."


def read_ciphertext(body: bytes) -> tuple[Mistakes, bytes]:
    """Give the ciphertext that a body holds, with what is wrong about its form.

    Raises:
        ValueError: it holds none; the text says why.
    """
    bare = body.strip()
    if _HEX.fullmatch(bare):  # base64 of a ciphertext has other characters too
        return (_WRITTEN_AS_HEX,), bytes.fromhex(bare.decode())
    try:
        ciphertext = decode_base64(body.decode("ascii"))
    except ValueError:
        msg = "is not base64"
        raise ValueError(msg) from None
    if not ciphertext or len(ciphertext) % _BLOCK:
        msg = "has not the length of whole AES blocks"
        raise ValueError(msg)
    return (), ciphertext


def decrypted(
    content_key: bytes, ciphertext: bytes
) -> Iterator[tuple[Mistakes, bytes | None]]:
    """Give the plain body, with what is wrong about its mode and padding.

    It is None where only a part of it can be known.
    """
    for of_mode, mode, rest in _modes(content_key, ciphertext):
        padded = _deciphered(content_key, mode, rest)
        for of_padding, plaintext in _unpadded(padded):
            try:
                parse_object(plaintext)
            except ValueError:
                continue
            yield (*of_mode, *of_padding), plaintext
    if _ends_as_text(content_key, ciphertext):
        yield _cbc("with an IV that is not in the message"), None


def _modes(
    content_key: bytes, ciphertext: bytes
) -> Iterator[tuple[Mistakes, ECB | CBC, bytes]]:
    iv, rest = ciphertext[:_BLOCK], ciphertext[_BLOCK:]
    yield (), ECB(), ciphertext  # noqa: S305 - the platform's own mode
    yield _cbc("with an IV of zeros"), CBC(bytes(_BLOCK)), ciphertext
    yield _cbc("with the IV before the ciphertext"), CBC(iv), rest
    key_iv = CBC(content_key[:_BLOCK])
    yield _cbc("with the content key's first bytes as the IV"), key_iv, ciphertext


def _unpadded(padded: bytes) -> Iterator[tuple[Mistakes, bytes]]:
    """Give what may be left of the blocks without their padding."""
    count = padded[-1] if padded else 0
    filling = padded[-count:-1]
    if 0 < count <= _BLOCK:
        whole = padded[:-count]
        if filling == bytes([count]) * len(filling):
            yield (), whole
        elif not any(filling):
            yield _padding("as in ANSI X9.23 (zeros and a count)"), whole
        else:
            yield _padding("as in ISO 10126 (random bytes and a count)"), whole
    for fill, how in ((b"\0", "with zero bytes"), (b" ", "with spaces")):
        if padded.endswith(fill):
            yield _padding(how), padded.rstrip(fill)
    yield _padding(None), padded


def _ends_as_text(content_key: bytes, ciphertext: bytes) -> bool:
    """Tell CBC under an IV that is not known: it garbles the first block alone."""
    unpadder = PKCS7(_BLOCK * 8).unpadder()
    padded = _deciphered(content_key, CBC(bytes(_BLOCK)), ciphertext)
    try:
        plaintext = unpadder.update(padded) + unpadder.finalize()
        rest = plaintext[_BLOCK:].lstrip(_CONTINUATION).decode()
    except ValueError:
        return False
    return rest.rstrip().endswith("}")


def _deciphered(content_key: bytes, mode: ECB | CBC, ciphertext: bytes) -> bytes:
    decryptor = Cipher(AES(content_key), mode).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()


def _cbc(how: str) -> Mistakes:
    finding = f"The body is encrypted in CBC mode, {how}, not in ECB mode."
    return (Diagnosis("cipher_cbc", finding, _ECB_WANTED),)


def _padding(how: str | None) -> Mistakes:
    what = "has no padding" if how is None else f"is padded {how}"
    finding = f"The body {what}, where PKCS#7 is due."
    return (Diagnosis("cipher_padding", finding, _ECB_WANTED),)
