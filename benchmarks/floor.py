"""The floor: the cryptography of an exchange alone, with the same library and keys.

Plain: sign the request, verify the answer. Encrypted: also make a content key, wrap
it and encrypt the request; unwrap the answer's and decrypt it. Nothing is parsed,
framed or joined but what the library's calls demand.
"""

import os
import time

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.padding import PKCS7
from pybase64 import b64decode, b64encode

from benchmarks.sample import Keys, answer, request
from gateway.protocol import EncryptField, signature_base

_PADDING, _HASH = PKCS1v15(), SHA256()


class Floor:
    """The cryptography of one kind of exchange."""

    def __init__(self, keys: Keys, size: int, *, encrypted: bool) -> None:
        asked = request(keys, size, encrypted=encrypted)
        answered = answer(keys, size, encrypted=encrypted)
        self._keys = keys
        self._platform = keys.platform.public_key()
        self._signed = signature_base(asked.draft)
        self._to_verify = signature_base(answered.draft)
        self._signature = answered.signature.signature
        self._plain = request(keys, size, encrypted=False).body
        self._sealed = answered.body
        self._encryption: EncryptField | None = answered.draft.encryption

    def once(self) -> None:
        """Do it once."""
        if self._encryption is not None:
            content_key = os.urandom(32)
            self._platform.encrypt(content_key, _PADDING)
            _seal(content_key, self._plain)
        self._keys.partner.sign(self._signed, _PADDING, _HASH)
        self._platform.verify(self._signature, self._to_verify, _PADDING, _HASH)
        if self._encryption is not None:
            wrapped_key = self._encryption.wrapped_key
            _open(self._keys.partner.decrypt(wrapped_key, _PADDING), self._sealed)

    def seconds(self, for_s: float = 0.25) -> float:
        """Give the processor seconds of one, measured for so long."""
        rounds, until = 0, time.perf_counter() + for_s
        started = time.process_time()
        while time.perf_counter() < until:
            self.once()
            rounds += 1
        return (time.process_time() - started) / rounds


def _seal(content_key: bytes, plaintext: bytes) -> bytes:
    padder = PKCS7(128).padder()
    encryptor = Cipher(AES(content_key), ECB()).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    return b64encode(encryptor.update(padded) + encryptor.finalize())


def _open(content_key: bytes, body: bytes) -> bytes:
    decryptor = Cipher(AES(content_key), ECB()).decryptor()
    padded = decryptor.update(b64decode(body)) + decryptor.finalize()
    unpadder = PKCS7(128).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
