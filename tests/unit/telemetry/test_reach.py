"""Keys out of reach are told once, and until an exchange reached one again."""

from gateway.events import ExchangeRecord
from gateway.telemetry.reach import KeyReach


def ended(code, client="hk", key_version=None):
    return ExchangeRecord("1", client=client, code=code, key_version=key_version)


def watched():
    told = []
    return KeyReach(
        lambda event, **fields: told.append((event, *fields.values()))
    ), told


def test_a_key_out_of_reach_is_told_once_and_warned_of_until_it_is_there():
    reach, told = watched()
    for _ in range(3):
        reach(ended("key_unavailable"))
    assert told == [("keys_out_of_reach", "hk")]
    (warning,) = reach.warnings()
    assert warning.startswith("hk: the last exchange found no key")
    reach(ended("upstream_timeout", key_version="1"))
    reach(ended("verified", key_version="1"))
    assert told[1:] == [("keys_in_reach", "hk")]
    assert reach.warnings() == []


def test_what_ends_before_a_key_is_asked_for_tells_nothing():
    reach, told = watched()
    reach(ended("key_unavailable"))
    reach(ended("invalid_request"))
    reach(ended("verified", client="other", key_version="1"))
    assert len(reach.warnings()) == len(told) == 1


def test_a_client_that_a_reload_takes_out_is_forgotten():
    reach, _ = watched()
    reach(ended("key_unavailable"))
    reach.keep({"other"})
    assert reach.warnings() == []
