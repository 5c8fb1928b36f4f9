"""Certificates near their end, of a whole gateway: whoever showed or trusts them."""

import json
import ssl
import sys
from datetime import UTC, datetime

import pytest
import yaml

from gateway import config
from gateway.plant import CLOCK, ENTROPY
from gateway.preflight import check
from tests.integration.conftest import change
from tests.integration.pki import DAY, LOCALHOST, Authority

NAME = "gateway_certificate_not_after_timestamp_seconds"
TLS = {"certificate": "ours.crt", "private_key": "ours.key"}


@pytest.fixture
def authority(tmp_path):
    authority = Authority(tmp_path, ends=400 * DAY)
    for name, days in (("ours", 100), ("theirs", 200), ("shown", 300)):
        authority.issue(name, *LOCALHOST, ends=days * DAY)
    return authority


def server_side(authority, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = authority.folder
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


def settings_of(name="shown"):
    tls = {"ca_file": "ca.crt", "certificate": f"{name}.crt"}
    return {"client": {"tls": {**tls, "private_key": f"{name}.key"}}}


async def days_left(house, setting):
    end = await house.metric(f'{NAME}{{setting="{setting}"}}')
    return None if end is None else (end - datetime.now(UTC).timestamp()) / 86400


async def warnings(house):
    return json.loads((await house.admin_get("/readyz")).body)["warnings"]


async def test_every_certificate_in_use_has_its_end_in_the_metrics(
    run_house, authority
):
    tls = server_side(authority, "theirs")
    async with run_house(wallet_tls=tls, scheme="https", **settings_of()) as house:
        assert await days_left(house, "client hk: upstream") is None
        assert (await house.caller.post()).status == 200
        for setting, days in (
            ("client hk: tls.ca_file", 400),
            ("client hk: tls.certificate", 300),
            ("client hk: upstream", 200),
        ):
            assert await days_left(house, setting) == pytest.approx(days, abs=0.1)
        await change(house, lambda settings: settings["routes"][0].update(timeout_s=9))
        assert await days_left(house, "client hk: upstream") is not None
        assert await warnings(house) == []


async def test_those_of_the_listeners_have_theirs(run_house, authority):
    tls = {**TLS, "client_ca": "ca.crt"}
    async with run_house(inbound={"tls": tls}) as house:
        for key, days in (("certificate", 100), ("client_ca", 400)):
            left = await days_left(house, f"inbound.tls.{key}")
            assert left == pytest.approx(days, abs=0.1)


async def test_one_near_its_end_is_warned_of_and_one_that_replaced_it_is_not(
    run_house, authority
):
    authority.issue("ours", *LOCALHOST, ends=13.5 * DAY)
    async with run_house(inbound={"tls": TLS}) as house:
        (warning,) = await warnings(house)
        assert warning.startswith("inbound.tls.certificate: the certificate CN=ours")
        assert warning.endswith("in 13 days")
        (event,) = house.events("certificate_near_end")
        assert (event["setting"], event["days_left"]) == ("inbound.tls.certificate", 13)
        authority.issue("ours", *LOCALHOST, ends=100 * DAY)
        await house.seen(lambda: house.events("certificates_loaded"), "no reload")
        assert await warnings(house) == []


async def test_alipayhks_own_near_its_end_is_warned_of(run_house, authority):
    authority.issue("theirs", *LOCALHOST, ends=5.5 * DAY)
    tls = server_side(authority, "theirs")
    async with run_house(wallet_tls=tls, scheme="https", **settings_of()) as house:
        await house.caller.post()
        (warning,) = await warnings(house)
        assert warning.startswith("client hk: upstream: the certificate CN=theirs")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="refuses it by itself")
async def test_what_a_later_python_refuses_is_warned_of(run_house, authority):
    authority.issue(
        "theirs", *LOCALHOST, ends=90 * DAY, without=["authority key identifier"]
    )
    tls = server_side(authority, "theirs")
    async with run_house(wallet_tls=tls, scheme="https", **settings_of()) as house:
        assert (await house.caller.post()).status == 200
        (warning,) = await warnings(house)
        assert warning == (
            "client hk: upstream: Python 3.13 and later refuse its certificate: "
            "CN=theirs has no authority key identifier"
        )


async def test_check_names_each_one_that_has_expired(run_house, authority, tmp_path):
    authority.issue("ours", *LOCALHOST, ends=-DAY)
    Authority(tmp_path, "old", ends=-DAY)
    async with run_house(inbound={"tls": TLS}, **settings_of()) as house:
        settings = yaml.safe_load(house.file.read_text())
        settings["clients"][0]["tls"] = {**TLS, "ca_file": "old.crt"}
        house.file.write_text(yaml.safe_dump(settings))
        found = await check(config.read(house.file, {}), ENTROPY, CLOCK.now())
    messages = {each.facts()["key"]: each.message for each in found}
    assert sorted(messages) == [
        "clients[0].tls.ca_file",
        "clients[0].tls.certificate",
        "inbound.tls.certificate",
    ]
    assert "CN=ours has expired on " in messages["inbound.tls.certificate"]
    assert "last authority has expired" in messages["clients[0].tls.ca_file"]


async def test_check_takes_a_bundle_of_which_one_is_still_valid(
    run_house, authority, tmp_path
):
    old = Authority(tmp_path, "old", ends=-DAY)
    both = old.file.read_bytes() + authority.file.read_bytes()
    old.write("both.crt", both)
    async with run_house(client={"tls": {"ca_file": "both.crt"}}) as house:
        assert await check(config.read(house.file, {}), ENTROPY, CLOCK.now()) == []
        (warning,) = await warnings(house)
        assert warning.startswith("client hk: tls.ca_file: the certificate CN=old exp")
