"""The breaker: what opens it, what a probe decides, what does not count."""

from asyncio import CancelledError

import pytest

from gateway.errors import (
    KeyUnavailable,
    ResponseMalformed,
    UpstreamDisconnected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.relay.breaker import Breaker, BreakerSettings, BreakerState

CLOSED, HALF_OPEN, OPEN = (
    BreakerState.CLOSED,
    BreakerState.HALF_OPEN,
    BreakerState.OPEN,
)


class Scene:
    """A breaker of three failures and ten seconds, on a clock of its own."""

    def __init__(self):
        self.now = 100.0
        self.changes = []
        self.causes = []
        settings = BreakerSettings(failures=3, open_s=10.0)
        self.breaker = Breaker(settings, lambda: self.now, self.changed)

    def changed(self, state, cause):
        self.changes.append(state)
        self.causes.append(cause)

    def attempt(self, error=None, patience=None):
        with self.breaker.attempt(patience):
            if error is not None:
                raise error

    def fail(self, error, times=1, **settings):
        for _ in range(times):
            with pytest.raises(type(error)):
                self.attempt(error, **settings)


@pytest.fixture
def scene():
    return Scene()


FAILURES = [UpstreamUnavailable("x"), UpstreamTimeout("x")]


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_failures_in_a_row_open_it(scene, error):
    scene.fail(error, 2)
    assert scene.breaker.state is CLOSED
    scene.fail(error)
    assert scene.breaker.state is OPEN
    with pytest.raises(UpstreamUnavailable, match="in a row") as caught:
        scene.attempt()
    assert caught.value.code == "upstream_unavailable"
    assert caught.value.outcome == "not_sent"
    assert caught.value.retry_after_s == 10.0


@pytest.mark.parametrize("error", [None, ResponseMalformed("x")], ids=repr)
def test_any_answer_between_begins_the_count_anew(scene, error):
    """Also one that is not trusted: AlipayHK can be reached."""
    scene.fail(FAILURES[0], 2)
    if error is None:
        scene.attempt()
    else:
        scene.fail(error)
    scene.fail(FAILURES[0], 2)
    assert scene.breaker.state is CLOSED


@pytest.mark.parametrize(
    "error", [UpstreamDisconnected("x"), KeyUnavailable("x"), ZeroDivisionError()]
)
def test_what_says_nothing_of_the_way_there_does_not_count(scene, error):
    scene.fail(FAILURES[0], 2)
    scene.fail(error, 5)
    assert scene.breaker.state is CLOSED
    scene.fail(FAILURES[0])
    assert scene.breaker.state is OPEN


def test_an_impatient_caller_does_not_close_the_way_for_others(scene):
    for error in FAILURES:
        scene.fail(error, 9, patience=scene.now)
    assert scene.breaker.state is CLOSED


def test_a_failure_before_the_callers_patience_ended_counts(scene):
    scene.fail(FAILURES[0], 3, patience=scene.now + 1)
    assert scene.breaker.state is OPEN


def test_after_a_while_one_probe_is_let_through(scene):
    scene.fail(FAILURES[0], 3)
    scene.now += 9.9
    with pytest.raises(UpstreamUnavailable, match="in a row") as caught:
        scene.attempt()
    assert caught.value.retry_after_s == 1.0
    scene.now += 0.1
    with scene.breaker.attempt():
        assert scene.breaker.state is HALF_OPEN
        with pytest.raises(UpstreamUnavailable, match="in a row"):
            scene.attempt()
    assert scene.breaker.state is CLOSED
    scene.attempt()
    assert scene.changes == [OPEN, HALF_OPEN, CLOSED]


def test_a_probe_that_fails_opens_it_for_as_long_again(scene):
    scene.fail(FAILURES[0], 3)
    scene.now += 10
    scene.fail(FAILURES[1])
    assert scene.breaker.state is OPEN
    scene.now += 9.9
    scene.fail(UpstreamUnavailable("not tried"))
    scene.now += 0.1
    scene.attempt()
    assert scene.breaker.state is CLOSED


@pytest.mark.parametrize(
    "error", [UpstreamDisconnected("x"), KeyboardInterrupt(), GeneratorExit()]
)
def test_a_probe_that_ends_without_a_finding_gives_way_to_the_next(scene, error):
    scene.fail(FAILURES[0], 3)
    scene.now += 10
    scene.fail(error)
    assert scene.breaker.state is HALF_OPEN
    scene.attempt()
    assert scene.breaker.state is CLOSED


def test_attempts_that_began_before_it_opened_do_not_hold_it_open(scene):
    late = scene.breaker.attempt()
    late.__enter__()
    scene.fail(FAILURES[0], 3)
    scene.now += 9
    assert not late.__exit__(UpstreamTimeout, UpstreamTimeout("x"), None)
    scene.now += 1
    scene.attempt()
    assert scene.breaker.state is CLOSED


# --- an attempt -------------------------------------------------------------------


def test_what_an_attempt_raises_is_neither_swallowed_nor_replaced(scene):
    error = KeyUnavailable("x")
    with pytest.raises(KeyUnavailable) as caught, scene.breaker.attempt():
        raise error
    assert caught.value is error


def test_an_attempt_is_refused_when_it_is_asked_for(scene):
    """Before anything is made for it."""
    scene.fail(UpstreamTimeout("x"), 3)
    with pytest.raises(UpstreamUnavailable) as caught:
        scene.breaker.attempt()
    assert caught.value.retry_after_s == 10


def test_attempts_at_the_same_time_are_told_apart(scene):
    """The one that is the probe decides; one that began before it does not."""
    early = scene.breaker.attempt()
    scene.fail(UpstreamTimeout("x"), 3)
    scene.now += 10
    probe = scene.breaker.attempt()
    assert (early.is_probe, probe.is_probe) == (False, True)
    early.__exit__(None, UpstreamTimeout("x"), None)
    assert scene.breaker.state is HALF_OPEN
    with pytest.raises(UpstreamUnavailable):
        scene.breaker.attempt()
    probe.__exit__(None, None, None)
    assert scene.breaker.state is CLOSED


def test_a_probe_that_is_cut_off_leaves_its_place_to_another(scene):
    scene.fail(UpstreamTimeout("x"), 3)
    scene.now += 10
    with pytest.raises(CancelledError), scene.breaker.attempt():
        raise CancelledError
    assert scene.breaker.state is HALF_OPEN
    scene.attempt()
    assert scene.changes == [OPEN, HALF_OPEN, CLOSED]


def test_one_whose_patience_is_over_says_nothing_and_one_before_it_does(scene):
    for patience, state in ((100.0, CLOSED), (100.1, OPEN)):
        scene.fail(UpstreamTimeout("x"), 3, patience=patience)
        assert scene.breaker.state is state


def test_it_says_why_it_opened_and_why_it_stays_open(scene):
    scene.fail(UpstreamUnavailable("x", cause="name not found"), 2)
    scene.fail(UpstreamUnavailable("x", cause="Connection refused"))
    assert scene.causes == ["Connection refused"]
    with pytest.raises(UpstreamUnavailable) as caught:
        scene.attempt()
    assert caught.value.cause == "Connection refused"
    scene.now += 10.0
    scene.fail(UpstreamTimeout("x", cause="timed out"))
    assert scene.changes == [OPEN, HALF_OPEN, OPEN]
    assert scene.causes[1:] == [None, "timed out"]
