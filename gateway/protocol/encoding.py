"""Bytes as text on the wire: emitted one way, read in every way seen.

Source: protocol.md 1 (percent-encoded standard base64) and 2 (what a reader
accepts).
"""

import base64
import re

_WHITE_SPACE = re.compile(r"[ \t\r\n]+")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_TO_STANDARD = str.maketrans("-_", "+/")


def encode_value(value: bytes) -> str:
    """Give the percent-encoded standard base64, with padding, of `value`."""
    text = base64.b64encode(value).decode("ascii")
    return text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")


def decode_value(text: str) -> bytes:
    """Read base64 from a header value.

    White space is dropped first: pages and terminals break values anywhere, even
    inside a percent escape. Percent-decoding happens once, and only where a `%`
    occurs; `+` stays `+`.

    Raises:
        ValueError: the text is not base64 in any accepted form.
    """
    text = _WHITE_SPACE.sub("", text)
    if "%" in text:
        text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return decode_base64(text)


def decode_base64(text: str) -> bytes:
    """Read standard or URL-safe base64, with or without padding or white space.

    The last character's unused bits must be zero, so that no bit of it can change
    unnoticed (RFC 4648, 3.5).

    Raises:
        ValueError: the text is not base64.
    """
    bare = _WHITE_SPACE.sub("", text).translate(_TO_STANDARD)
    bare = bare.removesuffix("=").removesuffix("=")
    value = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    if base64.b64encode(value).decode("ascii").rstrip("=") != bare:
        msg = "not canonical base64"
        raise ValueError(msg)
    return value
