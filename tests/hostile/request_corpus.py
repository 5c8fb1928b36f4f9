"""Requests that another reader may take for something else, and what becomes of each.

A case is bytes, the codes of the answers that come back, and the requests that reach
AlipayHK. `differs` is for a request that the gateway takes and h11 does not, or takes
for another: why that does no harm.
"""

from dataclasses import dataclass, replace

from tests import peer

TARGET = peer.TARGET
BODY = b'{"a":1}'
CHUNKS = b"7\r\n" + BODY + b"\r\n0\r\n\r\n"
STATUS = {
    "verified": 200,
    "invalid_request": 400,
    "forbidden": 403,
    "unknown_route": 404,
    "method_not_allowed": 405,
    "request_too_large": 413,
}
MAX_BODY = 2000
"""The gateway's `max_body_bytes` for these cases."""


@dataclass(frozen=True)
class Case:
    """What is sent, and all that may come of it.

    Attributes:
        codes: of the answers, in order.
        sent: target and body of what reaches AlipayHK, in order.
        ends: whether the gateway ends the connection by itself.
        then: what the caller does after it: nothing, "half-close", "half-close once
            answered", or "reset".
        continues: how often the gateway asks for the body by a 100.
        status: of the last answer, where it is not that of its code.
        apart: the code if it comes byte by byte, where the parser then shows less;
            "-" if the end of the connection depends on that.
    """

    data: bytes
    codes: tuple[str, ...]
    sent: tuple[tuple[str, bytes], ...] = ()
    ends: bool = True
    then: str = ""
    continues: int = 0
    differs: str = ""
    apart: str = ""
    status: int = 0

    def in_many_reads(self):
        """Give what comes of it if each byte comes by itself.

        What is refused before its body is read then ends the connection.
        """
        if self.apart:
            return replace(self, codes=(self.apart,))
        has_body = not self.data.endswith(b"\r\n\r\n")
        early = self.codes[-1:] in (("unknown_route",), ("forbidden",)) and has_body
        return replace(self, ends=self.ends or early)


