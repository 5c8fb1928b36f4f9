"""JSON as far as the gateway looks into it: is it an object, what is its result.

Bodies are parsed to be judged and never written again: what was signed is what
is sent. Source: protocol.md 4, 5 and 6.
"""

import json
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.errors import InvalidRequest

REFUSALS: Final = frozenset({"F", "U"})

SIGNATURE_REFUSALS: Final = (
    *("INVALID_SIGNATURE", "SIGNATURE_INVALID", "KEY_NOT_FOUND"),
    *("ILLEGAL_SIGN", "INVALID_SIGN"),
)
"""Codes by which AlipayHK's sister products refuse a signature. Its own are nowhere."""

_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ENVELOPES: Final = ("resultInfo", "result")

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
    if not _CODE.fullmatch(text):
        msg = "must be a resultCode, such as INVALID_SIGNATURE"
        raise ValueError(msg)
    return text


def parse_object(body: bytes) -> JsonObject:
    """Read a JSON object: UTF-8, no byte order mark, no NaN.

    Numbers are left as text: no value is converted that nobody reads.

    Raises:
        ValueError: anything else. The text says what, and never quotes the body.
    """
    try:
        value = _decoded(body.decode("utf-8"))
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
        value = parse_object(body)
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
        return result_of(parse_object(body))
    except ValueError:
        return None


def result_of(value: JsonObject) -> Result | None:
    """Find the result in an object that `parse_object` gave, as `read_result` does."""
    if isinstance(value, _Ambiguous):
        return None
    found = [_result(value[name]) for name in _ENVELOPES if name in value]
    if not found or any(result != found[0] for result in found):
        return None
    return found[0]


def _result(envelope: object) -> Result | None:
    if not isinstance(envelope, dict) or isinstance(envelope, _Ambiguous):
        return None
    status, code = envelope.get("resultStatus"), envelope.get("resultCode", "")
    if not isinstance(status, str):
        return None
    readable = isinstance(code, str) and _CODE.fullmatch(code)
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


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=str,
    parse_float=str,
    parse_constant=_refuse,
)
