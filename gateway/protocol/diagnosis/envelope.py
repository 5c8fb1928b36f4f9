"""Why a captured body does not decrypt: with which key, padding and mode it was made.

For the offline commands alone. A running gateway gives one error whatever is wrong
(protocol.md 3); here, whoever asks holds the private keys anyway. Nothing that is
found quotes a content key or a plain body.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from gateway.protocol.diagnosis.ciphers import KEY_BYTES, decrypted, read_ciphertext
from gateway.protocol.diagnosis.model import Diagnosis, Standing
from gateway.protocol.diagnosis.wrapping import (
    content_keys,
    is_wrapped_for,
    unwrapped,
)
from gateway.protocol.fields import EncryptField, FieldError, check_key_version

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
    "The content key is not wrapped with a key of ours that is held, neither with "
    "PKCS#1 v1.5 nor with OAEP.",
    "Most likely it was wrapped with another key than ours: AlipayHK's own, or that "
    "of another version, client or environment. A message to us is wrapped with our "
    "public key: compare fingerprints (`gateway keys list`). If it was, the header was "
    "changed on its way, or the padding is one that is not tried here.",
)


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
        opened: whether its content key is wrapped for a key that is held.
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
        written, ciphertext = read_ciphertext(body)
    except ValueError as error:
        return Envelope((_unreadable_body(error),))
    for pair in pairs:
        # OAEP first: it proves itself, and one in some hundred of its messages looks as
        # if it had PKCS#1 v1.5's padding, too.
        found = unwrapped(pair.private, header.wrapped_key)
        for padding, value in sorted(found, key=lambda each: not each[0]):
            wrong = (*_of_pair(pair, header.key_version), *padding)
            keys = list(content_keys(value))
            for text, key in keys:
                for made, plaintext in decrypted(key, ciphertext):
                    mistakes = (*wrong, *text, *written, *made)
                    return Envelope(mistakes, opened=True, plaintext=plaintext)
            # OAEP tells by itself that this is the key.
            if padding or is_wrapped_for(pair.private, header.wrapped_key, value):
                of_key = keys[0][0] if keys else (_of_length(pair, value),)
                of_body = (_other_cipher(pair),) if keys else ()
                mistakes = (*wrong, *of_key, *written, *of_body)
                return Envelope(mistakes, opened=True)
    return Envelope((*written, _FOR_ANOTHER) if to_us else written)


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


def _of_length(pair: Pair, value: bytes) -> Diagnosis:
    return Diagnosis(
        "wrapped_length",
        f"What is wrapped with {pair.label} has {len(value)} bytes, and an AES key has "
        f"{', '.join(map(str, KEY_BYTES[:-1]))} or {KEY_BYTES[-1]}.",
        "Wrap the bytes of the AES key as they are. A byte too few or too many is "
        "often a zero at the start, dropped or added where the key went through a "
        "number.",
    )


def _other_cipher(pair: Pair) -> Diagnosis:
    """Give what is left: other keys and other modes look the same."""
    return Diagnosis(
        "cipher_unknown",
        f"The content key is wrapped with {pair.label}, and the body is no JSON object "
        "encrypted under that content key in ECB or CBC mode.",
        "It must be AES in ECB mode with PKCS#7 padding, as base64, of a JSON object. "
        "Either the body was encrypted under another content key than the header's, "
        "or in a way that is not tried here.",
    )


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
