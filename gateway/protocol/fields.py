"""The `Signature` and `Encrypt` header values.

`key=value` pairs joined by commas (protocol.md 2). Written in exactly one form;
read in every form that AlipayHK's pages and SDKs show.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from gateway.protocol.encoding import decode_value, encode_value

SIGNATURE_ALGORITHM: Final = "RSA256"
ENCRYPTION_ALGORITHM: Final = "RSA_AES"

_LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")


class FieldError(ValueError):
    """A header value that cannot be read. The text never quotes the value."""


@dataclass(frozen=True, slots=True)
class SignatureField:
    """A `Signature` header.

    Attributes:
        key_version: the label of the signing key; None where it is not named.
        signature: the raw signature, not yet checked against any key.
    """

    key_version: str | None
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "SignatureField":
        """Read a header value.

        Raises:
            FieldError: it has no readable signature, or another algorithm.
        """
        return cls(*read_signature(text))

    def format(self) -> str:
        """Give the header value, in the only form that is ever sent."""
        return _format(
            SIGNATURE_ALGORITHM, self.key_version, "signature", self.signature
        )


@dataclass(frozen=True, slots=True)
class EncryptField:
    """An `Encrypt` header.

    Attributes:
        key_version: the label of the wrapping key; None where it is not named.
        wrapped_key: the content key, wrapped with RSA.
    """

    key_version: str | None
    wrapped_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "EncryptField":
        """Read a header value.

        Raises:
            FieldError: it has no readable wrapped key, or another algorithm.
        """
        return cls(*_parse(text, ENCRYPTION_ALGORITHM, "symmetricKey"))

    def format(self) -> str:
        """Give the header value, in the only form that is ever sent."""
        return _format(
            ENCRYPTION_ALGORITHM, self.key_version, "symmetricKey", self.wrapped_key
        )


def read_signature(text: str) -> tuple[str | None, bytes]:
    """Read a `Signature` header: its key version, if it names one, and the signature.

    Raises:
        FieldError: as by `SignatureField.parse`.
    """
    return _parse(text, SIGNATURE_ALGORITHM, "signature")


@lru_cache(maxsize=64)
def check_key_version(label: str) -> str:
    """Give `label` back if it can stand in a header as a `keyVersion`.

    Raises:
        ValueError: it is empty, over 64 characters, or would break the grammar.
    """
    if not _LABEL.fullmatch(label):
        msg = "a key version is 1 to 64 letters, digits, dots, hyphens or underscores"
        raise ValueError(msg)
    return label


def _format(algorithm: str, version: str | None, name: str, value: bytes) -> str:
    return _before(algorithm, version, name) + encode_value(value)


@lru_cache(maxsize=64)
def _before(algorithm: str, version: str | None, name: str) -> str:
    """Give what stands before the value: the same in each message.

    Raises:
        ValueError: the version cannot stand in a header.
    """
    # "configured or omitted" (protocol.md 2): no version, no pair.
    middle = "" if version is None else f"keyVersion={check_key_version(version)},"
    return f"algorithm={algorithm},{middle}{name}="


def _parse(text: str, algorithm: str, name: str) -> tuple[str | None, bytes]:
    before, _, encoded = text.rpartition(f"{name}=")
    if before.endswith(",") and "," not in encoded and "=" not in encoded:
        # The form that is sent: all but the value is the same in each message.
        version = _version(before + name + "=", algorithm)
    else:
        version = _version(text, algorithm)
        encoded = _pairs(text).get(name, "")
    try:
        value = decode_value(encoded)
    except ValueError:
        msg = f"its {name} is not base64"
        raise FieldError(msg) from None
    if not value:
        msg = f"its {name} is empty"
        raise FieldError(msg)
    return version, value


@lru_cache(maxsize=64)
def _version(text: str, algorithm: str) -> str | None:
    """Give the key version, which may be missing, of a header with this algorithm.

    Raises:
        FieldError: it is no list of pairs, or has another algorithm.
    """
    pairs = _pairs(text)
    given = "".join(pairs.get("algorithm", "").split())
    named = given.upper() if given.isascii() else given
    if named != algorithm:
        # ECC224 stands in header tables and is defined nowhere (protocol.md 1).
        shown = named if named == "ECC224" else "another algorithm"
        msg = (
            f"it names {shown}; only {algorithm} is defined"
            if named
            else "no algorithm"
        )
        raise FieldError(msg)
    return "".join(pairs.get("keyVersion", "").split()) or None


def _pairs(text: str) -> dict[str, str]:
    """Split into pairs. Unknown keys are ignored, a repeated key is an error."""
    pairs: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or key in pairs:
            msg = "it is not a list of key=value pairs, each key once"
            raise FieldError(msg)
        pairs[key] = value
    return pairs
