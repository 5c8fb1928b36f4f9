"""A total failure is told within 20 answers, with its cause, and so is its end."""

import pytest

from gateway.events import ExchangeRecord
from gateway.telemetry.answers import MANY, NOT_READY_S, Answered, AnswerWatch


class Scene:
    def __init__(self):
        self.told = []
        self.shown = {}
        self.now = 1000.0
        self.watch = self.new()

    def new(self):
        watch = AnswerWatch(
            lambda event, **fields: self.told.append((event, fields)),
            self.shown.__setitem__,
            lambda: self.now,
        )
        watch.use({"hk": 300.0, "mo": 100.0})
        return watch

    def see(self, code, times=1, client="hk", **facts):
        outcome = None if code in ("verified", "refused") else "answered"
        for _ in range(times):
            facts = {"outcome": outcome, **facts}
            self.watch(ExchangeRecord("e", client=client, code=code, **facts))

    @property
    def events(self):
        return [event for event, _ in self.told]


@pytest.fixture
def scene():
    return Scene()


@pytest.mark.parametrize(
    "code",
    [
        "refused",
        "signature_missing",
        "signature_invalid",
        "key_version_unknown",
        "client_id_mismatch",
        "response_malformed",
        "decryption_failed",
        "encryption_downgraded",
    ],
)
def test_twenty_in_a_row_are_told_once(scene, code):
    scene.see("verified")
    scene.see(code, MANY - 1)
    assert scene.told == scene.watch.warnings() == []
    scene.see(code, 2)
    fields = {"client": "hk", "answers": MANY, "cause": code}
    assert scene.told == [("nothing_verified", fields)]
    (warning,) = scene.watch.warnings()
    assert warning.startswith("hk: AlipayHK answers")
    assert code in warning
    assert scene.watch.reasons() == []
    assert scene.shown == {"hk": MANY + 1, "mo": 0}


def test_one_that_is_verified_ends_it(scene):
    scene.see("signature_invalid", MANY + 5)
    scene.see("verified", 2)
    assert scene.told[1:] == [("verified_again", {"client": "hk", "answers": MANY + 5})]
    assert scene.watch.warnings() == []
    assert scene.shown["hk"] == 0
    scene.see("signature_invalid", MANY - 1)
    scene.see("verified")
    assert len(scene.told) == 2


@pytest.mark.parametrize(
    "facts",
    [
        {"code": "upstream_timeout", "outcome": "unknown"},
        {"code": "upstream_unavailable", "outcome": "not_sent"},
        {"code": "forbidden", "outcome": "not_sent"},
        {"code": "signature_invalid", "client": ""},
    ],
)
def test_what_is_no_answer_tells_nothing(scene, facts):
    scene.see("signature_invalid", MANY - 1)
    for _ in range(MANY):
        scene.see(**facts)
    assert scene.told == []
    scene.see("signature_invalid")
    assert scene.events == ["nothing_verified"]


def test_the_cause_is_what_most_had_and_of_a_refusal_its_result_code(scene):
    scene.see("refused", 15, result_code="INVALID_SIGNATURE")
    scene.see("response_too_large", 5)
    assert scene.told[0][1]["cause"] == "refused (INVALID_SIGNATURE)"


def test_causes_that_alipayhk_invents_are_few(scene):
    for number in range(1000):
        scene.see("refused", result_code=f"X{number}")
    assert len(scene.watch._clients["hk"].causes) <= 32


def test_clients_are_told_apart(scene):
    scene.see("signature_invalid", MANY, client="mo")
    scene.see("verified")
    assert [fields["client"] for _, fields in scene.told] == ["mo"]
    assert len(scene.watch.warnings()) == 1


# --- the clock ---------------------------------------------------------------


def test_a_clock_that_makes_every_answer_useless_is_a_reason_for_a_while(scene):
    scene.see("response_stale", MANY, clock_skew_s=-400.0)
    assert scene.events == ["nothing_verified", "clock_unusable"]
    (reason,) = scene.watch.reasons()
    assert "hk: no answer is of use, for its time" in reason
    scene.now += NOT_READY_S - 1
    scene.see("response_stale")  # one that was under way
    scene.now += NOT_READY_S - 1
    assert scene.watch.reasons()
    scene.now += 1
    assert scene.watch.reasons() == []  # to try
    scene.see("response_stale")
    assert scene.watch.reasons()
    scene.see("verified")
    assert scene.watch.reasons() == []
    assert scene.events[2:] == ["verified_again", "clock_usable"]


@pytest.mark.parametrize(
    ("facts", "is_reason"),
    [
        ({"date_skew_s": 301.0}, True),
        ({"date_skew_s": -301.0}, True),
        ({"date_skew_s": 299.0}, False),
        ({"clock_skew_s": 1.0, "date_skew_s": 301.0}, False),
    ],
)
def test_refusals_beside_a_date_that_is_far_off_are_the_clocks(scene, facts, is_reason):
    scene.see("refused", MANY, **facts)
    assert bool(scene.watch.reasons()) is is_reason


def test_an_answer_that_the_clock_did_not_spoil_begins_anew(scene):
    scene.see("response_stale", MANY - 1)
    scene.see("signature_invalid")
    scene.see("response_stale", MANY - 1)
    assert scene.watch.reasons() == []
    scene.see("response_stale")
    assert scene.watch.reasons()


# --- over reloads and processes ----------------------------------------------


def test_a_reload_keeps_what_is_known_of_clients_that_stay(scene):
    scene.see("signature_invalid", MANY)
    scene.watch.use({"hk": 10.0})
    assert len(scene.watch.warnings()) == 1
    scene.watch.use({"mo": 10.0})
    assert scene.watch.warnings() == []
    scene.see("signature_invalid", MANY)
    assert len(scene.told) == 1
    scene.watch.use({"mo": 1.0})
    scene.see("refused", MANY, client="mo", date_skew_s=2.0)
    assert scene.watch.reasons()


def test_what_other_processes_saw_counts_as_if_it_were_seen_here(scene):
    other = Scene()
    scene.watch.add("hk", other.watch.seen()["hk"])
    before = other.watch.seen()["hk"]
    other.see("response_stale", MANY)
    scene.watch.add("hk", other.watch.seen()["hk"].since(before))
    assert scene.events == ["nothing_verified", "clock_unusable"]
    assert scene.told[0][1]["cause"] == "response_stale"
    before = other.watch.seen()["hk"]
    other.see("verified")
    scene.watch.add("hk", other.watch.seen()["hk"].since(before))
    assert scene.events[2:] == ["verified_again", "clock_usable"]
    scene.watch.add("nobody", Answered(0, MANY, 0, "x"))
    assert len(scene.told) == 4


def test_counts_of_a_process_that_began_anew_are_not_negative():
    assert Answered(1, 0, 0).since(Answered(5, 3, 2, "x")) == Answered()
