"""What a caller may call, and that a refusal teaches nothing."""

import pytest

from gateway.access.callers import Caller, Callers, Credentials
from gateway.access.policy import Mode, Permits, Policy
from gateway.access.rates import Bucket, Rate
from gateway.access.tokens import hash_token
from gateway.errors import (
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    TooManyRequests,
    Unauthenticated,
    UnknownRoute,
)
from gateway.events import ExchangeRecord
from gateway.relay.routes import Client, Route, Routes

HK, MO = (Client(name, f"ID-{name}", keyrings=None, upstream=None) for name in "hm")
PAY, SYNC, SYNC_MO = Route("/pay", HK), Route("/sync", HK), Route("/sync", MO)
ROUTES = Routes([PAY, SYNC, SYNC_MO])
TOKEN = "t" * 43
BEARER = Credentials((f"Bearer {TOKEN}",))


class Scene:
    def __init__(self, mode=Mode.ENFORCE, rate=None, before=None, new_bucket=None):
        self.now = 0.0
        callers = Callers([Caller("catalogue", (hash_token(TOKEN),))])
        permits = {"catalogue": Permits(Routes([SYNC]), rate)}
        self.policy = Policy(
            ROUTES,
            callers,
            permits,
            mode=mode,
            monotonic=lambda: self.now,
            before=before and before.policy,
            new_bucket=new_bucket,
        )
        self.record = ExchangeRecord("e")

    def decide(self, target, client=None, credentials=BEARER):
        self.record = ExchangeRecord("e")
        self.policy.identify(credentials, self.record)
        route = self.policy.route(target, client, self.record)
        self.policy.take(self.record)
        return route


@pytest.fixture
def scene():
    return Scene()


def test_a_caller_gets_its_routes(scene):
    assert scene.decide("/sync") is SYNC
    assert scene.decide("/sync?a=b", "h") is SYNC
    assert scene.record.caller == "catalogue"
    assert scene.record.denied is None


def test_only_clients_that_are_its_own_make_a_path_ambiguous(scene):
    assert scene.decide("/sync") is SYNC
    with pytest.raises(InvalidRequest):
        ROUTES.find("/sync")


NOT_HIS = {
    "a route of others": ("/pay", None),
    "a client of others": ("/sync", "m"),
    "no route": ("/nowhere", None),
    "no client": ("/sync", "nobody"),
    "neither": ("/nowhere", "nobody"),
}


def test_what_is_not_its_own_and_what_does_not_exist_are_told_the_same(scene):
    told = set()
    for target, client in NOT_HIS.values():
        with pytest.raises(Forbidden) as caught:
            scene.decide(target, client)
        told.add((caught.value.code, caught.value.detail))
        assert scene.record.denied == "forbidden"
    assert len(told) == 1


@pytest.mark.parametrize(("target", "client"), [*NOT_HIS.values(), ("/sync", None)])
def test_who_is_not_known_learns_nothing_else(scene, target, client):
    with pytest.raises(Unauthenticated):
        scene.decide(target, client, Credentials())
    assert (scene.record.caller, scene.record.denied) == ("", "unauthenticated")


def test_a_rate_is_the_callers(scene):
    scene = Scene(rate=Rate(1.0, 2))
    scene.decide("/sync")
    scene.decide("/sync")
    with pytest.raises(TooManyRequests) as caught:
        scene.decide("/sync")
    assert caught.value.retry_after_s == 1.0
    scene.now = 1.0
    scene.decide("/sync")


def test_a_bucket_may_be_somebody_elses(scene):
    bucket, asked = Bucket(Rate(1.0, 1), 0.0), []

    def new_bucket(caller, rate):
        asked.append((caller, rate))
        return bucket

    scene = Scene(rate=Rate(1.0, 1), new_bucket=new_bucket)
    assert asked == [("catalogue", Rate(1.0, 1))]
    assert bucket.take(0.0) == 0  # by another process
    with pytest.raises(TooManyRequests):
        scene.decide("/sync")


def test_what_is_refused_costs_nothing_of_the_rate(scene):
    scene = Scene(rate=Rate(1.0, 1))
    for _ in range(5):
        with pytest.raises(Forbidden):
            scene.decide("/pay")
    scene.decide("/sync")


@pytest.mark.parametrize("same", [True, False])
def test_a_rate_goes_on_over_a_reload_unless_it_is_another(same):
    rate = Rate(1.0, 1)
    before = Scene(rate=rate)
    before.decide("/sync")
    after = Scene(rate=Rate(1.0, 1 if same else 2), before=before)
    if same:
        with pytest.raises(TooManyRequests):
            after.decide("/sync")
    else:
        after.decide("/sync")


REPORTED = {
    "nobody": ("/pay", None, Credentials(), "unauthenticated", PAY),
    "a route of others": ("/pay", None, BEARER, "forbidden", PAY),
    "a client of others": ("/sync", "m", BEARER, "forbidden", SYNC_MO),
    "its own": ("/sync", None, BEARER, None, SYNC),
}


@pytest.mark.parametrize(
    ("target", "client", "credentials", "refused", "route"),
    REPORTED.values(),
    ids=REPORTED.keys(),
)
def test_a_policy_that_only_reports_lets_through_and_says_so(
    target, client, credentials, refused, route
):
    scene = Scene(Mode.REPORT)
    assert scene.decide(target, client, credentials) is route
    assert scene.record.denied == refused


def test_what_does_not_exist_is_not_let_through_by_any_policy():
    scene = Scene(Mode.REPORT)
    with pytest.raises(UnknownRoute):
        scene.decide("/nowhere")
    assert scene.record.denied == "forbidden"


def test_a_policy_that_only_reports_does_not_stop_at_a_rate():
    scene = Scene(Mode.REPORT, Rate(1.0, 1))
    scene.decide("/sync")
    assert scene.record.denied is None
    scene.decide("/sync")
    assert scene.record.denied == "too_many_requests"


def test_without_callers_all_routes_are_anyones():
    policy = Policy(ROUTES, Callers([]), {}, mode=Mode.ENFORCE, monotonic=lambda: 0.0)
    record = ExchangeRecord("e")
    policy.identify(Credentials(), record)
    assert policy.route("/pay", None, record) is PAY
    with pytest.raises(UnknownRoute):
        policy.route("/nowhere", None, record)
    policy.take(record)
    assert record == ExchangeRecord("e")


METHODS = {
    "its own path": ("/sync?a=b", MethodNotAllowed),
    "a path of others": ("/pay", Forbidden),
    "no path": ("/nowhere", Forbidden),
}


@pytest.mark.parametrize(("target", "error"), METHODS.values(), ids=METHODS.keys())
def test_another_method_says_no_more_of_what_exists_than_a_call(scene, target, error):
    scene.policy.identify(BEARER, scene.record)
    with pytest.raises(error):
        scene.policy.check_method("GET", target, scene.record)
    scene.policy.check_method("POST", target, scene.record)


@pytest.mark.parametrize(
    ("target", "error"),
    [("/sync", MethodNotAllowed), ("/pay", MethodNotAllowed), ("/x", UnknownRoute)],
)
def test_without_callers_or_enforcement_another_method_is_told_as_such(target, error):
    scene = Scene(Mode.REPORT)
    scene.policy.identify(BEARER, scene.record)
    with pytest.raises(error):
        scene.policy.check_method("GET", target, scene.record)
    policy = Policy(ROUTES, Callers([]), {}, mode=Mode.ENFORCE, monotonic=lambda: 0.0)
    with pytest.raises(error):
        policy.check_method("GET", target, ExchangeRecord("e"))
