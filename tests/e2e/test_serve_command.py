"""`gateway serve`, `check` and `demo` as processes, the way people run them."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
GATEWAY = [sys.executable, "-m", "gateway"]
TARGET = "/api/open/alipay/v1/content/synchronize"
BODY = json.dumps(
    {
        "requestId": "e2e0",
        "contentId": "C",
        "contentType": "SKU",
        "contentStatus": 1,
        "contentInfo": "{}",
    }
).encode()

# The gateway, at a name server that does not answer.
_LOOKS_UP_FOR_EVER = """
import runpy, socket, sys, time

look_up = socket.getaddrinfo

def look_up_for_ever(host, *more, **options):
    if host == "name.example" and options.get("flags") != socket.AI_NUMERICHOST:
        time.sleep(60)
    return look_up(host, *more, **options)

socket.getaddrinfo = look_up_for_ever
sys.argv[0] = "gateway"
runpy.run_module("gateway", run_name="__main__", alter_sys=True)
"""


def gateway(*arguments, cwd, **options):
    return subprocess.run(
        [*GATEWAY, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


@contextmanager
def process(*arguments, cwd, command=GATEWAY):
    """Run a command until the end of the block, as a service manager would."""
    with subprocess.Popen(
        [*command, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()
            running.communicate()


def first_line(stream, having):
    for line in stream:
        if having in line:
            return line
    pytest.fail(f"the process ended without a line with {having!r}")


def post(url, body=BODY, **headers):
    request = urllib.request.Request(url + TARGET, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.fixture
def workplace(tmp_path):
    """A folder with the shipped configuration, on free ports."""
    text = (ROOT / "config.yaml").read_text()
    text = re.sub(r"listen: 127.0.0.1:\d+", "listen: 127.0.0.1:0", text)
    (tmp_path / "config.yaml").write_text(text)
    return tmp_path


@contextmanager
def simulator(workplace):
    with process(
        "simulate", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", cwd=workplace
    ) as simulate:
        line = first_line(simulate.stdout, "API")
        port = re.search(r":(\d+)", line)[1]
        config = workplace / "config.yaml"
        text = re.sub(
            r"http://127.0.0.1:\d+", f"http://127.0.0.1:{port}", config.read_text()
        )
        config.write_text(text)
        yield simulate


@contextmanager
def serving(workplace, command=GATEWAY):
    with process("serve", cwd=workplace, command=command) as serve:
        event = json.loads(first_line(serve.stderr, '"listening"'))
        serve.inbound = f"http://{event['inbound']}"
        serve.admin = f"http://{event['admin']}"
        yield serve


def test_the_shipped_configuration_works_with_the_simulator(workplace):
    with simulator(workplace), serving(workplace) as serve:
        assert get(f"{serve.admin}/readyz")[0] == 200
        for headers in ({}, {"Gateway-Encrypt": "true"}):
            status, got, body = post(serve.inbound, **headers)
            assert (status, got["Gateway-Verified"]) == (200, "true")
            assert json.loads(body)["resultInfo"]["resultStatus"] == "S"
        serve.send_signal(signal.SIGTERM)
        output, errors = serve.communicate(timeout=10)
    assert serve.returncode == 0
    assert [json.loads(line)["code"] for line in output.splitlines()] == [
        "verified"
    ] * 2
    assert [json.loads(line)["event"] for line in errors.splitlines()] == [
        "partner_key_first_used",
        "platform_key_first_seen",
        "draining",
        "stopped",
    ]


def test_a_running_gateway_is_asked_for_its_keys_from_the_command_line(workplace):
    config = workplace / "config.yaml"
    head, admin, rest = config.read_text().partition("\nadmin:")
    admin += rest.replace("listen: 127.0.0.1:0", "listen: unix:admin.sock", 1)
    config.write_text(head + admin)
    with simulator(workplace), serving(workplace) as serve:
        for _ in range(2):
            assert post(serve.inbound)[0] == 200
        done = gateway("keys", "list", "--live", "--json", cwd=workplace)
        shown = gateway("keys", "list", "--live", cwd=workplace)
    assert done.returncode == shown.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [key["used"] for key in facts["keys"]] == [2, 2]
    assert facts["live"]["generation"] == facts["generation"]
    assert "LAST USED" in shown.stdout
    assert "PRIVATE" not in done.stdout + shown.stdout


def test_a_gateway_that_is_started_before_its_keys_takes_them_up(workplace):
    with serving(workplace) as serve:
        status, ready = get(f"{serve.admin}/readyz")
        assert status == 503
        assert "gateway simulate" in ready["reasons"][0]
        assert post(serve.inbound)[0] == 503
        with simulator(workplace):
            first_line(serve.stderr, '"keyring_loaded"')
            assert get(f"{serve.admin}/readyz")[0] == 200


def test_a_ring_with_a_key_where_none_may_live_is_not_served(workplace):
    config = workplace / "config.yaml"
    config.write_text(config.read_text() + "keys: {homes: [pkcs11]}\n")
    with simulator(workplace), serving(workplace) as serve:
        status, ready = get(f"{serve.admin}/readyz")
        assert status == 503
        assert "no private key may be at a file: location" in ready["reasons"][0]
        assert post(serve.inbound)[0] == 503


def test_sighup_takes_up_a_new_configuration(workplace):
    with simulator(workplace), serving(workplace) as serve:
        config = workplace / "config.yaml"
        config.write_text(config.read_text().replace("optional", "required"))
        serve.send_signal(signal.SIGHUP)
        first_line(serve.stderr, '"reloaded"')
        status, _, body = post(serve.inbound, **{"Gateway-Encrypt": "false"})
        assert (status, json.loads(body)["code"]) == (400, "encryption_required")


@contextmanager
def half_a_request(serve):
    """Have a request under way, of which the gateway waits for the rest."""
    host, port = serve.inbound.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        head = (
            f"POST {TARGET} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}"
        )
        caller.sendall(head.encode() + b"\r\nExpect: 100-continue\r\n\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.1 100")
        yield caller


def test_a_second_signal_ends_it_with_status_1_and_says_what_was_cut(workplace):
    with simulator(workplace), serving(workplace) as serve, half_a_request(serve):
        serve.send_signal(signal.SIGTERM)
        first_line(serve.stderr, '"draining"')
        serve.send_signal(signal.SIGTERM)
        output, errors = serve.communicate(timeout=10)
    assert serve.returncode == 1
    events = [json.loads(line) for line in errors.splitlines()]
    assert [event["event"] for event in events] == ["cut_off", "stopped"]
    assert events[0]["requests"] == events[1]["cut_off"] == 1
    assert [json.loads(line)["outcome"] for line in output.splitlines()] == ["not_sent"]


def test_a_second_signal_with_nothing_under_way_is_status_0(workplace):
    config = workplace / "config.yaml"
    text = config.read_text().replace("inbound:", "inbound:\n  drain_grace_s: 3600", 1)
    config.write_text(text)
    with serving(workplace) as serve:
        for number in (signal.SIGTERM, signal.SIGINT):
            serve.send_signal(number)
        assert serve.wait(timeout=10) == 0
        events = [json.loads(line)["event"] for line in serve.stderr]
    assert events[-1] == "stopped"
    assert "cut_off" not in events


def test_a_look_up_that_hangs_does_not_hold_up_the_end(workplace):
    with simulator(workplace):
        pass  # it has made the keys
    config = workplace / "config.yaml"
    upstream = "https://name.example\n    connect_timeout_s: 0.2\n    retries: 0"
    config.write_text(re.sub(r"http://127.0.0.1:\d+", upstream, config.read_text()))
    with serving(workplace, [sys.executable, "-c", _LOOKS_UP_FOR_EVER]) as serve:
        status, _, body = post(serve.inbound)
        assert (status, json.loads(body)["code"]) == (503, "upstream_unavailable")
        assert "no name look-up within 0.2 s" in json.loads(body)["detail"]
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(timeout=10) == 0


def test_what_is_under_way_at_sigterm_is_finished_with_status_0(workplace):
    with (
        simulator(workplace),
        serving(workplace) as serve,
        half_a_request(serve) as caller,
    ):
        serve.send_signal(signal.SIGTERM)
        first_line(serve.stderr, '"draining"')
        caller.sendall(BODY)
        assert caller.recv(100).startswith(b"HTTP/1.1 200")
        output, _ = serve.communicate(timeout=20)
    assert serve.returncode == 0
    assert json.loads(output)["code"] == "verified"


def test_a_log_that_nobody_reads_any_more_stops_no_traffic(workplace):
    with simulator(workplace), serving(workplace) as serve:
        serve.stdout.close()
        assert post(serve.inbound)[0] == 200
        assert post(serve.inbound)[0] == 200
        serve.stdout = open(os.devnull)  # noqa: SIM115, PTH123 - for communicate


def test_check_names_every_problem_with_its_line(workplace):
    config = workplace / "config.yaml"
    shipped = config.read_text()
    last = len(shipped.splitlines()) + 1
    config.write_text(shipped.replace("timeout_s", "time_out_s") + "x: ${NOPE}\n")
    checked = gateway("check", cwd=workplace)
    assert checked.returncode == 1
    assert (
        "config.yaml:20: routes[0].time_out_s: unknown key; did you mean timeout_s?"
        in (checked.stderr)
    )
    assert (
        f"config.yaml:{last}: x: the environment variable NOPE is not set"
        in checked.stderr
    )
    assert "Traceback" not in checked.stderr
    as_json = gateway("check", "--json", cwd=workplace)
    assert as_json.returncode == 1
    problems = json.loads(as_json.stdout)["problems"]
    assert [(each["file"], each["line"], each["key"]) for each in problems] == [
        ("config.yaml", 20, "routes[0].time_out_s"),
        ("config.yaml", last, "x"),
        ("config.yaml", last, "x"),
        ("config.yaml", 13, "clients[0].keyring"),
    ]


def test_check_is_content_with_the_sandbox(workplace):
    with simulator(workplace):
        checked = gateway("check", cwd=workplace)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == "config.yaml: no problem found\n"


def test_check_finds_a_keyring_that_could_not_be_served(workplace):
    with simulator(workplace):
        (workplace / "keys/hk-sandbox/partner-1.pem").chmod(0o644)
        checked = gateway("check", cwd=workplace)
    assert checked.returncode == 1
    assert "others may read or write it (mode 0644); chmod 600 it" in checked.stderr


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_missing_configuration_is_one_line(tmp_path, command):
    done = gateway(command, "-c", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "gateway: nowhere.yaml: cannot be read: No such file or directory; "
        "name the configuration with -c FILE\n"
    ).removeprefix("" if command == "serve" else "gateway: ")


def test_an_address_in_use_is_one_line(workplace):
    with serving(workplace) as serve:
        config = workplace / "config.yaml"
        address = serve.inbound.removeprefix("http://")
        config.write_text(
            config.read_text().replace("listen: 127.0.0.1:0", f"listen: {address}", 1)
        )
        second = gateway("serve", cwd=workplace)
    assert second.returncode == 1
    line = second.stderr.splitlines()[-1]
    assert line.startswith(f"gateway: inbound.listen: {address} cannot be listened on:")
    assert line.endswith(
        "; stop the process that has it, or change inbound.listen in config.yaml"
    )
    assert "Traceback" not in second.stderr


def test_an_admin_address_that_is_not_this_machines_says_what_to_change(workplace):
    config = workplace / "config.yaml"
    text = re.sub(
        r"admin:.*\n  listen: 127.0.0.1:0",
        f"admin:\n  tokens: [{'0' * 64}]\n  listen: 192.0.2.1:0",
        config.read_text(),
    )
    (workplace / "other.yaml").write_text(text)
    done = gateway("serve", "-c", "other.yaml", cwd=workplace)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("; change admin.listen in other.yaml")


def test_the_demo_ends_with_both_exchanges_verified(tmp_path):
    done = gateway("demo", "--once", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Gateway-Verified: true") == 2
    assert "service → gateway" in done.stdout
    assert "Encrypt: algorithm=RSA_AES,keyVersion=1,symmetricKey=" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["serve", "--nonsense"]])
def test_wrong_usage_is_status_2(tmp_path, arguments):
    done = gateway(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--help`" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "serve",
        "check",
        "simulate",
        "keys",
        "sign",
        "verify",
        "encrypt",
        "decrypt",
    ],
)
def test_each_command_has_help_with_examples(tmp_path, command):
    done = gateway(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"gateway {command}" in done.stdout
    assert done.stdout.count(f"gateway {command}") >= 2
    assert "xample" in done.stdout


def test_a_log_that_is_not_read_any_more_stops_no_traffic(workplace):
    """The pipe fills, and nobody reads it: lines are dropped and counted."""
    with simulator(workplace), serving(workplace) as serve:
        fcntl.fcntl(serve.stdout, fcntl.F_SETPIPE_SZ, 4096)
        statuses = {post(serve.inbound)[0] for _ in range(40)}
        assert statuses == {200}
        assert get(f"{serve.admin}/livez")[0] == 200
        lines = [json.loads(serve.stdout.readline())]
        assert post(serve.inbound)[0] == 200
        serve.send_signal(signal.SIGTERM)
        rest, _ = serve.communicate(timeout=10)
    lines += [json.loads(line) for line in rest.splitlines()]
    told = [line["count"] for line in lines if line["event"] == "log_lines_dropped"]
    assert sum(told) > 0
    assert sum(told) + sum(line["event"] == "exchange" for line in lines) == 41
