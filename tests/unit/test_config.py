"""config.yaml: every key, its default, its bounds and what is refused."""

from datetime import timedelta, timezone
from pathlib import Path

import pytest
import yaml

from gateway.config import (
    Address,
    Encryption,
    Inbound,
    Route,
    Settings,
    Tls,
    load,
    parse_address,
)
from gateway.documents import DocumentError

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


def with_value(place, value):
    """Give the smallest configuration with one more value, at a dotted place."""
    section, _, key = place.partition(".")
    if section == "client":
        return {"clients": [{**CLIENT, key: value}], "routes": [ROUTE]}
    if section == "tls":
        return with_value("client.tls", {key: value})
    if section == "route":
        return {"clients": [CLIENT], "routes": [{**ROUTE, key: value}]}
    return {**SMALLEST, section: {key: value}}


def at(settings, place):
    section, _, key = place.partition(".")
    parts = {
        "client": settings.clients[0],
        "tls": settings.clients[0].tls,
        "route": settings.routes[0],
        "inbound": settings.inbound,
        "admin": settings.admin,
    }
    return getattr(parts[section], key)


def where(place):
    prefixes = {"client": "clients[0]", "tls": "clients[0].tls", "route": "routes[0]"}
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
    "inbound.max_body_bytes": 1048576,
    "inbound.max_concurrent": 512,
    "inbound.body_timeout_s": 30.0,
    "admin.listen": Address("127.0.0.1", 9090),
    "client.clock_tolerance_s": 300.0,
    "client.connect_timeout_s": 5.0,
    "client.max_response_bytes": 8388608,
    "client.time_offset": timezone(timedelta(hours=8)),
    "client.send_key_version": True,
    "client.encrypted_content_type": "application/json; charset=UTF-8",
    "client.reuse_content_key": False,
    "client.tls": Tls(ca_file=None, certificate=None, private_key=None),
    "route.encryption": Encryption.OPTIONAL,
    "route.timeout_s": 10.0,
}


@pytest.mark.parametrize(("place", "value"), DEFAULTS.items(), ids=DEFAULTS.keys())
def test_what_is_left_out_has_its_default(read, place, value):
    assert at(read(SMALLEST), place) == value


def test_every_key_is_required_or_has_a_default_that_is_tested_here():
    models = {"inbound": Inbound, "route": Route}
    models["client"] = Settings.model_fields["clients"].annotation.__args__[0]
    models["admin"] = Settings.model_fields["admin"].annotation
    keys = {
        f"{name}.{key}" for name, model in models.items() for key in model.model_fields
    }
    required = {f"client.{key}" for key in CLIENT} | {f"route.{key}" for key in ROUTE}
    assert keys == required | set(DEFAULTS)


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


@pytest.mark.parametrize("section", ["clients", "routes"])
def test_there_is_at_least_one_client_and_one_route(refused, section):
    assert refused({**SMALLEST, section: []}) == {section: "at least one is needed"}
    assert refused({**SMALLEST, section: None}) == {section: "must be a list"}
    assert refused({**SMALLEST, section: "hk"}) == {section: "must be a list"}


def test_without_clients_or_routes_both_are_told(read):
    with pytest.raises(DocumentError) as caught:
        read("inbound: {listen: 'x:1'}")
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
    ],
)
def test_an_unknown_key_is_refused_with_the_likely_one(refused, place, near):
    found = refused(with_value(place, "x"))
    assert found == {where(place): f"unknown key; did you mean {near}?"}


def test_a_private_key_has_no_place_in_the_file(refused):
    found = refused(with_value("client.private_key_pem", "x"))
    assert "unknown key" in found["clients[0].private_key_pem"]


# --- values ------------------------------------------------------------------

GOOD = [
    ("inbound.listen", "0.0.0.0:80", Address("0.0.0.0", 80)),
    ("inbound.max_body_bytes", 1, 1),
    ("inbound.max_body_bytes", 1 << 30, 1 << 30),
    ("inbound.max_concurrent", 1, 1),
    ("inbound.max_concurrent", 100000, 100000),
    ("inbound.body_timeout_s", 0.001, 0.001),
    ("inbound.body_timeout_s", 3600, 3600.0),
    ("admin.listen", "[::]:0", Address("::", 0)),
    ("client.name", "a", "a"),
    ("client.name", "A.b_c-9" + "x" * 57, "A.b_c-9" + "x" * 57),
    ("client.client_id", "0211", "0211"),
    ("client.client_id", "!" + "~" * 127, "!" + "~" * 127),
    ("client.clock_tolerance_s", "0.5", 0.5),
    ("client.clock_tolerance_s", 3600, 3600.0),
    ("client.connect_timeout_s", 1, 1.0),
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
]

WHOLE, NUMBER = "must be a whole number", "must be a number"
OVER_0, OVER_1 = "must be above 0", "must be at least 1"
TO_3600, TO_GIB = "must be at most 3600", "must be at most 1073741824"
TRUTH, FINITE = "must be true or false", "must be a finite number"
A_PATH = "must be a path"
HOST_PORT = "must be HOST:PORT, such as 127.0.0.1:8080"
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
    ("client.keyring", None, A_PATH),
    ("client.keyring", ["a"], A_PATH),
    ("client.clock_tolerance_s", 0, OVER_0),
    ("client.clock_tolerance_s", -300, OVER_0),
    ("client.clock_tolerance_s", "nan", FINITE),
    ("client.clock_tolerance_s", "inf", FINITE),
    ("client.clock_tolerance_s", 3601, TO_3600),
    ("client.clock_tolerance_s", "5 min", NUMBER),
    ("client.connect_timeout_s", 0, OVER_0),
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
]


@pytest.mark.parametrize(("place", "given", "value"), GOOD)
def test_a_good_value_is_taken_as_it_stands(read, place, given, value):
    tree = with_value(place, given)
    if place == "client.name":
        tree["routes"][0] = {**ROUTE, "client": given}
    found = at(read(tree), place)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("place", "given", "message"), BAD)
def test_a_bad_value_is_refused_at_its_place(refused, place, given, message):
    found = refused(with_value(place, given))
    assert list(found) == [where(place)]
    assert message in found[where(place)]


@pytest.mark.parametrize("place", DEFAULTS)
def test_no_value_from_the_environment_is_quoted_where_it_is_refused(refused, place):
    found = refused(with_value(place, "${SECRET}"), {"SECRET": "hunter2 é\n"})
    assert where(place) in found
    assert "hunter2" not in str(found)


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
    return {**SMALLEST, **listens}


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


PATHS = ("client.keyring", "tls.ca_file", "tls.certificate", "tls.private_key")


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


def test_settings_cannot_be_changed(read):
    with pytest.raises(ValueError, match="frozen"):
        read(SMALLEST).inbound.max_concurrent = 1
