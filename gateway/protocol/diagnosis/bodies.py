"""What a body may have been when it was signed, if not what was received.

Each variant is a known mistake (protocol.md 9) with the bytes that it would have
put under the signature.
"""

import base64
import json
import zlib
from collections.abc import Iterator
from itertools import product
from typing import Final, TypeAlias

from gateway.protocol.diagnosis.model import Diagnosis

Variants: TypeAlias = Iterator[tuple[Diagnosis, bytes]]

_BOM: Final = b"\xef\xbb\xbf"
_MAX_INFLATED: Final = 8 << 20
_MAX_GROWTH: Final = 16
_AS_SENT: Final = (
    "Sign the bytes that are sent and check the bytes that arrive: nothing between "
    "may read the body as text or JSON and write it again."
)
_AS_CAPTURED: Final = f"{_AS_SENT} If only the capture is inexact, capture it again."
_JSON_SPACING: Final[tuple[tuple[str, int | str | None, tuple[str, str]], ...]] = (
    ("without white space", None, (",", ":")),
    ("with a space after each comma and colon", None, (", ", ": ")),
    ("indented by two spaces", 2, (",", ": ")),
    ("indented by four spaces", 4, (",", ": ")),
    ("indented by tabs", "\t", (",", ": ")),
)
_HTML: Final = ("<", ">", "&")
_GSON: Final = (*_HTML, "=", "'")
_JSON_ESCAPES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("", ()),
    (", with < > & escaped", _HTML),
    (", with < > & = ' escaped", _GSON),
)
_CHARSETS: Final = (
    ("GBK", "gb18030"),
    ("Big5", "big5hkscs"),
    ("ISO-8859-1", "latin-1"),
    ("windows-1252", "cp1252"),
    ("UTF-16 (little endian)", "utf-16-le"),
    ("UTF-16 (big endian)", "utf-16-be"),
)


def body_variants(body: bytes, plaintext: bytes | None = None) -> Variants:
    """Give what may have been signed in place of `body`, the likeliest first."""
    if plaintext is not None:
        yield (
            Diagnosis(
                "body_plaintext",
                "The plain body was signed, not the encrypted one.",
                "Encrypt first, then sign the ciphertext that is sent.",
            ),
            plaintext,
        )
    yield from touched_up(body)
    yield from _reserialised(body)
    yield from _rewrapped(body)
    yield from _inflated(body)
    yield _body("empty", "No body was signed.", "Sign the body too."), b""


def touched_up(body: bytes) -> Variants:
    """Give `body` with other line ends, edges or charset: small, common changes."""
    yield from _edges(body)
    yield from _line_ends(body)
    yield from _charsets(body)


def _edges(body: bytes) -> Variants:
    stripped = body.rstrip(b"\r\n")
    added = _body(
        "newline_added", "The body that was signed had no newline at its end."
    )
    yield added, stripped
    for newline, name in ((b"\n", "LF"), (b"\r\n", "CR LF")):
        finding = f"The body that was signed ended with a newline ({name})."
        yield _body("newline_stripped", finding), stripped + newline
    finding = "The body that was signed had no byte order mark."
    yield _body("bom", finding), body.removeprefix(_BOM)
    finding = "The body that was signed began with a byte order mark."
    yield _body("bom", finding), _BOM + body
    finding = "The body that was signed had no white space at its end."
    yield _body("white_space", finding), body.rstrip()
    finding = "The body that was signed had no white space around it."
    yield _body("white_space", finding), body.strip()
    finding = "The body that was signed had a space at its end."
    yield _body("white_space", finding), body + b" "


def _line_ends(body: bytes) -> Variants:
    with_lf = body.replace(b"\r\n", b"\n")
    finding = "The body that was signed had LF where CR LF was received."
    yield _body("line_ends", finding), with_lf
    finding = "The body that was signed had CR LF where LF was received."
    yield _body("line_ends", finding), with_lf.replace(b"\n", b"\r\n")
    finding = "The body that was signed had no line ends."
    yield _body("line_ends", finding), body.replace(b"\r", b"").replace(b"\n", b"")


