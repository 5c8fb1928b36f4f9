"""What is noted becomes lines, by a thread, and nobody waits for the disk."""

import threading
import time
from dataclasses import fields
from datetime import timedelta

import pytest

from gateway.audit import trail as trails
from gateway.audit.chain import read
from gateway.audit.trail import NoAudit, Trail
from gateway.errors import AuditError, AuditUnavailable
from gateway.events import MOST_PEERS, ExchangeRecord


class Listener:
    def __init__(self):
        self.failed = []
        self.works = 0
        self.dropped = 0
        self.changed = threading.Condition()

    def audit_failed(self, reason):
        self._note(self.failed.append, reason)

    def audit_works(self):
        self.works += 1
        self._note(lambda: None)

    def audit_dropped(self):
        self.dropped += 1

    def _note(self, take, *arguments):
        with self.changed:
            take(*arguments)
            self.changed.notify_all()

    def wait(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, 10)


class Disk:
    """A log that can be made to fail."""

    def __init__(self, file):
        self._file = file
        self.error = None
        self.probes = 0
        self.slow_s = 0
        self.hangs = None

    def append(self, entries, **options):
        time.sleep(self.slow_s)
        if self.hangs is not None:
            assert self.hangs.wait(10)
        if self.error is not None:
            raise self.error
        return self._file.append(entries, **options)

    def probe(self):
        self.probes += 1
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(trails, "_TRY_AGAIN_S", 0.01)
    monkeypatch.setattr(trails, "_PROBE_S", 0.01)


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def disk(log):
    return Disk(log.writer(checkpoint_every=1000))


@pytest.fixture
def trail_of(log, listener, disk):
    trails = []

    def make(**settings):
        trail = Trail(disk, who="t", now=log.now, listener=listener, **settings)
        trails.append(trail)
        return trail

    yield make
    for trail in trails:
        if trail._thread.is_alive():
            trail.close()


def records(log):
    return [read(line[:-1]).fields for line in log.lines()]


def names(log):
    return [each["what"] for each in records(log)]


FULL = AuditError("No space left on device")


def test_what_is_noted_before_the_start_is_written_when_it_returns(log, trail_of):
    trail = trail_of()
    trail.note("started", source="a", target={"b": 1}, version="1")
    trail.start()
    first, checkpoint = records(log)
    assert first | {"time": "", "previous": ""} == {
        "time": "",
        "previous": "",
        "seq": 1,
        "who": "t",
        "what": "started",
        "from": "a",
        "to": {"b": 1},
        "version": "1",
    }
    assert checkpoint["what"] == "checkpoint"


def test_the_end_is_a_checkpoint_behind_everything(log, trail_of):
    trail = trail_of()
    trail.start()
    for number in range(600):
        trail.note("n", number=number)
    trail.close()
    noted = [each for each in records(log) if each["what"] == "n"]
    assert [each["number"] for each in noted] == [*range(600)]
    assert names(log)[-1] == "checkpoint"
    assert log.verify().fault is None


def test_the_words_of_a_line_are_not_the_callers_to_set(log, trail_of):
    trail = trail_of()
    trail.note("a", who="somebody", time="never", seq=7, torn=None)
    trail.start()
    assert (records(log)[0]["who"], records(log)[0]["seq"]) == ("t", 1)


def test_an_exchange_is_a_line_only_if_that_is_wanted(log, trail_of):
    record = ExchangeRecord("e1", client="hk", code="verified", request_sha256="ab")
    silent = trail_of()
    silent.exchange(record)
    talking = trail_of(exchanges=True)
    talking.exchange(record)
    talking.start()
    silent.start()
    (line,) = [each for each in records(log) if each["what"] == "exchange"]
    assert (line["exchange_id"], line["request_sha256"]) == ("e1", "ab")
    known = {each.name for each in fields(ExchangeRecord)}
    assert set(line) - known == {"seq", "time", "who", "what", "previous"}


def test_what_could_not_be_written_is_kept_and_told(log, trail_of, listener, disk):
    trail = trail_of()
    disk.error = FULL
    trail.note("started")
    trail.start()
    assert trail.problem == FULL.detail
    trail.note("later")
    listener.wait(lambda: len(listener.failed) > 2)
    disk.error = None
    listener.wait(lambda: listener.works)
    trail.close()
    assert trail.problem is None
    assert names(log)[:3] == ["audit_works_again", "started", "later"]
    assert records(log)[0]["reason"] == FULL.detail


def test_a_defect_does_not_end_the_writing(log, trail_of, listener, disk):
    trail = trail_of()
    disk.error = ZeroDivisionError("secret")
    trail.note("started")
    trail.start()
    assert trail.problem == "a defect of the gateway (ZeroDivisionError)"
    disk.error = None
    listener.wait(lambda: listener.works)
    assert names(log)[1] == "started"


def test_a_disk_that_fails_while_nothing_is_written_is_noticed(
    log, trail_of, listener, disk
):
    trail = trail_of(required=True)
    trail.start()
    trail.reserve()
    while not disk.probes:
        time.sleep(0.001)
    disk.error = FULL
    listener.wait(lambda: listener.failed)
    for _ in range(3):
        with pytest.raises(AuditUnavailable):
            trail.reserve()
    disk.error = None
    listener.wait(lambda: listener.works)
    trail.reserve()
    trail.close()
    (line,) = [each for each in records(log) if each["what"] == "audit_works_again"]
    assert (line["reason"], line["refused"]) == (FULL.detail, 3)


def test_traffic_stops_only_where_the_audit_is_required(trail_of, disk):
    disk.error = FULL
    trail = trail_of()
    trail.note("a")
    trail.start()
    assert trail.problem
    trail.reserve()


