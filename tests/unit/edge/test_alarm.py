"""An alarm: rings once, when it was set for last, and not when it was calmed."""

import asyncio

import pytest

from gateway.edge.alarm import Alarm


class Loop:
    """The times of a loop, moved by hand: it rings what is due, in order."""

    def __init__(self):
        self.now = 100.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, act):
        timer = Timer(when, act)
        self.timers.append(timer)
        return timer

    def go(self, until):
        while due := [t for t in self.timers if t.live and t.when() <= until]:
            first = min(due, key=Timer.when)
            self.now = max(self.now, first.when())
            first.live = False
            first.act()
        self.now = until

    @property
    def live(self):
        return [timer.when() for timer in self.timers if timer.live]


class Timer:
    def __init__(self, when, act):
        self._when, self.act, self.live = when, act, True

    def when(self):
        return self._when

    def cancel(self):
        self.live = False


@pytest.fixture
def loop(monkeypatch):
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


@pytest.fixture
def rung():
    return []


@pytest.fixture
def alarm(loop, rung):
    return Alarm(lambda: rung.append(loop.now))


def test_it_rings_once_when_it_is_due(alarm, loop, rung):
    alarm.set(110)
    loop.go(109)
    assert rung == []
    loop.go(200)
    assert rung == [110]
    assert loop.live == []


def test_set_anew_it_rings_then_alone_be_it_later_or_earlier(alarm, loop, rung):
    alarm.set(110)
    alarm.set(130)
    alarm.set(120)
    loop.go(200)
    assert rung == [120]
    alarm.set(250)
    alarm.set(220)
    loop.go(300)
    assert rung == [120, 220]
    assert loop.live == []


def test_calmed_it_does_not_ring_and_may_be_set_again(alarm, loop, rung):
    alarm.set(110)
    alarm.calm()
    loop.go(105)
    alarm.set(130)
    loop.go(129)
    assert rung == []
    loop.go(200)
    assert rung == [130]
    alarm.set(210)
    alarm.calm()
    loop.go(300)
    assert rung == [130]


def test_many_exchanges_have_one_timer(alarm, loop, rung):
    """That is what it is for."""
    for second in range(100, 200):
        loop.go(second)
        alarm.set(second + 30)
        alarm.calm()
    assert len(loop.timers) <= 5
    assert len(loop.live) == 1
    assert rung == []


def test_ended_it_leaves_no_timer(alarm, loop, rung):
    alarm.set(110)
    alarm.end()
    alarm.end()
    assert loop.live == []
    loop.go(200)
    assert rung == []


def test_what_it_calls_may_set_it_again(loop):
    rung = []

    def ring():
        rung.append(loop.now)
        if len(rung) < 3:
            alarm.set(loop.now + 10)

    alarm = Alarm(ring)
    alarm.set(110)
    loop.go(200)
    assert rung == [110, 120, 130]


async def test_it_rings_on_a_real_loop_not_before_it_is_due():
    rung = asyncio.Event()
    times = []
    loop = asyncio.get_running_loop()
    alarm = Alarm(lambda: (times.append(loop.time()), rung.set()))
    alarm.set(loop.time() + 0.01)
    at = loop.time() + 0.05
    alarm.set(at)
    await asyncio.wait_for(rung.wait(), 5)
    assert len(times) == 1
    assert times[0] >= at
