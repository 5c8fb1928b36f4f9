"""One frozen type per stage of a message's life.

    ours:    Draft ──sign──▶ SignedMessage
    theirs:  ReceivedRequest  ──verify──▶ VerifiedRequest  ──decrypt──▶ bytes
             ReceivedResponse ──verify──▶ VerifiedResponse ──decrypt──▶ bytes
                                       └▶ UnsignedRefusal

A stage cannot be skipped: `decrypt` takes only a verified message, and only
`gateway.protocol.incoming` can make one. Bodies, signatures and wrapped keys are
kept out of every repr.
"""

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, TypeAlias

from gateway.protocol.fields import EncryptField, SignatureField
from gateway.protocol.results import Result

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Header names and values as they came, in order, repeats included."""


class IndexedHeaders(tuple[tuple[str, str], ...]):  # noqa: SLOT001 - it has more
    """The same, and found by name: five readers ask one answer for a dozen names.

    Each went through all headers, and wrote every name in lower case again.

    Attributes:
        by_name: the values of each name, which is in lower case, in their order.
    """

    by_name: Mapping[str, Sequence[str]]

    def __init__(self, headers: Headers) -> None:  # noqa: ARG002 - the tuple's own
        found: dict[str, list[str]] = {}
        for name, value in self:
            lower = name.lower()
            if lower in found:
                found[lower].append(value)
            else:
                found[lower] = [value]
        self.by_name = found


def by_name(headers: Headers) -> Mapping[str, Sequence[str]]:
    """Give the values of each name, which is in lower case, in their order."""
    if not isinstance(headers, IndexedHeaders):
        headers = IndexedHeaders(headers)
    return headers.by_name


POST: Final = "POST"
JSON_UTF8: Final = "application/json; charset=UTF-8"


class Direction(Enum):
    """Request or response; the value is the name of its time header."""

    REQUEST = "Request-Time"
    RESPONSE = "Response-Time"


@dataclass(frozen=True, slots=True)
class Draft:
    """A message of ours that is not signed yet.

    Attributes:
        target: the raw path, with its query string if it has one. For a response,
            that of the request it answers (protocol.md 1).
        time: the text of the time header.
        body: the exact bytes to send: the ciphertext text once encrypted.
        encryption: the Encrypt header, once encrypted.
    """

    direction: Direction
    method: str
    target: str
    client_id: str
    time: str
    body: bytes = field(repr=False)
    content_type: str = JSON_UTF8
    encryption: EncryptField | None = None


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A message of ours, ready to send: these headers, these bytes."""

    draft: Draft = field(repr=False)
    signature: SignatureField

    @property
    def target(self) -> str:
        """The request-target to send: exactly the one that was signed."""
        return self.draft.target

    @property
    def body(self) -> bytes:
        """The bytes to send: exactly those that were signed."""
        return self.draft.body

    @property
    def headers(self) -> Headers:
        """The protocol's headers, each once, in the order of AlipayHK's pages."""
        draft = self.draft
        headers = [
            ("Client-Id", draft.client_id),
            ("Content-Type", draft.content_type),
            (draft.direction.value, draft.time),
            ("Signature", self.signature.format()),
        ]
        if draft.encryption is not None:
            headers.append(("Encrypt", draft.encryption.format()))
        return headers

    @property
    def header_lines(self) -> str:
        """The same headers as they are written, each with its line's end."""
        return "".join([f"{name}: {value}\r\n" for name, value in self.headers])


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it arrived. Nothing in it may be believed yet."""

    method: str
    target: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReceivedResponse:
    """A response as it arrived. Nothing in it may be believed yet."""

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


class Proof:
    """What makes a verified message: only `incoming` holds an instance."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """A message whose signature holds.

    Attributes:
        client_id: the partner's, as signed.
        time: the time header, parsed.
        time_text: the time header as it was signed.
        body: the verified bytes: ciphertext where `encrypt` is set.
        encrypt: the Encrypt header's text, unread: no signature covers it.
        key_version: the version of the key that verified.
    """

    client_id: str
    time: datetime
    time_text: str
    body: bytes = field(repr=False)
    encrypt: str | None = field(repr=False)
    key_version: str
    proof: InitVar[Proof]

    def __post_init__(self, proof: Proof) -> None:
        """Refuse to exist without the proof that `incoming` alone can give.

        It is not kept, so that `dataclasses.replace` cannot carry it along. This
        guards against mistakes, not against malice in the same process.
        """
        if type(proof) is not Proof:
            msg = "a verified message is made by verifying a received one"
            raise TypeError(msg)


@dataclass(frozen=True, slots=True)
class VerifiedRequest(Verified):
    """A request whose signature holds."""

    method: str
    target: str


@dataclass(frozen=True, slots=True)
class VerifiedResponse(Verified):
    """A response whose signature holds, to the request it was checked against.

    Attributes:
        signature: its raw bytes: they name this answer among all others.
        result: what a plain body says of the request; None where it says nothing, or
            has to be decrypted first.
    """

    status: int
    headers: Headers = field(repr=False)
    signature: bytes = field(repr=False)
    result: Result | None


@dataclass(frozen=True, slots=True)
class UnsignedRefusal:
    """A plain F or U without a signature: passed on, marked unverified.

    AlipayHK's own edge answers so when it rejects a request (protocol.md 4).
    """

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    result: Result