def test_lines_that_are_too_many_are_dropped_and_counted(
    log, trail_of, listener, disk, monkeypatch
):
    monkeypatch.setattr(trails, "_KEPT", 10)
    disk.error = FULL
    trail = trail_of(required=True)
    for _ in range(8):
        trail.note("n")
    trail.reserve()  # what happens to the gateway takes no place from exchanges
    assert listener.dropped == 3
    disk.error = None
    trail.start()
    assert names(log) == ["lines_dropped", *["n"] * 5, "checkpoint"]
    assert records(log)[0]["count"] == 3


# --- exchanges ---------------------------------------------------------------


def carried(name, code="verified"):
    """Give the record of an exchange that has its place."""
    return ExchangeRecord(name, client="hk", code=code, request_sha256="ab")


def refused(caller="", code="unauthenticated", peer="192.0.2.1:40000"):
    return ExchangeRecord("e", caller=caller, code=code, peer=peer)


def test_an_exchange_that_has_a_place_has_its_line_however_many_there_are(
    log, trail_of, listener, disk, monkeypatch
):
    monkeypatch.setattr(trails, "_KEPT", 8)
    trail = trail_of(required=True, exchanges=True)
    for _ in range(4):
        trail.reserve()
    for _ in range(2):
        with pytest.raises(AuditUnavailable):
            trail.reserve()  # those under way may need every place there is
    for number in range(4):
        trail.exchange(carried(f"e{number}"))
    with pytest.raises(AuditUnavailable):
        trail.reserve()
    trail.note("keyring_loaded")
    trail.start()
    assert names(log)[:5] == [*["exchange"] * 4, "keyring_loaded"]
    assert listener.dropped == 0
    trail.reserve()


def test_strangers_take_no_place_from_exchanges(
    log, trail_of, listener, disk, monkeypatch
):
    monkeypatch.setattr(trails, "_KEPT", 8)
    trail = trail_of(required=True, exchanges=True)
    for number in range(1000):
        trail.exchange(refused(peer=f"192.0.2.{number % 200}:{number}"))
    for number in range(4):
        trail.reserve()
        trail.exchange(carried(f"e{number}"))
    for _ in range(3):
        trail.exchange(refused("shop", "forbidden", None))
    trail.start()
    trail.close()
    assert names(log).count("exchange") == 4
    strangers, shop = [each for each in records(log) if each["what"] == "refusals"]
    assert (strangers["caller"], strangers["code"]) == ("", "unauthenticated")
    assert (strangers["count"], strangers["peers"]) == (1000, MOST_PEERS)
    assert strangers["peer"] == "192.0.2.0:0"
    assert strangers["first"] < strangers["last"]
    assert (shop["caller"], shop["code"], shop["count"]) == ("shop", "forbidden", 3)
    assert "peers" not in shop
    assert listener.dropped == 0


def test_refusals_are_told_while_the_gateway_runs(log, trail_of, monkeypatch):
    monkeypatch.setattr(trails, "_REFUSALS_EVERY", timedelta(milliseconds=30))
    trail = trail_of(exchanges=True)
    trail.note("started")
    trail.start()
    trail.exchange(refused())
    while "refusals" not in names(log):
        time.sleep(0.001)


def test_refusals_that_could_not_be_written_are_written_later(
    log, trail_of, listener, disk
):
    trail = trail_of(exchanges=True)
    disk.error = FULL
    trail.exchange(refused())
    trail.start()
    trail.close()  # takes all, and fails
    trail.exchange(refused(code="invalid_request"))
    trail.exchange(refused())
    disk.error = None
    last = trail_of(exchanges=True)
    last._refusals = trail._refusals
    last.start()
    last.close()
    counts = {each["code"]: each["count"] for each in records(log) if "code" in each}
    assert counts == {"unauthenticated": 2, "invalid_request": 1}


def test_without_required_an_exchange_goes_on_without_a_place(
    log, trail_of, listener, disk, monkeypatch
):
    monkeypatch.setattr(trails, "_KEPT", 4)
    trail = trail_of(exchanges=True)
    for _ in range(3):
        trail.reserve()
    for number in range(3):
        trail.exchange(carried(f"e{number}"))
    trail.start()
    assert names(log)[:3] == ["lines_dropped", "exchange", "exchange"]
    assert listener.dropped == 1


def test_an_end_waits_for_a_slow_disk_as_long_as_lines_go_there(
    log, trail_of, disk, monkeypatch
):
    monkeypatch.setattr(trails, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(trails, "_TOGETHER", 1)
    disk.slow_s = 0.1
    trail = trail_of()
    for number in range(10):
        trail.note("n", number=number)
    trail._thread.start()
    trail.close()
    assert names(log).count("n") == 10


def test_an_end_waits_no_longer_for_a_disk_that_does_not_answer(
    trail_of, disk, listener, monkeypatch
):
    monkeypatch.setattr(trails, "_PATIENCE_S", 0.01)
    disk.hangs = threading.Event()
    trail = trail_of()
    trail.note("n")
    trail.start()
    trail.close()
    assert listener.failed == ["the disk did not answer before the end"]
    disk.hangs.set()
    trail._thread.join(10)


def test_an_end_without_a_disk_is_an_end(trail_of, disk):
    trail = trail_of()
    disk.error = FULL
    trail.note("a")
    trail.start()
    trail.close()
    assert not trail._thread.is_alive()


def test_no_audit_does_nothing():
    audit = NoAudit()
    audit.note("a", source=1, target=2, more=3)
    audit.exchange(ExchangeRecord("e"))
    audit.reserve()
