"""A message of ours, made offline as a running gateway would make it."""

from gateway.cli._messages import read_input
from gateway.config import Client
from gateway.errors import InvalidRequest, SetupError
from gateway.keys.keyring import Keyring
from gateway.protocol import (
    CONTENT_KEY_BYTES,
    Draft,
    PublicKey,
    SignedMessage,
    attach_signature,
    check_request_body,
    encrypt,
    signature_base,
)


def read_body(name: str) -> bytes:
    """Read a body from a file, or from standard input where the name is `-`.

    Raises:
        SetupError: it is no body that may be sent.
    """
    body = read_input(name)
    try:
        check_request_body(body)
    except InvalidRequest as error:
        msg = f"{name}: {error.detail}"
        raise SetupError(msg) from None
    return body


def encrypted(draft: Draft, recipient: PublicKey, client: Client) -> Draft:
    """Encrypt a draft under a fresh content key."""
    from gateway.plant import ENTROPY

    return encrypt(
        draft,
        ENTROPY(CONTENT_KEY_BYTES),
        recipient,
        content_type=client.encrypted_content_type,
        send_key_version=client.send_key_version,
    )


async def signed(draft: Draft, ring: Keyring, client: Client) -> SignedMessage:
    """Sign a draft with the ring's key that signs.

    Raises:
        KeyUnavailable: there is none.
    """
    signer = ring.signer
    signature = await signer.sign(signature_base(draft))
    version = signer.public.version if client.send_key_version else None
    return attach_signature(draft, signature, key_version=version)
