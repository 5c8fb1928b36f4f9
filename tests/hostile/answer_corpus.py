"""Answers that AlipayHK, or something in its place, might give, and what comes of them.

A case makes bytes of the headers and body of an answer that holds. Whatever they are,
either exactly the signed body passes, or a problem with the right outcome.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests import peer
from tests.hostile.platform_socket import Script, message

BODY = peer.SUCCESS
LENGTH = ("Content-Length", str(len(BODY)))
CHUNKED = ("Transfer-Encoding", "chunked")
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
STATUS = {
    "verified": 200,
    "upstream_unavailable": 503,
    "upstream_timeout": 504,
}
"""Of all others, 502."""
OUTCOME = {
    "upstream_unavailable": "not_sent",
    "upstream_timeout": "unknown",
    "upstream_disconnected": "unknown",
}
"""Of all others, answered."""


@dataclass(frozen=True)
class Case:
    """What is written for an answer whose headers hold, and the code that results."""

    write: Callable[[list[tuple[str, str]]], Script]
    code: str


def raw(make, code="response_malformed", end="close"):
    """Write what `make` gives of the signed headers."""
    return Case(lambda headers: Script((make(headers),), end), code)


def passes(make, end="close"):
    return raw(make, "verified", end)


def framed(*framing, body=BODY, line="HTTP/1.1 200 OK"):
    """Give the function that writes signed headers, and these behind them."""
    return lambda headers: message([*headers, *framing], body, line=line)


def lines(*behind, body=BODY):
    """Give the function that writes signed headers, and these raw lines behind."""

    def make(headers):
        more = (
            [LENGTH] if not any(b"ength" in b or b"oding" in b for b in behind) else []
        )
        head = message([*headers, *more], b"")[:-2]
        return head + b"".join(behind) + b"\r\n" + body

    return make


def first(text, *, status=b"HTTP/1.1 200 OK\r\n"):
    """Give the function that writes this before, or for, the status line."""
    return lambda headers: text + message([*headers, LENGTH], BODY).removeprefix(status)


def before(text):
    return lambda headers: text + message([*headers, LENGTH], BODY)


def again(name):
    """Give the function that writes a header twice."""

    def make(headers):
        value = dict(headers).get(
            name, "algorithm=RSA_AES,keyVersion=1,symmetricKey=QUJD"
        )
        return message([*headers, (name, value), (name.lower(), value), LENGTH], BODY)

    return make


def replaced(name, change):
    def make(headers):
        changed = [(n, change(v) if n == name else v) for n, v in headers]
        return message([*changed, LENGTH], BODY)

    return make


CUT = "upstream_disconnected"
FORGED = "signature_invalid"

FRAMING = {
    "a length": passes(framed(LENGTH), "open"),
    "chunks": passes(framed(CHUNKED, body=CHUNKS), "open"),
    "all to the end": passes(framed()),
    "one length twice": raw(framed(LENGTH, LENGTH)),
    "two lengths, the right first": raw(framed(LENGTH, ("Content-Length", "1"))),
    "two lengths, the right last": raw(framed(("Content-Length", "1"), LENGTH)),
    "a list of one length": raw(
        framed(("Content-Length", f"{len(BODY)}, {len(BODY)}"))
    ),
    "a list of lengths": raw(framed(("Content-Length", f"{len(BODY)}, 1"))),
    "a negative length": raw(framed(("Content-Length", "-1"))),
    "a length with a plus": raw(framed(("Content-Length", f"+{len(BODY)}"))),
    "a length in hex": raw(framed(("Content-Length", hex(len(BODY))))),
    "an empty length": raw(framed(("Content-Length", ""))),
    "a length that is no number": raw(framed(("Content-Length", "many"))),
    "a length of 2**64": raw(framed(("Content-Length", str(2**64)))),
    "a length over the limit": raw(
        framed(("Content-Length", str(1 << 40))), "response_too_large"
    ),
    "a length one long": raw(framed(("Content-Length", str(len(BODY) + 1))), CUT),
    "a length one long, left open": raw(
        framed(("Content-Length", str(len(BODY) + 1))), "upstream_timeout", "open"
    ),
    "a length one short": raw(framed(("Content-Length", str(len(BODY) - 1))), FORGED),
    "a length of none": raw(framed(("Content-Length", "0")), FORGED),
    "a length and chunks": raw(framed(LENGTH, CHUNKED, body=CHUNKS)),
    "chunks and a length": raw(framed(CHUNKED, LENGTH, body=CHUNKS)),
    "chunks twice": raw(framed(CHUNKED, CHUNKED, body=CHUNKS)),
    "chunked, chunked": raw(
        framed(("Transfer-Encoding", "chunked, chunked"), body=CHUNKS)
    ),
    "gzip, chunked": raw(framed(("Transfer-Encoding", "gzip, chunked"), body=CHUNKS)),
    "chunked, gzip": raw(framed(("Transfer-Encoding", "chunked, gzip"), body=CHUNKS)),
    "xchunked": raw(framed(("Transfer-Encoding", "xchunked"), body=CHUNKS)),
    "identity": raw(framed(("Transfer-Encoding", "identity"))),
    "an empty coding": raw(framed(("Transfer-Encoding", ""))),
    "chunks in HTTP/1.0": raw(
        framed(CHUNKED, body=CHUNKS, line="HTTP/1.0 200 OK"), "verified"
    ),
    "compressed": raw(framed(LENGTH, ("Content-Encoding", "gzip"))),
    "compressed by an unknown one": raw(framed(LENGTH, ("Content-Encoding", "x"))),
    "two encodings": raw(
        framed(LENGTH, ("Content-Encoding", "identity"), ("Content-Encoding", "br"))
    ),
    "a 204 with a body": raw(framed(LENGTH, line="HTTP/1.1 204 X"), FORGED),
    "a 304 with a body": raw(framed(LENGTH, line="HTTP/1.1 304 X"), FORGED),
}


def sized(size, behind=b"\r\n0\r\n\r\n"):
    return framed(CHUNKED, body=size + b"\r\n" + BODY + behind)


SIZE = b"%x" % len(BODY)
CHUNK_TRICKS = {
    "no size": raw(sized(b"")),
    "a size that is no number": raw(sized(b"zz")),
    "a negative size": raw(sized(b"-1")),
    "a size with 0x": raw(sized(b"0x" + SIZE)),
    "a size of 2**64": raw(sized(b"1" + b"0" * 16)),
    "a size of 2**64 - 1": raw(sized(b"f" * 16), CUT),
    "a size one long": raw(sized(b"%x" % (len(BODY) + 1))),
    "a size one short": raw(sized(b"%x" % (len(BODY) - 1))),
    "an extension": passes(sized(SIZE + b";a=b")),
    # What frames a body is bounded as heads are: nobody sends it, and it is parsed.
    "an extension of 16 KiB": passes(sized(SIZE + b";a=" + b"x" * (16 << 10))),
    "an extension of 1 MiB": raw(sized(SIZE + b";a=" + b"x" * (1 << 20))),
    "no line's end behind a chunk": raw(sized(SIZE, b"0\r\n\r\n")),
    "no last chunk": raw(sized(SIZE, b"\r\n"), CUT),
    "half of the last chunk": raw(sized(SIZE, b"\r\n0\r\n"), CUT),
    "a trailer": passes(sized(SIZE, b"\r\n0\r\nX: y\r\n\r\n")),
    "a trailer that names a signature": passes(
        sized(SIZE, b"\r\n0\r\nSignature: x\r\n\r\n")
    ),
    "a trailer that names a length": raw(
        sized(SIZE, b"\r\n0\r\nContent-Length: 1\r\n\r\n")
    ),
    "a hundred thousand trailers": raw(
        sized(SIZE, b"\r\n0\r\n" + b"X: y\r\n" * 100_000 + b"\r\n")
    ),
    "chunks over the limit": raw(
        framed(CHUNKED, body=b"2001\r\n" + b"x" * 0x2001 + b"\r\n0\r\n\r\n"),
        "response_too_large",
    ),
}

HEADERS = {
    **{
        f"{name} twice": raw(again(name))
        for name in (
            "Signature",
            "Client-Id",
            "Response-Time",
            "Encrypt",
            "Content-Type",
        )
    },
    "a NUL in a value": raw(lines(b"X: a\0b\r\n")),
    "a NUL in a name": raw(lines(b"X\0: a\r\n")),
    "a NUL in the signature": raw(replaced("Signature", lambda v: v + "\0")),
    "a bare CR in a value": raw(lines(b"X: a\rb\r\n")),
    "a bare CR in the signature": raw(replaced("Signature", lambda v: v + "\rx")),
    "a header without a colon": raw(lines(b"X\r\n")),
    "a header without a name": raw(lines(b": x\r\n")),
    "a space before a colon": raw(lines(b"X : a\r\n")),
    "a space in a name": raw(lines(b"X Y: a\r\n")),
    "a signature in obs-text": raw(replaced("Signature", lambda v: v + "\xe9")),
    "a time in obs-text": raw(replaced("Response-Time", lambda v: v + "\xe9")),
    "a folded header": raw(lines(b"X: a\r\n b\r\n")),
    "a folded length": raw(lines(b"Content-Length: 1\r\n 2\r\n")),
    "a folded signature": raw(
        replaced("Signature", lambda v: v[:40] + "\r\n " + v[40:])
    ),
    "a Client-Id folded to another": raw(replaced("Client-Id", lambda v: v + "\r\n x")),
    "a second length behind a bare LF": raw(
        lines(b"Content-Length: 58\nContent-Length: 5\r\n")
    ),
    "bare LFs for all line ends": raw(
        lambda headers: message([*headers, LENGTH], BODY).replace(b"\r\n", b"\n")
    ),
    "200 headers": raw(framed(LENGTH, *[("X", "y")] * 200)),
    "a hundred thousand headers": raw(framed(LENGTH, *[("X", "y")] * 100_000)),
    "a header of 20 KiB": raw(framed(LENGTH, ("X", "y" * 20480))),
    "a header of 1 MiB": raw(framed(LENGTH, ("X", "y" * (1 << 20)))),
    "a name of 20 KiB": raw(framed(LENGTH, ("X" * 20480, "y"))),
    "headers that never end": raw(
        lambda headers: message(headers, b"")[:-2], "upstream_timeout", "open"
    ),
    "an upgrade that nobody asked for": passes(
        framed(LENGTH, ("Upgrade", "h2c"), ("Connection", "Upgrade"))
    ),
}

STATUS_LINES = {
    "nothing": raw(lambda _: b"", CUT),
    "a line's end": raw(lambda _: b"\r\n", CUT),
    "garbage": raw(lambda _: b"\0\1\2\3\r\n\r\n"),
    "TLS": raw(lambda _: b"\x15\x03\x01\x00\x02\x02\x46"),
    "a request": raw(lambda _: b"GET / HTTP/1.1\r\nHost: g\r\n\r\n"),
    "no version": raw(first(b"200 OK\r\n")),
    "HTTP/0.9": raw(first(b"HTTP/0.9 200 OK\r\n")),
    "HTTP/0.9 without a head": raw(lambda _: BODY),
    "HTTP/1.2": raw(first(b"HTTP/1.2 200 OK\r\n")),
    "HTTP/2.0": raw(first(b"HTTP/2.0 200 OK\r\n")),
    "HTTP/1.10": raw(first(b"HTTP/1.10 200 OK\r\n")),
    "http/1.1": raw(first(b"http/1.1 200 OK\r\n")),
    "the frames of HTTP/2": raw(lambda _: b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"),
    "no status": raw(first(b"HTTP/1.1 OK\r\n")),
    "a status of two digits": raw(first(b"HTTP/1.1 20 OK\r\n")),
    "a status of four digits": raw(first(b"HTTP/1.1 2000 OK\r\n")),
    "a negative status": raw(first(b"HTTP/1.1 -200 OK\r\n")),
    "a status of 000": raw(first(b"HTTP/1.1 000 OK\r\n")),
    "a status of 600": raw(first(b"HTTP/1.1 600 OK\r\n")),
    "a status of 999": raw(first(b"HTTP/1.1 999 OK\r\n")),
    "no reason": passes(first(b"HTTP/1.1 200\r\n")),
    "a reason of 20 KiB": raw(first(b"HTTP/1.1 200 " + b"x" * 20480 + b"\r\n")),
    "a reason with a NUL": raw(first(b"HTTP/1.1 200 O\0K\r\n"), "verified"),
    "a bare CR in the status line": raw(first(b"HTTP/1.1 200 O\rK\r\n")),
    "an empty line before": passes(before(b"\r\n")),
    "a 100 before": passes(before(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "a 102 and a 103 before": passes(
        before(b"HTTP/1.1 102 X\r\n\r\nHTTP/1.1 103 X\r\nLink: </>\r\n\r\n")
    ),
    "a thousand 100s before": passes(before(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)),
    "a 100 without end": raw(
        lambda _: b"HTTP/1.1 100 Continue\r\n\r\n", "upstream_timeout", "open"
    ),
    "a 100 alone": raw(lambda _: b"HTTP/1.1 100 Continue\r\n\r\n", CUT),
    "a 101": raw(
        lambda _: b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    ),
    "a 101, and the answer": raw(
        before(b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
    ),
    "an unsigned 407": raw(
        lambda _: b"HTTP/1.1 407 X\r\nContent-Length: 0\r\n\r\n", "signature_missing"
    ),
    "an unsigned redirect": raw(
        lambda _: b"HTTP/1.1 307 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        "signature_missing",
    ),
}

CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "framing": FRAMING,
        "chunks": CHUNK_TRICKS,
        "headers": HEADERS,
        "status line": STATUS_LINES,
    }.items()
    for name, case in cases.items()
}
