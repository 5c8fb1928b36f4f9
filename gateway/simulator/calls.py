"""The calls that the simulator knows (protocol.md 6), and what each requires.

Only Synchronize Content has public parameters; the other calls take any JSON object.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.protocol import check_request_body

JsonObject: TypeAlias = dict[str, object]

_MAX_REQUEST_ID: Final = 32


def read_body(body: bytes) -> JsonObject:
    """Read a request's body, numbers as floats: a number is told from its text.

    Raises:
        InvalidRequest: it is no JSON object, or the legacy form.
    """
    check_request_body(body)
    value: JsonObject = json.loads(body.decode(), parse_int=float)
    return value


def _any_object(_: JsonObject) -> Iterator[str]:
    """Find nothing wrong."""
    yield from ()


def _synchronize_content(value: JsonObject) -> Iterator[str]:
    """Find what the seed's "Request parameters" forbid.

    contentInfo is optional: the seed's page, unlike others, does not say REQUIRED.
    """
    for name in ("requestId", "contentId", "contentType"):
        if name not in value:
            yield f"{name} is missing"
        elif not isinstance(value[name], str) or not value[name]:
            yield f"{name} must be a string that is not empty"
    request_id, content_type = value.get("requestId"), value.get("contentType")
    if isinstance(request_id, str) and len(request_id) > _MAX_REQUEST_ID:
        yield f"requestId is longer than {_MAX_REQUEST_ID} characters"
    if isinstance(content_type, str) and content_type not in ("", "SKU"):
        yield "contentType must be SKU"
    if "contentStatus" not in value:
        yield "contentStatus is missing"
    elif not _is_status(value["contentStatus"]):
        yield "contentStatus must be the JSON number 0 or 1"
    if not isinstance(value.get("contentInfo", ""), str):
        yield "contentInfo must be a string"


def _is_status(value: object) -> bool:
    return isinstance(value, float) and value in (0.0, 1.0)


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
