"""config.yaml: every key, its default, its bounds and what is refused."""

import os
from datetime import timedelta, timezone
from pathlib import Path

import pytest
import yaml

from gateway import config
from gateway.access.policy import Mode
from gateway.config import (
    Address,
    Caller,
    Client,
    Encryption,
    Inbound,
    KeyHome,
    Keys,
    ListenerTls,
    Route,
    Settings,
    Tls,
    UnixAddress,
    load,
    parse_address,
)
from gateway.config.sections import Admin, Audit, Breaker, Rate
from gateway.documents import DocumentError
from gateway.keys.backends.known import known_homes
from gateway.protocol.results import SIGNATURE_REFUSALS

SHIPPED = Path(__file__).parents[2] / "config.yaml"

CONTRACT = """\
inbound:                       # where internal services call
  listen: 127.0.0.1:8080
  max_body_bytes: 1048576
admin:                         # health, metrics; never for services
  listen: 127.0.0.1:9090
clients:                       # one per Client-Id
  - name: hk-sandbox
    client_id: 4Q5Y8W0WSG45P907917
    upstream: http://127.0.0.1:8089      # production: https://open.alipay.hk
    keyring: keys/hk-sandbox             # relative to this file
    clock_tolerance_s: 300               # how far a Response-Time may be from our clock
routes:                        # what may be called; anything else is 404
  - path: /api/open/alipay/v1/content/synchronize
    client: hk-sandbox
    encryption: optional                 # off | optional | required
    timeout_s: 10
"""

CLIENT = {
    "name": "hk",
    "client_id": "C1",
    "upstream": "https://open.alipay.hk",
    "keyring": "keys",
}
ROUTE = {"path": "/pay", "client": "hk"}
SMALLEST = {"clients": [CLIENT], "routes": [ROUTE]}

DIGEST = "a1" * 32
OTHER = "b2" * 32
CALLER = {"name": "shop", "token_sha256": DIGEST, "clients": ["hk"]}
RATE = {"per_second": 50}
PAIR = {"certificate": "tls/server.pem", "private_key": "tls/server.key"}
AUDIT = {"file": "audit.jsonl", "key": "audit.pem"}
CALLED = {**SMALLEST, "callers": [CALLER]}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config.yaml"


@pytest.fixture
def read(file):
    """Give a function that writes a tree (or a text) and reads the configuration."""

    def write_and_load(tree, environment=None):
        file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
        return load(file, environment or {})

    return write_and_load


@pytest.fixture
def refused(read):
    """Give a function that tells what is wrong with a tree: {where: message}."""

    def problems(tree, environment=None):
        with pytest.raises(DocumentError) as caught:
            read(tree, environment)
        found = caught.value.problems
        assert all(each.line for each in found)
        return {each.where: each.message for each in found}

    return problems


LISTS = {
    "client": ("clients", CLIENT),
    "route": ("routes", ROUTE),
    "caller": ("callers", CALLER),
}
NESTED = {
    "tls": ("client.tls", {}),
    "breaker": ("client.breaker", {}),
    "rate": ("caller.rate", RATE),
    "inbound_tls": ("inbound.tls", PAIR),
    "admin_tls": ("admin.tls", PAIR),
}


def with_value(place, value):
    """Give the smallest configuration with one more value, at a dotted place."""
    section, _, key = place.partition(".")
    if section == "audit":
        return {**SMALLEST, section: {**AUDIT, key: value}}
    if section in NESTED:
        outer, rest = NESTED[section]
        return with_value(outer, {**rest, key: value})
    if section in LISTS:
        name, entry = LISTS[section]
        return {**SMALLEST, name: [{**entry, key: value}]}
    return {**SMALLEST, section: {key: value}}


def guarded(tree):
    """Give the same with somebody named for each listener, so that it may be open."""
    admin = {"admin": {"tokens": [DIGEST], **tree["admin"]}} if "admin" in tree else {}
    return {"callers": [CALLER], **tree, **admin}


def at(settings, place):
    section, _, key = place.partition(".")
    client = settings.clients[0]
    parts = {
        "client": client,
        "tls": client.tls,
        "breaker": client.breaker,
        "route": settings.routes[0],
        "caller": settings.callers[0] if settings.callers else None,
        "rate": settings.callers[0].rate if settings.callers else None,
        "inbound": settings.inbound,
        "inbound_tls": settings.inbound.tls,
        "admin": settings.admin,
        "admin_tls": settings.admin.tls,
        "audit": settings.audit,
        "keys": settings.keys,
    }
    return getattr(parts[section], key)


def where(place):
    prefixes = {
        "client": "clients[0]",
        "tls": "clients[0].tls",
        "breaker": "clients[0].breaker",
        "route": "routes[0]",
        "caller": "callers[0]",
        "rate": "callers[0].rate",
        "inbound_tls": "inbound.tls",
        "admin_tls": "admin.tls",
    }
    section, _, key = place.partition(".")
    return f"{prefixes.get(section, section)}.{key}"


# --- the whole file ----------------------------------------------------------


def test_the_shipped_file_is_the_contracts_example():
    assert yaml.safe_load(SHIPPED.read_text()) == yaml.safe_load(CONTRACT)


def test_the_shipped_file_loads_without_an_environment():
    settings = load(SHIPPED, {})
    assert settings.inbound.listen == Address("127.0.0.1", 8080)
    assert settings.inbound.max_body_bytes == 1048576
    assert settings.admin.listen == Address("127.0.0.1", 9090)
    (client,), (route,) = settings.clients, settings.routes
    assert client.name == "hk-sandbox"
    assert client.client_id == "4Q5Y8W0WSG45P907917"
    assert client.upstream == "http://127.0.0.1:8089"
    assert client.keyring == SHIPPED.parent / "keys" / "hk-sandbox"
    assert client.clock_tolerance_s == 300
    assert route.path == "/api/open/alipay/v1/content/synchronize"
    assert route.client == "hk-sandbox"
    assert route.encryption is Encryption.OPTIONAL
    assert route.timeout_s == 10


DEFAULTS = {
    "inbound.listen": Address("127.0.0.1", 8080),
    "inbound.tls": None,
    "inbound.max_header_bytes": 16384,
    "inbound.max_body_bytes": 1048576,
    "inbound.body_timeout_s": 30.0,
    "inbound.write_timeout_s": 30.0,
    "inbound.hosts": (),
    "admin.hosts": (),
    "inbound.head_timeout_s": 10.0,
    "inbound.idle_timeout_s": 75.0,
    "inbound.max_connections": 2048,
    "inbound.max_concurrent": 512,
    "inbound.queue_timeout_s": 1.0,
    "inbound.max_buffered_bytes": 268435456,
    "inbound.drain_grace_s": 1.0,
    "inbound_tls.client_ca": None,
    "admin.listen": Address("127.0.0.1", 9090),
    "admin.tls": None,
    "admin.tokens": (),
    "admin_tls.client_ca": None,
    "client.clock_tolerance_s": 300.0,
    "client.connect_timeout_s": 5.0,
    "client.first_byte_timeout_s": None,
    "client.max_connection_age_s": 300.0,
    "client.max_concurrent": None,
    "client.cryptoperiod_days": 365,
    "client.cryptoperiod_warning_days": 30,
    "client.retries": 1,
    "client.breaker": Breaker(failures=10, open_s=5.0),
    "client.public_addresses_only": False,
    "client.max_response_bytes": 8388608,
    "client.time_offset": timezone(timedelta(hours=8)),
    "client.send_key_version": True,
    "client.encrypted_content_type": "application/json; charset=UTF-8",
    "client.reuse_content_key": False,
    "client.signature_refusal_codes": SIGNATURE_REFUSALS,
    "client.tls": Tls(ca_file=None, certificate=None, private_key=None),
    "tls.ca_file": None,
    "tls.certificate": None,
    "tls.private_key": None,
    "breaker.failures": 10,
    "breaker.open_s": 5.0,
    "route.encryption": Encryption.OPTIONAL,
    "route.timeout_s": 10.0,
    "route.repeat_unknown": False,
    "caller.client_certificate": None,
    "caller.routes": None,
    "audit.max_bytes": 67108864,
    "audit.checkpoint_every": 100,
    "audit.exchanges": False,
    "audit.required": False,
    "keys.homes": (KeyHome.FILE, KeyHome.PKCS11),
    "caller.rate": None,
    "caller.max_concurrent": None,
    "rate.burst": None,
}
REQUIRED = {
    "client": set(CLIENT),
    "route": set(ROUTE),
    "caller": {"name", "clients", "token_sha256"},
    "rate": set(RATE),
    "inbound_tls": set(PAIR),
    "admin_tls": set(PAIR),
    "audit": set(AUDIT),
}
"""A caller's token may be left out where it shows a certificate."""

