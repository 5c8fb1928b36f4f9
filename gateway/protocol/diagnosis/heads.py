"""What the rest of a signature base may have been: all of it but the body."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, TypeAlias

from gateway.protocol.diagnosis.model import Diagnosis
from gateway.protocol.timestamps import HONG_KONG, parse_time

Variants: TypeAlias = Iterator[tuple[Diagnosis, str]]

Layout: TypeAlias = Callable[[str, str, str, str, bytes], bytes]
"""From method, target, Client-Id, time and body to the bytes that are signed."""

_ESCAPES: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_TO_ESCAPE: Final = re.compile(rb"[^A-Za-z0-9._~/-]")
_EXACT_TARGET: Final = (
    "Sign the path exactly as it stands in the request line, with its query string, "
    "without scheme and host. Behind a proxy, sign what AlipayHK sees."
)
_EXACT_TIME: Final = "Sign the very text of the time header; never format it again."
_METHODS: Final = ("GET", "PUT", "post", "Post", "PATCH", "DELETE", "")


def target_variants(
    target: str, others: tuple[str, ...], hosts: tuple[str, ...]
) -> Variants:
    """Give what may have been signed in place of `target`."""
    path, question, query = target.partition("?")
    tail = question + query
    yield _target("query", "The target was signed without its query string."), path
    for host in hosts:
        for prefix in (f"https://{host}", f"http://{host}", host):
            finding = f"The target was signed with the host {host}."
            yield _target("host", finding), prefix + target
            yield _target("host", finding), prefix + path
    finding = "The target was signed percent-decoded."
    yield _target("escapes", finding), _decoded(target)
    yield _target("escapes", finding), _decoded(target.replace("+", " "))
    finding = "The target was signed percent-encoded once more."
    yield _target("escapes", finding), _encoded(path) + tail
    yield _target("escapes", finding), _encoded(target)
    finding = "The target was signed with a slash at the end of its path."
    yield _target("slash", finding), f"{path}/{tail}"
    finding = "The target was signed without the slash at the end of its path."
    yield _target("slash", finding), path.rstrip("/") + tail
    finding = "The target was signed without the slash at its start."
    yield _target("slash", finding), target.removeprefix("/")
    segments = path.split("/")
    for count in (1, 2, 3):
        shorter = "/" + "/".join(segments[1 + count :])
        gone = "/".join(segments[: 1 + count])
        finding = f"The target was signed without its first part, {gone}."
        yield _target("prefix", finding), shorter + tail
    finding = "The target was signed in lower case."
    yield _target("case", finding), target.lower()
    for other in others:
        yield _target("other", f"The target that was signed was {other}."), other


def client_id_variants(client_id: str, others: tuple[str, ...]) -> Variants:
    """Give what may have been signed in place of `client_id`."""
    advice = (
        "Give signing and header the same Client-Id, from one place: sandbox and "
        "production have each their own."
    )
    for other in others:
        finding = f"The Client-Id that was signed was {other}."
        yield Diagnosis("client_id_other", finding, advice), other
    finding = "The Client-Id was signed with white space beside it."
    for spaced in (
        f"{client_id} ",
        f" {client_id}",
        f"{client_id}\n",
        f"{client_id}\t",
    ):
        yield Diagnosis("client_id_space", finding, advice), spaced
    finding = "The Client-Id was signed in other letters, lower or upper case."
    for cased in (client_id.lower(), client_id.upper()):
        yield Diagnosis("client_id_case", finding, advice), cased
    yield Diagnosis("client_id_other", "No Client-Id was signed.", advice), ""


def time_variants(time: str, others: tuple[str, ...]) -> Variants:
    """Give what may have been signed in place of the time header's text."""
    for other in others:
        finding = f"The time that was signed was {other}: another header's."
        advice = (
            "A response is signed with its Response-Time and a request with its "
            "Request-Time, with the method and target of the request both times."
        )
        yield Diagnosis("time_other", finding, advice), other
    for text in (time, *others):
        for written in _formats(text):
            finding = f"The time that was signed was written {written}."
            yield Diagnosis("time_format", finding, _EXACT_TIME), written
    for text in (time.replace("+", " "), time.replace(" ", "+"), time.strip()):
        finding = "The time was signed with + and space confused."
        yield Diagnosis("time_format", finding, _EXACT_TIME), text
    finding = "The time was signed percent-encoded."
    yield Diagnosis("time_format", finding, _EXACT_TIME), _encoded(time)
    yield Diagnosis("time_other", "No time was signed.", _EXACT_TIME), ""


