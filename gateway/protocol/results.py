"""JSON as far as the gateway looks into it: is it an object, what is its result.

Bodies are parsed to be judged and never written again: what was signed is what
is sent. Source: protocol.md 4, 5 and 6.
"""

import json
import re
import string
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.errors import InvalidRequest, ResponseMalformed

REFUSALS: Final = frozenset({"F", "U"})
_SUCCESS: Final = "S"
_SUCCESSFUL: Final = range(200, 300)  # RFC 9110, 15.3

SIGNATURE_REFUSALS: Final = (
    *("INVALID_SIGNATURE", "SIGNATURE_INVALID", "KEY_NOT_FOUND"),
    *("ILLEGAL_SIGN", "INVALID_SIGN"),
)
"""Codes by which AlipayHK's sister products refuse a signature. Its own are nowhere."""

_CODE_SIGNS: Final = frozenset(string.ascii_letters + string.digits + "_.-")
_MAX_CODE: Final = 64
_ENVELOPES: Final = ("resultInfo", "result")

_LOOKED_INTO: Final = frozenset({*_ENVELOPES, "request", "response"})
"""The keys of a body whose objects are looked into: no value of another is read."""

_READ: Final = ("resultStatus", "resultCode")
"""The values that are read of those."""

_LARGE: Final = 1 << 14
"""Bytes from which on an outline is cheaper than all of it."""

_MOST_KEYS: Final = 1024
"""Of one object in an outline. Behind them, reading all of it is cheaper."""

JsonObject: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Result:
    """What AlipayHK says of a request.

    Attributes:
        status: `S` success, `F` failure, `U` unknown.
        code: `SUCCESS`, `PARAM_ILLEGAL` and so on; empty where there is none that
            could be one. Of an unsigned answer it proves nothing.
            Retry by this, never by the status (protocol.md 5).
    """

    status: str
    code: str


def check_code(text: str) -> str:
    """Give `text` back if it could be a resultCode.

    Raises:
        ValueError: it could not.
    """
    if not _is_code(text):
        msg = "must be a resultCode, such as INVALID_SIGNATURE"
        raise ValueError(msg)
    return text


def _is_code(text: str) -> bool:
    return 0 < len(text) <= _MAX_CODE and _CODE_SIGNS.issuperset(text)


def parse_object(body: bytes) -> JsonObject:
    """Read a JSON object: UTF-8, no byte order mark, no NaN.

    Numbers are left as text: no value is converted that nobody reads.

    Raises:
        ValueError: anything else. The text says what, and never quotes the body.
    """
    return _object_of(body, _decoded)


def outline(body: bytes) -> JsonObject:
    """Read a JSON object as strictly as `parse_object`, and keep what this module reads.

    That is the keys, and of a large body not the values: small objects took seven times
    the body's size, and twice the time (12.5 and 6.2 ms for 1 MiB of them).

    Raises:
        ValueError: as by `parse_object`.
    """
    return _object_of(body, _outlined if len(body) >= _LARGE else _decoded)


def _object_of(body: bytes, read: Callable[[str], object]) -> JsonObject:
    try:
        value = read(body.decode("utf-8"))
    except UnicodeDecodeError:
        msg = "it is not UTF-8"
        raise ValueError(msg) from None
    except json.JSONDecodeError as error:
        msg = f"it is not JSON (line {error.lineno}, column {error.colno})"
        raise ValueError(msg) from None
    except RecursionError:
        msg = "it is nested too deeply"
        raise ValueError(msg) from None
    if not isinstance(value, dict):
        msg = "it is JSON, but not an object"
        raise ValueError(msg)  # noqa: TRY004 - a wrong value, not a wrong type
    return value


def check_request_body(body: bytes) -> None:
    """Pass if `body` is a JSON object of this protocol.

    Raises:
        InvalidRequest: it is not, or it is the legacy form, whose signature is
            inside the body (protocol.md 6).
    """
    try:
        value = outline(body)
    except ValueError as error:
        msg = f"The body must be a JSON object: {error}."
        raise InvalidRequest(msg) from None
    if is_legacy(value, "request"):
        msg = (
            "The body is the legacy form with head, body and signature inside. Send "
            "the plain JSON of the API; the gateway signs in the headers."
        )
        raise InvalidRequest(msg)


def is_legacy(value: JsonObject, inner: str) -> bool:
    """Tell the legacy form of a message: `inner` is `request` or `response`."""
    message = value.get(inner)
    return (
        "signature" in value
        and isinstance(message, dict)
        and bool({"head", "body"} & set(message))
    )