MODELS = {
    "inbound": Inbound,
    "inbound_tls": ListenerTls,
    "admin": Admin,
    "admin_tls": ListenerTls,
    "client": Client,
    "tls": Tls,
    "breaker": Breaker,
    "route": Route,
    "caller": Caller,
    "rate": Rate,
    "audit": Audit,
    "keys": Keys,
}


@pytest.mark.parametrize(("place", "value"), DEFAULTS.items(), ids=DEFAULTS.keys())
def test_what_is_left_out_has_its_default(read, place, value):
    section = place.partition(".")[0]
    caller = {**CALLER, "rate": RATE} if section == "rate" else CALLER
    listener = section.removesuffix("_tls")
    listeners = {} if listener == section else {listener: {"tls": PAIR}}
    audit = {"audit": AUDIT} if section == "audit" else {}
    settings = read({**SMALLEST, **listeners, **audit, "callers": [caller]})
    assert at(settings, place) == value


def test_nobody_is_named_and_everything_enforced_where_nothing_is_said(read):
    settings = read(SMALLEST)
    assert settings.callers == ()
    assert settings.policy is Mode.ENFORCE
    assert settings.audit is None


@pytest.mark.parametrize("key", AUDIT)
def test_an_audit_needs_its_file_and_key(refused, key):
    audit = {name: value for name, value in AUDIT.items() if name != key}
    found = refused({**SMALLEST, "audit": audit})
    assert found == {f"audit.{key}": "this key is required"}


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [("max_bytes", 4096, 1 << 30), ("checkpoint_every", 2, 1 << 20)],
)
def test_an_audits_numbers_have_bounds(read, refused, key, least, most):
    for value in (least, most):
        assert at(read(with_value(f"audit.{key}", value)), f"audit.{key}") == value
    for value in (least - 1, most + 1):
        assert f"audit.{key}" in refused(with_value(f"audit.{key}", value))


def test_an_audits_files_are_beside_the_configuration(read, file):
    audit = read({**SMALLEST, "audit": AUDIT}).audit
    assert audit.file == file.parent / "audit.jsonl"
    assert audit.key == file.parent / "audit.pem"


def test_every_key_is_required_or_has_a_default_that_is_tested_here():
    keys = {
        f"{name}.{key}" for name, model in MODELS.items() for key in model.model_fields
    }
    required = {f"{name}.{key}" for name, own in REQUIRED.items() for key in own}
    assert keys == required | set(DEFAULTS)
    sections = {"inbound", "admin", "clients", "routes", "callers", "policy"}
    sections |= {"audit", "keys", "workers"}
    assert set(Settings.model_fields) == sections


def test_workers_are_a_number_or_as_many_as_there_are_processors(read):
    assert read(SMALLEST).processes == read(SMALLEST).workers == 1
    assert read({**SMALLEST, "workers": 3}).processes == 3
    by_itself = read({**SMALLEST, "workers": "auto"})
    assert by_itself.workers == "auto"
    assert by_itself.processes == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("value", [0, -1, 257, 1.5, True, "two", "Auto", [], "1" * 99])
def test_other_numbers_of_workers_are_refused(refused, value):
    found = refused({**SMALLEST, "workers": value})
    assert found == {"workers": "must be a whole number from 1 to 256, or auto"}


@pytest.mark.parametrize("key", CLIENT)
def test_a_client_needs_its_name_id_upstream_and_keyring(refused, key):
    client = {name: value for name, value in CLIENT.items() if name != key}
    found = refused({"clients": [client], "routes": [ROUTE]})
    assert found == {f"clients[0].{key}": "this key is required"}


@pytest.mark.parametrize("key", ROUTE)
def test_a_route_needs_its_path_and_client(refused, key):
    route = {name: value for name, value in ROUTE.items() if name != key}
    found = refused({"clients": [CLIENT], "routes": [route]})
    assert found == {f"routes[0].{key}": "this key is required"}


@pytest.mark.parametrize("key", ["name", "clients"])
def test_a_caller_needs_its_name_and_clients(refused, key):
    caller = {name: value for name, value in CALLER.items() if name != key}
    found = refused({**SMALLEST, "callers": [caller]})
    assert found == {f"callers[0].{key}": "this key is required"}


def test_a_rate_needs_to_say_how_often(refused):
    found = refused(with_value("caller.rate", {"burst": 5}))
    assert found == {"callers[0].rate.per_second": "this key is required"}


@pytest.mark.parametrize("listener", ["inbound", "admin"])
@pytest.mark.parametrize("key", PAIR)
def test_tls_of_a_listener_needs_a_certificate_and_its_key(refused, listener, key):
    tls = {name: value for name, value in PAIR.items() if name != key}
    found = refused(with_value(f"{listener}.tls", tls))
    assert found == {f"{listener}.tls.{key}": "this key is required"}


@pytest.mark.parametrize("section", ["clients", "routes"])
def test_there_is_at_least_one_client_and_one_route(refused, section):
    assert refused({**SMALLEST, section: []}) == {section: "at least one is needed"}
    assert refused({**SMALLEST, section: None}) == {section: "must be a list"}
    assert refused({**SMALLEST, section: "hk"}) == {section: "must be a list"}


def test_without_clients_or_routes_both_are_told(read):
    with pytest.raises(DocumentError) as caught:
        read("inbound: {listen: 'localhost:1'}")
    assert [(each.where, each.message) for each in caught.value.problems] == [
        ("clients", "this key is required"),
        ("routes", "this key is required"),
    ]


@pytest.mark.parametrize("section", ["inbound", "admin"])
@pytest.mark.parametrize("value", [None, [], "text"])
def test_a_section_without_its_keys_is_not_silently_the_default(
    refused, section, value
):
    found = refused({**SMALLEST, section: value})
    assert found == {section: "must be a mapping of keys to values"}


@pytest.mark.parametrize("text", ["- a", "text", "[]"])
def test_a_file_that_is_no_mapping_is_refused(refused, text):
    assert refused(text) == {"": "must be a mapping of keys to values"}


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ("inbound.max_body_byte", "max_body_bytes"),
        ("admin.listne", "listen"),
        ("client.clientid", "client_id"),
        ("client.clock_tolerance", "clock_tolerance_s"),
        ("tls.cafile", "ca_file"),
        ("route.timeout", "timeout_s"),
        ("route.repeat_unknwon", "repeat_unknown"),
        ("client.retry", "retries"),
        ("breaker.open", "open_s"),
        ("inbound.max_connection", "max_connections"),
        ("inbound_tls.ca_client", "client_ca"),
        ("admin.token", "tokens"),
        ("caller.token_sha265", "token_sha256"),
        ("caller.client", "clients"),
        ("rate.per_seconds", "per_second"),
    ],
)
def test_an_unknown_key_is_refused_with_the_likely_one(refused, place, near):
    found = refused(with_value(place, "x"))
    assert found == {where(place): f"unknown key; did you mean {near}?"}