def method_variants() -> Variants:
    """Give what may have been signed in place of the method."""
    advice = "Sign the method of the request, POST, also where a response is signed."
    for method in _METHODS:
        finding = f"The method that was signed was {method or 'left out'}."
        yield Diagnosis("method_other", finding, advice), method


def layout_variants() -> Iterator[tuple[Diagnosis, Layout]]:
    """Give other ways to put the parts together."""
    advice = (
        "The base is METHOD, a space, the target, one LF, then Client-Id, time and "
        "body with a dot between, and nothing after."
    )
    for finding, layout in _LAYOUTS:
        yield Diagnosis("base_layout", finding, advice), layout


def _joined(newline: str) -> Layout:
    def layout(
        method: str, target: str, client_id: str, time: str, body: bytes
    ) -> bytes:
        return f"{method} {target}{newline}{client_id}.{time}.".encode() + body

    return layout


_LAYOUTS: Final[tuple[tuple[str, Layout], ...]] = (
    ("The base was signed with CR LF after the target.", _joined("\r\n")),
    ("The base was signed with a backslash and n for a newline.", _joined("\\n")),
    ("The base was signed without the newline.", _joined("")),
    ("The base was signed with a space for the newline.", _joined(" ")),
    (
        "The body alone was signed.",
        lambda _method, _target, _client_id, _time, body: body,
    ),
    (
        "The base was signed without its first line.",
        lambda _method, _target, client_id, time, body: (
            f"{client_id}.{time}.".encode() + body
        ),
    ),
    (
        "The base was signed without dots.",
        lambda method, target, client_id, time, body: (
            f"{method} {target}\n{client_id}{time}".encode() + body
        ),
    ),
)


def _formats(time: str) -> Iterator[str]:
    """Give the same moment in the other ways in which it is written."""
    try:
        moment = parse_time(time)
        zones = dict.fromkeys((moment.tzinfo, UTC, HONG_KONG))
        local = [moment.astimezone(zone) for zone in zones]
    except (ValueError, OverflowError):
        return
    for each in local:
        for timespec in ("seconds", "milliseconds", "microseconds"):
            yield from _offsets(each, each.isoformat(timespec=timespec))
        yield each.strftime("%Y-%m-%d %H:%M:%S")
        yield each.strftime("%Y-%m-%dT%H:%M:%S")
    yield str(int(moment.timestamp() * 1000))
    yield str(int(moment.timestamp()))


def _offsets(moment: datetime, text: str) -> Iterator[str]:
    yield text
    yield text[:-3] + text[-2:]  # +08:00 as +0800
    if not moment.utcoffset():
        yield text[:-6] + "Z"


def _decoded(text: str) -> str:
    """Percent-decode; bytes that are no UTF-8 stay as they were written."""
    data = _ESCAPES.sub(lambda found: bytes([int(found[1], 16)]), text.encode())
    try:
        return data.decode()
    except UnicodeDecodeError:
        return text


def _encoded(text: str) -> str:
    """Percent-encode what stands for something in a target."""
    data = _TO_ESCAPE.sub(lambda found: b"%%%02X" % found[0][0], text.encode())
    return data.decode()


def _target(code: str, finding: str) -> Diagnosis:
    return Diagnosis(f"target_{code}", finding, _EXACT_TARGET)
