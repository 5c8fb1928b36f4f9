"""The other party of an exchange, made by hand.

It signs, encrypts and writes headers as the rules say, with `cryptography` and
the standard library alone. So the protocol code is never its own witness: what
these functions make, `gateway.protocol` must read, and the other way round.
"""

import base64
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from gateway.protocol import (
    Freshness,
    ReceivedRequest,
    ReceivedResponse,
    SignatureField,
    SignedMessage,
    attach_signature,
    draft_request,
    encrypt,
)

CLIENT_ID = "4Q5Y8W0WSG45P907917"
TARGET = "/api/open/alipay/v1/content/synchronize"
TIME = "2026-11-23T14:00:00+08:00"
NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
"""The instant that `TIME` names."""
FRESH = Freshness(NOW, timedelta(seconds=300))

REQUEST_BODY = b'{"requestId":"0123456789abcdef0123456789abcdef","contentId":"C001"}'
SUCCESS = b'{"resultInfo":{"resultCode":"SUCCESS","resultStatus":"S"}}'
FAILURE = b'{"resultInfo":{"resultCode":"PARAM_ILLEGAL","resultStatus":"F"}}'
UNKNOWN = b'{"result":{"resultCode":"UNKNOWN_EXCEPTION","resultStatus":"U"}}'

CONTENT_KEY = bytes(range(32))


def signature_base(*, method="POST", target=TARGET, client_id=CLIENT_ID, time, body):
    """Write the bytes to sign as the rule has them."""
    head = f"{method} {target}\n{client_id}.{time}."
    return head.encode("utf-8") + body


def rsa256(key, data, hash_algorithm=None):
    """Sign with PKCS#1 v1.5, with SHA-256 unless a test asks for another hash."""
    return key.sign(data, padding.PKCS1v15(), hash_algorithm or hashes.SHA256())


def signature_header(signature, version="1"):
    """Write a Signature header; `version` None leaves the pair out."""
    return _field("RSA256", "signature", signature, version)


def encrypt_header(wrapped_key, version="1"):
    """Write an Encrypt header; `version` None leaves the pair out."""
    return _field("RSA_AES", "symmetricKey", wrapped_key, version)


def _field(algorithm, name, value, version):
    encoded = quote(base64.b64encode(value), safe="")
    middle = "" if version is None else f"keyVersion={version},"
    return f"algorithm={algorithm},{middle}{name}={encoded}"


def wrap(public_key, content_key=CONTENT_KEY):
    """Wrap a content key to an RSA public key."""
    return public_key.encrypt(content_key, padding.PKCS1v15())


def seal(plaintext, content_key=CONTENT_KEY):
    """Encrypt a body: AES, ECB, PKCS#7, base64."""
    padder = PKCS7(128).padder()
    return seal_padded(padder.update(plaintext) + padder.finalize(), content_key)


def seal_padded(blocks, content_key=CONTENT_KEY):
    """Encrypt whole blocks as they are: for padding that is wrong on purpose."""
    encryptor = Cipher(algorithms.AES(content_key), modes.ECB()).encryptor()
    return base64.b64encode(encryptor.update(blocks) + encryptor.finalize())


def unseal(body, content_key=CONTENT_KEY):
    """Decrypt a body that our side encrypted."""
    decryptor = Cipher(algorithms.AES(content_key), modes.ECB()).decryptor()
    padded = decryptor.update(base64.b64decode(body, validate=True))
    unpadder = PKCS7(128).unpadder()
    return unpadder.update(padded + decryptor.finalize()) + unpadder.finalize()


def answer(
    key,
    body=SUCCESS,
    *,
    target=TARGET,
    client_id=CLIENT_ID,
    time=TIME,
    version="1",
    status=200,
    encrypt=None,
):
    """Make AlipayHK's answer to a request for `target`, signed with `key`."""
    base = signature_base(target=target, client_id=client_id, time=time, body=body)
    headers = [
        ("Client-Id", client_id),
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Response-Time", time),
        ("Signature", signature_header(rsa256(key, base), version)),
    ]
    if encrypt is not None:
        headers.append(("Encrypt", encrypt))
    return ReceivedResponse(status, headers, body)


def sealed_answer(key, recipient, plaintext=SUCCESS, *, content_key=CONTENT_KEY, **how):
    """Make an encrypted answer, signed with `key`, to the holder of `recipient`."""
    header = encrypt_header(wrap(recipient, content_key))
    return answer(key, seal(plaintext, content_key), encrypt=header, **how)


def call(
    key,
    body=REQUEST_BODY,
    *,
    method="POST",
    target=TARGET,
    client_id=CLIENT_ID,
    time=TIME,
    version="1",
    encrypt=None,
):
    """Make a request as it arrives at a receiver, signed with `key`."""
    base = signature_base(
        method=method, target=target, client_id=client_id, time=time, body=body
    )
    headers = [
        ("Client-Id", client_id),
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Request-Time", time),
        ("Signature", signature_header(rsa256(key, base), version)),
    ]
    if encrypt is not None:
        headers.append(("Encrypt", encrypt))
    return ReceivedRequest(method, target, headers, body)


def with_header(headers, name, *values):
    """Give the headers with `name` replaced: once per value, so none drops it."""
    kept = [(key, value) for key, value in headers if key.lower() != name.lower()]
    return [*kept, *((name, value) for value in values)]


def sent_request(*, target=TARGET, client_id=CLIENT_ID, body=REQUEST_BODY):
    """Give a request of ours that an answer may be checked against.

    Its own signature is a blank: no rule about answers looks at it.
    """
    draft = draft_request(target=target, client_id=client_id, time=TIME, body=body)
    return attach_signature(draft, bytes(256), key_version="1")


def sent_encrypted_request(recipient):
    """Give an encrypted request of ours, with a blank signature."""
    draft = encrypt(sent_request().draft, CONTENT_KEY, recipient)
    return SignedMessage(draft, SignatureField("1", bytes(256)))