def request(*headers, line=f"POST {TARGET} HTTP/1.1", host="Host: g", body=BODY):
    """Write a request of these headers alone, each in Latin-1."""
    lines = [line, *([host] if host else []), *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def length(*headers, line=f"POST {TARGET} HTTP/1.1", host="Host: g", body=BODY):
    """Write a request with a right length, and these headers before it."""
    more = f"Content-Length: {len(body)}"
    return request(*headers, more, line=line, host=host, body=body)


def chunked(body=CHUNKS, *headers):
    """Write a request with a body of chunks, and these headers before it."""
    return request(*headers, "Transfer-Encoding: chunked", body=body)


def refused(data, code="invalid_request", *, ends=True, then="", apart=""):
    return Case(data, (code,), ends=ends, then=then, apart=apart)


def too_large(data):
    """Refuse before all of it came: the rest is read for a while, and thrown away."""
    return refused(data, "request_too_large", then="half-close once answered")


def accepted(data, *, target=TARGET, body=BODY, ends=False, continues=0, differs=""):
    sent = ((target, body),)
    return Case(data, ("verified",), sent, ends, "", continues, differs)


def unchunked(data, **how):
    """Take a request of chunks: always the last of its connection."""
    return accepted(data, ends=True, **how)


def dropped(data, then="half-close"):
    return Case(data, (), then=then)


GOOD = length()
SPACES = (
    "one space or more: RFC 9112, 3 lets a recipient read so; the target sent is ours"
)

EMPTY = "RFC 9110, 5.6.1 has empty elements of a list ignored; h11 reads no list"
OWN = "RFC 9112, 3.2.2: what is sent is the path alone, of the one host there is"

LENGTHS = {
    "one length twice": refused(length("Content-Length: 7")),
    "two lengths, the shorter first": refused(length("Content-Length: 1")),
    "two lengths, the longer first": refused(length("Content-Length: 70")),
    "two lengths in other letters": refused(length("CONTENT-LENGTH: 7")),
    "three lengths": refused(length("Content-Length: 7", "Content-Length: 7")),
    "a list of one length": refused(request("Content-Length: 7, 7")),
    "a list of two lengths": refused(request("Content-Length: 7, 8")),
    "a list with an empty length": refused(request("Content-Length: 7,")),
    "an empty length": refused(request("Content-Length:")),
    "a length of spaces": refused(request("Content-Length:   ")),
    "an empty length before the right one": refused(length("Content-Length:")),
    "a length with a plus": refused(request("Content-Length: +7")),
    "a negative length": refused(request("Content-Length: -7")),
    "a length of minus none": refused(request("Content-Length: -0")),
    "a length in hex": refused(request("Content-Length: 0x7")),
    "a length in octal": refused(request("Content-Length: 0o7")),
    "a length with a fraction": refused(request("Content-Length: 7.0")),
    "a length with an exponent": refused(request("Content-Length: 7e0")),
    "a length with a low line": refused(request("Content-Length: 0_7")),
    "a length with a space in it": refused(request("Content-Length: 7 7")),
    "a length in quotes": refused(request('Content-Length: "7"')),
    "a length in other digits": refused(request("Content-Length: \xd9\xa7")),
    "a superscript length": refused(request("Content-Length: \xb2")),
    "a length with a letter": refused(request("Content-Length: 7a")),
    "a length with a parameter": refused(request("Content-Length: 7;a=b")),
    "a length with a NUL": refused(request("Content-Length: 7\0")),
    "a length after a vertical tab": refused(request("Content-Length: \x0b7")),
    "a length after a form feed": refused(request("Content-Length: \x0c7")),
    "a folded length": refused(request("Content-Length:\r\n 7")),
    "a length folded behind": refused(request("Content-Length: 7\r\n 0")),
    "a length after a bare LF": refused(request("X: y\nContent-Length: 7")),
    "a length after a bare CR": refused(request("X: y\rContent-Length: 7")),
    "a space before the colon of a length": refused(request("Content-Length : 7")),
    "a tab before the colon of a length": refused(request("Content-Length\t: 7")),
    "a length of 2**63": too_large(request(f"Content-Length: {2**63}")),
    "a length of 2**64": refused(request(f"Content-Length: {2**64}")),
    "a length of 2**64 + 7": refused(request(f"Content-Length: {2**64 + 7}")),
    "a length of 2**32 + 7": too_large(request(f"Content-Length: {2**32 + 7}")),
    "a length of 5000 digits": refused(request("Content-Length: " + "9" * 5000)),
    "a length one over the limit": too_large(
        request(f"Content-Length: {MAX_BODY + 1}")
    ),
    "a length with zeros before it": accepted(request("Content-Length: 0000007")),
    "a length with 5000 zeros before it": accepted(
        request("Content-Length: " + "0" * 5000 + "7"),
        differs="h11 reads at most 20 digits; the length is the same",
    ),
    "a length with spaces about it": accepted(request("Content-Length: \t 7 \t")),
    "a length with a low line in its name": refused(request("Content_Length: 7")),
    "a second length with a low line in its name": accepted(
        length("Content_Length: 1")
    ),
    "no length, and no body": refused(request(body=b"")),
    "no length, and a body": refused(request()),
    "a length of none": refused(request("Content-Length: 0", body=b"")),
    "a length one short": refused(request("Content-Length: 6")),
    "a length one long": refused(request("Content-Length: 8"), then="half-close"),
    "a length one long that the next request fills": refused(
        request("Content-Length: 8") + GOOD
    ),
}

CODINGS = {
    "a length, then chunks": refused(length("Transfer-Encoding: chunked", body=CHUNKS)),
    "chunks, then a length": refused(chunked(CHUNKS, "Content-Length: 7")),
    "chunks and the length of their bytes": refused(
        chunked(CHUNKS, f"Content-Length: {len(CHUNKS)}")
    ),
    "chunks and a length of none": refused(chunked(CHUNKS, "Content-Length: 0")),
    "a length and an empty coding": refused(length("Transfer-Encoding:")),
    "a length and identity": refused(length("Transfer-Encoding: identity")),
    "a length and xchunked": refused(length("Transfer-Encoding: xchunked")),
    "a length and gzip": refused(length("Transfer-Encoding: gzip")),
    "a length and a folded coding": refused(length("Transfer-Encoding:\r\n chunked")),
    "a length and a coding before a spaced colon": refused(
        length("Transfer-Encoding : chunked")
    ),
    "a length and a coding after a bare LF": refused(
        length("X: y\nTransfer-Encoding: chunked")
    ),
    "a length and a coding after a bare CR": refused(
        length("X: y\rTransfer-Encoding: chunked")
    ),
    "a length and a coding after a CR in a name": refused(
        length("X\r: y\r\nTransfer-Encoding: chunked")
    ),
    "a length and a coding with a NUL": refused(length("Transfer-Encoding: chunked\0")),
    "a length and a coding with a low line": accepted(
        length("Transfer_Encoding: chunked")
    ),
    "a length and a coding with a NUL in its name": refused(
        length("Transfer-Encoding\0: chunked")
    ),
    "a length and a coding with an obs-text byte": refused(
        length("Transfer-Encoding: \xa0chunked")
    ),
    "xchunked": refused(request("Transfer-Encoding: xchunked", body=CHUNKS)),
    "chunkedx": refused(request("Transfer-Encoding: chunkedx", body=CHUNKS)),
    "chunk": refused(request("Transfer-Encoding: chunk", body=CHUNKS)),
    "chunked with a space in it": refused(
        request("Transfer-Encoding: chun ked", body=CHUNKS)
    ),
    "chunked in quotes": refused(request('Transfer-Encoding: "chunked"', body=CHUNKS)),
    "chunked with a parameter": refused(
        request("Transfer-Encoding: chunked;a=b", body=CHUNKS)
    ),
    "chunked with a comma before": unchunked(
        request("Transfer-Encoding: ,chunked", body=CHUNKS), differs=EMPTY
    ),
    "chunked with commas and spaces before": unchunked(
        request("Transfer-Encoding: , ,\t,chunked", body=CHUNKS), differs=EMPTY
    ),
    # llhttp takes a coding before which or behind which there is nothing for another.
    "chunked with a comma behind": refused(
        request("Transfer-Encoding: chunked,", body=CHUNKS)
    ),
    "chunked with a comma before, and a length": refused(
        length("Transfer-Encoding: ,chunked", body=CHUNKS)
    ),
    "chunked with a comma before, twice": refused(
        request("Transfer-Encoding: ,chunked,chunked", body=CHUNKS)
    ),
    "a comma for a coding": refused(request("Transfer-Encoding: ,", body=CHUNKS)),
    "chunked after a vertical tab": refused(
        request("Transfer-Encoding: \x0bchunked", body=CHUNKS)
    ),
    "chunked before a vertical tab": refused(
        request("Transfer-Encoding: chunked\x0b", body=CHUNKS)
    ),
    "chunked in a fold": refused(
        request("Transfer-Encoding:\r\n\tchunked", body=CHUNKS)
    ),
    "identity": refused(request("Transfer-Encoding: identity", body=CHUNKS)),
    "an empty coding": refused(request("Transfer-Encoding:", body=CHUNKS)),
    "gzip": refused(request("Transfer-Encoding: gzip", body=CHUNKS)),
    "gzip, chunked": refused(request("Transfer-Encoding: gzip, chunked", body=CHUNKS)),
    "identity, chunked": refused(
        request("Transfer-Encoding: identity, chunked", body=CHUNKS)
    ),
    "chunked, gzip": refused(request("Transfer-Encoding: chunked, gzip", body=CHUNKS)),
    "chunked, identity": refused(
        request("Transfer-Encoding: chunked, identity", body=CHUNKS)
    ),
    "chunked, chunked": refused(
        request("Transfer-Encoding: chunked, chunked", body=CHUNKS)
    ),
    "two codings, both chunked": refused(chunked(CHUNKS, "Transfer-Encoding: chunked")),
    "two codings, identity first": refused(
        chunked(CHUNKS, "Transfer-Encoding: identity")
    ),
    "two codings, an unknown one first": refused(
        chunked(CHUNKS, "Transfer-Encoding: cow")
    ),
    "two codings, an empty one first": refused(chunked(CHUNKS, "Transfer-Encoding:")),
    "two codings, identity last": refused(
        request(
            "Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=CHUNKS
        )
    ),
    "chunks in HTTP/1.0": refused(
        request(
            "Transfer-Encoding: chunked", line=f"POST {TARGET} HTTP/1.0", body=CHUNKS
        )
    ),
    "chunks and a length in HTTP/1.0": refused(
        length("Transfer-Encoding: chunked", line=f"POST {TARGET} HTTP/1.0")
    ),
    "Chunked": unchunked(request("Transfer-Encoding: Chunked", body=CHUNKS)),
    "CHUNKED in a name of capitals": unchunked(
        request("TRANSFER-ENCODING: CHUNKED", body=CHUNKS)
    ),
    "chunked with spaces about it": refused(
        request("Transfer-Encoding: \t chunked \t", body=CHUNKS)
    ),
    "a TE header beside a length": accepted(length("TE: trailers, chunked")),
    "compressed by gzip": refused(length("Content-Encoding: gzip")),
    "compressed by deflate": refused(length("Content-Encoding: deflate")),
    "compressed by br": refused(length("Content-Encoding: br")),
    "compressed by zstd": refused(length("Content-Encoding: zstd")),
    "compressed by x-gzip": refused(length("Content-Encoding: x-gzip")),
    "compressed in capitals": refused(length("Content-Encoding: GZIP")),
    "identity, then gzip": refused(length("Content-Encoding: identity, gzip")),
    "two encodings": refused(
        length("Content-Encoding: identity", "Content-Encoding: gzip")
    ),
    "an empty encoding": accepted(length("Content-Encoding:")),
    "an encoding that is none": accepted(length("Content-Encoding: identity")),
}


def chunk(size, behind=b"\r\n0\r\n\r\n", *, eol=b"\r\n"):
    return chunked(size + eol + BODY + behind)


def trailers(*lines):
    return chunked(
        b"7\r\n"
        + BODY
        + b"\r\n0\r\n"
        + b"".join(each + b"\r\n" for each in lines)
        + b"\r\n"
    )


CHUNK_TRICKS = {
    "chunks": unchunked(chunked()),
    "chunks of one byte": unchunked(
        chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n")
    ),
    "a size in capitals": unchunked(
        chunked(b"A\r\n" + b'{"a":1}   ' + b"\r\n0\r\n\r\n"), body=b'{"a":1}   '
    ),
    "a size with zeros before it": unchunked(chunk(b"0007")),
    "a size with a thousand zeros before it": unchunked(
        chunk(b"0" * 1000 + b"7"),
        differs="h11 reads at most 20 digits; the size is the same",
    ),
    "a last chunk of zeros": unchunked(chunk(b"7", b"\r\n000\r\n\r\n")),
    "an extension": unchunked(chunk(b"7;a=b")),
    "an extension without a value": unchunked(chunk(b"7;a")),
    "an extension in quotes": unchunked(chunk(b'7;a="b c"')),
    "an extension of the last chunk": unchunked(chunk(b"7", b"\r\n0;a=b\r\n\r\n")),
    "an extension without a name": refused(chunk(b"7;")),
    "an extension of 8 KiB": unchunked(chunk(b"7;a=" + b"x" * (1 << 13))),
    "an extension of 1 MiB": refused(chunk(b"7;a=" + b"x" * (1 << 20))),
    "an extension with a bare LF": refused(chunk(b"7;a\nb")),
    "an extension that ends in a bare LF": refused(chunk(b"7;a", eol=b"\n")),
    "an extension with a bare CR": refused(chunk(b"7;a\rb")),
    "an extension with a NUL": refused(chunk(b"7;a\0b")),
    "an extension in quotes that hold a line's end": refused(
        chunk(b'7;a="\r\n0\r\n\r\n"')
    ),
    "a space before a size": refused(chunk(b" 7")),
    "a space behind a size": refused(chunk(b"7 ")),
    "a tab behind a size": refused(chunk(b"7\t")),
    "a space before an extension": refused(chunk(b"7 ;a=b")),
    "a size with 0x": refused(chunk(b"0x7")),
    "a negative size": refused(chunk(b"-7")),
    "a size with a plus": refused(chunk(b"+7")),
    "a size with a low line": refused(chunk(b"0_7")),
    "a size that is no number": refused(chunk(b"g")),
    "a size with a letter behind": refused(chunk(b"7g")),
    "a size with a comma": refused(chunk(b"7,7")),
    "no size": refused(chunk(b"")),
    "a size of 2**64 - 1": refused(chunk(b"f" * 16), then="half-close"),
    "a size of 2**64 + 7": refused(chunk(b"10000000000000007")),
    "a size of 2**32 + 7": refused(chunk(b"100000007"), then="half-close"),
    "a size of 100 digits": refused(chunk(b"7" * 100)),
    "a size of 1 MiB of digits": refused(chunk(b"7" * (1 << 20))),
    "a size before a bare LF": refused(chunk(b"7", eol=b"\n")),
    "a size before a bare CR": refused(chunk(b"7", eol=b"\r")),
    "a size before two CRs": refused(chunk(b"7", eol=b"\r\r\n")),
    "no line's end behind a chunk": refused(chunk(b"7", b"0\r\n\r\n")),
    "a bare LF behind a chunk": refused(chunk(b"7", b"\n0\r\n\r\n")),
    "a bare CR behind a chunk": refused(chunk(b"7", b"\r0\r\n\r\n")),
    "two bytes for a line's end behind a chunk": refused(chunk(b"7", b"XX0\r\n\r\n")),
    "a chunk longer than its size": refused(chunk(b"6")),
    "a chunk shorter than its size": refused(chunk(b"8")),
    "a bare LF behind the last chunk": refused(chunk(b"7", b"\r\n0\n\r\n")),
    "a bare LF at the end": refused(chunk(b"7", b"\r\n0\r\n\n")),
    "no last chunk": refused(chunk(b"7", b"\r\n"), then="half-close"),
    "half of the last chunk": refused(chunk(b"7", b"\r\n0\r\n"), then="half-close"),
    "more behind the last chunk": Case(
        chunk(b"7") + b"7\r\n" + BODY + b"\r\n0\r\n\r\n",
        ("verified",),
        ((TARGET, BODY),),
        differs="what is behind it is never read: chunks end a connection",
    ),
    "only a last chunk": refused(chunked(b"0\r\n\r\n")),
    "chunks over the limit": refused(
        chunked(b"7d1\r\n" + b"x" * 2001 + b"\r\n0\r\n\r\n"), "request_too_large"
    ),
    "a chunk over the limit by its size": too_large(
        chunked(b"ffffff\r\n" + b"x" * 2001)
    ),
    "a trailer": unchunked(trailers(b"X: y")),
    "a trailer that names a length": refused(trailers(b"Content-Length: 1")),
    "a trailer that names a coding": refused(trailers(b"Transfer-Encoding: gzip")),
    "a trailer that names a host": unchunked(trailers(b"Host: evil")),
    "a trailer that names a wish": unchunked(trailers(b"Gateway-Encrypt: true")),
    "a trailer that names a client": unchunked(trailers(b"Gateway-Client: evil")),
    "a trailer that is folded": refused(trailers(b"X: y", b" z")),
    "a trailer without a colon": refused(trailers(b"X")),
    "a trailer with a NUL": refused(trailers(b"X: \0")),
    "a trailer with a bare LF": refused(trailers(b"X: y\nZ: z")),
    "a trailer with a bare CR": refused(trailers(b"X: y\rZ: z")),
    "a trailer before a spaced colon": refused(trailers(b"X : y")),
    "a trailer of 20 KiB": refused(trailers(b"X: " + b"x" * 20480)),
    "200 trailers": refused(trailers(*[b"X: y"] * 200)),
    "a hundred thousand trailers": refused(trailers(*[b"X: y"] * 100_000)),
    "a request in a trailer's place": refused(chunk(b"7", b"\r\n0\r\n") + GOOD),
}

FORBIDDEN_IN_NAMES = '"(),/;<=>?@[\\]{}\x00\x01\x0b\x0c\x1f\x7f\x80\xe9'
FORBIDDEN_IN_VALUES = "\x00\x01\x07\x08\x0b\x0c\x0e\x1b\x1f\x7f"

LINES = {
    "bare LFs for all line ends": refused(GOOD.replace(b"\r\n", b"\n")),
    "a bare LF behind the request line": refused(GOOD.replace(b"\r\n", b"\n", 1)),
    "a bare LF behind a header": refused(GOOD.replace(b"g\r\n", b"g\n")),
    "a bare LF at the end of the head": refused(GOOD.replace(b"\r\n\r\n", b"\r\n\n")),
    "two bare LFs at the end of the head": refused(GOOD.replace(b"\r\n\r\n", b"\n\n")),
    "a bare LF in a value": refused(length("X: a\nb")),
    "a bare LF that hides a header": refused(length("X: a\nGateway-Encrypt: true")),
    "a bare LF in a name": refused(length("X\nY: a")),
    "bare CRs for all line ends": refused(GOOD.replace(b"\r\n", b"\r") + b"\r\n\r\n"),
    "a bare CR behind the request line": refused(GOOD.replace(b"\r\n", b"\r", 1)),
    "a bare CR behind a header": refused(GOOD.replace(b"g\r\n", b"g\r")),
    "a bare CR at the end of the head": refused(GOOD.replace(b"\r\n\r\n", b"\r\n\r")),
    "a bare CR in a value": refused(length("X: a\rb")),
    "a bare CR that hides a header": refused(length("X: a\rGateway-Encrypt: true")),
    "a bare CR in a name": refused(length("X\rY: a")),
    "a bare CR before a colon": refused(length("X\r: a")),
    "two CRs for a line's end": refused(length("X: a\r")),
    "two CRs at the end of the head": refused(GOOD.replace(b"\r\n\r\n", b"\r\n\r\r\n")),
    "an LF and a CR": refused(length("X: a\n\r")),
    "a NEL for a line's end": accepted(length("X: a\x85Gateway-Encrypt: true")),
    "an empty line before": accepted(
        b"\r\n" + GOOD, differs="RFC 9112, 2.2 has a server skip it"
    ),
    "a hundred empty lines before": accepted(
        b"\r\n" * 100 + GOOD, differs="RFC 9112, 2.2 has a server skip at least one"
    ),
    "a bare LF before": accepted(b"\n" + GOOD, differs="as an empty line"),
    "a bare CR before": accepted(b"\r" + GOOD, differs="as an empty line"),
    "a space before": refused(b" " + GOOD),
    "a tab before": refused(b"\t" + GOOD),
    "a NUL before": refused(b"\0" + GOOD),
    "a byte order mark before": refused(b"\xef\xbb\xbf" + GOOD),
    "a fold": refused(length("X: a\r\n b")),
    "a fold by a tab": refused(length("X: a\r\n\tb")),
    "a fold of the first line": refused(
        request(host=None).replace(b"\r\n", b"\r\n Host: g\r\n", 1)
    ),
    "a fold of nothing": refused(length("X: a\r\n ")),
    "a fold that hides a header": refused(
        length("X: a\r\n Transfer-Encoding: chunked")
    ),
    "a fold of the last header": refused(request("Content-Length: 7", "X: a\r\n b")),
    "a header without a colon": refused(length("X")),
    "a header without a name": refused(length(": a")),
    "a header that is a colon": refused(length(":")),
    "a space before a colon": refused(length("X : a")),
    "a tab before a colon": refused(length("X\t: a")),
    "a space before a name": refused(length(" X: a")),
    "a space in a name": refused(length("X Y: a")),
    "a header of two colons": accepted(length("X:: a")),
    "an empty value": accepted(length("X:")),
    "a value of obs-text": accepted(length("X: \xe9\xff")),
    "a value with a tab": accepted(length("X: a\tb")),
    "a name of all token characters": accepted(length("!#$%&'*+-.^_`|~09azAZ: a")),
    **{
        f"{ord(c):#04x} in a name": refused(length(f"X{c}Y: a"))
        for c in FORBIDDEN_IN_NAMES
    },
    **{
        f"{ord(c):#04x} in a value": refused(length(f"X: a{c}b"))
        for c in FORBIDDEN_IN_VALUES
    },
}


def target(text, code="invalid_request", *, ends=True):
    return refused(length(line=f"POST {text} HTTP/1.1"), code, ends=ends)


def unknown(text):
    return target(text, "unknown_route", ends=False)


def query(text):
    return accepted(
        length(line=f"POST {TARGET}?{text} HTTP/1.1"), target=f"{TARGET}?{text}"
    )


def own(text, sent=TARGET, host="Host: g"):
    """Take a target that names the authority in Host."""
    data = length(line=f"POST {text} HTTP/1.1", host=host)
    return accepted(data, target=sent, differs=OWN)


TARGETS = {
    "an absolute target": target(f"http://evil{TARGET}"),
    "an absolute target of our own": own(f"http://g{TARGET}"),
    "an absolute target of our own in capitals": own(f"HTTP://G{TARGET}"),
    "an absolute target of our own with a query": own(
        f"http://g{TARGET}?a=b://c", f"{TARGET}?a=b://c"
    ),
    "an absolute target of our own with a port": own(
        f"http://g:8080{TARGET}", host="Host: g:8080"
    ),
    "an absolute target of our own without a path": refused(
        length(line="POST http://g HTTP/1.1"), "unknown_route", ends=False
    ),
    "an absolute target of our own with two slashes": target(f"http://g/{TARGET}"),
    "an absolute target of our own with dot segments": unknown(
        f"http://g/x/..{TARGET}"
    ),
    "an absolute target of our own with a fragment": target(f"http://g{TARGET}#a"),
    "an absolute target with our host for a user": target(f"http://g@evil{TARGET}"),
    "an absolute target of our own with a user": target(f"http://u@g{TARGET}"),
    "an absolute target that begins as ours": target(f"http://g.evil{TARGET}"),
    "an absolute target of our own by https": target(f"https://g{TARGET}"),
    "an absolute target of our own by ftp": target(f"ftp://g{TARGET}"),
    "an absolute target and another Host": refused(
        length(line=f"POST http://g{TARGET} HTTP/1.1", host="Host: gateway")
    ),
    "an absolute target and an empty Host": refused(
        length(line=f"POST http://g{TARGET} HTTP/1.1", host="Host:")
    ),
    "an absolute target by https": target(f"https://evil{TARGET}"),
    "an absolute target in capitals": target(f"HTTP://EVIL{TARGET}"),
    "an absolute target with a port": target(f"http://evil:80{TARGET}"),
    "an absolute target with a user": target(f"http://u:p@evil{TARGET}"),
    "an absolute target without a host": target(f"http://{TARGET}"),
    "a target of one slash too few": target(f"http:/evil{TARGET}"),
    "a target of a file": target("file:///etc/passwd"),
    "an authority": target("evil:443"),
    "a user and an authority": target("u:p@evil:443"),
    "an asterisk": target("*"),
    "no target": refused(length(line="POST HTTP/1.1")),
    "a relative target": target(TARGET[1:]),
    "a query alone": target("?a=b"),
    "two slashes and a host": target(f"//evil{TARGET}"),
    "two slashes": target(f"/{TARGET}"),
    "three slashes": target(f"//{TARGET}"),
    "two slashes within": unknown(TARGET.replace("/v1", "//v1")),
    "a slash behind": unknown(TARGET + "/"),
    "the root": unknown("/"),
    "a user in a path": unknown(f"/u:p@evil{TARGET}"),
    "dot segments": unknown(f"/x/..{TARGET}"),
    "dot segments above the root": unknown(f"/../..{TARGET}"),
    "a dot segment": unknown(f"/.{TARGET}"),
    "dot segments behind": unknown(f"{TARGET}/../synchronize"),
    "escaped dot segments": unknown(f"/x/%2e%2e{TARGET}"),
    "half-escaped dot segments": unknown(f"/x/.%2E{TARGET}"),
    "twice escaped dot segments": unknown(f"/x/%252e%252e{TARGET}"),
    "dot segments with a parameter": unknown(f"/x/..;a{TARGET}"),
    "escaped slashes": unknown(TARGET.replace("/v1/", "%2Fv1%2f")),
    "an escaped slash before": unknown(f"/%2f{TARGET}"),
    "an escaped backslash": unknown(TARGET.replace("/v1/", "%5Cv1/")),
    "an escaped letter": unknown(TARGET.replace("content", "%63ontent")),
    "an escaped NUL": unknown(f"{TARGET}%00"),
    "an escaped line's end": unknown(f"{TARGET}%0d%0aX:%20y"),
    "an escaped question mark": unknown(f"{TARGET}%3fa=b"),
    "a parameter": unknown(f"{TARGET};a=b"),
    "capitals": unknown(TARGET.upper()),
    "a backslash": target(f"{TARGET}\\"),
    "a backslash and a host": target(f"/\\evil{TARGET}"),
    "a fragment": target(f"{TARGET}#a"),
    "a fragment behind a query": target(f"{TARGET}?a=b#c"),
    "a fragment that hides a path": target(f"{TARGET}#/../x"),
    "an empty query": target(f"{TARGET}?"),
    "half an escape": target(f"{TARGET}?a=%2"),
    "a bare per cent": target(f"{TARGET}?a=%"),
    "an escape of no digits": target(f"{TARGET}?a=%zz"),
    "an escape of %u": target(f"{TARGET}?a=%u0041"),
    "a quote": target(f'{TARGET}?a="'),
    "an angle bracket": target(f"{TARGET}?a=<"),
    "a square bracket": target(f"{TARGET}?a[]=b"),
    "a brace": target(f"{TARGET}?a={{"),
    "a bar": target(f"{TARGET}?a=|"),
    "a caret": target(f"{TARGET}?a=^"),
    "a backtick": target(f"{TARGET}?a=`"),
    "a NUL in a target": target(f"{TARGET}\0"),
    "a control character in a target": target(f"{TARGET}\x01"),
    "a DEL in a target": target(f"{TARGET}\x7f"),
    "a tab in a target": target(f"{TARGET}\tx"),
    "a form feed in a target": target(f"{TARGET}\x0cx"),
    "a space in a target": target(f"{TARGET} x"),
    "a bare CR in a target": target(f"{TARGET}\rx"),
    "a bare LF in a target": target(f"{TARGET}\nx"),
    "UTF-8 in a target": target(f"{TARGET}?a=\xc3\xa9"),
    "bytes that are no UTF-8 in a target": target(f"{TARGET}?a=\xff\xfe"),
    "UTF-8 of too many bytes for a slash": target(f"{TARGET}\xc0\xaf"),
    "a query": query("a=b&c=d"),
    "a query with all that a query may have": query("a/b?c:d@e!$&'()*+,;=-._~%2F%00"),
    "a query with dot segments": query("a=/../.."),
    "a query with a URL": query("u=http://evil/"),
    "spaces about a target": accepted(
        length(line=f"POST   {TARGET}  HTTP/1.1"), differs=SPACES
    ),
}


def host(text):
    return refused(length(host=f"Host: {text}"))


def declined(data):
    """Take a request that offers another protocol for what it is without the offer."""
    return accepted(data)


def version(text, *, line=None):
    return refused(length(line=line or f"POST {TARGET} {text}"))


WELCOME = {
    "no Host": refused(length(host=None)),
    "two Hosts": refused(length("Host: evil")),
    "two Hosts that agree": refused(length("Host: g")),
    "two Hosts in other letters": refused(length("HOST: g")),
    "a Host behind a bare LF": refused(length(host="X: y\nHost: g")),
    "a Host before a spaced colon": refused(length(host="Host : g")),
    "no Host in HTTP/1.0": accepted(
        length(host=None, line=f"POST {TARGET} HTTP/1.0"), ends=True
    ),
    "two Hosts in HTTP/1.0": refused(length("Host: g", line=f"POST {TARGET} HTTP/1.0")),
    # Without callers, a name that is not ours may be a web page's.
    "another Host": refused(length(host="Host: evil:1"), "forbidden", ends=False),
    "an empty Host": accepted(length(host="Host:")),
    "a Host with a port": accepted(length(host="Host: g:8080")),
    "a Host with an empty port": accepted(length(host="Host: g:")),
    "a Host of an address": accepted(length(host="Host: [::1]:8080")),
    "a Host with a user": host("user@g"),
    "a Host with a path": host("g/path"),
    "a Host with a query": host("g?a=b"),
    "a Host with a fragment": host("g#a"),
    "a Host with a scheme": host("http://g"),
    "two Hosts in one": host("g, g"),
    "two Hosts in one, without a space": host("g,evil"),
    "two Hosts in one, by a space": host("g evil"),
    "a Host with a space before its port": host("g :80"),
    "a Host with a tab in it": host("g\tevil"),
    "a Host with two ports": host("g:80:80"),
    "a Host with a port that is no number": host("g:http"),
    "a Host with a port of six digits": host("g:808080"),
    "a Host with an address that never ends": host("[::1"),
    "a Host with an address without brackets": host("::1"),
    "a Host with something behind an address": host("[::1]g"),
    "a Host with a backslash": host("g\\evil"),
    "a Host in quotes": host('"g"'),
    "a Host of obs-text": host("g\xe9"),
    "a Host with an angle bracket": host("<g>"),
    "a Host that is none, by GET": refused(
        request(line=f"GET {TARGET} HTTP/1.1", host="Host: u@g", body=b"")
    ),
    "no Host, by GET": refused(
        request(line=f"GET {TARGET} HTTP/1.1", host=None, body=b"")
    ),
    "no Host, by OPTIONS": refused(
        request(line="OPTIONS * HTTP/1.1", host=None, body=b"")
    ),
    "two Hosts, by GET": refused(
        request("Host: g", line=f"GET {TARGET} HTTP/1.1", body=b"")
    ),
    "two Hosts, to no route": refused(length("Host: g", line="POST /x HTTP/1.1")),
    "a forwarded host": accepted(
        length("X-Forwarded-Host: evil", "Forwarded: host=evil")
    ),
    "HTTP/0.9 without a version": refused(length(line=f"POST {TARGET}")),
    "HTTP/0.9 of a GET": refused(b"GET /\r\n\r\n"),
    "HTTP/0.9 of a GET in a bare LF": refused(b"GET /\n\n"),
    "HTTP/0.9": version("HTTP/0.9"),
    "HTTP/1.0": accepted(length(line=f"POST {TARGET} HTTP/1.0"), ends=True),
    "HTTP/1.0 that stays": accepted(
        length("Connection: keep-alive", line=f"POST {TARGET} HTTP/1.0")
    ),
    "HTTP/1.2": accepted(length(line=f"POST {TARGET} HTTP/1.2")),
    "HTTP/1.9": accepted(length(line=f"POST {TARGET} HTTP/1.9")),
    "HTTP/1.2 without a Host": refused(
        length(line=f"POST {TARGET} HTTP/1.2", host=None)
    ),
    "HTTP/1.2 of chunks": unchunked(
        request(
            "Transfer-Encoding: chunked", line=f"POST {TARGET} HTTP/1.2", body=CHUNKS
        ),
    ),
    "HTTP/2.1": version("HTTP/2.1"),
    "HTTP/0.1": version("HTTP/0.1"),
    "HTTP/1.10": version("HTTP/1.10"),
    "HTTP/1": version("HTTP/1"),
    "HTTP/1.": version("HTTP/1."),
    "HTTP/01.1": version("HTTP/01.1"),
    "HTTP/1.1.": version("HTTP/1.1."),
    "HTTP/1,1": version("HTTP/1,1"),
    "HTTP/+1.1": version("HTTP/+1.1"),
    "HTTP/2.0": version("HTTP/2.0"),
    "HTTP/3": version("HTTP/3"),
    "http/1.1": version("http/1.1"),
    "HTTPS/1.1": version("HTTPS/1.1"),
    "HTTP": version("HTTP"),
    "ICE/1.0": refused(length(line=f"SOURCE {TARGET} ICE/1.0")),
    # In parts, it is HTTP but for that word: what is sent on is the gateway's own.
    "RTSP/1.0": refused(length(line=f"POST {TARGET} RTSP/1.0"), apart="-"),
    "RTSP/1.1": refused(length(line=f"POST {TARGET} RTSP/1.1"), apart="-"),
    "RTSP/1.1 of a GET": refused(
        request(line=f"GET {TARGET} RTSP/1.1", body=b""), apart="-"
    ),
    "RTSP/1.0 of its own method": refused(length(line=f"SETUP {TARGET} RTSP/1.0")),
    "a tab before the version": refused(length(line=f"POST {TARGET}\tHTTP/1.1")),
    "a space behind the version": version("HTTP/1.1 "),
    "a word behind the version": version("HTTP/1.1 x"),
    "a tab behind the method": refused(length(line=f"POST\t{TARGET} HTTP/1.1")),
    "the preface of HTTP/2": refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)),
    "SSH": refused(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "the PROXY protocol": refused(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + GOOD),
    "the PROXY protocol's second version": refused(
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + GOOD
    ),
    "a Redis command": refused(b"*1\r\n$4\r\nPING\r\n"),
    "an answer": refused(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "an upgrade to WebSocket": declined(
        length(
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
    ),
    "an upgrade to WebSocket by GET": refused(
        request(
            "Upgrade: websocket",
            "Connection: Upgrade",
            line=f"GET {TARGET} HTTP/1.1",
            body=b"",
        ),
        "method_not_allowed",
        ends=False,
    ),
    "an upgrade to HTTP/2": declined(
        length(
            "Upgrade: h2c",
            "Connection: Upgrade, HTTP2-Settings",
            "HTTP2-Settings: AAMAAABk",
        )
    ),
    "an upgrade to TLS": declined(length("Upgrade: TLS/1.2", "Connection: Upgrade")),
    "an upgrade that Connection does not name": declined(length("Upgrade: websocket")),
    "an upgrade to nothing": declined(length("Upgrade:", "Connection: Upgrade")),
    "an upgrade of chunks": unchunked(
        chunked(CHUNKS, "Upgrade: h2c", "Connection: Upgrade")
    ),
    "an upgrade in HTTP/1.0": accepted(
        length(
            "Upgrade: h2c",
            "Connection: Upgrade",
            line=f"POST {TARGET} HTTP/1.0",
        ),
        ends=True,
    ),
    "an upgrade, the last of its connection": accepted(
        length("Upgrade: h2c", "Connection: Upgrade, close"), ends=True
    ),
    "two upgrades in one head": declined(
        length("Upgrade: h2c", "Upgrade: websocket", "Connection: upgrade")
    ),
    "an upgrade with two lengths": refused(
        length("Content-Length: 8", "Upgrade: h2c", "Connection: Upgrade")
    ),
    "an upgrade with a length and chunks": refused(
        chunked(CHUNKS, "Content-Length: 7", "Upgrade: h2c", "Connection: Upgrade")
    ),
    "an upgrade without a length": refused(
        request("Upgrade: h2c", "Connection: Upgrade")
    ),
    "an upgrade with an expectation": accepted(
        length("Expect: 100-continue", "Upgrade: h2c", "Connection: Upgrade"),
        continues=1,
    ),
    "an old WebSocket": refused(length("Sec-WebSocket-Key1: x")),
    "an upgrade in Connection alone": accepted(length("Connection: Upgrade")),
    "an expectation": accepted(length("Expect: 100-continue"), continues=1),
    "an expectation in capitals": accepted(length("Expect: 100-CONTINUE"), continues=1),
    "an expectation in HTTP/1.0": accepted(
        length("Expect: 100-continue", line=f"POST {TARGET} HTTP/1.0"), ends=True
    ),
    "an expectation twice": refused(
        length("Expect: 100-continue", "Expect: 100-continue")
    ),
    "a list of expectations": refused(length("Expect: 100-continue, 100-continue")),
    "an expectation with a parameter": refused(length("Expect: 100-continue;a=b")),
    "an expectation of coffee": refused(length("Expect: coffee")),
    "an empty expectation": refused(length("Expect:")),
    "an expectation of too long a body": too_large(
        request("Expect: 100-continue", "Content-Length: 99999", body=b"")
    ),
}


def method(text, *headers, code="method_not_allowed", ends=False):
    line = f"{text} {TARGET} HTTP/1.1"
    return refused(request(*headers, line=line, body=b""), code, ends=ends)


def no_method(text):
    """Give a method that llhttp does not know."""
    data = request(line=f"{text} {TARGET} HTTP/1.1", body=b"")
    return refused(data, "method_not_allowed", apart="invalid_request")


METHODS = {
    "GET": method("GET"),
    "GET with a body": refused(
        length(line=f"GET {TARGET} HTTP/1.1"),
        "method_not_allowed",
        ends=False,
        apart="-",
    ),
    "PUT": method("PUT"),
    "DELETE": method("DELETE"),
    "PATCH": method("PATCH"),
    "OPTIONS": method("OPTIONS"),
    "OPTIONS of all": refused(
        request(line="OPTIONS * HTTP/1.1", body=b""), "unknown_route", ends=False
    ),
    "TRACE": method("TRACE", "Cookie: a=b", "Max-Forwards: 0"),
    "QUERY": method("QUERY"),
    "PROPFIND": method("PROPFIND"),
    "M-SEARCH": method("M-SEARCH"),
    "PRI": method("PRI", code="invalid_request", ends=True),
    "CONNECT": refused(
        request(line="CONNECT evil:443 HTTP/1.1", body=b""), "unknown_route"
    ),
    "CONNECT to a path": method("CONNECT", ends=True),
    "CONNECT with a body": refused(
        length(line="CONNECT evil:443 HTTP/1.1"), "unknown_route"
    ),
    "CONNECT with chunks": refused(
        request(
            "Transfer-Encoding: chunked", line="CONNECT evil:443 HTTP/1.1", body=CHUNKS
        ),
        "unknown_route",
    ),
    "post": no_method("post"),
    "Post": no_method("Post"),
    "POSTS": no_method("POSTS"),
    "POS": no_method("POS"),
    "COFFEE": no_method("COFFEE"),
    "no method": refused(length(line=f" {TARGET} HTTP/1.1")),
    "a space in a method": refused(length(line=f"PO ST {TARGET} HTTP/1.1")),
    "a NUL in a method": refused(length(line=f"POST\0 {TARGET} HTTP/1.1")),
    "a method of obs-text": refused(length(line=f"P\xd6ST {TARGET} HTTP/1.1")),
    "a method in quotes": refused(length(line=f'"POST" {TARGET} HTTP/1.1')),
    "another method in a header": accepted(length("X-HTTP-Method-Override: GET")),
}

LINE = 8190
"""What a request line may have, and a header's value."""


def too_long(text):
    return replace(target(text), status=414)


LONG = {
    "a target of 20 KiB": too_long("/" + "x" * 20480),
    "a query of 20 KiB": too_long(f"{TARGET}?{'x' * 20480}"),
    "a target of 1 MiB": too_long("/" + "x" * (1 << 20)),
    "a request line of 8190 bytes": query(
        "x" * (LINE - len(f"POST {TARGET}? HTTP/1.1"))
    ),
    "a request line of 8191 bytes": too_long(
        f"{TARGET}?" + "x" * (LINE + 1 - len(f"POST {TARGET}? HTTP/1.1"))
    ),
    "a request line of 8191 bytes, by GET": replace(
        refused(
            request(
                line=f"GET {TARGET}?{'x' * (LINE + 1 - len(f'GET {TARGET}? HTTP/1.1'))}"
                " HTTP/1.1",
                body=b"",
            )
        ),
        status=414,
    ),
    "a value of 8190 bytes": accepted(length("X: " + "x" * LINE)),
    "a value of 8191 bytes": refused(length("X: " + "x" * (LINE + 1))),
    "two values of 8000 bytes": refused(
        length(*["X: " + "x" * 8000] * 2, "Y: " + "y" * 500)
    ),
    "a head over the bound, by GET": refused(
        request(
            *["X: " + "x" * 8000] * 2,
            "Y: " + "y" * 500,
            line=f"GET {TARGET} HTTP/1.1",
            body=b"",
        )
    ),
    "a method of 1 MiB": refused(b"X" * (1 << 20) + GOOD),
    "a version of 1 MiB": version("HTTP/1.1" + "1" * (1 << 20)),
    "a header of 20 KiB": refused(length("X: " + "x" * 20480)),
    "a header of 1 MiB": refused(length("X: " + "x" * (1 << 20))),
    "a name of 20 KiB": refused(length("X" * 20480 + ": y")),
    "a name of 1 MiB that never ends": refused(length()[:-11] + b"X" * (1 << 20)),
    "200 headers": refused(length(*(f"X{n}: y" for n in range(200)))),
    "200 headers of one name": refused(length(*["X: y"] * 200)),
    "a hundred thousand headers": refused(length(*["X: y"] * 100_000)),
    "128 headers": accepted(length(*["X: y"] * 126)),
    "a header of 8000 bytes": accepted(length("X: " + "x" * 8000)),
    "a target of 8000 bytes": query("x" * 7900),
    "a body at the limit": accepted(
        length(body=b'{"a":"' + b"x" * (MAX_BODY - 8) + b'"}'),
        body=b'{"a":"' + b"x" * (MAX_BODY - 8) + b'"}',
    ),
    "a body over the limit": refused(
        length(body=b'{"a":"' + b"x" * (MAX_BODY - 7) + b'"}'),
        "request_too_large",
        ends=False,
    ),
    "100 headers of 8 KiB": refused(length(*["X: " + "x" * 8000] * 100)),
    "a space of 8 KiB in a value": accepted(length("X:" + " " * (1 << 13) + "y")),
    "a space of 1 MiB in a value": refused(length("X:" + " " * (1 << 20) + "y")),
    "spaces of 8 KiB in a request line": accepted(
        length(line=f"POST {' ' * (1 << 13)}{TARGET} HTTP/1.1"), differs=SPACES
    ),
    "spaces of 1 MiB in a request line": refused(
        length(line=f"POST {' ' * (1 << 20)}{TARGET} HTTP/1.1")
    ),
    "empty lines of 8 KiB before": accepted(
        b"\r\n" * (1 << 12) + GOOD, differs="RFC 9112, 2.2; none of them is kept"
    ),
    "empty lines of 1 MiB before": refused(b"\r\n" * (1 << 19) + GOOD),
}

BODIES = {n: b'{"n":%d}' % n for n in range(100)}


def pipeline(*numbers):
    return b"".join(length(body=BODIES[n]) for n in numbers)


def pipelined(data, numbers, *codes, ends=False, then=""):
    sent = tuple((TARGET, BODIES[n]) for n in numbers)
    answers = ("verified",) * len(sent) + codes
    return Case(data, answers, sent, ends, then)


PIPELINES = {
    "two requests": pipelined(pipeline(0, 1), (0, 1)),
    "ten requests": pipelined(pipeline(*range(10)), range(10)),
    "a hundred requests": pipelined(pipeline(*range(100)), range(100)),
    "chunks, and another": Case(
        chunked() + GOOD, ("verified",), ((TARGET, BODY),), ends=True
    ),
    "an empty line between two": Case(
        GOOD + b"\r\n" + GOOD,
        ("verified",) * 2,
        ((TARGET, BODY),) * 2,
        ends=False,
        differs="RFC 9112, 2.2 has a server skip it",
    ),
    "a good one, a bad one": pipelined(
        pipeline(0) + length("Content-Length: 7"),
        (0,),
        "invalid_request",
        ends=True,
    ),
    "a good one, chunks with a length": pipelined(
        pipeline(0) + chunked(CHUNKS, "Content-Length: 7"),
        (0,),
        "invalid_request",
        ends=True,
    ),
    "two good ones, a bad one, a good one": pipelined(
        pipeline(0, 1) + length("X : y") + pipeline(2),
        (0, 1),
        "invalid_request",
        ends=True,
    ),
    "two good ones, two upgrades, a good one": pipelined(
        pipeline(0, 1)
        + length("Upgrade: h2c", "Connection: Upgrade", body=BODIES[2])
        + length("Upgrade: h2c", "Connection: Upgrade", body=BODIES[3])
        + pipeline(4),
        range(5),
    ),
    "an upgrade, and one that is malformed": pipelined(
        length("Upgrade: h2c", "Connection: Upgrade", body=BODIES[0]) + b"\0" * 9,
        (0,),
        "invalid_request",
        ends=True,
    ),
    "an upgrade whose body is a request": Case(
        length("Upgrade: h2c", "Connection: Upgrade", body=b'"' + GOOD + b'"'),
        ("invalid_request",),
    ),
    "a good one, a CONNECT, a good one": pipelined(
        pipeline(0) + request(line="CONNECT evil:443 HTTP/1.1", body=b"") + pipeline(1),
        (0,),
        "unknown_route",
        ends=True,
    ),
    "a good one, an unknown route": pipelined(
        pipeline(0) + length(line="POST /x HTTP/1.1"), (0,), "unknown_route"
    ),
    "a good one, too large a body, a good one": pipelined(
        pipeline(0) + request("Content-Length: 99999", body=b"") + pipeline(1),
        (0,),
        "request_too_large",
        then="half-close once answered",
        ends=True,
    ),
    "a last one, and another": pipelined(
        length("Connection: close", body=BODIES[0]) + pipeline(1),
        (0,),
        ends=True,
    ),
    "a last one of HTTP/1.0, and another": pipelined(
        length(line=f"POST {TARGET} HTTP/1.0", body=BODIES[0]) + pipeline(1),
        (0,),
        ends=True,
    ),
    "a last one, and garbage": pipelined(
        length("Connection: close", body=BODIES[0]) + b"\0" * 100,
        (0,),
        ends=True,
    ),
    "a good one, and garbage": pipelined(
        pipeline(0) + b"\0" * 100, (0,), "invalid_request", ends=True
    ),
    "a good one, and half a head": pipelined(
        pipeline(0, 1)[:-20], (0,), ends=True, then="half-close"
    ),
    "a good one, and half a body": pipelined(
        pipeline(0, 1)[:-2], (0,), "invalid_request", ends=True, then="half-close"
    ),
    "a request in a body": Case(
        length(
            body=b'{"a":"' + GOOD.replace(b'"', b"'").replace(b"\r\n", b" ") + b'"}'
        ),
        ("verified",),
        (
            (
                TARGET,
                b'{"a":"' + GOOD.replace(b'"', b"'").replace(b"\r\n", b" ") + b'"}',
            ),
        ),
        ends=False,
    ),
}

HALVES = {
    "nothing": dropped(b""),
    "an empty line": dropped(b"\r\n"),
    "half a method": dropped(b"PO"),
    "half a request line": dropped(GOOD[:20]),
    "half a header": dropped(GOOD[:70]),
    "a head without its last LF": dropped(GOOD[: -len(BODY) - 1]),
    "a head without its last line's end": dropped(GOOD[: -len(BODY) - 2]),
    "a head, and no body": refused(GOOD[: -len(BODY)], then="half-close"),
    "half a body": refused(GOOD[:-3], then="half-close"),
    "half a chunk's size": refused(chunked(b"7"), then="half-close"),
    "half a chunk": refused(chunked(b"7\r\n" + BODY[:3]), then="half-close"),
    "a whole request, and a closed half": Case(
        GOOD, ("verified",), ((TARGET, BODY),), then="half-close"
    ),
    "half a request line, and a reset": dropped(GOOD[:20], "reset"),
    "half a header, and a reset": dropped(GOOD[:70], "reset"),
    "half a body, and a reset": dropped(GOOD[:-3], "reset"),
    "half a chunk, and a reset": dropped(chunked(b"7\r\n" + BODY[:3]), "reset"),
}

HEADERS = {
    f"{name} of a caller": accepted(length(f"{name}: {value}"))
    for name, value in {
        "Authorization": "Bearer canary",
        "Proxy-Authorization": "Basic canary",
        "Cookie": "canary=1",
        "Client-Id": "canary",
        "Signature": "algorithm=RSA256,keyVersion=1,signature=canary",
        "Encrypt": "algorithm=RSA_AES,keyVersion=1,symmetricKey=canary",
        "Request-Time": "2026-11-23T14:00:00+08:00",
        "Content-Type": "text/canary",
        "User-Agent": "canary",
        "Accept-Encoding": "canary",
        "Keep-Alive": "timeout=canary",
        "Proxy-Connection": "keep-alive",
        "Trailer": "Content-Length",
        "TE": "trailers",
        "Via": "1.1 canary",
        "X-Forwarded-For": "canary",
        "X-Original-URL": "/canary",
        "Range": "bytes=0-1",
        "If-None-Match": "*",
        "Max-Forwards": "0",
        "Sec-Fetch-Site": "none",
    }.items()
} | {
    "Connection that names the length": accepted(length("Connection: Content-Length")),
    "Connection that names the coding": unchunked(
        chunked(CHUNKS, "Connection: Transfer-Encoding")
    ),
    "Connection that names Host": accepted(
        length("Connection: Host, X-Canary", "X-Canary: a")
    ),
    "Connection that names what we add": accepted(
        length("Connection: Client-Id, Signature, Request-Time")
    ),
    "Connection that names a wish": accepted(
        length("Connection: Gateway-Encrypt", "Gateway-Encrypt: false")
    ),
    "Connection: close, in a list": accepted(length("Connection: x, close"), ends=True),
    "Connection: close, in a header of its own": accepted(
        length("Connection: keep-alive", "Connection: close"), ends=True
    ),
    "two wishes": refused(length("Gateway-Encrypt: true", "Gateway-Encrypt: false")),
    "a wish that is no word": refused(length("Gateway-Encrypt: tr\xfce")),
    "two clients": refused(length("Gateway-Client: hk", "Gateway-Client: hk")),
    "another client": refused(
        length("Gateway-Client: evil"), "unknown_route", ends=False
    ),
    "a header of the gateway's": refused(length("Gateway-Verified: true")),
    "a header of the gateway's in capitals": refused(length("GATEWAY-VERIFIED: true")),
}

CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "lengths": LENGTHS,
        "codings": CODINGS,
        "chunks": CHUNK_TRICKS,
        "lines": LINES,
        "targets": TARGETS,
        "versions": WELCOME,
        "methods": METHODS,
        "long": LONG,
        "pipelines": PIPELINES,
        "halves": HALVES,
        "headers": HEADERS,
    }.items()
    for name, case in cases.items()
}
