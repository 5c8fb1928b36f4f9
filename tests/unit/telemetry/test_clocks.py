"""A skew is warned of before it hurts, once, and until it is well over."""

import pytest

from gateway.events import ExchangeRecord
from gateway.telemetry.clocks import ClockWatch


class Scene:
    def __init__(self):
        self.told = []
        self.watch = ClockWatch(lambda name, **fields: self.told.append((name, fields)))
        self.watch.use({"hk": 300.0})

    def see(self, signed=None, date=None, client="hk"):
        record = ExchangeRecord("e", client=client)
        record.clock_skew_s, record.date_skew_s = signed, date
        self.watch(record)


@pytest.fixture
def scene():
    return Scene()


@pytest.mark.parametrize("skew", [150.0, -150.0, 299.0, 301.0, -9999.0])
def test_half_of_the_tolerance_is_warned_of_once(scene, skew):
    scene.see(skew)
    scene.see(skew)
    expected = {"client": "hk", "skew_s": skew, "clock_tolerance_s": 300.0}
    assert scene.told == [("clock_skewed", expected)]
    (warning,) = scene.watch.warnings()
    assert f"hk: AlipayHK's clock is {skew:+.1f} s from ours" in warning
    assert "300 s" in warning


@pytest.mark.parametrize("skew", [0.0, 149.9, -149.9, None])
def test_less_is_not(scene, skew):
    scene.see(skew)
    assert scene.told == scene.watch.warnings() == []


def test_it_is_over_only_when_it_is_well_below(scene):
    for skew in (200.0, 149.0, 75.0):
        scene.see(skew)
    assert len(scene.told) == 1
    scene.see(74.9)
    assert [name for name, _ in scene.told] == ["clock_skewed", "clock_in_step"]
    assert scene.watch.warnings() == []


def test_a_date_counts_where_nothing_signed_tells_the_time(scene):
    scene.see(signed=1.0, date=9000.0)
    assert scene.told == []
    scene.see(date=9000.0)
    assert scene.told[0][1]["skew_s"] == 9000.0


def test_a_client_that_is_gone_is_warned_of_no_more(scene):
    scene.see(200.0)
    scene.watch.use({"mo": 300.0})
    assert scene.watch.warnings() == []
    scene.see(200.0)
    assert len(scene.told) == 1