def _charsets(body: bytes) -> Variants:
    for name, codec in _CHARSETS:
        finding = f"The body was signed in {name} and received in UTF-8."
        yield from _recoded(finding, body, "utf-8", codec)
        finding = f"The body was signed in UTF-8 and received in {name}."
        yield from _recoded(finding, body, codec, "utf-8")
    for codec in ("ascii", "latin-1"):
        finding = (
            "The body was signed with ? in place of characters beyond its charset."
        )
        yield from _recoded(finding, body, "utf-8", codec, "replace")


def _recoded(
    finding: str, body: bytes, source: str, target: str, errors: str = "strict"
) -> Variants:
    try:
        recoded = body.decode(source).encode(target, errors)
    except UnicodeError:
        return
    advice = "Use UTF-8 throughout, and name it wherever text becomes bytes."
    yield _body("charset", finding, advice), recoded


def _reserialised(body: bytes) -> Variants:
    try:
        for style, text in _json_texts(body):
            # Nested deeply, an indented text grows with the square of the depth.
            if len(text) <= _MAX_GROWTH * (len(body) + 1):
                yield from _escaped(style, text)
    except (ValueError, RecursionError):  # no JSON, or none that can be written again
        return


def _json_texts(body: bytes) -> Iterator[tuple[str, str]]:
    value: object = json.loads(body.decode("utf-8-sig"))
    for (style, indent, separators), sort, ascii_only in product(
        _JSON_SPACING, (False, True), (False, True)
    ):
        order = ", with sorted keys" if sort else ""
        escapes = ", with \\u escapes" if ascii_only else ""
        yield (
            style + order + escapes,
            json.dumps(
                value,
                indent=indent,
                separators=separators,
                sort_keys=sort,
                ensure_ascii=ascii_only,
            ),
        )


def _escaped(style: str, text: str) -> Variants:
    for (html, characters), slash in product(_JSON_ESCAPES, (False, True)):
        escaped = text
        for character in characters:
            escaped = escaped.replace(character, f"\\u{ord(character):04x}")
        if slash:
            escaped = escaped.replace("/", "\\/")
        full = style + html + (", with / escaped" if slash else "")
        finding = f"The body that was signed was the same JSON written {full}."
        try:
            yield _body("reserialised", finding), escaped.encode()
        except UnicodeEncodeError:  # a lone surrogate: no UTF-8 was ever signed
            return


def _rewrapped(body: bytes) -> Variants:
    """Give base64 on one line, or broken into lines as some encoders do."""
    bare = b"".join(body.split())
    try:
        base64.b64decode(bare, validate=True)
    except ValueError:
        return
    finding = "The ciphertext that was signed stood on one line."
    advice = "Send the ciphertext as base64 on one line, and sign it as it is sent."
    yield _body("wrapped", finding, advice), bare
    for width, newline in product((76, 64), (b"\n", b"\r\n")):
        lines = [bare[i : i + width] for i in range(0, len(bare), width)]
        finding = f"The ciphertext that was signed was broken into lines of {width}."
        yield _body("wrapped", finding, advice), newline.join(lines)
        yield _body("wrapped", finding, advice), newline.join([*lines, b""])


def _inflated(body: bytes) -> Variants:
    """Give what a compressed body holds."""
    try:
        inflated = zlib.decompressobj(wbits=47).decompress(body, _MAX_INFLATED)
    except zlib.error:
        return
    finding = "The body was signed before it was compressed."
    advice = "Do not compress: AlipayHK's protocol knows no Content-Encoding."
    yield _body("compressed", finding, advice), inflated


def _body(code: str, finding: str, advice: str = _AS_CAPTURED) -> Diagnosis:
    return Diagnosis(f"body_{code}", finding, advice)
