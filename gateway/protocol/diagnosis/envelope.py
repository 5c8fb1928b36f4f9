"""Why a captured body does not decrypt: with which key, padding and mode it was made.

For the offline commands alone. A running gateway gives one error whatever is wrong
(protocol.md 3); here, whoever asks holds the private keys anyway. Nothing that is
found quotes a content key or a plain body.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final

from cryptography.hazmat.primitives.asymmetric.padding import (
    MGF1,
    OAEP,
    AsymmetricPadding,
    PKCS1v15,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.hashes import (
    SHA1,  # noqa: TID251 - OAEP's default, to recognise it
    SHA256,
    SHA384,
    SHA512,
    HashAlgorithm,
)
from cryptography.hazmat.primitives.padding import PKCS7

from gateway.protocol.diagnosis.model import Diagnosis, Standing
from gateway.protocol.encoding import decode_base64
from gateway.protocol.fields import EncryptField, FieldError, check_key_version
from gateway.protocol.results import parse_object

_BLOCK: Final = 16
_KEY_BYTES: Final = (16, 24, 32)
_HASHES: Final[tuple[HashAlgorithm, ...]] = (
    SHA1(),  # noqa: S303 - as above
    SHA256(),
    SHA384(),
    SHA512(),
)
_CONTINUATION: Final = bytes(range(0x80, 0xC0))

_STANDINGS: Final = {
    Standing.OWN: Diagnosis(
        "wrapped_own_key",
        "The content key is wrapped with {label}, not with AlipayHK's.",
        "Wrap it with AlipayHK's active public key: AlipayHK is to read the message.",
    ),
    Standing.PRE_ACTIVE: Diagnosis(
        "wrapped_pre_active",
        "The content key is wrapped with {label}, which is not in use yet.",
        "If AlipayHK encrypts to it already, it has to be active to decrypt.",
    ),
    Standing.OTHER_USE: Diagnosis(
        "wrapped_other_use",
        "The content key is wrapped with {label}, which the keyring does not have for "
        "decryption.",
        "Look at that entry's `use` in keyring.yaml, or have AlipayHK encrypt to the "
        "key that is for it.",
    ),
    Standing.COMPROMISED: Diagnosis(
        "wrapped_compromised",
        "The content key is wrapped with {label}, which is marked compromised.",
        "Whoever has that key can read the message: have AlipayHK encrypt to another.",
    ),
    Standing.OTHER_CLIENT: Diagnosis(
        "wrapped_other_client",
        "The content key is wrapped with {label}, which is not this client's.",
        "Sandbox and production are mixed, or two clients: look at which public key "
        "AlipayHK has for this Client-Id.",
    ),
}
"""What a key tells that a content key should not have been wrapped with."""

_FOR_ANOTHER: Final = Diagnosis(
    "wrapped_for_another",
    "No key of ours that is held opens it, neither with PKCS#1 v1.5 nor with OAEP, "
    "and neither in ECB nor in CBC mode.",
    "Most likely the content key was wrapped with another key than ours: AlipayHK's "
    "own, or that of another version, client or environment. A message to us is "
    "wrapped with our public key: compare fingerprints (`gateway keys list`). If it "
    "was, the body is encrypted in a mode that is not tried here.",
)
_OTHER_CIPHER: Final = Diagnosis(
    "cipher_unknown",
    "The body is not encrypted under that content key in ECB or CBC mode.",
    "It must be AES in ECB mode with PKCS#7 padding, as base64, of a JSON object.",
)
_ECB_WANTED: Final = "Encrypt the body with AES/ECB/PKCS5Padding: there is no IV."


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key that a content key may turn out to be wrapped for.

    Attributes:
        label: how a finding names it: `our own key version 2`.
        standing: TRUSTED if it may decrypt; OWN if AlipayHK was to read the message.
    """

    label: str
    version: str
    standing: Standing
    private: RSAPrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of how a body was encrypted.

    Attributes:
        mistakes: what is wrong with it, the key first; empty where nothing is known
            to be.
        opened: whether a key that is held opens it.
        plaintext: the body, where all of it is known.
    """

    mistakes: tuple[Diagnosis, ...]
    opened: bool = False
    plaintext: bytes | None = field(default=None, repr=False)


def examine(
    encrypt: str, body: bytes, pairs: Sequence[Pair], *, to_us: bool
) -> Envelope:
    """Find out how a body was encrypted.

    Args:
        encrypt: the text of the Encrypt header.
        body: the body as it was captured.
        pairs: every private key at hand; those that may decrypt first.
        to_us: whether we are to read it; if not, that none opens it proves nothing.
    """
    try:
        header = EncryptField.parse(encrypt)
    except FieldError as error:
        return Envelope((_unreadable_header(error),))
    try:
        ciphertext = _ciphertext(body)
    except ValueError as error:
        return Envelope((_unreadable_body(error),))
    for pair in pairs:
        for padding, content_key in _unwrapped(pair.private, header.wrapped_key):
            wrong = (*_of_pair(pair, header.key_version), *padding)
            for mode, plaintext in _decrypted(content_key, ciphertext):
                return Envelope((*wrong, *mode), opened=True, plaintext=plaintext)
            if padding:  # OAEP tells by itself that this is the key
                return Envelope((*wrong, _OTHER_CIPHER), opened=True)
    return Envelope((_FOR_ANOTHER,) if to_us else ())


def _of_pair(pair: Pair, named: str | None) -> Iterator[Diagnosis]:
    if (told := _STANDINGS.get(pair.standing)) is not None:
        yield replace(told, finding=told.finding.format(label=pair.label))
    if pair.standing is not Standing.OWN and named not in (None, pair.version):
        yield Diagnosis(
            "wrapped_version",
            f"The content key is wrapped with {pair.label}, and the Encrypt header "
            f"names {_shown(named)}.",
            "The header must name the version that the key has in our keyring: have "
            "AlipayHK name that, or give the entry the version AlipayHK knows it by.",
        )


def _shown(version: str | None) -> str:
    try:
        return f"keyVersion {check_key_version(version or '')}"
    except ValueError:
        return "a keyVersion that cannot be one"


def _unwrapped(
    key: RSAPrivateKey, wrapped: bytes
) -> Iterator[tuple[tuple[Diagnosis, ...], bytes]]:
    """Give what may be the content key, with what is wrong about its padding.

    PKCS#1 v1.5 gives random bytes under a wrong key (implicit rejection): only the
    body tells then.
    """
    for content_key in _unpadded(key, wrapped, PKCS1v15()):
        yield (), content_key
    for digest, mask in product(_HASHES, _HASHES):
        for content_key in _unpadded(key, wrapped, OAEP(MGF1(mask), digest, None)):
            finding = (
                f"The content key is wrapped with OAEP ({_name(digest)}, MGF1 with "
                f"{_name(mask)}), not with PKCS#1 v1.5."
            )
            advice = "Wrap it with RSA/ECB/PKCS1Padding, in Java's words."
            yield (Diagnosis("wrapped_oaep", finding, advice),), content_key


def _unpadded(
    key: RSAPrivateKey, wrapped: bytes, padding: AsymmetricPadding
) -> Iterator[bytes]:
    try:
        content_key = key.decrypt(wrapped, padding)
    except ValueError:
        return
    if len(content_key) in _KEY_BYTES:
        yield content_key


def _name(digest: HashAlgorithm) -> str:
    return digest.name.upper().replace("SHA", "SHA-")


def _decrypted(
    content_key: bytes, ciphertext: bytes
) -> Iterator[tuple[tuple[Diagnosis, ...], bytes | None]]:
    """Give the plain body, with what is wrong about its mode."""
    for where, mode, rest in _modes(content_key, ciphertext):
        try:
            plaintext = _plain(content_key, mode, rest)
            parse_object(plaintext)
        except ValueError:
            continue
        yield (() if where is None else (_cbc(where),)), plaintext
    if _ends_as_text(content_key, ciphertext):
        yield (_cbc("with an IV that is not in the message"),), None


def _modes(
    content_key: bytes, ciphertext: bytes
) -> Iterator[tuple[str | None, ECB | CBC, bytes]]:
    iv, rest = ciphertext[:_BLOCK], ciphertext[_BLOCK:]
    yield None, ECB(), ciphertext  # noqa: S305 - the platform's own mode
    yield "with an IV of zeros", CBC(bytes(_BLOCK)), ciphertext
    yield "with the IV before the ciphertext", CBC(iv), rest
    key_iv = CBC(content_key[:_BLOCK])
    yield "with the content key's first bytes as the IV", key_iv, ciphertext


def _ends_as_text(content_key: bytes, ciphertext: bytes) -> bool:
    """Tell CBC under an IV that is not known: it garbles the first block alone."""
    try:
        plaintext = _plain(content_key, CBC(bytes(_BLOCK)), ciphertext)
        rest = plaintext[_BLOCK:].lstrip(_CONTINUATION).decode()
    except ValueError:
        return False
    return rest.rstrip().endswith("}")


def _plain(content_key: bytes, mode: ECB | CBC, ciphertext: bytes) -> bytes:
    decryptor = Cipher(AES(content_key), mode).decryptor()
    unpadder = PKCS7(_BLOCK * 8).unpadder()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


def _cbc(how: str) -> Diagnosis:
    finding = f"The body is encrypted in CBC mode, {how}, not in ECB mode."
    return Diagnosis("cipher_cbc", finding, _ECB_WANTED)


def _ciphertext(body: bytes) -> bytes:
    try:
        ciphertext = decode_base64(body.decode("ascii"))
    except ValueError:
        msg = "is not base64"
        raise ValueError(msg) from None
    if not ciphertext or len(ciphertext) % _BLOCK:
        msg = "has not the length of whole AES blocks"
        raise ValueError(msg)
    return ciphertext


def _unreadable_header(error: FieldError) -> Diagnosis:
    return Diagnosis(
        "encrypt_unreadable",
        f"The Encrypt header cannot be used: {error}.",
        "It must be `algorithm=RSA_AES,keyVersion=…,symmetricKey=…`, the value as "
        "standard base64, percent-encoded once.",
    )


def _unreadable_body(error: ValueError) -> Diagnosis:
    return Diagnosis(
        "ciphertext_unreadable",
        f"There is an Encrypt header, and the body {error}.",
        "The body must be AES in ECB mode with PKCS#7 padding, as standard base64 on "
        "one line. Was it captured whole, and really encrypted?",
    )
