"""The calls that the simulator knows (protocol.md 6), and what each requires.

Only Synchronize Content has public parameters; the other calls take any JSON object.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.errors import InvalidRequest
from gateway.protocol import check_request_body
from gateway.simulator.results import SUCCESS, ResultInfo, param_illegal

JsonObject: TypeAlias = dict[str, object]

_MAX_REQUEST_ID: Final = 32


def _any_object(_: JsonObject) -> Iterator[str]:
    """Find nothing wrong."""
    yield from ()


def _synchronize_content(value: JsonObject) -> Iterator[str]:
    """Find what the seed's "Request parameters" forbid.

    contentInfo is optional: the seed's page, unlike others, does not say REQUIRED.
    """
    for name in ("requestId", "contentId", "contentType"):
        yield from _required_text(value, name)
    request_id, content_type = value.get("requestId"), value.get("contentType")
    if isinstance(request_id, str) and len(request_id) > _MAX_REQUEST_ID:
        yield f"requestId is longer than {_MAX_REQUEST_ID} characters"
    if isinstance(content_type, str) and content_type not in {"", "SKU"}:
        yield "contentType must be SKU"
    status = value.get("contentStatus")
    if not isinstance(status, float) or status not in {0.0, 1.0}:
        yield "contentStatus must be the JSON number 0 or 1"
    if not isinstance(value.get("contentInfo", ""), str):
        yield "contentInfo must be a string"


def _required_text(value: JsonObject, name: str) -> Iterator[str]:
    if name not in value:
        yield f"{name} is missing"
    elif not isinstance(value[name], str) or not value[name]:
        yield f"{name} must be a string that is not empty"


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        envelope: the member of an answer that holds the result.
        problems: finds what is wrong with a request's parameters.
    """

    envelope: str
    problems: Callable[[JsonObject], Iterator[str]] = _any_object


_OTHER: Final = Call("result")
_TEMPLATES: Final = "/api/open/alipay/v1/ipass/template/manage"

CALLS: Final = {
    "/api/open/alipay/v1/content/synchronize": Call("resultInfo", _synchronize_content),
    "/api/open/alipay/v1/merchant/order/sync": _OTHER,
    "/api/open/alipay/v1/ipass/pass/manage/createPass": _OTHER,
    f"{_TEMPLATES}/createTemplate": _OTHER,
    f"{_TEMPLATES}/updateTemplate": _OTHER,
    f"{_TEMPLATES}/detail": _OTHER,
    "/api/open/alipay/intl/promotion/order/contractCardSync": _OTHER,
}
"""By path, without a query string."""


def path_of(target: str) -> str:
    """Give a target without its query string."""
    return target.partition("?")[0]


def envelope_of(target: str) -> str:
    """Give the envelope for an answer to `target`, known or not."""
    return CALLS.get(path_of(target), _OTHER).envelope


def members_of(body: bytes) -> JsonObject:
    """Give what is in a body; nothing if it is no JSON object of this protocol."""
    try:
        return _read(body)
    except InvalidRequest:
        return {}


def process(target: str, body: bytes) -> ResultInfo:
    """Give the result of a request whose signature holds."""
    call = CALLS.get(path_of(target))
    if call is None:
        return ResultInfo("INVALID_API", "F", "There is no such API.")
    try:
        problems = "; ".join(call.problems(_read(body)))
    except InvalidRequest as error:
        problems = error.detail.rstrip(".")
    return param_illegal(problems) if problems else SUCCESS


def _read(body: bytes) -> JsonObject:
    """Read a request's body, numbers as floats: a number is told from its text."""
    check_request_body(body)
    value: JsonObject = json.loads(body.decode(), parse_int=float)
    return value
