"""Which call goes where, and whether it is encrypted."""

import dataclasses

import pytest

from gateway import config
from gateway.errors import (
    EncryptionRequired,
    EncryptionUnavailable,
    InvalidRequest,
    UnknownRoute,
)
from gateway.relay.routes import Call, Client, Route, Routes


def client(name):
    return Client(name, f"ID-{name}", keyrings=None, upstream=None)


HK, MO = client("hk"), client("mo")
PAY = Route("/pay", HK)
SHARED_HK, SHARED_MO = Route("/shared", HK), Route("/shared", MO)
ROUTES = Routes([PAY, SHARED_HK, SHARED_MO, Route("/a%2Fb", HK)])


def found(target, name=None):
    return ROUTES.find(target, name)


@pytest.mark.parametrize("target", ["/pay", "/pay?a=b", "/pay?", "/pay?a=/b?c"])
def test_a_route_is_found_by_its_path_whatever_the_query(target):
    assert found(target) is PAY
    assert found(target, "hk") is PAY


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/",
            "",
            "pay",
            "/pa",
            "/pay/",
            "/pay/x",
            "//pay",
            "/PAY",
            "/pay%20",
            "/%70ay",
        ),
        *("/./pay", "/x/../pay", "/pay#x", "/pay;x", "/a/b", "/a%2fb", " /pay"),
        *("https://host/pay", "?/pay", "/shared/pay"),
    ],
)
@pytest.mark.parametrize("name", [None, "hk"])
def test_a_path_is_compared_byte_for_byte(target, name):
    with pytest.raises(UnknownRoute):
        found(target, name)


def test_where_clients_share_a_path_the_caller_names_one():
    assert found("/shared", "hk") is SHARED_HK
    assert found("/shared?a=b", "mo") is SHARED_MO
    with pytest.raises(InvalidRequest, match="Gateway-Client"):
        found("/shared")


@pytest.mark.parametrize("name", ["mo", "", "HK", "hk ", "nobody"])
def test_a_client_without_that_route_finds_none(name):
    with pytest.raises(UnknownRoute):
        found("/pay", name)


def test_a_route_belongs_to_its_client():
    assert found("/shared", "mo").client is MO


def test_without_routes_nothing_is_found():
    with pytest.raises(UnknownRoute):
        Routes([]).find("/pay")


def test_routes_may_come_from_an_iterator():
    assert Routes(iter([PAY])).find("/pay") is PAY


# --- encryption --------------------------------------------------------------

#    the route: optional     off          required
TABLE = {
    None: (False, False, True),
    False: (False, False, EncryptionRequired),
    True: (True, EncryptionUnavailable, True),
}


@pytest.mark.parametrize("wish", TABLE, ids=["no wish", "plain", "encrypted"])
@pytest.mark.parametrize(
    ("encrypts", "column"), [(None, 0), (False, 1), (True, 2)], ids=str
)
def test_the_route_and_the_caller_decide_on_encryption(encrypts, column, wish):
    route, expected = Route("/pay", HK, encrypts), TABLE[wish][column]
    if isinstance(expected, bool):
        assert route.encryption_for(wish) is expected
    else:
        with pytest.raises(expected):
            route.encryption_for(wish)


def test_without_a_setting_a_route_encrypts_as_the_caller_wishes():
    assert Route("/pay", HK).encrypts is None


def test_a_client_and_a_route_have_the_configurations_defaults():
    """So that who makes them by hand gets what who writes a file gets."""
    of_client, of_route = config.Client.model_fields, config.Route.model_fields
    assert HK.clock_tolerance.total_seconds() == of_client["clock_tolerance_s"].default
    assert HK.zone == of_client["time_offset"].default
    for name in ("send_key_version", "encrypted_content_type", "reuse_content_key"):
        assert getattr(HK, name) == of_client[name].default
    assert PAY.timeout_s == of_route["timeout_s"].default


# --- values ------------------------------------------------------------------


def test_a_body_is_in_no_text_of_a_call():
    assert "hunter2" not in repr(Call("/pay", b"hunter2"))


@pytest.mark.parametrize("value", [HK, PAY, Call("/pay", b"{}")], ids=repr)
def test_clients_routes_and_calls_cannot_be_changed(value):
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "x")
