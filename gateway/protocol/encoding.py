"""Bytes as text on the wire: emitted one way, read in every way seen.

Source: protocol.md 1 (percent-encoded standard base64) and 2 (what a reader
accepts).
"""

import re

from pybase64 import b64decode, b64encode

_WHITE_SPACE = " \t\r\n"
_WITHOUT_SPACE = str.maketrans("", "", _WHITE_SPACE)
_TO_STANDARD = str.maketrans("-_", "+/", _WHITE_SPACE)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


def encode_value(value: bytes) -> str:
    """Give the percent-encoded standard base64, with padding, of `value`."""
    text = b64encode(value)  # bytes are searched in half of a string's time
    escaped = text.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D")
    return escaped.decode("ascii")


def decode_value(text: str) -> bytes:
    """Read base64 from a header value.

    White space is dropped first: pages and terminals break values anywhere, even
    inside a percent escape. Percent-decoding happens once, and only where a `%`
    occurs; `+` stays `+`.

    Raises:
        ValueError: the text is not base64 in any accepted form.
    """
    quick = text.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
    value = _canonical(quick)
    if value is not None:
        return value
    text = text.translate(_WITHOUT_SPACE)
    return decode_base64(_unescaped(text) if "%" in text else text)


def decode_base64(text: str | bytes) -> bytes:
    """Read standard or URL-safe base64, with or without padding or white space.

    The last character's unused bits must be zero, so that no bit of it can change
    unnoticed (RFC 4648, 3.5).

    Raises:
        ValueError: the text is not base64.
    """
    value = _canonical(text)
    if value is not None:  # what we and AlipayHK write: ten times as fast as the rest
        return value
    text = text if isinstance(text, str) else text.decode("ascii")
    bare = text.translate(_TO_STANDARD).removesuffix("=").removesuffix("=")
    if "=" in bare:
        msg = "padding in the middle of base64, or too much of it"
        raise ValueError(msg)
    value = _canonical(bare + "=" * (-len(bare) % 4))
    if value is None:
        msg = "not canonical base64"
        raise ValueError(msg)
    return value


def _canonical(text: str | bytes) -> bytes | None:
    """Read standard base64 with padding and nothing else in it; None if it is not."""
    try:
        return b64decode(text, validate=True, canonical=True)
    except ValueError:
        return None


def _unescaped(text: str) -> str:
    """Percent-decode once."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
