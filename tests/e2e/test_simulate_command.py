"""`gateway simulate` as a process: what it prints, makes on disk and how it ends."""

import http.client
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from gateway.keys.backends.file import KeyringFolder
from gateway.keys.formats import read_private_key
from gateway.protocol import ReceivedRequest, format_time
from tests import peer

pytestmark = pytest.mark.e2e

COMMAND = [sys.executable, "-m", "gateway", "simulate"]
ANY_PORTS = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
BODY = b'{"requestId":"1","contentId":"C001","contentType":"SKU","contentStatus":1}'


class Process:
    """The command at work. Lines of its output are read as they come."""

    def __init__(self, folder, *options):
        self.process = subprocess.Popen(
            [*COMMAND, *ANY_PORTS, *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self):
        return self.process.stdout.readline()

    def end(self, number=signal.SIGTERM):
        """Send a signal. Gives the status, and what it printed after the last line."""
        self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=15)
        return self.process.returncode, stdout, stderr


@pytest.fixture
def start(tmp_path):
    """Give a function that starts the command in a folder of the test's own."""
    processes = []

    def starting(*options):
        processes.append(Process(tmp_path, *options))
        return processes[-1]

    yield starting
    for each in processes:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def send(address, request):
    """Send a request as any HTTP client does; gives status and body."""
    connection = http.client.HTTPConnection(*address.split(":"), timeout=10)
    try:
        headers = dict(request.headers)
        connection.request(request.method, request.target, request.body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def signed_request(folder, *, target=peer.TARGET):
    """Sign a request with the key that the simulator made for the gateway."""
    key = read_private_key((folder / "keys/hk-sandbox/partner-1.pem").read_bytes())
    return peer.call(key, BODY, target=target, time=format_time(datetime.now(UTC)))


def test_a_first_start_makes_keys_that_it_then_accepts(start, tmp_path):
    process = start("--json")
    started = json.loads(process.line())

    status, body = send(started["listen"], signed_request(tmp_path))
    exchange = json.loads(process.line())

    assert started["event"] == "started"
    assert started["production"] is False
    assert KeyringFolder(tmp_path / "keys/hk-sandbox").read().signer
    assert (status, json.loads(body)["resultInfo"]["resultCode"]) == (200, "SUCCESS")
    assert exchange["event"] == "exchange"
    assert (exchange["result"], exchange["remarks"]) == ("SUCCESS", [])
    assert process.end() == (0, "", "")


def test_the_control_listener_orders_a_fault(start, tmp_path):
    process = start("--json")
    started = json.loads(process.line())
    connection = http.client.HTTPConnection(*started["control"].split(":"), timeout=10)

    connection.request("PUT", "/fault", b'{"name":"http_error","count":1}')
    ordered = connection.getresponse()
    ordered.read()
    connection.close()
    status, _ = send(started["listen"], signed_request(tmp_path))

    assert ordered.status == 200
    assert status == 502
    assert json.loads(process.line())["fault"] == "http_error"


def read_banner(process):
    """Read to the empty line that ends it."""
    lines = [process.line()]
    while not (lines[-1] == "\n" and "GET" in lines[-2]):
        lines.append(process.line())
        assert lines[-1], "it ended"
    return "".join(lines)


def test_it_says_what_it_is_and_one_line_for_each_request(start, tmp_path):
    process = start()
    banner = read_banner(process)
    address = banner.partition("API      http://")[2].split()[0]
    unsigned = ReceivedRequest("POST", peer.TARGET, [("Cookie", "a=b")], b"{}")

    send(address, signed_request(tmp_path, target=f"{peer.TARGET}?simulate=gzip"))
    send(address, unsigned)
    first, second = process.line(), process.line()

    assert "Not for production" in banner
    assert "keys/hk-sandbox" in banner
    assert first.endswith(
        f"POST {peer.TARGET}?simulate=gzip (client {peer.CLIENT_ID}, key 1, plain): "
        "SUCCESS S; fault gzip\n"
    )
    assert "(client -, key -, plain): PARAM_ILLEGAL F; unsigned; remark: " in second
    assert process.end(signal.SIGINT) == (0, "", "")


def test_an_address_in_use_is_one_clear_line(start, tmp_path):
    taken = json.loads(start("--json").line())["listen"]

    done = subprocess.run(
        [*COMMAND, "--listen", taken, "--control", "127.0.0.1:0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"gateway: {taken}: Address already in use. "
        "Choose another address to listen on.\n"
    )