def read_result(body: bytes) -> Result | None:
    """Find the result in a body: `resultInfo`, else `result`.

    Gives None where a reader could be in doubt: no JSON object, a repeated key
    (two parsers may take two values), two envelopes that disagree, no status.
    """
    try:
        return result_of(outline(body))
    except ValueError:
        return None


def check_status(status: int, result: Result | None) -> None:
    """Pass if a verified answer does not contradict its HTTP status.

    No signature covers the status: who changes it could have a success be taken for a
    failure, and paid again.

    Raises:
        ResponseMalformed: it is a success under a status that is none.
    """
    if status not in _SUCCESSFUL and result is not None and result.status == _SUCCESS:
        msg = f"A verified success came with HTTP {status}, which no signature covers."
        raise ResponseMalformed(msg)


def result_of(value: JsonObject) -> Result | None:
    """Find the result in an object that `outline` gave, as `read_result` does."""
    if isinstance(value, _Ambiguous):
        return None
    found: Result | None = None
    for name in _ENVELOPES:
        if name in value:
            result = _result(value[name])
            if result is None or found not in (None, result):
                return None
            found = result
    return found


def _result(envelope: object) -> Result | None:
    if not isinstance(envelope, dict) or isinstance(envelope, _Ambiguous):
        return None
    status, code = envelope.get("resultStatus"), envelope.get("resultCode", "")
    if not isinstance(status, str):
        return None
    readable = isinstance(code, str) and _is_code(code)
    return Result(status, code if readable else "")


class _Ambiguous(dict[str, object]):
    """An object in which a key occurs twice."""


def _object(pairs: list[tuple[str, object]]) -> JsonObject:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else _Ambiguous(plain)


def _refuse(constant: str) -> object:
    raise json.JSONDecodeError(constant, constant, 0)


def _decoded(text: str) -> object:
    """Read JSON. Most texts end where their value does: those take the short way.

    Raises:
        json.JSONDecodeError: it is none.
    """
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError:
        return _DECODER.decode(text)  # white space before it, or an error to be placed
    return value if end == len(text) else _DECODER.decode(text)


def _outlined(text: str) -> object:
    """Read JSON, and of an object little more than its keys.

    What is not as it must be is read once more, by what can say what is wrong with it.

    Raises:
        json.JSONDecodeError: it is none.
    """
    if text.startswith("{"):
        try:
            value, end = _walk(text, 0, _LOOKED_INTO)
        except json.JSONDecodeError:
            return _decoded(text)
        if _next(text, end) == len(text):
            return value
    return _decoded(text)


def _walk(text: str, at: int, into: Collection[str]) -> tuple[JsonObject, int]:
    """Read the object that begins at `at`. Gives it and its end.

    Args:
        text: what it is in.
        at: where its brace is.
        into: the keys whose objects are walked through, too.

    Raises:
        json.JSONDecodeError: it is none, or has so many keys that this does not pay.
    """
    found: JsonObject = {}
    at, keys = _next(text, at + 1), 0
    if text.startswith("}", at):
        return found, at + 1
    while text.startswith('"', at) and keys < _MOST_KEYS:
        key, at = _SKIPPING.raw_decode(text, at)
        at = _next(text, at)
        if not text.startswith(":", at):
            break
        at = _next(text, at + 1)
        if key in into and text.startswith("{", at):
            found[key], at = _walk(text, at, ())
        else:
            decoder = _DECODER if key in _READ else _SKIPPING
            found[key], at = decoder.raw_decode(text, at)
        keys += 1
        at = _next(text, at)
        if text.startswith("}", at):
            return found if keys == len(found) else _Ambiguous(found), at + 1
        if not text.startswith(",", at):
            break
        at = _next(text, at + 1)
    raise json.JSONDecodeError("", "", 0)


def _next(text: str, at: int) -> int:
    """Give where something begins behind the white space at `at`, if there is any."""
    space = _SPACE.match(text, at)
    return space.end() if space else at


_SPACE: Final = re.compile(r"[ \t\n\r]*")

_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=str,
    parse_float=str,
    parse_constant=_refuse,
)

_SKIPPING: Final = json.JSONDecoder(
    object_pairs_hook=bool,
    parse_int=bool,
    parse_float=bool,
    parse_constant=_refuse,
)
"""As strict, and keeps no object and no number: a truth in the place of each."""
