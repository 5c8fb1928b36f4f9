"""Log lines: one JSON object each, with these fields and no others."""

import dataclasses
import errno
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from gateway.events import CanaryHalt, ExchangeRecord, Tally
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.model import PARTNER_USES, PLATFORM_USES, KeyInfo, KeyState
from gateway.protocol import PublicKey
from gateway.telemetry.log import EventLog, ExchangeLog, exchange_line

NOW = datetime(2026, 11, 23, 6, 0, 0, 123456, tzinfo=UTC)
WHOLE = ExchangeRecord(
    "e1",
    caller="shop",
    denied="forbidden",
    client="hk",
    route="/pay",
    encrypted=True,
    code="signature_invalid",
    outcome="answered",
    status=502,
    seconds=0.12345678,
    upstream_seconds=0.1,
    attempts=2,
    key_version="1",
    canary="2",
    canary_attempts=1,
    verified_by="7",
    encrypted_to="8",
    decrypted_by="2",
    decryption_label="1",
    clock_skew_s=-1.00000049,
    date_skew_s=-1.12345678,
    tracer_id="T-1",
    result_code="PARAM_ILLEGAL",
    delivered=False,
    request_bytes=10,
    response_bytes=20,
    request_sha256="ab" * 32,
    response_sha256="cd" * 32,
    cause="Connection refused",
    error="KeyError at exchange.py:1",
    peer="192.0.2.1:40000",
)


@pytest.fixture
def stream():
    return io.StringIO()


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# --- exchanges ---------------------------------------------------------------


def test_an_exchange_is_one_line_with_the_records_fields_and_no_others(stream):
    ExchangeLog(stream, lambda: NOW)(WHOLE)
    (line,) = lines(stream)
    assert stream.getvalue().endswith("}\n")
    assert line == {
        "time": "2026-11-23T06:00:00.123+00:00",
        "event": "exchange",
        "exchange_id": "e1",
        "caller": "shop",
        "denied": "forbidden",
        "client": "hk",
        "route": "/pay",
        "encrypted": True,
        "code": "signature_invalid",
        "outcome": "answered",
        "status": 502,
        "seconds": 0.123457,
        "upstream_seconds": 0.1,
        "attempts": 2,
        "key_version": "1",
        "canary": "2",
        "canary_attempts": 1,
        "verified_by": "7",
        "encrypted_to": "8",
        "decrypted_by": "2",
        "decryption_label": "1",
        "clock_skew_s": -1.0,
        "date_skew_s": -1.123457,
        "tracer_id": "T-1",
        "result_code": "PARAM_ILLEGAL",
        "delivered": False,
        "request_bytes": 10,
        "response_bytes": 20,
        "request_sha256": "ab" * 32,
        "response_sha256": "cd" * 32,
        "cause": "Connection refused",
        "error": "KeyError at exchange.py:1",
        "peer": "192.0.2.1:40000",
    }
    names = [field.name for field in dataclasses.fields(ExchangeRecord)]
    assert list(line) == ["time", "event", *names]


def test_a_record_has_no_place_for_a_body_a_key_or_a_signature():
    """A field that is added here has to be looked at for what it may hold."""
    assert len(dataclasses.fields(ExchangeRecord)) == 31
    kinds = {field.type for field in dataclasses.fields(ExchangeRecord)}
    assert kinds <= {str, int, float, bool, str | None, int | None, float | None}


def test_what_does_not_apply_is_left_out(stream):
    ExchangeLog(stream, lambda: NOW)(ExchangeRecord("e1", code="unknown_route"))
    (line,) = lines(stream)
    for name in ("outcome", "upstream_seconds", "key_version", "tracer_id", "error"):
        assert name not in line
    assert line.keys().isdisjoint({"denied", "date_skew_s"})
    assert line["status"] == line["request_bytes"] == line["attempts"] == 0
    assert line["encrypted"] is False
    assert line["delivered"] is True
    assert line["caller"] == ""


@given(st.integers(-(10**15), 10**15) | st.floats(-1e7, 1e7))
def test_what_is_measured_is_told_to_the_microsecond(value):
    """Also where it is exact: as it came, and not beside it."""
    exact = value / 1e6
    record = ExchangeRecord("e1", clock_skew_s=exact)
    told = json.loads(exchange_line(record, ""))["clock_skew_s"]
    assert told == round(told, 6)
    assert told == exact or abs(told - exact) <= 0.500001e-6