def test_a_token_has_no_place_in_the_file(refused):
    assert "unknown key" in refused(with_value("caller.token", "x"))["callers[0].token"]


def test_a_private_key_has_no_place_in_the_file(refused):
    found = refused(with_value("client.private_key_pem", "x"))
    assert "unknown key" in found["clients[0].private_key_pem"]


# --- values ------------------------------------------------------------------

GOOD = [
    ("inbound.listen", "0.0.0.0:80", Address("0.0.0.0", 80)),
    ("inbound.max_body_bytes", 1, 1),
    ("inbound.max_body_bytes", 1 << 30, 1 << 30),
    ("inbound.max_header_bytes", 1024, 1024),
    ("inbound.max_header_bytes", 1 << 20, 1 << 20),
    ("inbound.max_concurrent", 1, 1),
    ("inbound.max_concurrent", 100000, 100000),
    ("inbound.max_connections", 1, 1),
    ("inbound.max_connections", 1 << 20, 1 << 20),
    ("inbound.max_buffered_bytes", 1, 1),
    ("inbound.max_buffered_bytes", 1 << 40, 1 << 40),
    ("inbound.queue_timeout_s", 0, 0.0),
    ("inbound.queue_timeout_s", 3600, 3600.0),
    ("inbound.drain_grace_s", 0, 0.0),
    ("inbound.drain_grace_s", "0.5", 0.5),
    ("inbound.write_timeout_s", 0.001, 0.001),
    ("inbound.write_timeout_s", 3600, 3600.0),
    ("inbound.head_timeout_s", 0.001, 0.001),
    ("inbound.hosts", ["GW.lan", "[::2]"], ("gw.lan", "[::2]")),
    ("admin.hosts", ["10.0.0.1"], ("10.0.0.1",)),
    ("inbound.idle_timeout_s", 0.001, 0.001),
    ("inbound.idle_timeout_s", 3600, 3600.0),
    ("inbound.body_timeout_s", 0.001, 0.001),
    ("inbound.body_timeout_s", 3600, 3600.0),
    ("admin.listen", "[::]:0", Address("::", 0)),
    ("admin.tokens", [], ()),
    ("admin.tokens", [DIGEST, OTHER.upper()], (b"\xa1" * 32, b"\xb2" * 32)),
    ("keys.homes", ["pkcs11"], (KeyHome.PKCS11,)),
    ("keys.homes", ["pkcs11", "file"], (KeyHome.PKCS11, KeyHome.FILE)),
    ("client.name", "a", "a"),
    ("client.name", "A.b_c-9" + "x" * 57, "A.b_c-9" + "x" * 57),
    ("client.client_id", "0211", "0211"),
    ("client.client_id", "!" + "~" * 127, "!" + "~" * 127),
    ("client.clock_tolerance_s", "0.5", 0.5),
    ("client.clock_tolerance_s", 3600, 3600.0),
    ("client.connect_timeout_s", 1, 1.0),
    ("client.first_byte_timeout_s", "2.5", 2.5),
    ("client.first_byte_timeout_s", 3600, 3600.0),
    ("client.max_connection_age_s", "60", 60.0),
    ("client.max_concurrent", 1, 1),
    ("client.max_concurrent", 1 << 20, 1 << 20),
    ("client.cryptoperiod_days", 1, 1),
    ("client.cryptoperiod_days", 36500, 36500),
    ("client.cryptoperiod_warning_days", 0, 0),
    ("client.retries", 0, 0),
    ("client.retries", 5, 5),
    ("client.breaker", {}, Breaker()),
    ("client.public_addresses_only", True, True),
    ("client.public_addresses_only", "yes", True),
    ("breaker.failures", 1, 1),
    ("breaker.failures", 1 << 20, 1 << 20),
    ("breaker.open_s", 0.1, 0.1),
    ("breaker.open_s", 3600, 3600.0),
    ("client.max_response_bytes", 1 << 30, 1 << 30),
    ("client.time_offset", "+00:00", timezone(timedelta(0))),
    ("client.time_offset", "-00:00", timezone(timedelta(0))),
    ("client.time_offset", "-03:30", timezone(-timedelta(hours=3, minutes=30))),
    ("client.time_offset", "+05:45", timezone(timedelta(hours=5, minutes=45))),
    ("client.time_offset", "+14:00", timezone(timedelta(hours=14))),
    ("client.time_offset", "+00:59", timezone(timedelta(minutes=59))),
    ("client.send_key_version", False, False),
    ("client.send_key_version", "no", False),
    ("client.encrypted_content_type", "text/plain", "text/plain"),
    (
        "client.encrypted_content_type",
        "text/plain; charset=UTF-8",
        "text/plain; charset=UTF-8",
    ),
    ("client.encrypted_content_type", "a/b;c=d", "a/b;c=d"),
    ("client.reuse_content_key", True, True),
    ("client.signature_refusal_codes", ["BAD_SIG", "a.b-1"], ("BAD_SIG", "a.b-1")),
    ("client.tls", {}, Tls()),
    ("route.path", "/", "/"),
    ("route.path", "/..pay/pay./...", "/..pay/pay./..."),
    (
        "route.path",
        "/a/b.c~d;e,f:g@h&i='(*)+!$%2F-_",
        "/a/b.c~d;e,f:g@h&i='(*)+!$%2F-_",
    ),
    ("route.encryption", "off", Encryption.OFF),
    ("route.encryption", "required", Encryption.REQUIRED),
    ("route.timeout_s", "0.1", 0.1),
    ("route.timeout_s", 3600, 3600.0),
    ("route.repeat_unknown", True, True),
    ("caller.name", "A.b_c-9" + "x" * 57, "A.b_c-9" + "x" * 57),
    ("caller.token_sha256", DIGEST, (b"\xa1" * 32,)),
    ("caller.token_sha256", DIGEST.upper(), (b"\xa1" * 32,)),
    ("caller.token_sha256", [DIGEST], (b"\xa1" * 32,)),
    ("caller.token_sha256", [DIGEST, OTHER], (b"\xa1" * 32, b"\xb2" * 32)),
    ("caller.clients", ["hk"], ("hk",)),
    ("caller.routes", ["/pay"], ("/pay",)),
    ("caller.max_concurrent", 1, 1),
    ("caller.max_concurrent", 1 << 20, 1 << 20),
    ("rate.per_second", "0.001", 0.001),
    ("rate.per_second", 1000000, 1000000.0),
    ("rate.burst", 1, 1),
    ("rate.burst", 1 << 20, 1 << 20),
]

WHOLE, NUMBER = "must be a whole number", "must be a number"
OVER_0, OVER_1 = "must be above 0", "must be at least 1"
TO_3600, TO_GIB = "must be at most 3600", "must be at most 1073741824"
TRUTH, FINITE = "must be true or false", "must be a finite number"
A_PATH = "must be a path"
HOST_PORT = "must be HOST:PORT, such as 127.0.0.1:8080"
TO_MIB, UNDER_KIB = "must be at most 1048576", "must be at least 1024"
UNDER_0, TO_5 = "must be at least 0", "must be at most 5"
SHA256 = "must be the SHA-256 of a token, 64 hex digits: `gateway callers new`"
LIST, MAPPING = "must be a list", "must be a mapping of keys to values"
SAN = "must be a subject alternative name, such as spiffe://prod/catalogue"
LABEL = "must be 1 to 64 letters, digits, dots, hyphens or underscores"
CLIENT_ID = "a Client-Id is 1 to 128 visible ASCII characters, without spaces"
OFFSET = "must be an offset from UTC such as +08:00"
MEDIA = "must be a media type such as text/plain; charset=UTF-8"
PATH = "must be a path alone"
TARGET = "a target is a path"

