"""The token bucket, against its definition."""

from hypothesis import given, strategies as st

from gateway.access.rates import Bucket, Rate


def test_a_burst_passes_and_then_so_many_per_second():
    bucket = Bucket(Rate(per_second=2.0, burst=3), 100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(100.25) == 0.25
    assert bucket.take(100.5) == 0.0
    assert bucket.take(100.5) == 0.5


def test_a_pause_gains_no_more_than_a_burst():
    bucket = Bucket(Rate(per_second=10.0, burst=2), 0.0)
    assert [bucket.take(1e6) == 0.0 for _ in range(3)] == [True, True, False]


def test_a_clock_that_stands_still_or_goes_back_gives_nothing():
    bucket = Bucket(Rate(per_second=1.0, burst=1), 10.0)
    assert bucket.take(10.0) == 0.0
    assert bucket.take(9.0) == 1.0
    assert bucket.take(10.0) == 0.0


@given(
    st.floats(0.1, 100.0),
    st.integers(1, 50),
    st.lists(st.floats(0.0, 2.0), max_size=200),
)
def test_in_any_time_no_more_pass_than_burst_and_rate_allow(rate, burst, pauses):
    now, passed = 0.0, 0
    bucket = Bucket(Rate(rate, burst), now)
    for pause in pauses:
        now += pause
        passed += bucket.take(now) == 0.0
        assert passed <= burst + rate * now + 1e-6


@given(st.floats(0.1, 100.0), st.integers(1, 5))
def test_who_waits_as_long_as_told_passes(rate, burst):
    now = 0.0
    bucket = Bucket(Rate(rate, burst), now)
    for _ in range(20):
        wait = bucket.take(now)
        if wait:
            now += wait + 1e-9
            assert bucket.take(now) == 0.0