def test_each_exchange_has_a_line_of_its_own(stream):
    log = ExchangeLog(stream, lambda: NOW)
    for name in ("a", "b", "c"):
        log(ExchangeRecord(name))
    assert [line["exchange_id"] for line in lines(stream)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text", ["a\nb", 'a"}\n{"event": "forged', "\u2028", "\x1b[2J", "香港", "\ud800"]
)
def test_no_text_breaks_out_of_its_line(stream, text):
    ExchangeLog(stream, lambda: NOW)(ExchangeRecord("e1", tracer_id=text))
    (line,) = lines(stream)
    assert line["tracer_id"] == text
    assert stream.getvalue()[:-1].isascii()
    assert stream.getvalue()[:-1].isprintable()


# --- the gateway itself ------------------------------------------------------


@pytest.fixture
def events(stream):
    return EventLog(stream, lambda: NOW)


def test_an_event_has_its_name_and_fields(stream, events):
    events.event("listening", inbound="127.0.0.1:8080", reasons=["a"])
    assert lines(stream) == [
        {
            "time": "2026-11-23T06:00:00.123+00:00",
            "event": "listening",
            "level": "info",
            "inbound": "127.0.0.1:8080",
            "reasons": ["a"],
        }
    ]


class Pair:
    def __init__(self, public):
        self.public = public


@pytest.fixture
def ring(partner_public, platform_public):
    info = KeyInfo("1", KeyState.ACTIVE, PARTNER_USES, "fp-ours", partner_public)
    theirs = [
        KeyInfo("8", KeyState.DEACTIVATED, PLATFORM_USES, "fp-8", platform_public),
        KeyInfo("7", KeyState.ACTIVE, PLATFORM_USES, "fp-7", platform_public),
    ]
    theirs = [
        dataclasses.replace(each, public=PublicKey(each.version, platform_public.rsa))
        for each in theirs
    ]
    return Keyring.of(3, [(info, Pair(partner_public))], theirs)


def test_a_keyring_that_is_in_use_is_told_by_its_versions_alone(stream, events, ring):
    events.loaded("hk", dataclasses.replace(ring, digest="abc"))
    (line,) = lines(stream)
    assert {**line, "time": ""} == {
        "time": "",
        "event": "keyring_loaded",
        "level": "info",
        "client": "hk",
        "generation": 3,
        "digest": "abc",
        "signs": "1",
        "verifies": ["7", "8"],
    }


def test_a_canary_of_a_keyring_is_told_with_its_share(
    stream, events, ring, partner_public
):
    key = Pair(PublicKey("2", partner_public.rsa))
    ring = dataclasses.replace(ring, canary=Canary(key, 0.05))
    events.loaded("hk", ring)
    events.loaded("hk", ring.with_canary_halted("it failed"))
    going, halted = lines(stream)
    assert (going["canary"], going["canary_share"]) == ("2", 0.05)
    assert "canary_halted" not in going
    assert (halted["canary_share"], halted["canary_halted"]) == (0.0, "it failed")


def test_a_canary_that_is_over_is_told_with_its_evidence(stream, events):
    events.canary_halted("hk", CanaryHalt("2", 7, 0.05, 6, 6, "1", 120, 0))
    (line,) = lines(stream)
    assert {**line, "time": ""} == {
        "time": "",
        "event": "canary_halted",
        "level": "error",
        "client": "hk",
        "key_version": "2",
        "generation": 7,
        "share": 0.05,
        "exchanges": 6,
        "failures": 6,
        "other_version": "1",
        "other_exchanges": 120,
        "other_failures": 0,
        "consequence": "version 1 signs every exchange",
    }


def test_a_keyring_that_signs_nothing_says_so(stream, events):
    events.loaded("hk", Keyring.of(1, [], []))
    (line,) = lines(stream)
    assert (line["signs"], line["verifies"]) == (None, [])


def test_a_keyring_that_was_refused_is_told_with_what_follows(stream, events):
    events.failed("hk", "a key is missing")
    (line,) = lines(stream)
    assert {**line, "time": ""} == {
        "time": "",
        "event": "keyring_refused",
        "level": "error",
        "client": "hk",
        "reason": "a key is missing",
        "consequence": "the last good keyring, if there is one, stays in use",
    }


def test_a_generation_that_was_used_again_is_told_with_what_follows(stream, events):
    events.reused("hk", 3)
    (line,) = lines(stream)
    assert {**line, "time": ""} == {
        "time": "",
        "event": "keyring_generation_reused",
        "level": "warning",
        "client": "hk",
        "generation": 3,
        "consequence": "it is in use; raise `generation` with each change",
    }


def test_many_refusals_are_one_line_with_what_they_had_in_common(stream):
    tally = Tally(("unauthenticated",), NOW)
    for host in ("192.0.2.1", "192.0.2.1", "[2001:db8::1]"):
        tally.add(f"{host}:4000{tally.count}", NOW + timedelta(seconds=tally.count))
    ExchangeLog(stream, lambda: NOW).refusals(tally)
    assert lines(stream) == [
        {
            "time": "2026-11-23T06:00:00.123+00:00",
            "event": "refusals",
            "code": "unauthenticated",
            "count": 3,
            "first": "2026-11-23T06:00:00.123+00:00",
            "last": "2026-11-23T06:00:02.123+00:00",
            "peer": "192.0.2.1:40000",
            "peers": 2,
        }
    ]


# --- a reader that went away -------------------------------------------------


class Broken(io.StringIO):
    def __init__(self, error, *, at):
        super().__init__()
        self.error, self.at = error, at

    def write(self, text):
        if self.at == "write":
            raise self.error
        return super().write(text)

    def flush(self):
        if self.at == "flush":
            raise self.error


ERRORS = [
    OSError(errno.ENOSPC, "No space left on device"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ValueError("I/O operation on closed file"),
]


@pytest.mark.parametrize("at", ["write", "flush"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_log_that_cannot_be_written_stops_nothing(error, at, ring):
    stream = Broken(error, at=at)
    ExchangeLog(stream, lambda: NOW)(WHOLE)
    events = EventLog(stream, lambda: NOW)
    events.loaded("hk", ring)
    events.failed("hk", "x")
    stream.at = None
    events.event("again")
    assert lines(stream)[-1]["event"] == "again"


def test_a_closed_stream_stops_nothing(stream, events):
    stream.close()
    ExchangeLog(stream, lambda: NOW)(WHOLE)
    events.event("x")


def test_each_line_is_handed_over_at_once(tmp_path):
    file = tmp_path / "log"
    with file.open("w") as stream:
        ExchangeLog(stream, lambda: NOW)(WHOLE)
        assert file.read_text().endswith("}\n")