BAD = [
    ("inbound.listen", "8080", HOST_PORT),
    ("inbound.listen", None, HOST_PORT),
    ("inbound.listen", ["127.0.0.1:8080"], HOST_PORT),
    ("admin.listen", ":9090", HOST_PORT),
    ("inbound.max_body_bytes", 0, OVER_0),
    ("inbound.max_body_bytes", -1, OVER_0),
    ("inbound.max_body_bytes", (1 << 30) + 1, TO_GIB),
    ("inbound.max_body_bytes", "1MiB", WHOLE),
    ("inbound.max_body_bytes", "1.5", WHOLE),
    ("inbound.max_body_bytes", None, WHOLE),
    ("inbound.max_concurrent", 0, OVER_1),
    ("inbound.max_concurrent", "many", WHOLE),
    ("inbound.body_timeout_s", 0, OVER_0),
    ("inbound.body_timeout_s", 3600.1, TO_3600),
    ("inbound.max_concurrent", (1 << 20) + 1, TO_MIB),
    ("inbound.tls", "server.pem", MAPPING),
    ("inbound.max_header_bytes", 1023, UNDER_KIB),
    ("inbound.max_header_bytes", (1 << 20) + 1, TO_MIB),
    ("inbound.max_header_bytes", "16k", WHOLE),
    ("inbound.max_connections", 0, OVER_1),
    ("inbound.max_connections", (1 << 20) + 1, TO_MIB),
    ("inbound.max_buffered_bytes", 0, OVER_0),
    ("inbound.max_buffered_bytes", (1 << 40) + 1, "must be at most 1099511627776"),
    ("inbound.queue_timeout_s", -0.1, UNDER_0),
    ("inbound.queue_timeout_s", 3600.1, TO_3600),
    ("inbound.queue_timeout_s", "inf", FINITE),
    ("inbound.drain_grace_s", -1, UNDER_0),
    ("inbound.drain_grace_s", 3601, TO_3600),
    ("inbound.write_timeout_s", 0, OVER_0),
    ("inbound.write_timeout_s", "nan", FINITE),
    ("inbound.head_timeout_s", 0, OVER_0),
    ("inbound.head_timeout_s", 3601, TO_3600),
    ("inbound.idle_timeout_s", 0, OVER_0),
    ("inbound.idle_timeout_s", 3601, TO_3600),
    ("admin.tokens", None, LIST),
    ("admin.tokens", DIGEST, LIST),
    ("keys.homes", [], "at least one is needed"),
    ("keys.homes", "pkcs11", LIST),
    ("client.name", "", LABEL),
    ("client.name", "x" * 65, LABEL),
    ("client.name", ".a", LABEL),
    ("client.name", "a b", LABEL),
    ("client.name", "a\n", LABEL),
    ("client.name", "é", LABEL),
    ("client.name", None, "must be text"),
    ("client.client_id", "", CLIENT_ID),
    ("client.client_id", "a ", CLIENT_ID),
    ("client.client_id", "a\n", CLIENT_ID),
    ("client.client_id", "é", CLIENT_ID),
    ("client.client_id", "x" * 129, CLIENT_ID),
    ("client.client_id", '"4Q5Y8W0WSG45P907917"', CLIENT_ID),
    ("client.client_id", "'4Q5Y8W0WSG45P907917'", CLIENT_ID),
    ("client.client_id", "$CLIENT_ID", CLIENT_ID),
    ("client.keyring", None, A_PATH),
    ("client.keyring", ["a"], A_PATH),
    ("client.clock_tolerance_s", 0, OVER_0),
    ("client.clock_tolerance_s", -300, OVER_0),
    ("client.clock_tolerance_s", "nan", FINITE),
    ("client.clock_tolerance_s", "inf", FINITE),
    ("client.clock_tolerance_s", 3601, TO_3600),
    ("client.clock_tolerance_s", "5 min", NUMBER),
    ("client.connect_timeout_s", 0, OVER_0),
    ("client.first_byte_timeout_s", 0, OVER_0),
    ("client.first_byte_timeout_s", 3601, TO_3600),
    ("client.max_connection_age_s", 0, OVER_0),
    ("client.max_connection_age_s", 3601, TO_3600),
    ("client.max_concurrent", 0, OVER_1),
    ("client.max_concurrent", "many", WHOLE),
    ("client.cryptoperiod_days", 0, OVER_1),
    ("client.cryptoperiod_days", 36501, "must be at most 36500"),
    ("client.cryptoperiod_days", None, WHOLE),
    ("client.cryptoperiod_warning_days", -1, UNDER_0),
    ("client.cryptoperiod_warning_days", 36501, "must be at most 36500"),
    ("client.retries", -1, UNDER_0),
    ("client.retries", 6, TO_5),
    ("client.retries", None, WHOLE),
    ("client.breaker", None, MAPPING),
    ("client.breaker", "off", MAPPING),
    ("client.public_addresses_only", "maybe", TRUTH),
    ("breaker.failures", 0, OVER_1),
    ("breaker.failures", "ten", WHOLE),
    ("breaker.open_s", 0, OVER_0),
    ("breaker.open_s", 3601, TO_3600),
    ("client.max_response_bytes", 0, OVER_0),
    ("client.max_response_bytes", (1 << 30) + 1, TO_GIB),
    ("client.time_offset", "8", OFFSET),
    ("client.time_offset", "+8:00", OFFSET),
    ("client.time_offset", "+0800", OFFSET),
    ("client.time_offset", "+15:00", OFFSET),
    ("client.time_offset", "+08:60", OFFSET),
    ("client.time_offset", "+\uff10\uff18:\uff10\uff10", OFFSET),
    ("client.time_offset", "+\u0660\u0668:\u0660\u0660", OFFSET),
    ("client.time_offset", "Z", OFFSET),
    ("client.time_offset", "Asia/Hong_Kong", OFFSET),
    ("client.time_offset", None, OFFSET),
    ("client.send_key_version", "maybe", "must be true or false"),
    ("client.send_key_version", None, TRUTH),
    ("client.encrypted_content_type", "json", MEDIA),
    ("client.encrypted_content_type", "", MEDIA),
    ("client.encrypted_content_type", "text/plain\r\nX: y", MEDIA),
    ("client.encrypted_content_type", "text/plain; é", MEDIA),
    ("client.reuse_content_key", "2", "must be true or false"),
    ("client.signature_refusal_codes", [], "at least one is needed"),
    ("client.signature_refusal_codes", "INVALID_SIGNATURE", "must be a list"),
    ("client.tls", None, "must be a mapping of keys to values"),
    ("route.path", "pay", TARGET),
    ("route.path", "", TARGET),
    ("route.path", "//host/pay", TARGET),
    ("route.path", "https://open.alipay.hk/pay", TARGET),
    ("route.path", "/pay#x", TARGET),
    ("route.path", "/pay now", TARGET),
    ("route.path", "/香港", TARGET),
    ("route.path", "/%zz", TARGET),
    ("route.path", "/pay?a=b", PATH),
    ("route.path", "/pay?", PATH),
    ("route.path", "/pay/../refund", PATH),
    ("route.path", "/./pay", PATH),
    ("route.path", "/pay/..", PATH),
    ("route.client", "a b", LABEL),
    ("route.encryption", "on", "must be 'off', 'optional' or 'required'"),
    ("route.encryption", None, "must be 'off', 'optional' or 'required'"),
    ("route.timeout_s", 0, OVER_0),
    ("route.timeout_s", "ten", NUMBER),
    ("route.timeout_s", None, NUMBER),
    ("route.repeat_unknown", "sometimes", TRUTH),
    ("route.repeat_unknown", None, TRUTH),
    ("caller.name", "a b", LABEL),
    ("caller.name", None, "must be text"),
    ("caller.clients", [], "at least one is needed"),
    ("caller.clients", "hk", LIST),
    ("caller.clients", None, LIST),
    ("caller.routes", [], "at least one is needed"),
    ("caller.routes", "/pay", LIST),
    ("caller.token_sha256", [], "at least one is needed"),
    ("caller.token_sha256", {"a": DIGEST}, LIST),
    ("caller.token_sha256", [DIGEST, OTHER, "c3" * 32], "at most 2 may stand here"),
    ("caller.client_certificate", "", SAN),
    ("caller.client_certificate", "CN=shop O=x", SAN),
    ("caller.client_certificate", "spiffe://prod/é", SAN),
    ("caller.client_certificate", "x" * 256, SAN),
    ("caller.rate", 50, MAPPING),
    ("caller.max_concurrent", 0, OVER_1),
    ("caller.max_concurrent", "many", WHOLE),
    ("rate.per_second", 0, OVER_0),
    ("rate.per_second", -1, OVER_0),
    ("rate.per_second", 1000001, "must be at most 1000000"),
    ("rate.per_second", "inf", FINITE),
    ("rate.burst", 0, OVER_1),
    ("rate.burst", "1.5", WHOLE),
]


