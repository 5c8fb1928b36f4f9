"""Request-Time and Response-Time."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from gateway.errors import ResponseStale
from gateway.protocol import HONG_KONG, Freshness, format_time, parse_time, read_date

MOMENT = datetime(2024, 5, 22, 1, 12, 21, tzinfo=UTC)


def test_a_time_is_written_in_hong_kong_time_to_the_second():
    assert format_time(MOMENT) == "2024-05-22T09:12:21+08:00"


def test_a_fraction_of_a_second_is_cut_off_not_rounded():
    late = MOMENT.replace(microsecond=999_999)
    assert format_time(late) == "2024-05-22T09:12:21+08:00"


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        (HONG_KONG, "2024-05-22T09:12:21+08:00"),
        (UTC, "2024-05-22T01:12:21+00:00"),
        (timezone(timedelta(hours=5, minutes=30)), "2024-05-22T06:42:21+05:30"),
        (timezone(-timedelta(hours=3)), "2024-05-21T22:12:21-03:00"),
    ],
)
def test_the_offset_is_a_setting(zone, text):
    assert format_time(MOMENT, zone) == text


def test_the_zone_of_the_moment_itself_does_not_show():
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=-7)))
    assert format_time(elsewhere) == "2024-05-22T09:12:21+08:00"


def test_a_naive_datetime_is_refused():
    with pytest.raises(ValueError, match="naive"):
        format_time(datetime(2024, 5, 22, 1, 12, 21))


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-22T09:12:21+08:00",
        "2024-05-22T09:12:21+0800",
        "2024-05-22T01:12:21Z",
        "2024-05-22T06:42:21+05:30",
        "2024-05-21T22:12:21-0300",
        "2024-05-22T01:12:21.0Z",
        "2024-05-22T01:12:21.000000000Z",
        "2024-05-22T01:12:21-00:00",
        "2024-05-22T09:12:21+08",
        "2024-05-21T22:12:21-03",
        "2024-05-22t09:12:21+08:00",
        "2024-05-22T01:12:21z",
        "2024-05-22t01:12:21,000z",
        "1716340341000",
    ],
)
def test_a_time_is_read_in_every_form_seen(text):
    moment = parse_time(text)
    assert moment == MOMENT
    assert moment.tzinfo is not None


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2024-05-22T01:12:21.1Z", 100_000),
        ("2024-05-22T01:12:21.123Z", 123_000),
        ("2024-05-22T01:12:21,123Z", 123_000),
        ("2024-05-22T09:12:21,5+08", 500_000),
        ("2024-05-22T09:12:21.123456+0800", 123_456),
        ("2024-05-22T01:12:21.123456789Z", 123_456),
        ("2024-05-22T01:12:21.000001+00:00", 1),
        ("1716340341871", 871_000),
    ],
)
def test_a_fraction_is_read_to_the_microsecond(text, microsecond):
    assert parse_time(text) == MOMENT.replace(microsecond=microsecond)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("100000000000", datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        ("10000000000000", datetime(2286, 11, 20, 17, 46, 40, tzinfo=UTC)),
    ],
)
def test_epoch_milliseconds_have_twelve_to_fourteen_digits(text, moment):
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("now", id="a word"),
        pytest.param("2024-05-22T09:12:21", id="no zone"),
        pytest.param("2024-05-22 09:12:21+08:00", id="a space for T"),
        pytest.param("2024-05-22T09:12:21 +08:00", id="a space before the zone"),
        pytest.param(" 2024-05-22T09:12:21+08:00", id="a space first"),
        pytest.param("2024-05-22T09:12:21+08:00\n", id="a newline last"),
        pytest.param("2024-05-22T09:12:21+8:00", id="a zone of one digit"),
        pytest.param("2024-05-22T09:12:21+08:00:00", id="a zone with seconds"),
        pytest.param("2024-05-22T09:12+08:00", id="no seconds"),
        pytest.param("2024-05-22", id="a date"),
        pytest.param("24-05-22T09:12:21Z", id="a year of two digits"),
        pytest.param("2024-W21-3T09:12:21Z", id="a week date"),
        pytest.param("20240522T091221Z", id="the basic form"),
        pytest.param("2024-05-22T09:12:21.Z", id="an empty fraction"),
        pytest.param("2024-05-22T09:12:21,Z", id="an empty fraction after a comma"),
        pytest.param("2024-05-22T09:12:21,5.5Z", id="two fractions"),
        pytest.param("2024-05-22T09:12:21+8", id="a zone of hours in one digit"),
        pytest.param("2024-05-22T09:12:21.1234567890Z", id="ten digits of fraction"),
        pytest.param("2024-02-30T09:12:21Z", id="no such day"),
        pytest.param("2023-02-29T09:12:21Z", id="no leap year"),
        pytest.param("2024-13-01T09:12:21Z", id="no such month"),
        pytest.param("2024-05-22T25:12:21Z", id="no such hour"),
        pytest.param("2024-05-22T09:60:21Z", id="no such minute"),
        pytest.param("2024-05-22T09:12:61Z", id="no such second"),
        pytest.param("2024-05-22T09:12:21+24:00", id="no such zone"),
        pytest.param("0000-01-01T00:00:00Z", id="year nought"),
        pytest.param(
            "\u0662\u0660\u0662\u0664-05-22T09:12:21Z", id="digits of another script"
        ),
        pytest.param("\uff11" * 13, id="full-width milliseconds"),
        pytest.param("1716340341", id="epoch seconds"),
        pytest.param("17163403410", id="eleven digits"),
        pytest.param("171634034100000", id="fifteen digits"),
        pytest.param("-716340341000", id="negative"),
        pytest.param("+716340341000", id="a sign"),
        pytest.param("1_716_340_341_000", id="underscores"),
        pytest.param("1716340341e3", id="an exponent"),
        pytest.param("9" * 5000, id="a huge number"),
        pytest.param("2024-05-22T09:12:21+08:00" * 2, id="two times"),
        pytest.param("Wed, 22 May 2024 01:12:21 GMT", id="an HTTP date"),
        pytest.param("2024-05-22T09:12:21\udcff", id="a lone surrogate"),
    ],
)
def test_what_is_no_time_is_an_error(text):
    with pytest.raises(ValueError):
        parse_time(text)


@pytest.mark.parametrize("seconds", [0, 1, 299, 300, -1, -300])
def test_a_time_within_the_tolerance_is_fresh(seconds):
    freshness = Freshness(MOMENT, timedelta(seconds=300))
    freshness.check(MOMENT + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("off", "shown"),
    [
        (timedelta(seconds=300, microseconds=1), "+300 s"),
        (timedelta(seconds=-300, microseconds=-1), "-300 s"),
        (timedelta(hours=-8), "-28800 s"),
        (timedelta(days=365), "+31536000 s"),
    ],
)
def test_a_time_beyond_the_tolerance_is_stale_either_way(off, shown):
    freshness = Freshness(MOMENT, timedelta(seconds=300))
    with pytest.raises(ResponseStale) as caught:
        freshness.check(MOMENT + off)
    assert shown in caught.value.detail
    assert "300 s are allowed" in caught.value.detail
    assert caught.value.skew_s == off.total_seconds()


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
)
def test_the_first_and_last_moments_are_stale_and_nothing_worse(text):
    with pytest.raises(ResponseStale):
        Freshness(MOMENT, timedelta(seconds=300)).check(parse_time(text))


def test_the_zone_of_our_clock_does_not_matter():
    freshness = Freshness(MOMENT.astimezone(HONG_KONG), timedelta(0))
    freshness.check(MOMENT)


# --- the Date header ---------------------------------------------------------


def dated(*values):
    headers = [("X", "y"), *(("date", value) for value in values)]
    return read_date(headers)


def test_a_date_is_read():
    # RFC 9110, 5.6.7: its own example
    assert dated("Sun, 06 Nov 1994 08:49:37 GMT") == datetime(
        1994, 11, 6, 8, 49, 37, tzinfo=UTC
    )


@pytest.mark.parametrize("moment", [MOMENT + timedelta(days=28 * n) for n in range(14)])
def test_a_date_of_the_standard_library_is_read(moment):
    assert dated(format_datetime(moment, usegmt=True)) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
    ],
)
def test_any_other_date_is_none(text):
    assert dated(text) is None


def test_without_a_date_there_is_none_and_of_several_the_first_counts():
    assert dated() is None
    first = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert dated(first, "Mon, 07 Nov 1994 08:49:37 GMT").day == 6
