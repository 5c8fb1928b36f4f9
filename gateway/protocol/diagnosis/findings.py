"""What is found of a message, put into words and into order."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from gateway.protocol.diagnosis.model import (
    Capture,
    Diagnosis,
    KnownKey,
    Standing,
)
from gateway.protocol.diagnosis.search import search
from gateway.protocol.diagnosis.signatures import (
    Made,
    Reading,
    made_with_pss,
    makers,
    readings,
)
from gateway.protocol.results import (
    REFUSALS,
    is_legacy,
    parse_object,
    read_result,
)
from gateway.protocol.signature import base_of

_STANDINGS: Final = {
    Standing.OWN: Diagnosis(
        "own_key",
        "It was signed by {label}, not by AlipayHK's.",
        "This is a message of our own, or of a test double that signs with our key. "
        "If AlipayHK did send it, it holds our private key: call them.",
    ),
    Standing.THEIRS: Diagnosis(
        "platform_key",
        "It was signed by {label}, not by one of ours.",
        "This is a message of AlipayHK's: verify it as such.",
    ),
    Standing.PRE_ACTIVE: Diagnosis(
        "key_pre_active",
        "It was signed by {label}, which is not in use yet.",
        "If AlipayHK has changed over to that key, activate it.",
    ),
    Standing.OTHER_USE: Diagnosis(
        "key_other_use",
        "It was signed by {label}, which the keyring does not have for signatures.",
        "Look at that entry's `use` in keyring.yaml.",
    ),
    Standing.COMPROMISED: Diagnosis(
        "key_compromised",
        "It was signed by {label}, which is marked compromised.",
        "Do not believe the message: whoever has that key may have made it.",
    ),
    Standing.OTHER_CLIENT: Diagnosis(
        "key_other_client",
        "It was signed by {label}, which is not this client's.",
        "Sandbox and production are mixed, or two clients: look at the client's "
        "upstream and keyring.",
    ),
}
"""What a key tells that should not have signed."""


def diagnose(capture: Capture, keys: Sequence[KnownKey]) -> tuple[Diagnosis, ...]:
    """Name what is wrong with a message that does not verify.

    Args:
        capture: the message, and what may have stood in its place.
        keys: every key it could have been made by; the trusted ones first.

    Returns:
        What was found, the most certain first; never empty.
    """
    hints = tuple(other_protocol(capture.body))
    if not capture.signature:
        return hints or tuple(_unsigned(capture))
    found = tuple(readings(capture.signature))
    made = next((one for each in found for one in makers(each, keys)), None)
    if made is None:
        return (*_unknown(capture, found, keys), *hints)
    mistakes = search(capture, made.over)
    known = (*_of_key(made), *made.mistakes)
    if not capture.time:
        return (*known, _time_missing(made.key), *(mistakes or ()), *hints)
    if mistakes is None:
        return (*known, _bytes_differ(made.key), *hints)
    return (*known, *mistakes) or (_holds(made.key),)


def _of_key(made: Made) -> Iterator[Diagnosis]:
    key = made.key
    if (told := _STANDINGS.get(key.standing)) is not None:
        yield replace(told, finding=told.finding.format(label=key.label))
    if made.key_version not in (None, key.public.version):
        yield Diagnosis(
            "version_mislabelled",
            f"It was signed by {key.label}, and names keyVersion {made.key_version}.",
            "Give the keyring's entry the version that AlipayHK knows the key by.",
        )


def _bytes_differ(key: KnownKey) -> Diagnosis:
    return Diagnosis(
        "bytes_differ",
        f"It was signed by {key.label}, over other bytes than these, and no known "
        "mistake explains the difference.",
        "Compare the signature base with the sender's: method, target, Client-Id, "
        "time and body, byte for byte. Does this body belong to this signature?",
    )


def _time_missing(key: KnownKey) -> Diagnosis:
    return Diagnosis(
        "time_missing",
        f"It was signed by {key.label}, and its time header (Response-Time, of a "
        "request Request-Time) is missing: the time's text is part of what is signed.",
        "Capture every header. If this one was not sent, something between AlipayHK "
        "and the capture dropped it: without it nobody can verify the message.",
    )


def _holds(key: KnownKey) -> Diagnosis:
    return Diagnosis(
        "signature_holds",
        f"The signature holds: it is by {key.label}, over these bytes.",
        "What was refused is something else: see the error itself.",
    )


def _unknown(
    capture: Capture, found: Sequence[Reading], keys: Sequence[KnownKey]
) -> Iterator[Diagnosis]:
    """Say what can be said of a signature by no key that is known."""
    base = base_of(
        capture.method, capture.target, capture.client_id, capture.time, capture.body
    )
    for reading in found:
        if (key := made_with_pss(reading, keys, base)) is not None:
            yield Diagnosis(
                "signature_pss",
                f"It was signed by {key.label} with PSS padding, not PKCS#1 v1.5.",
                "RSA256 is RSASSA-PKCS1-v1_5 with SHA-256: SHA256withRSA in Java.",
            )
            return
    yield from _of_length(found, keys)
    yield from _own_configured(keys)
    yield Diagnosis(
        "key_unknown",
        "No key that is held made this signature.",
        "Ask AlipayHK for the public key in use for this Client-Id and this "
        "environment, and import it: sandbox and production have their own.",
    )


def _of_length(
    found: Sequence[Reading], keys: Sequence[KnownKey]
) -> Iterator[Diagnosis]:
    lengths = {key.public.size_bytes for key in keys}
    plain = next((each for each in found if each.mistake is None), None)
    if plain is None:
        yield Diagnosis(
            "field_unreadable",
            "The Signature header holds no signature that can be read.",
            "It must be `algorithm=RSA256,keyVersion=…,signature=…`, whole.",
        )
    elif lengths and len(plain.signature) not in lengths:
        expected = " or ".join(str(length) for length in sorted(lengths))
        yield Diagnosis(
            "signature_length",
            f"The signature has {len(plain.signature)} bytes; a key that is held "
            f"makes {expected}.",
            "It was cut or added to on its way, or is by a key of another length.",
        )


def _own_configured(keys: Sequence[KnownKey]) -> Iterator[Diagnosis]:
    own = [key.public.rsa for key in keys if key.standing is Standing.OWN]
    for key in keys:
        if key.standing is Standing.TRUSTED and key.public.rsa in own:
            yield Diagnosis(
                "own_key_configured",
                f"{key.label} is in truth our own public key.",
                "Import the public key that AlipayHK gives you, not the one you gave.",
            )


def _unsigned(capture: Capture) -> Iterator[Diagnosis]:
    result = read_result(capture.body)
    if capture.time:
        yield Diagnosis(
            "half_signed",
            "There is a time header and no Signature: they come together.",
            "Something between AlipayHK and the capture dropped the header.",
        )
    elif result is not None and result.status in REFUSALS:
        yield Diagnosis(
            "unsigned_refusal",
            "This is a refusal without a signature, as AlipayHK's edge gives when it "
            f"rejects a request ({result.code or result.status}).",
            "Nothing is wrong with verification. Look at the request: its Client-Id, "
            "signature, path and time.",
        )
    else:
        yield Diagnosis(
            "signature_missing",
            "There is no Signature, and this is no refusal of AlipayHK's.",
            "Something else answered: a proxy, a wrong host. Look at where it went.",
        )


def other_protocol(body: bytes) -> Iterator[Diagnosis]:
    """Tell a body of the legacy form, whose signature is in no header."""
    try:
        value = parse_object(body)
    except ValueError:
        return
    if is_legacy(value, "request") or is_legacy(value, "response"):
        yield Diagnosis(
            "legacy_body",
            "The body is the legacy form: head, body and signature are inside it.",
            "That is another protocol. Send the plain JSON that the API documents, to "
            "the path that it documents.",
        )
