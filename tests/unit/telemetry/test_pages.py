"""Readiness and keys of several workers as those of one gateway."""

from gateway.telemetry.pages import Usages, told_by


def test_what_all_say_is_said_once_and_what_one_says_has_its_number():
    said = {1: ["hk: no key", "slow"], 2: ["hk: no key"], 3: ["hk: no key", "slow"]}
    assert told_by(said) == ["hk: no key", "worker 1: slow", "worker 3: slow"]
    assert told_by({2: ["alone"]}) == ["alone"]
    assert told_by({1: [], 2: []}) == told_by({}) == []


def key(version="1", *, used=0, first=None, last=None, **more):
    return {
        "section": "partner",
        "version": version,
        "uses": ["sign", "decrypt"],
        "fingerprint": "f",
        "used": used,
        "operations": {"sign": used} if used else {},
        "first_used": first,
        "last_used": last,
        "first_seen": None,
        **more,
    }


def page(*keys, generation=1, client="hk"):
    told = {"client": client, "generation": generation, "keys": [*keys]}
    moments = {"time": "2026-11-02T00:00:00Z", "counted_since": "2026-11-01T00:00:00Z"}
    return {**moments, "clients": [told]}


EARLY, LATE = "2026-11-01T00:00:01Z", "2026-11-01T00:00:09Z"


def keys_of(page):
    return page["clients"][0]["keys"]


def test_uses_are_summed_from_the_first_to_the_last():
    one, two = key(used=2, first=LATE, last=LATE), key(used=3, first=EARLY, last=EARLY)
    (found,) = keys_of(Usages().together([page(one), page(two)]))
    assert (found["used"], found["operations"]) == (5, {"sign": 5})
    assert (found["first_used"], found["last_used"]) == (EARLY, LATE)


def test_a_worker_that_used_none_changes_nothing():
    (found,) = keys_of(Usages().together([page(key()), page(key(used=1, last=LATE))]))
    assert (found["used"], found["first_used"], found["last_used"]) == (1, None, LATE)


def test_what_a_dead_worker_did_still_counts():
    usages = Usages()
    usages.add(page(key(used=4, first=EARLY, last=EARLY)))
    usages.add(page(key(used=1, first=LATE, last=LATE)))
    (found,) = keys_of(usages.together([page(key())]))
    assert (found["used"], found["first_used"], found["last_used"]) == (5, EARLY, LATE)


def test_the_oldest_ring_is_shown_and_another_key_of_that_version_is_not_it():
    old, new = key(used=1), key(used=7, fingerprint="g")
    got = Usages().together(
        [page(new, key("2"), generation=2), page(old, generation=1)]
    )
    assert got["clients"][0]["generation"] == 1
    (found,) = keys_of(got)
    assert (found["fingerprint"], found["used"]) == ("f", 1)


def test_a_ring_that_one_could_not_load_hides_no_other():
    got = Usages().together([page(generation=None), page(key(used=1), generation=3)])
    assert (got["clients"][0]["generation"], len(keys_of(got))) == (3, 1)


def test_a_key_that_left_every_ring_is_forgotten():
    usages = Usages()
    usages.add(page(key(used=4)))
    usages.together([page(key("2"))])
    (found,) = keys_of(usages.together([page(key())]))
    assert found["used"] == 0