@pytest.mark.parametrize(("place", "given", "value"), GOOD)
def test_a_good_value_is_taken_as_it_stands(read, place, given, value):
    tree = with_value(place, given)
    if place == "client.name":
        tree["routes"] = [{**ROUTE, "client": given}]
    if place.endswith(".listen"):
        tree = guarded(tree)
    found = at(read(tree), place)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("place", "given", "message"), BAD)
def test_a_bad_value_is_refused_at_its_place(refused, place, given, message):
    found = refused(with_value(place, given))
    assert list(found) == [where(place)]
    assert message in found[where(place)]


@pytest.mark.parametrize("section", ["inbound", "admin"])
@pytest.mark.parametrize("host", ["gateway:80", "http://gateway", "::1", "", "a b"])
def test_a_host_stands_as_in_a_url_and_without_its_port(refused, section, host):
    (message,) = refused(with_value(f"{section}.hosts", [host])).values()
    assert "must be a host as it stands in a URL" in message


@pytest.mark.parametrize("code", ["", "BAD SIG", "X" * 65])
def test_what_could_not_be_a_result_code_is_refused_at_its_place(refused, code):
    found = refused(with_value("client.signature_refusal_codes", ["FINE", code]))
    assert list(found) == ["clients[0].signature_refusal_codes[1]"]
    assert "must be a resultCode" in str(found)


@pytest.mark.parametrize("place", DEFAULTS)
def test_no_value_from_the_environment_is_quoted_where_it_is_refused(refused, place):
    found = refused(with_value(place, "${SECRET}"), {"SECRET": "hunter2 é\n"})
    assert where(place) in found
    assert "hunter2" not in str(found)


OPTIONAL = [place for place, value in DEFAULTS.items() if value is None]


EMPTY = "has no value; write one, or take the key out"


@pytest.mark.parametrize("place", OPTIONAL)
def test_an_empty_value_is_not_silently_none(refused, place):
    """An empty `routes:` would give a caller all of them, an empty `rate:` no limit."""
    assert refused(with_value(place, None))[where(place)] == EMPTY


def test_an_empty_token_does_not_leave_the_certificate_alone(refused):
    caller = {**CALLER, "token_sha256": None, "client_certificate": "spiffe://a/b"}
    tls = {"certificate": "c.pem", "private_key": "k.pem", "client_ca": "ca.pem"}
    tree = {**SMALLEST, "inbound": {"tls": tls}, "callers": [caller]}
    assert refused(tree) == {"callers[0].token_sha256": EMPTY}


def test_values_may_come_from_the_environment(read):
    tree = {"clients": [{**CLIENT, "client_id": "${ID}", "keyring": "${A}/${B}"}]}
    environment = {"ID": "0211", "A": "a", "B": "b"}
    (client,) = read({**tree, "routes": [ROUTE]}, environment).clients
    assert client.client_id == "0211"
    assert client.keyring.parts[-2:] == ("a", "b")


def test_a_variable_that_is_not_set_is_refused_and_never_its_text(refused):
    found = refused(with_value("client.client_id", "${ID}"))
    assert found == {"clients[0].client_id": "the environment variable ID is not set"}


def test_every_problem_of_a_file_is_told_at_once(read):
    with pytest.raises(DocumentError) as caught:
        read(
            "inbound:\n"
            "  listen: 80\n"
            "clients:\n"
            "  - name: hk\n"
            "    client_id: C\n"
            "    upstream: http://10.0.0.1\n"
            "    keyring: ${RING}\n"
            "routes:\n"
            "  - path: pay\n"
            "    client: hkk\n"
            "    encrypt: off\n"
        )
    assert [(each.line, each.where) for each in caught.value.problems] == [
        (2, "inbound.listen"),
        (6, "clients[0].upstream"),
        (7, "clients[0].keyring"),
        (9, "routes[0].path"),
        (10, "routes[0].client"),
        (11, "routes[0].encrypt"),
    ]


# --- addresses ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("gateway.internal:80", ("gateway.internal", 80)),
        ("[::1]:8080", ("::1", 8080)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("a:007", ("a", 7)),
    ],
)
def test_an_address_is_a_host_and_a_port(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "127.0.0.1", "127.0.0.1:", ":8080", "8080", "[::1]", "[]:80"),
        *("a:65536", "a:99999", "a:-1", "a:+1", "a: 1", "a:1 ", "a:1.0", "a:http"),
        *("a:\uff11", "a:²", None, 8080, ["a:1"]),
        *("a..b:1", ".a:1", ".:1", f"{'a' * 64}.b:1"),
    ],
)
def test_anything_else_is_no_address(text):
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


def test_a_port_of_thousands_of_digits_is_no_address():
    with pytest.raises(ValueError, match=r"HOST:PORT|digits"):
        parse_address("a:" + "9" * 5000)


