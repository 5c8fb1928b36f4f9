"""Words of a diagnosis: what is known of a captured message, what is found of it."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gateway.protocol.keys import PublicKey

PLATFORM_HOSTS: Final = ("open.alipay.hk", "open-id-pre.alipay.com")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that is wrong with a message, or known of it.

    No text in it quotes a body, a key or a signature.

    Attributes:
        code: a stable name, for programs.
        finding: what is the case, in a sentence.
        advice: what to do about it, in a sentence or two.
    """

    code: str
    finding: str
    advice: str


class Standing(Enum):
    """What a key that is known is worth for the message in question."""

    TRUSTED = "it may verify the message"
    OWN = "the partner's, where AlipayHK's is expected"
    THEIRS = "AlipayHK's, where the partner's is expected"
    PRE_ACTIVE = "of the right party, and not in use yet"
    OTHER_USE = "of the right party, and not for signatures"
    COMPROMISED = "of the right party, and not to be trusted"
    OTHER_CLIENT = "from the keyring of another client"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key that a signature may turn out to be made by.

    Attributes:
        label: how a finding names it: `AlipayHK's key version 2`.
    """

    label: str
    public: PublicKey
    standing: Standing


@dataclass(frozen=True, slots=True)
class Capture:
    """A message as it was captured, and what may have stood in its place.

    Attributes:
        method: of a response: its request's, as are target and Client-Id.
        time: the text of the time header; empty where there is none.
        signature: the text of the Signature header; empty where there is none.
        plaintext: of an encrypted message, if it is known.
        other_targets: targets that may have been signed instead.
        other_client_ids: Client-Ids that may have been signed instead.
        other_times: time texts that may have been signed instead, such as the
            Request-Time of the request that a response answers.
        hosts: names of the hosts that may have been signed with the target.
    """

    method: str
    target: str
    client_id: str
    time: str
    body: bytes = field(repr=False)
    signature: str = field(repr=False)
    plaintext: bytes | None = field(default=None, repr=False)
    other_targets: tuple[str, ...] = ()
    other_client_ids: tuple[str, ...] = ()
    other_times: tuple[str, ...] = ()
    hosts: tuple[str, ...] = PLATFORM_HOSTS
