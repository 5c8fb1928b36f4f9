"""What the simulator remembers of each exchange, and what it remarks on.

A record holds digests, never a body. A remark is something that the simulator lets
pass and a stricter reader on AlipayHK's side might not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gateway.protocol import ReceivedRequest, parse_time
from gateway.simulator.answers import SimulatedResponse

# The Java SDK reads the third element by its position (protocol.md 2).
_SIGNATURE: Final = re.compile(
    r"algorithm=RSA256,keyVersion=[A-Za-z0-9._-]+,signature=(?:[A-Za-z0-9]|%2B|%2F|%3D)+"
)
_ENCRYPT: Final = re.compile(
    r"algorithm=RSA_AES,keyVersion=[A-Za-z0-9._-]+,"
    r"symmetricKey=(?:[A-Za-z0-9]|%2B|%2F|%3D)+"
)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", re.ASCII)
_CONTENT_TYPE: Final = re.compile(r"(?ai)(application/json|text/plain); charset=utf-8")
_FORMS: Final = {
    "Signature": (_SIGNATURE, "algorithm=RSA256,keyVersion=...,signature=..."),
    "Encrypt": (_ENCRYPT, "algorithm=RSA_AES,keyVersion=...,symmetricKey=..."),
    "Request-Time": (_TIME, "YYYY-MM-DDTHH:MM:SS+08:00"),
    "Content-Type": (_CONTENT_TYPE, "application/json; charset=UTF-8"),
}
_FORBIDDEN: Final = frozenset({"cookie", "authorization", "content-encoding"})
_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Record:
    """One exchange, without its content.

    Attributes:
        time: when it arrived, by the simulator's clock, ISO 8601.
        target: as it arrived, with its query string.
        client_id: as the request named it; None if it named none.
        key_version: the one that verified; of a refused request, the one it named.
        encrypted: whether the request was.
        body_sha256: of the body as it arrived, in hex.
        result: the resultCode of the answer.
        status: the resultStatus of the answer.
        signed: whether the answer was made to be signed; a refusal is not.
        fault: the fault that was ordered; `none` if none was.
        repeated: whether the requestId had its result already.
        remarks: what a stricter reader might refuse.
        tracer_id: of the answer.
    """

    time: str
    method: str
    target: str
    client_id: str | None
    key_version: str | None
    encrypted: bool
    body_sha256: str
    result: str
    status: str
    signed: bool
    fault: str
    repeated: bool
    remarks: tuple[str, ...]
    tracer_id: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange with everything in it. It stays in memory.

    Attributes:
        request: exactly as it arrived.
        response: as it is about to be delivered.
    """

    record: Record
    request: ReceivedRequest = field(repr=False)
    response: SimulatedResponse = field(repr=False)


def remarks_on(request: ReceivedRequest, now: datetime) -> Iterator[str]:
    """Find what the simulator lets pass and a stricter reader might not."""
    for name, (form, shown) in _FORMS.items():
        for key, value in request.headers:
            if key.lower() == name.lower() and not form.fullmatch(value):
                yield f"{name} is not exactly of the form {shown}"
    for key, value in request.headers:
        if key.lower() in _FORBIDDEN or key.lower().startswith("gateway-"):
            yield f"the header {key} has no place in a request to AlipayHK"
        if key.lower() == "request-time" and _is_far(value, now):
            yield "Request-Time is more than five minutes from the simulator's clock"


def _is_far(text: str, now: datetime) -> bool:
    try:
        return abs(parse_time(text) - now) > _SKEW
    except ValueError:
        return False
