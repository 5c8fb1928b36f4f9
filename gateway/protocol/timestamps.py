"""Request-Time and Response-Time.

Sent as `YYYY-MM-DDTHH:MM:SS+08:00`; `Z`, fractions after a dot or a comma, `+0800`,
`+08`, small letters and epoch milliseconds are read too (protocol.md 1; ISO 8601). A
verifier signs over the header's own text: what is parsed here is only ever compared
with a clock.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

from gateway.errors import ResponseStale

HONG_KONG: Final = timezone(timedelta(hours=8))

_ISO_8601 = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?"
    r"([Zz]|[+-]\d\d(?::?[0-5]\d)?)",
    re.ASCII,
)
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_IMF_FIXDATE = re.compile(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) ({'|'.join(_MONTHS)}) "
    r"(\d{4}) (\d\d):(\d\d):(\d\d) GMT",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_EPOCH_MILLISECONDS = re.compile(r"\d{12,14}", re.ASCII)


def format_time(moment: datetime, zone: timezone = HONG_KONG) -> str:
    """Give the text of an aware datetime, to the second, in `zone`.

    Raises:
        ValueError: `moment` is naive: it names no instant.
    """
    if moment.tzinfo is None:
        msg = "a naive datetime names no instant; give it a time zone"
        raise ValueError(msg)
    return _written((moment - _EPOCH) // _SECOND, zone)


@lru_cache(maxsize=64)
def _written(second: int, zone: timezone) -> str:
    """Give the text of a second since 1970, in which many exchanges may fall."""
    moment = _EPOCH + second * _SECOND
    return moment.astimezone(zone).isoformat(timespec="seconds")


@lru_cache(maxsize=64)
def parse_time(text: str) -> datetime:
    """Read a time header as an aware datetime.

    Raises:
        ValueError: none of the accepted forms, or no such moment.
    """
    if _EPOCH_MILLISECONDS.fullmatch(text):
        return _EPOCH + timedelta(milliseconds=int(text))
    found = _ISO_8601.fullmatch(text)
    if found is None:
        msg = "not an ISO 8601 time with a time zone, nor epoch milliseconds"
        raise ValueError(msg)
    seconds, fraction, zone = found.groups()
    text = f"{seconds}.{(fraction or '0')[:6]:0<6}{zone}"
    return datetime.fromisoformat(text.upper())


@lru_cache(maxsize=64)
def parse_http_date(text: str) -> datetime | None:
    """Read a Date header (RFC 9110, 5.6.7: IMF-fixdate); None if it is none."""
    found = _IMF_FIXDATE.fullmatch(text)
    if found is None:
        return None
    day, month, year, *time = found.groups()
    hour, minute, second = map(int, time)
    date = int(year), _MONTHS.index(month) + 1, int(day)
    try:
        return datetime(*date, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far an answer's time may be from our clock.

    Attributes:
        now: our clock when the answer arrived, aware.
        tolerance: the greatest distance, either way.
        not_before: the least it may be, in seconds since 1970, as the answer cannot be
            older than its request; None where the other clock is not known yet.
    """

    now: datetime
    tolerance: timedelta
    not_before: float | None = None

    def check(self, moment: datetime) -> None:
        """Pass if `moment` is near enough.

        Raises:
            ResponseStale: it is not.
        """
        skew = moment - self.now
        if abs(skew) > self.tolerance:
            msg = (
                f"Response-Time is {skew.total_seconds():+.0f} s from this gateway's "
                f"clock; {self.tolerance.total_seconds():.0f} s are allowed "
                "(clock_tolerance_s). Check the clock of this machine first."
            )
            raise ResponseStale(msg, skew.total_seconds())
        if self.not_before is not None and moment.timestamp() < self.not_before:
            early_s = self.not_before - moment.timestamp()
            msg = (
                f"Response-Time is {early_s:.1f} s before the earliest that an answer to "
                "this request can have: it is to an earlier one, or AlipayHK's clock "
                "went back."
            )
            raise ResponseStale(msg, skew.total_seconds())