@pytest.mark.parametrize("text", ["::1", "::", "fe80::1", "http://127.0.0.1:8080"])
def test_an_address_whose_port_cannot_be_told_from_its_host_is_refused(text):
    """`::1` is all host: port 1 of a host named ":" is not what was meant."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "name:0"])
def test_an_address_is_written_as_it_is_read(text):
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
        ("127.1", False),
    ],
)
def test_an_address_knows_whether_only_this_machine_reaches_it(host, loopback):
    assert Address(host, 80).is_loopback is loopback


# --- two listeners -----------------------------------------------------------


def listening(inbound, admin):
    both = {"inbound": inbound, "admin": admin}
    listens = {name: {"listen": text} for name, text in both.items() if text}
    return guarded({**SMALLEST, **listens})


@pytest.mark.parametrize(
    ("inbound", "admin"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "127.0.0.1:08080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("10.0.0.1:8080", "0.0.0.0:8080"),
        ("0.0.0.0:8080", "LocalHost:8080"),
        ("localhost:8080", "127.0.0.1:8080"),
        ("[::]:8080", "[::1]:8080"),
        ("[::1]:8080", "[0:0::1]:8080"),
        ("gateway.internal:80", "GATEWAY.internal:80"),
        (None, "127.0.0.1:8080"),
    ],
)
def test_two_listeners_cannot_have_one_port(refused, inbound, admin):
    assert refused(listening(inbound, admin)) == {
        "admin.listen": "is the port of inbound.listen too; give each a port of its own"
    }


def test_the_port_of_admins_default_is_refused_where_inbound_is_written(refused):
    assert refused(listening("127.0.0.1:9090", None)) == {
        "inbound.listen": "is the port of admin.listen too; give each a port of its own"
    }


@pytest.mark.parametrize(
    ("inbound", "admin"),
    [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("0.0.0.0:0", "127.0.0.1:0"),
        ("127.0.0.1:8080", "127.0.0.1:8081"),
        ("127.0.0.1:8080", "127.0.0.2:8080"),
        ("127.0.0.1:8080", "[::1]:8080"),
        ("[::]:8080", "0.0.0.0:8080"),
        ("gateway.internal:8080", "127.0.0.1:8080"),
    ],
)
def test_two_listeners_may_share_an_address_or_a_port(read, inbound, admin):
    settings = read(listening(inbound, admin))
    assert settings.inbound.listen == parse_address(inbound)
    assert settings.admin.listen == parse_address(admin)


def test_listeners_that_clash_are_told_with_whatever_else_is_wrong(refused):
    tree = listening("127.0.0.1:80", "127.0.0.1:80")
    assert list(refused({**tree, "routes": []})) == ["admin.listen", "routes"]


@pytest.mark.parametrize("admin", ["x", None, [], {"listen": "x"}, {"listen": None}])
def test_an_address_that_is_none_clashes_with_none(refused, admin):
    (place,) = refused({**SMALLEST, "admin": admin})
    assert place.startswith("admin")


# --- upstreams ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://open.alipay.hk", "https://open.alipay.hk"),
        ("https://open.alipay.hk/", "https://open.alipay.hk"),
        ("HTTPS://open.alipay.hk", "https://open.alipay.hk"),
        ("https://open-id-pre.alipay.com:8443", "https://open-id-pre.alipay.com:8443"),
        ("https://10.0.0.1", "https://10.0.0.1"),
        ("https://[2001:db8::1]:443/", "https://[2001:db8::1]:443"),
        ("https://xn--fsqu00a.xn--0zwm56d", "https://xn--fsqu00a.xn--0zwm56d"),
        ("http://127.0.0.1:8089", "http://127.0.0.1:8089"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8089", "http://[::1]:8089"),
        ("http://localhost:8089", "http://localhost:8089"),
        ("http://LOCALHOST", "http://LOCALHOST"),
    ],
)
def test_an_upstream_is_a_scheme_and_a_host(read, text, origin):
    assert read(with_value("client.upstream", text)).clients[0].upstream == origin


NO_URL = "must be a URL such as https://open.alipay.hk"
NOT_ALONE = "must be scheme and host alone: routes have the paths"
NOT_HTTPS = "must be https: plain http is for a simulator on loopback alone"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (text, NO_URL)
            for text in ("", "open.alipay.hk", "//open.alipay.hk", "https:")
        ),
        *(
            (text, NO_URL)
            for text in ("ftp://a", "file:///a", "https://", "https://:1")
        ),
        *(
            (text, NO_URL)
            for text in ("https://a:65536", "https://a:x", "https://a:-1")
        ),
        *((text, NO_URL) for text in ("https://[::1", "https://a:\uff18", "unix://a")),
        ("https://a/api", NOT_ALONE),
        ("https://a//", NOT_ALONE),
        ("https://a?b=c", NOT_ALONE),
        ("https://a#b", NOT_ALONE),
        ("https://user@a", NOT_ALONE),
        ("https://user:word@a", NOT_ALONE),
        ("https://@a", NOT_ALONE),
        ("http://127.0.0.1@a", NOT_ALONE),
        ("http://open.alipay.hk", NOT_HTTPS),
        ("http://10.0.0.1", NOT_HTTPS),
        ("http://0.0.0.0:8089", NOT_HTTPS),
        ("http://127.1", NOT_HTTPS),
        ("http://2130706433", NOT_HTTPS),
        ("http://localhost.example.com", NOT_HTTPS),
        ("http://127.0.0.1.example.com", NOT_HTTPS),
        ("http://[2001:db8::1]", NOT_HTTPS),
    ],
)
def test_any_other_upstream_is_refused(refused, text, message):
    found = refused(with_value("client.upstream", text))
    assert found == {"clients[0].upstream": message}


@pytest.mark.parametrize(
    "text",
    [
        "https://例え.jp",  # as xn--r8jz45g.jp it would work
        "https://open alipay.hk",
        "https://open.alipay.hk\\.example.com",
        "https://open.alipay.hk%2f",
        "https://open..alipay.hk",
        "https://.alipay.hk",
        "https://.",
        f"https://{'a' * 64}.hk",
    ],
)
def test_a_host_that_no_request_can_be_sent_to_is_refused(refused, text):
    assert "clients[0].upstream" in refused(with_value("client.upstream", text))


# --- files -------------------------------------------------------------------


def test_relative_paths_are_relative_to_the_file(read, file):
    tls = {"ca_file": "ca.pem", "certificate": "tls/c.pem", "private_key": "../k.pem"}
    (client,) = read(with_value("client.tls", tls)).clients
    assert client.keyring == file.parent / "keys"
    assert client.tls.ca_file == file.parent / "ca.pem"
    assert client.tls.certificate == file.parent / "tls/c.pem"
    assert client.tls.private_key == file.parent / "../k.pem"


def test_an_absolute_path_stays_as_it_is(read):
    (client,) = read(with_value("client.keyring", "/etc/gateway/keys")).clients
    assert client.keyring == Path("/etc/gateway/keys")


def test_without_a_file_a_path_stays_as_it_is():
    assert Tls.model_validate({"ca_file": "ca.pem"}).ca_file == Path("ca.pem")


@pytest.mark.parametrize("half", ["certificate", "private_key"])
def test_a_certificate_and_its_key_come_together(refused, half):
    found = refused(with_value("client.tls", {half: "x.pem"}))
    assert found == {"clients[0].tls": "certificate and private_key come together"}


PATHS = (
    *("client.keyring", "tls.ca_file", "tls.certificate", "tls.private_key"),
    *(f"inbound_tls.{key}" for key in ("certificate", "private_key", "client_ca")),
    *(f"admin_tls.{key}" for key in ("certificate", "private_key", "client_ca")),
)


@pytest.mark.parametrize("place", PATHS)
def test_a_path_from_an_empty_variable_is_not_the_files_own_folder(refused, place):
    message = "must not be empty; write the path of a file or folder"
    assert refused(with_value(place, "${EMPTY}"), {"EMPTY": ""}) == {
        where(place): message
    }


@pytest.mark.parametrize("place", PATHS)
def test_a_path_that_no_file_can_have_is_refused_at_its_place(refused, place):
    message = "the character U+0000 cannot stand in a path; take it out"
    assert refused(with_value(place, "a\0b")) == {where(place): message}


def test_a_configuration_that_is_not_there_is_told_with_what_to_do(tmp_path):
    with pytest.raises(DocumentError) as caught:
        load(tmp_path / "none.yaml", {})
    assert str(caught.value) == (
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory; "
        "name the configuration with -c FILE"
    )


# --- references --------------------------------------------------------------


def test_a_route_of_a_client_that_is_not_there_is_told_with_those_that_are(refused):
    tree = {
        "clients": [CLIENT, {**CLIENT, "name": "mo"}],
        "routes": [ROUTE, {**ROUTE, "client": "cn"}],
    }
    assert refused(tree) == {
        "routes[1].client": "no client has this name; there is hk, mo"
    }


def test_a_route_of_a_client_that_is_misspelled_is_told_with_the_likely_one(refused):
    tree = {
        "clients": [{**CLIENT, "name": "hk-sandbox"}, {**CLIENT, "name": "mo"}],
        "routes": [{**ROUTE, "client": "hk-sandbx"}],
    }
    assert refused(tree) == {
        "routes[0].client": "no client has this name; did you mean hk-sandbox?"
    }


def test_where_no_client_has_a_name_routes_are_not_blamed(refused):
    found = refused({"clients": [{"client_id": "C"}, "text"], "routes": [ROUTE]})
    assert not [place for place in found if place.startswith("routes")]


@pytest.mark.parametrize(
    "client",
    [
        {"name": "${UNSET}"},
        {"nam": "mo"},
        {},
        {"name": "m\x1b[31mo"},
        {"name": "x" * 1000},
        {"name": ["mo"]},
    ],
)
def test_a_client_whose_name_is_not_known_may_be_the_one_that_is_meant(refused, client):
    second = {**{key: CLIENT[key] for key in CLIENT if key != "name"}, **client}
    tree = {"clients": [CLIENT, second], "routes": [ROUTE, {**ROUTE, "client": "mo"}]}
    (place,) = refused(tree)
    assert place.startswith("clients[1].")


def test_a_route_whose_client_is_not_set_is_no_one_elses(refused):
    route = {**ROUTE, "client": "${UNSET}"}
    unset = "the environment variable UNSET is not set"
    assert refused({**SMALLEST, "routes": [route, dict(route)]}) == {
        "routes[0].client": unset,
        "routes[1].client": unset,
    }


def test_a_route_whose_client_is_misspelt_is_told_so_once(refused):
    route = {"path": "/pay", "clint": "hk"}
    assert refused({**SMALLEST, "routes": [route]}) == {
        "routes[0].clint": "unknown key; did you mean client?"
    }


def test_of_many_clients_only_some_are_listed(refused):
    clients = [{**CLIENT, "name": f"hk-{index}"} for index in range(20)]
    found = refused({"clients": clients, "routes": [{**ROUTE, "client": "other"}]})
    assert found["routes[0].client"] == (
        "no client has this name; there is "
        "hk-0, hk-1, hk-2, hk-3, hk-4, hk-5, hk-6, hk-7 and 12 more"
    )


TWICE = "stands twice: one of them could never be meant"


def test_two_clients_of_one_name_are_refused(refused):
    tree = {"clients": [CLIENT, {**CLIENT, "client_id": "C2"}], "routes": [ROUTE]}
    assert refused(tree) == {"clients[1].name": TWICE}


def test_two_routes_of_one_path_and_client_are_refused(refused):
    tree = {**SMALLEST, "routes": [ROUTE, {**ROUTE, "timeout_s": 5}]}
    assert refused(tree) == {"routes[1].path": TWICE}


def test_clients_may_share_a_route_and_an_upstream_and_an_id(read):
    clients = [CLIENT, {**CLIENT, "name": "mo"}]
    routes = [ROUTE, {**ROUTE, "client": "mo"}, {**ROUTE, "path": "/pay/"}]
    settings = read({"clients": clients, "routes": routes})
    assert [(route.path, route.client) for route in settings.routes] == [
        ("/pay", "hk"),
        ("/pay", "mo"),
        ("/pay/", "hk"),
    ]


# --- callers -----------------------------------------------------------------

OPEN_INBOUND = (
    "other machines can reach this address, and no callers are named: any of them "
    "could have its requests signed. Name who may call under callers "
    "(`gateway callers new NAME`), or listen on 127.0.0.1 or unix:PATH"
)
OPEN_ADMIN = (
    "other machines can reach this address: name who may ask in admin.tokens "
    "(`gateway callers new NAME` makes one), give admin.tls a client_ca, or listen on "
    "127.0.0.1 or unix:PATH"
)
OPEN = ["0.0.0.0:7000", "[::]:7000", "10.0.0.1:7000", "gateway.internal:7000"]
CLOSED = ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "LocalHost:80", "unix:/run/x"]
CA = {**PAIR, "client_ca": "ca.pem"}


@pytest.mark.parametrize("listen", OPEN)
def test_an_address_that_others_reach_needs_callers(refused, read, listen):
    tree = with_value("inbound.listen", listen)
    assert refused(tree) == {"inbound.listen": OPEN_INBOUND}
    assert refused({**tree, "callers": []}) == {"inbound.listen": OPEN_INBOUND}
    assert read({**tree, "callers": [CALLER]}).callers


def test_tls_alone_does_not_say_who_may_call(refused):
    tree = {**SMALLEST, "inbound": {"listen": "0.0.0.0:8080", "tls": CA}}
    assert refused(tree) == {"inbound.listen": OPEN_INBOUND}


@pytest.mark.parametrize("listen", OPEN)
def test_health_that_others_reach_needs_a_token_or_an_authority(refused, read, listen):
    def admin(**more):
        return {**SMALLEST, "admin": {"listen": listen, **more}}

    for more in ({}, {"tokens": []}, {"tls": PAIR}):
        found = refused({**admin(**more), "callers": [CALLER]})
        assert found == {"admin.listen": OPEN_ADMIN}
    assert read(admin(tokens=[DIGEST])).admin.tokens
    assert read(admin(tls=CA)).admin.tls.client_ca


@pytest.mark.parametrize("listen", CLOSED)
@pytest.mark.parametrize("section", ["inbound", "admin"])
def test_an_address_of_this_machine_alone_needs_nobody(read, section, listen):
    settings = read(with_value(f"{section}.listen", listen))
    assert getattr(settings, section).listen.is_loopback


def test_a_caller_proves_itself_by_a_token_a_certificate_or_both(read, refused):
    name = {"client_certificate": "spiffe://prod/shop"}
    bare = {key: CALLER[key] for key in ("name", "clients")}
    inbound = {"tls": CA}
    for proof in ({"token_sha256": DIGEST}, name, {"token_sha256": DIGEST, **name}):
        tree = {**SMALLEST, "inbound": inbound, "callers": [{**bare, **proof}]}
        (caller,) = read(tree).callers
        assert caller.client_certificate == proof.get("client_certificate")
    assert refused({**SMALLEST, "callers": [bare]}) == {
        "callers[0]": "must have a token_sha256, a client_certificate, or both"
    }


@pytest.mark.parametrize("tls", [None, PAIR])
def test_a_certificate_that_nobody_is_asked_for_proves_nothing(refused, tls):
    tree = with_value("caller.client_certificate", "spiffe://prod/shop")
    if tls:
        tree["inbound"] = {"tls": tls}
    assert refused(tree) == {
        "callers[0].client_certificate": (
            "nobody can show one: inbound.tls has no client_ca"
        )
    }


@pytest.mark.parametrize(
    "text",
    ["", "x", DIGEST[:-1], DIGEST + "0", "g" * 64, f" {DIGEST}", f"0x{DIGEST[2:]}", 7],
)
@pytest.mark.parametrize(
    ("place", "listed"),
    [
        ("caller.token_sha256", False),
        ("caller.token_sha256", True),
        ("admin.tokens", True),
    ],
)
def test_a_token_stands_here_as_its_sha256_alone(refused, place, listed, text):
    found = refused(with_value(place, [text] if listed else text))
    assert set(found.values()) <= {SHA256, LIST}
    assert SHA256 in found.values()
    assert all(each.startswith(where(place)) for each in found)
    assert "ahkgw_" not in str(found)


def test_a_token_in_place_of_its_hash_is_not_quoted(refused):
    found = refused(with_value("caller.token_sha256", "ahkgw_" + "s3cret" * 7))
    assert SHA256 in found.values()
    assert "s3cret" not in str(found)


def test_no_text_of_the_settings_shows_a_hash(read):
    settings = read({**CALLED, "admin": {"tokens": [OTHER]}})
    for text in (repr(settings), str(settings)):
        assert DIGEST not in text
        assert OTHER not in text
        assert "\\xa1" not in text
        assert "\\xb2" not in text


def test_two_callers_of_one_name_are_refused(refused):
    second = {**CALLER, "token_sha256": OTHER, "clients": ["hk"]}
    assert refused({**SMALLEST, "callers": [CALLER, second]}) == {
        "callers[1].name": TWICE
    }


@pytest.mark.parametrize("second", [DIGEST, DIGEST.upper(), [OTHER, DIGEST]])
def test_two_callers_of_one_token_are_refused(refused, second):
    till = {"name": "till", "token_sha256": second, "clients": ["hk"]}
    callers = [CALLER, till]
    assert refused({**SMALLEST, "callers": callers}) == {
        "callers[1].token_sha256": "is another caller's token too; give each its own"
    }


def test_callers_are_known_by_their_own_tokens_and_may_share_the_rest(read):
    tokens = [OTHER, "c3" * 32]
    till = {"name": "till", "token_sha256": tokens, "clients": ["hk"]}
    callers = read({**SMALLEST, "callers": [CALLER, till]}).callers
    assert [caller.name for caller in callers] == ["shop", "till"]
    assert [len(caller.token_sha256) for caller in callers] == [1, 2]


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("clients", "hkk", "no client has this name; did you mean hk?"),
        ("clients", "cn-prod", "no client has this name; there is hk"),
        ("routes", "/pya", "no route has this path; did you mean /pay?"),
        ("routes", "/x/y/z", "no route has this path; there is /pay"),
    ],
)
def test_what_a_caller_may_use_must_be_there(refused, key, given, message):
    (known,) = {"clients": ["hk"], "routes": ["/pay"]}[key]
    found = refused(with_value(f"caller.{key}", [known, given]))
    assert found == {f"callers[0].{key}[1]": message}


@pytest.mark.parametrize("key", ["clients", "routes"])
def test_what_is_no_name_or_path_is_told_as_such(refused, key):
    (place,) = refused(with_value(f"caller.{key}", [["x"]]))
    assert place == f"callers[0].{key}[0]"


@pytest.mark.parametrize("callers", [["text"], [[]], [{}], "text", {"name": "shop"}])
def test_what_is_no_caller_is_told_as_such(refused, callers):
    found = refused({**SMALLEST, "callers": callers})
    assert found
    assert all(place.startswith("callers") for place in found)


@pytest.mark.parametrize(
    ("per_second", "burst", "expected"),
    [(50, None, 50), (0.1, None, 1), (2.5, None, 3), (50, 100, 100), (50, 1, 1)],
)
def test_a_burst_is_by_default_what_comes_in_a_second(
    read, per_second, burst, expected
):
    rate = {"per_second": per_second} | ({} if burst is None else {"burst": burst})
    assert (
        at(read(with_value("caller.rate", rate)), "rate.burst_or_default") == expected
    )


@pytest.mark.parametrize("mode", list(Mode))
def test_a_policy_is_one_of_two(read, mode):
    assert read({**CALLED, "policy": str(mode)}).policy is mode


@pytest.mark.parametrize("text", ["off", "Enforce", "", None, ["report"]])
def test_any_other_policy_is_refused(refused, text):
    assert refused({**CALLED, "policy": text}) == {
        "policy": "must be 'enforce' or 'report'"
    }


def test_there_is_always_room_for_one_whole_exchange(read):
    tree = with_value("client.max_response_bytes", 3000)
    least = 4000 + 16384 + (68 << 10)  # both bodies, and the heads
    for given, room in ((1, least), (least, least), (least + 1, least + 1)):
        inbound = {"max_body_bytes": 1000, "max_buffered_bytes": given}
        assert read({**tree, "inbound": inbound}).room_for_bodies == room


# --- sockets in the file system ----------------------------------------------


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("unix:/run/gateway/in.sock", "/run/gateway/in.sock"),
        ("unix:/" + "x" * 106, "/" + "x" * 106),
    ],
)
@pytest.mark.parametrize("section", ["inbound", "admin"])
def test_a_listener_may_be_a_unix_socket(read, section, text, path):
    listen = at(read(with_value(f"{section}.listen", text)), f"{section}.listen")
    assert listen == UnixAddress(Path(path))
    assert str(listen) == text


def test_a_relative_socket_is_relative_to_the_file(read, file):
    (path,) = read(with_value("inbound.listen", "unix:in.sock")).inbound.listen
    assert path == file.parent / "in.sock"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unix:", "must not be empty; write the path of a file or folder"),
        ("unix:a\0b", "the character U+0000 cannot stand in a path; take it out"),
        (
            "unix:/" + "x" * 107,
            "must be a path of at most 107 bytes, folders included",
        ),
        (
            "unix:/" + "é" * 54,
            "must be a path of at most 107 bytes, folders included",
        ),
        ("UNIX:/run/x", HOST_PORT),
    ],
)
def test_any_other_socket_is_refused(refused, text, message):
    found = refused(with_value("inbound.listen", text))
    assert found == {"inbound.listen": message}


def test_two_listeners_cannot_have_one_socket(refused, read):
    assert refused(listening("unix:/run/x", "unix:/run/x")) == {
        "admin.listen": "is the port of inbound.listen too; give each a port of its own"
    }
    assert read(listening("unix:/run/x", "unix:/run/y"))
    assert read(listening("127.0.0.1:80", "unix:/run/y"))
    assert read(listening("unix:/run/x", "127.0.0.1:80"))


def test_tls_files_of_a_listener_are_relative_to_the_file(read, file):
    tls = read(with_value("inbound.tls", CA)).inbound.tls
    assert tls.certificate == file.parent / "tls/server.pem"
    assert tls.private_key == file.parent / "tls/server.key"
    assert tls.client_ca == file.parent / "ca.pem"


def test_settings_cannot_be_changed(read):
    with pytest.raises(ValueError, match="frozen"):
        read(SMALLEST).inbound.max_concurrent = 1


# --- where keys may live -----------------------------------------------------


def test_every_home_of_keys_can_be_named():
    known = known_homes({}, entropy=bytes, monotonic=float)
    assert {each.value for each in KeyHome} == set(known._homes)


@pytest.mark.parametrize(
    ("text", "homes"),
    [
        ("{}", ("file", "pkcs11")),
        ("keys: {homes: [pkcs11]}\nfoo: 1", ("pkcs11",)),
        ("keys: {homes: [pkcs]}", ()),
        ("keys: {}", ("file", "pkcs11")),
        ("keys:", ()),
        ("[]", ("file", "pkcs11")),
    ],
)
def test_homes_are_known_or_none_is_where_the_rest_is_wrong(tmp_path, text, homes):
    """What cannot be read allows nothing: a mistake must not open what was closed."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert config.key_homes_of(config.read(file, {})) == homes


def test_a_home_that_is_unknown_is_refused(refused):
    found = refused(with_value("keys.homes", ["pkcs11", "vault"]))
    assert found == {"keys.homes[1]": "must be 'file' or 'pkcs11'"}
