"""`gateway check`: every problem, of the configuration and of the files it names."""

import json
import os
import shutil

import pytest

from gateway.keys.changes import Party
from tests.e2e.workspace import put, workspace
from tests.integration.pki import Authority

pytestmark = pytest.mark.e2e

GOOD = """\
inbound: {{listen: "127.0.0.1:0"}}
clients:
  - name: hk
    client_id: C1
    upstream: {upstream}
    keyring: {keyring}
    tls: {tls}
routes:
  - path: /pay
    client: {client}
"""

NO_FOLDER = (
    "nowhere: the keyring's folder cannot be opened: No such file or directory. Make "
    "one with `gateway keys generate`, or with `gateway simulate` to try out"
)


@pytest.fixture
def place(tmp_path, complete_ring):
    shutil.copytree(complete_ring, tmp_path / "ring")
    return workspace(tmp_path)


@pytest.fixture
def check(place):
    """Give a function that writes a configuration and tells what check finds."""

    def problems(upstream="https://a", keyring="ring", tls="{}", client="hk", more=""):
        values = {"upstream": upstream, "keyring": keyring, "tls": tls}
        text = GOOD.format(client=client, **values) + more
        (place.folder / "config.yaml").write_text(text)
        done = place.gateway("check", "--json")
        found = json.loads(done.stdout)
        assert done.stderr == b""
        assert found["ok"] == (not found["problems"])
        assert done.returncode == (0 if found["ok"] else 1)
        assert all(
            list(each) == ["file", "line", "key", "message"]
            for each in found["problems"]
        )
        return [tuple(each.values()) for each in found["problems"]]

    return problems


def test_nothing_wrong_is_no_problem(check):
    assert check() == []


def test_a_keyring_is_checked_also_where_the_configuration_is_wrong(check, place):
    (place.folder / "ring/partner-1.pem").chmod(0o644)
    assert check(upstream="http://10.0.0.1", client="hkk") == [
        (
            "config.yaml",
            5,
            "clients[0].upstream",
            "must be https: plain http is for a simulator on loopback alone",
        ),
        (
            "config.yaml",
            10,
            "routes[0].client",
            "no client has this name; did you mean hk?",
        ),
        (
            "ring/keyring.yaml",
            5,
            "partner[0].key",
            "partner-1.pem: others may read or write it (mode 0644); chmod 600 it",
        ),
    ]


def test_every_file_of_every_client_is_checked_in_one_go(check, place):
    (place.folder / "open.key").write_text("k")
    (place.folder / "open.key").chmod(0o644)
    tls = "{ca_file: nowhere.pem, private_key: open.key}"
    assert check(keyring="nowhere", tls=tls, more="clients2: x\n") == [
        (
            "config.yaml",
            7,
            "clients[0].tls",
            "certificate and private_key come together",
        ),
        (
            "config.yaml",
            11,
            "clients2",
            "unknown key; did you mean clients?",
        ),
        (
            "config.yaml",
            6,
            "clients[0].keyring",
            NO_FOLDER,
        ),
        (
            "config.yaml",
            7,
            "clients[0].tls.ca_file",
            "it cannot be read: No such file or directory",
        ),
        (
            "config.yaml",
            7,
            "clients[0].tls.private_key",
            "others may read or write it (mode 0644); chmod 600 it",
        ),
    ]


def test_a_certificate_that_is_none_is_told_at_its_key(check, place):
    file = place.folder / "text.pem"
    file.write_text("no PEM")
    file.chmod(0o600)
    assert check(tls="{certificate: text.pem, private_key: text.pem}") == [
        (
            "config.yaml",
            7,
            "clients[0].tls.certificate",
            "not PEM as it must be",
        )
    ]


@pytest.mark.parametrize("key", ["ca_file", "certificate", "private_key"])
def test_a_pipe_in_the_place_of_a_tls_file_is_not_waited_for(check, place, key):
    """A gateway that serves would stand still at a SIGHUP, and not even end."""
    Authority(place.folder).issue("us")
    os.mkfifo(place.folder / "pipe", 0o600)
    tls = {"ca_file": "ca.crt", "certificate": "us.crt", "private_key": "us.key"}
    ((_, _, where, message),) = check(tls=json.dumps(tls | {key: "pipe"}))
    assert where == f"clients[0].tls.{key}"
    assert message.startswith("it is not a file")


@pytest.mark.parametrize(("encryption", "lacks"), [("off", 1), ("optional", 2)])
def test_what_a_ring_lacks_is_told_for_what_the_routes_need(
    check, place, partner_key, encryption, lacks
):
    put(place.folder / "half", Party.PARTNER, partner_key)
    found = check(keyring="half", more=f"    encryption: {encryption}\n    x: y\n")
    assert found.pop(0)[2] == "routes[0].x"
    assert [each[:3] for each in found] == [
        ("config.yaml", 6, "clients[0].keyring")
    ] * lacks
    assert all(each[3].startswith("missing: ") for each in found)


@pytest.mark.parametrize(
    ("keyring", "message"),
    [
        ("${EMPTY}", "must not be empty; write the path of a file or folder"),
        ('"a\\0b"', "the character U+0000 cannot stand in a path; take it out"),
        ("${UNSET}", "the environment variable UNSET is not set"),
    ],
)
def test_a_path_that_is_none_is_one_problem(check, monkeypatch, keyring, message):
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    assert check(keyring=keyring) == [("config.yaml", 6, "clients[0].keyring", message)]


def test_a_key_file_whose_name_is_none_is_told_in_the_keyring(check, place):
    file = place.folder / "ring/keyring.yaml"
    file.write_text(file.read_text().replace("partner-1.pem", '"a\\0b"'))
    assert check() == [
        (
            "ring/keyring.yaml",
            5,
            "partner[0].key",
            "the character U+0000 cannot stand in a path; take it out",
        )
    ]


def test_two_clients_of_one_keyring_are_told_once_what_is_wrong_with_it(check, place):
    (place.folder / "ring/platform-1.pem").write_text("no key")
    second = "  - {name: mo, client_id: C2, upstream: https://a, keyring: ring}"
    (place.folder / "ring/keyring.yaml").chmod(0o644)
    text = GOOD.format(upstream="https://a", keyring="ring", tls="{}", client="hk")
    text = text.replace("routes:", f"{second}\nroutes:")
    (place.folder / "config.yaml").write_text(text)
    done = place.gateway("check", "--json")
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["key"] == "platform[0].key"


def test_a_file_that_cannot_be_read_is_a_problem_without_a_line(place):
    for name, reason in (
        ("nowhere.yaml", "cannot be read: No such file or directory"),
        (".", "is not a file but a folder"),
    ):
        done = place.gateway("check", "--json", "-c", name)
        assert done.returncode == 1
        assert json.loads(done.stdout) == {
            "ok": False,
            "problems": [
                {
                    "file": name,
                    "line": None,
                    "key": None,
                    "message": f"{reason}; name the configuration with -c FILE",
                }
            ],
        }


def test_a_key_that_holds_an_escape_sequence_is_not_written_as_it_stands(place):
    (place.folder / "config.yaml").write_text('"\\e[31mred\\n": x\n')
    done = place.gateway("check")
    assert b"\x1b" not in done.stderr
    assert b"config.yaml:1: \\x1b[31mred\\n: unknown key" in done.stderr
