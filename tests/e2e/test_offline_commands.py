"""`gateway sign`, `verify`, `encrypt` and `decrypt`, on files and standard input."""

import base64
import codecs
import dataclasses
import json
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from gateway.cli._messages import parse_capture
from gateway.keys.changes import Party
from gateway.protocol import ReceivedRequest, ReceivedResponse, verify_request
from tests import peer
from tests.e2e.workspace import error_of, examples, put, workspace

pytestmark = pytest.mark.e2e

COMMANDS = ("sign", "verify", "encrypt", "decrypt")
TARGET = ("--target", peer.TARGET)
OLD = "2024-05-22T06:42:21+05:30"


@pytest.fixture
def place(tmp_path, complete_ring):
    """A workspace with a complete ring and a body."""
    place = workspace(tmp_path)
    shutil.copytree(complete_ring, place.ring)
    (place.folder / "order.json").write_bytes(peer.REQUEST_BODY)
    return place


def raw(message, *, newline="\r\n"):
    """Write a message as raw HTTP, as `curl -i` prints it."""
    if isinstance(message, ReceivedRequest):
        first = f"{message.method} {message.target} HTTP/1.1"
    else:
        first = f"HTTP/1.1 {message.status} OK"
    lines = [first, *(f"{name}: {value}" for name, value in message.headers), "", ""]
    return newline.join(lines).encode() + message.body


def codes(done):
    return [each["code"] for each in json.loads(done.stdout)["diagnoses"]]


# --- what the help says ------------------------------------------------------


@pytest.fixture
def example_place(place, partner_key, platform_key):
    """The files that the examples speak of."""
    ours, theirs = partner_key.public_key(), platform_key.public_key()
    sealed = peer.sealed_answer(platform_key, ours)
    callback = peer.call(
        platform_key,
        peer.seal(peer.REQUEST_BODY),
        encrypt=peer.encrypt_header(peer.wrap(ours)),
    )
    files = {
        "answer.http": raw(sealed),
        "request.http": raw(peer.call(partner_key)),
        "seen.txt": verbose(peer.call(partner_key), sealed),
        "callback.http": raw(callback),
        "body.json": peer.SUCCESS,
        "answer.json": peer.SUCCESS,
    }
    for name, data in files.items():
        (place.folder / name).write_bytes(data)
    shutil.copytree(place.ring, place.folder / "keys/hk")
    assert theirs != ours
    return place


@pytest.mark.parametrize(
    "example",
    [
        line
        for command in COMMANDS
        for line in examples(f"gateway.cli.{command}")
        if not line.startswith("curl")
    ],
)
def test_each_example_runs(example, example_place, platform_key):
    if "jq" in example and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    base = peer.signature_base(time=OLD, body=peer.SUCCESS)
    signature = peer.signature_header(peer.rsa256(platform_key, base))
    line = example.replace("/api/... ", f"{peer.TARGET} ").replace(
        "algorithm=RSA256,...", signature
    )
    done = example_place.example(line)
    assert done.returncode == 0, done.stderr
    assert done.stdout or ">" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_by_examples(command, place):
    done = place.gateway(command, "--help")
    assert done.returncode == 0
    assert "\nExamples:\n" in done.stdout.decode()


# --- sign --------------------------------------------------------------------


def headers_of(text):
    return [tuple(line.split(": ", 1)) for line in text.decode().splitlines()]


def test_signed_headers_verify_with_our_public_key(place, partner_public):
    done = place.process("sign", "order.json", *TARGET, "--time", OLD)
    assert done.returncode == 0, done.stderr
    headers = headers_of(done.stdout)
    assert [name for name, _ in headers] == [
        "Client-Id",
        "Content-Type",
        "Request-Time",
        "Signature",
    ]
    received = ReceivedRequest("POST", peer.TARGET, headers, peer.REQUEST_BODY)
    verified = verify_request(received, keys=[partner_public])
    assert verified.time_text == OLD
    assert verified.client_id == peer.CLIENT_ID


def test_the_time_is_now_in_the_clients_zone_unless_it_is_given(place):
    done = place.gateway("sign", "order.json", *TARGET)
    time = dict(headers_of(done.stdout))["Request-Time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00", time)


def test_a_body_from_standard_input_is_signed_byte_for_byte(place, partner_public):
    body = peer.REQUEST_BODY + b"\r\n"
    done = place.process("sign", "-", *TARGET, "--message", given=body)
    message = parse_capture(done.stdout).message
    assert message.body == body
    verify_request(message, keys=[partner_public])


def test_a_signed_request_can_be_verified_from_a_pipe(place):
    done = place.shell(
        f"gateway sign order.json --target {peer.TARGET} --message | gateway verify -"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"Verified: signed by our own key version 1")


@pytest.mark.parametrize("encrypt", [[], ["--encrypt"]])
@pytest.mark.parametrize("file", ["order.json", "-"])
def test_a_curl_command_sends_exactly_what_was_signed(
    file, encrypt, place, partner_public
):
    done = place.gateway(
        *("sign", file, *TARGET, *encrypt, "--curl", "https://open-id-pre.alipay.com"),
        given=peer.REQUEST_BODY,
    )
    words = shlex.split(done.stdout.decode().replace("\\\n", ""))
    assert words[:3] == ["curl", "-i", f"https://open-id-pre.alipay.com{peer.TARGET}"]
    options = list(zip(words[3::2], words[4::2], strict=True))
    headers = [tuple(v.split(": ", 1)) for name, v in options if name == "-H"]
    (data,) = [value for name, value in options if name == "--data-binary"]
    sends_file = not encrypt and file != "-"
    body = peer.REQUEST_BODY if sends_file else data.encode()
    assert (data == "@order.json") is sends_file
    received = ReceivedRequest("POST", peer.TARGET, headers, body)
    assert bool(verify_request(received, keys=[partner_public]).encrypt) is bool(
        encrypt
    )


def test_a_curl_command_does_not_trust_the_shell(place):
    body = b'{"a":"$(touch harm) `touch harm` \'; touch harm"}'
    done = place.gateway(
        "sign", "-", *TARGET, "--curl", "http://127.0.0.1:1", given=body
    )
    place.shell(done.stdout.decode().replace("curl -i", "true"))
    assert not (place.folder / "harm").exists()


@pytest.mark.parametrize(
    "url", ["open.alipay.hk", "ftp://x", "https://x/else", "https://x?q", ""]
)
def test_a_url_for_curl_is_scheme_and_host(url, place):
    done = place.gateway("sign", "order.json", *TARGET, "--curl", url)
    assert done.returncode == 2
    assert "--curl takes a URL" in error_of(done)


@pytest.mark.parametrize(
    "form",
    [["--curl", "nonsense"], ["--curl", "https://open.alipay.hk"], ["--message"]],
)
def test_a_request_is_printed_in_one_form(form, place):
    done = place.gateway("sign", "order.json", *TARGET, *form, "--json")
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"argument --json: not allowed with argument {form[0]}" in error_of(done)


def test_an_encrypted_request_hides_the_body(place):
    done = place.gateway("sign", "order.json", *TARGET, "--encrypt")
    head, _, body = done.stdout.partition(b"\n\n")
    assert b"Encrypt: algorithm=RSA_AES,keyVersion=1,symmetricKey=" in head
    assert b"contentId" not in body
    assert b"\n" not in body


def test_a_request_as_json_has_all_that_is_sent(place):
    done = place.gateway("sign", "order.json", *TARGET, "--json")
    facts = json.loads(done.stdout)
    assert facts["body"].encode() == peer.REQUEST_BODY
    assert facts["key_version"] == "1"
    assert facts["headers"]["Client-Id"] == peer.CLIENT_ID


def test_the_configuration_decides_on_the_key_version_and_the_zone(place):
    config = place.folder / "config.yaml"
    settings = "send_key_version: false\n    time_offset: +05:30\n    keyring:"
    config.write_text(config.read_text().replace("keyring:", settings, 1))
    done = place.gateway("sign", "order.json", *TARGET)
    assert b"keyVersion" not in done.stdout
    assert b"+05:30\n" in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--target", "https://x/y"], 2, "a target is a path"),
        (["--target", "/a", "--keyring", "keys/hk-sandbox"], 2, "with --client-id"),
        (["--target", "/a", "--client-id", "a b"], 2, "a Client-Id is 1 to 128"),
        (["--target", "/a", "--time", "noon"], 2, "not an ISO 8601 time"),
        (["--target", "/a", "--client", "no"], 2, "name a client with --client"),
        (["--target", "/a", "--keyring", "no"], 1, "cannot be opened"),
        ([], 2, "required: --target"),
    ],
)
def test_what_cannot_be_signed_is_named(words, status, says, place):
    done = place.gateway("sign", "order.json", *words)
    assert done.returncode == status
    assert says in error_of(done)
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[1]", "JSON, but not an object"),
        (b"{", "not JSON"),
        (b'{"request":{"head":{}},"signature":"x"}', "the legacy form"),
    ],
)
def test_a_body_that_may_not_be_sent_is_not_signed(body, says, place):
    done = place.gateway("sign", "-", *TARGET, given=body)
    assert done.returncode == 1
    assert says in error_of(done)


def test_without_an_active_key_nothing_is_signed(place):
    place.gateway("keys", "deactivate", "1", "--leave-none")
    done = place.gateway("sign", "order.json", *TARGET)
    assert done.returncode == 1
    assert "No partner key is active for signing" in error_of(done)


# --- verify: what holds ------------------------------------------------------


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_a_captured_response_is_verified_however_old(newline, place, platform_key):
    message = raw(peer.answer(platform_key, time=OLD), newline=newline)
    (place.folder / "answer.http").write_bytes(message)
    done = place.process("verify", "answer.http", *TARGET)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.decode().splitlines()
    assert first == "Verified: signed by AlipayHK's key version 1 (active)."
    assert OLD in rest[1]


def test_a_verified_response_is_told_to_programs(place, platform_key):
    done = place.gateway(
        "verify", "-", *TARGET, "--json", given=raw(peer.answer(platform_key))
    )
    facts = json.loads(done.stdout)
    assert facts["verified"] is True
    assert (facts["section"], facts["version"]) == ("platform", "1")
    assert facts["encrypted"] is False


def test_a_gateways_answer_to_its_caller_is_told_from_alipayhks(place, platform_key):
    answer = peer.answer(platform_key)
    kept = [each for each in answer.headers if each[0].lower() != "signature"]
    taken = dataclasses.replace(answer, headers=(*kept, ("Gateway-Exchange-Id", "1")))
    done = place.gateway("verify", "-", *TARGET, "--json", given=raw(taken))
    assert done.returncode == 1
    assert [each["code"] for each in json.loads(done.stdout)["diagnoses"]] == [
        "gateway_answer"
    ]


def test_a_response_after_an_interim_one_is_verified(place, platform_key):
    given = b"HTTP/1.1 100 Continue\r\n\r\n" + raw(peer.answer(platform_key))
    assert place.gateway("verify", "-", *TARGET, given=given).returncode == 0


CONNECTED = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"
METER = (
    b"  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n"
    b"                                 Dload  Upload   Total   Spent    Left  Speed\n"
    b"\r  0     0    0     0    0     0      0      0 --:--:-- --:--:-- --:--:--     0"
)


def in_chunks(message, *sizes, newline=b"\r\n", trailer=b""):
    """Give an answer as it goes over the wire in chunks."""
    head, _, body = raw(message).partition(b"\r\n\r\n")
    chunks, start = [], 0
    for size in (*sizes, len(body) - sum(sizes)):
        chunks += [b"%x" % size, body[start : start + size]]
        start += size
    lines = [head + b"\r\nTransfer-Encoding: chunked", b"", *chunks, b"0", b"", b""]
    return newline.join(lines).removesuffix(newline) + trailer + newline


def verbose(request, answer, *, meter=False, terminal=False, late=True):
    """Print an exchange as `curl -v` does: to a file, or to a terminal."""

    def marked(sign, message):
        head = raw(message).partition(b"\r\n\r\n")[0].split(b"\r\n")
        return b"".join(sign + line + b"\r\n" for line in (*head, b""))

    own = b"* Connection #0 to host 127.0.0.1 left intact\n"
    received = b"" if terminal else b"{ [%d bytes data]\n" % len(answer.body)
    if meter:
        received += b"\r100    42  100    35  100     7  22435   4487 --:--:-- 42000\n"
    body = own + answer.body if late else answer.body + b"\n" + own
    text = (
        (METER if meter else b"")
        + b"*   Trying 127.0.0.1:8089...\n* Connected to 127.0.0.1 (#0)\n"
        + marked(b"> ", request)
        + (b"" if terminal else b"} [7 bytes data]\n")
        + marked(b"< ", answer)
        + received
        + body
    )
    return text.replace(b"\r\n", b"\r\r\n") if terminal else text


def saved_by_powershell(data):
    """Give what its `>` makes of a program's output."""
    text = data.decode().replace("\r\n", "\n").replace("\n", "\r\n")
    return f"\ufeff{text}\r\n".encode("utf-16-le")


def with_length(answer):
    length = ("Content-Length", str(len(answer.body)))
    return ReceivedResponse(answer.status, [*answer.headers, length], answer.body)


CAPTURES = {
    "a proxy's answer to CONNECT": lambda _, answer: CONNECTED + raw(answer),
    "and an interim one": lambda _, answer: (
        CONNECTED + b"HTTP/1.1 100 Continue\r\n\r\n" + raw(answer)
    ),
    "a proxy that wants to be authenticated to first": lambda _, answer: (
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 9\r\n\r\n"
        + CONNECTED
        + raw(answer)
    ),
    "a byte order mark": lambda _, answer: codecs.BOM_UTF8 + raw(answer),
    "UTF-16": lambda _, answer: raw(answer).decode().encode("utf-16"),
    "UTF-16, big end first": lambda _, answer: (
        codecs.BOM_UTF16_BE + raw(answer).decode().encode("utf-16-be")
    ),
    "UTF-16 without a mark": lambda _, answer: raw(answer).decode().encode("utf-16-le"),
    "UTF-16 without a mark, big end first": lambda _, answer: (
        raw(answer).decode().encode("utf-16-be")
    ),
    "saved by PowerShell": lambda _, answer: saved_by_powershell(raw(answer)),
    "chunks": lambda _, answer: in_chunks(answer, 5, 1),
    "chunks with a trailer": lambda _, answer: in_chunks(
        answer, 3, trailer=b"Checksum: 1\r\n"
    ),
    "chunks with bare line feeds": lambda _, answer: in_chunks(
        answer, 5, newline=b"\n"
    ),
    "chunks that curl took off": lambda _, answer: raw(answer).replace(
        b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n", 1
    ),
    "curl -sv": verbose,
    "curl -v": lambda *both: verbose(*both, meter=True),
    "curl -sv on a terminal": lambda *both: verbose(*both, terminal=True),
    "curl -sv, the body first": lambda *both: verbose(*both, late=False),
    "curl -sv, saved by PowerShell": lambda *both: saved_by_powershell(verbose(*both)),
}


@pytest.mark.parametrize("capture", CAPTURES.values(), ids=CAPTURES)
def test_a_capture_is_read_without_what_others_put_around_it(
    capture, place, partner_key, platform_key
):
    request, answer = peer.call(partner_key), with_length(peer.answer(platform_key))
    given = capture(request, answer)
    done = place.gateway("verify", "-", *TARGET, given=given)
    assert done.returncode == 0, done.stderr + done.stdout


def test_one_that_was_altered_does_not_verify(place, partner_key, platform_key):
    answer = peer.answer(platform_key)
    altered = ReceivedResponse(200, answer.headers, answer.body.replace(b"S", b"F", 1))
    given = verbose(peer.call(partner_key), with_length(altered))
    assert place.gateway("verify", "-", given=given).returncode == 1


def test_curl_s_own_request_says_what_its_answer_answers(
    place, partner_key, platform_key
):
    target = "/api/open/alipay/v1/merchant/order/sync?a=b"
    request = peer.call(partner_key, target=target, client_id="OTHER")
    answer = peer.answer(platform_key, target=target, client_id="OTHER")
    given = verbose(request, answer)
    assert place.gateway("verify", "-", given=given).returncode == 0
    (place.folder / "both.txt").write_bytes(given)
    done = place.gateway("verify", "-", "--request", "both.txt", given=raw(answer))
    assert done.returncode == 0, done.stderr


def test_the_target_is_that_of_alipayhk_where_a_proxy_was_sent_all_of_it(
    place, partner_key
):
    given = raw(peer.call(partner_key)).replace(
        b"POST ", b"POST https://open.alipay.hk:443", 1
    )
    assert place.gateway("verify", "-", given=given).returncode == 0


@pytest.mark.parametrize(
    "body", [b"5\r\nhello", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\nx", b"hello", b""]
)
def test_a_body_that_does_not_consist_of_chunks_stays_as_it_is(body):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert parse_capture(head + body).message.body == body


@pytest.mark.parametrize(
    "given", [b"\xff\xfeH", b"H\0T\0\0\xd8", b"\xff\xfe", b"\xef\xbb\xbf"]
)
def test_what_begins_as_utf_16_and_is_not_is_told(given, place):
    done = place.gateway("verify", "-", *TARGET, given=given)
    assert done.returncode == 1
    assert "the message " in error_of(done)


def test_what_curl_really_prints_is_read(place, platform_key):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    answer = with_length(peer.answer(platform_key))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}{peer.TARGET}"
        words = ["curl", "-v", "--max-time", "30", url, "-d", "{}"]
        with (place.folder / "seen.txt").open("wb") as seen:
            curl = subprocess.Popen(words, stdout=seen, stderr=seen)
            connection, _ = listener.accept()
            with connection:
                while not connection.recv(65536).endswith(b"{}"):
                    pass
                connection.sendall(raw(answer))
            assert curl.wait(30) == 0
    done = place.gateway("verify", "seen.txt")
    assert done.returncode == 0, done.stderr


def test_a_response_is_verified_from_its_parts(place, platform_key):
    answer = peer.answer(platform_key)
    headers = dict(answer.headers)
    done = place.gateway(
        *("verify", "--body", "-", *TARGET, "--time", headers["Response-Time"]),
        *("--signature", headers["Signature"]),
        given=answer.body,
    )
    assert done.returncode == 0, done.stderr


def test_a_request_of_ours_is_verified_from_its_parts(place, partner_key):
    request = peer.call(partner_key)
    headers = dict(request.headers)
    done = place.gateway(
        *("verify", "--from", "partner", "--body", "order.json", *TARGET),
        *("--time", headers["Request-Time"], "--signature", headers["Signature"]),
    )
    assert done.returncode == 0, done.stderr


def test_a_request_of_the_platforms_is_verified(place, platform_key):
    given = raw(peer.call(platform_key))
    done = place.gateway("verify", "-", "--from", "platform", given=given)
    assert done.returncode == 0, done.stderr


def test_the_request_itself_says_what_its_response_answers(
    place, partner_key, platform_key
):
    target = "/api/open/alipay/v1/merchant/order/sync?a=b"
    request = peer.call(partner_key, target=target, client_id="OTHER")
    answer = peer.answer(platform_key, target=target, client_id="OTHER")
    (place.folder / "request.http").write_bytes(raw(request))
    done = place.gateway("verify", "-", "--request", "request.http", given=raw(answer))
    assert done.returncode == 0, done.stderr


def test_a_deactivated_key_still_verifies(place, platform_key):
    place.gateway("keys", "deactivate", "1", "--platform", "--leave-none")
    done = place.gateway("verify", "-", *TARGET, given=raw(peer.answer(platform_key)))
    assert b"version 1 (deactivated)" in done.stdout


def test_a_bare_keyring_will_do_with_a_client_id(place, platform_key):
    (place.folder / "config.yaml").unlink()
    words = ("verify", "-", *TARGET, "--keyring", "keys/hk-sandbox")
    given = raw(peer.answer(platform_key))
    done = place.gateway(*words, given=given)
    assert done.returncode == 2
    assert "say with --client-id" in error_of(done)
    done = place.gateway(*words, "--client-id", peer.CLIENT_ID, given=given)
    assert done.returncode == 0, done.stderr


# --- verify: what does not ---------------------------------------------------


@pytest.fixture
def three_keys(partner_key, platform_key, other_key):
    return partner_key, platform_key, other_key


def test_an_added_newline_is_named(place, platform_key):
    given = raw(peer.answer(platform_key)) + b"\n"
    done = place.process("verify", "-", *TARGET, given=given)
    assert done.returncode == 1
    assert error_of(done).startswith("gateway: not verified: signature_invalid: ")
    assert b"The body that was signed had no newline at its end." in done.stdout


@pytest.mark.parametrize(
    ("make", "words", "expected"),
    [
        pytest.param(
            lambda ours, theirs, other: peer.answer(ours),
            TARGET,
            ["own_key"],
            id="our own key",
        ),
        pytest.param(
            lambda ours, theirs, other: peer.answer(other),
            TARGET,
            ["key_unknown"],
            id="a stranger's key",
        ),
        pytest.param(
            lambda ours, theirs, other: peer.answer(theirs, version="9"),
            TARGET,
            ["version_mislabelled"],
            id="a version that is not held",
        ),
        pytest.param(
            lambda ours, theirs, other: peer.answer(theirs, client_id="OTHER"),
            TARGET,
            ["client_id_other"],
            id="another Client-Id",
        ),
        pytest.param(
            lambda ours, theirs, other: peer.answer(theirs),
            ("--target", f"/proxy{peer.TARGET}"),
            ["target_prefix"],
            id="a proxy's prefix",
        ),
        pytest.param(
            lambda ours, theirs, other: peer.answer(theirs),
            ("--target", "/api/open/else"),
            ["target_other"],
            id="another route",
        ),
        pytest.param(
            lambda ours, theirs, other: peer.call(theirs),
            (),
            ["platform_key"],
            id="a request of the platform's taken for ours",
        ),
    ],
)
def test_the_mistake_is_named(make, words, expected, place, three_keys):
    message = make(*three_keys)
    done = place.gateway("verify", "-", *words, "--json", given=raw(message))
    assert done.returncode == 1
    assert codes(done) == expected


def test_the_time_of_the_request_is_tried(place, partner_key, platform_key):
    request = peer.call(partner_key, time=OLD)
    (place.folder / "request.http").write_bytes(raw(request))
    signed = peer.answer(platform_key, time=OLD)
    headers = peer.with_header(signed.headers, "Response-Time", peer.TIME)
    given = raw(type(signed)(200, headers, signed.body))
    done = place.gateway(
        "verify", "-", "--request", "request.http", "--json", given=given
    )
    assert codes(done) == ["time_other"]


@pytest.fixture
def two_clients(place):
    """A configuration with a second client, whose ring is not there."""
    config = place.folder / "config.yaml"
    text = config.read_text()
    client = text[text.index("  - name: hk-sandbox") : text.index("routes:")]
    other = client.replace("hk-sandbox", "production")
    config.write_text(text.replace("\nroutes:", f"{other}\nroutes:"))
    return place


def test_the_key_of_another_client_is_named(two_clients, partner_key, other_key):
    place = two_clients
    put(place.folder / "keys/production", Party.PARTNER, partner_key)
    put(place.folder / "keys/production", Party.PLATFORM, other_key)
    given = raw(peer.answer(other_key))
    done = place.gateway(
        "verify", "-", *TARGET, "--client", "hk-sandbox", "--json", given=given
    )
    assert codes(done) == ["key_other_client"]
    assert "of client production" in done.stdout.decode()


def test_the_client_id_of_another_client_is_named(two_clients, platform_key):
    config = two_clients.folder / "config.yaml"
    before, found, after = config.read_text().rpartition(peer.CLIENT_ID)
    config.write_text(f"{before}PRODUCTION{after}")
    assert found
    signed = peer.answer(platform_key, client_id="PRODUCTION")
    headers = peer.with_header(signed.headers, "Client-Id", peer.CLIENT_ID)
    given = raw(type(signed)(200, headers, signed.body))
    words = ("verify", "-", *TARGET, "--client", "hk-sandbox", "--json")
    done = two_clients.gateway(*words, given=given)
    assert codes(done) == ["client_id_other"]
    (found,) = json.loads(done.stdout)["diagnoses"]
    assert found["finding"] == "The Client-Id that was signed was PRODUCTION."
    assert "sandbox and production" in found["advice"]


def test_another_client_without_a_ring_does_not_matter(two_clients, other_key):
    given = raw(peer.answer(other_key))
    words = ("verify", "-", *TARGET, "--client", "hk-sandbox", "--json")
    assert codes(two_clients.gateway(*words, given=given)) == ["key_unknown"]


def test_a_bare_keyring_will_do_for_a_diagnosis(place, partner_key):
    (place.folder / "config.yaml").unlink()
    words = ("--keyring", "keys/hk-sandbox", "--client-id", peer.CLIENT_ID, "--json")
    given = raw(peer.answer(partner_key))
    assert codes(place.gateway("verify", "-", *TARGET, *words, given=given)) == [
        "own_key"
    ]


def test_a_pre_active_key_is_named(place, other_key):
    put(place.ring, Party.PLATFORM, other_key, version="2", active=False)
    given = raw(peer.answer(other_key, version="2"))
    done = place.gateway("verify", "-", *TARGET, "--json", given=given)
    assert json.loads(done.stdout)["code"] == "key_version_unknown"
    assert codes(done) == ["key_pre_active"]


def test_a_signature_over_the_plaintext_is_named(place, partner_key, platform_key):
    plain = peer.answer(platform_key)
    header = peer.encrypt_header(peer.wrap(partner_key.public_key()))
    headers = [*plain.headers, ("Encrypt", header)]
    sealed = type(plain)(200, headers, peer.seal(plain.body))
    (place.folder / "plain.json").write_bytes(plain.body)
    words = ("verify", "-", *TARGET, "--plaintext", "plain.json", "--json")
    assert codes(place.gateway(*words, given=raw(sealed))) == ["body_plaintext"]


@pytest.mark.parametrize("command", ["verify", "decrypt"])
def test_a_message_signed_before_it_was_encrypted_is_named(
    command, place, partner_key, platform_key
):
    """Without --plaintext too: with our keys at hand the body can be tried."""
    plain = peer.answer(platform_key)
    header = peer.encrypt_header(peer.wrap(partner_key.public_key()))
    sealed = type(plain)(
        200, [*plain.headers, ("Encrypt", header)], peer.seal(plain.body)
    )
    done = place.gateway(command, "-", *TARGET, "--json", given=raw(sealed))
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == "signature_invalid"
    assert codes(done) == ["body_plaintext"]
    assert b"SUCCESS" not in done.stdout + done.stderr


def test_a_request_of_ours_that_may_be_signed_before_encryption_asks_for_the_body(
    place, partner_key, platform_key
):
    plain = peer.call(partner_key)
    header = peer.encrypt_header(peer.wrap(platform_key.public_key()))
    sealed = type(plain)(
        "POST",
        peer.TARGET,
        [*plain.headers, ("Encrypt", header)],
        peer.seal(plain.body),
    )
    done = place.gateway("verify", "-", "--json", given=raw(sealed))
    assert codes(done) == ["bytes_differ", "plaintext_unknown"]
    words = ("verify", "-", "--json", "--plaintext", "order.json")
    assert codes(place.gateway(*words, given=raw(sealed))) == ["body_plaintext"]


LEGACY = b'{"%s":{"head":{},"body":{}},"signature":"abc"}'


@pytest.mark.parametrize("command", ["verify", "decrypt"])
@pytest.mark.parametrize(
    ("given", "words", "code"),
    [
        pytest.param(
            b"POST /a HTTP/1.1\nHost: x\n\n" + LEGACY % b"request",
            (),
            "invalid_request",
            id="a request",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\n\n" + LEGACY % b"response",
            TARGET,
            "signature_missing",
            id="a response",
        ),
    ],
)
def test_the_legacy_form_is_named(given, words, code, command, place):
    done = place.gateway(command, "-", *words, "--json", given=given)
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == code
    assert codes(done) == ["legacy_body"]


def test_a_response_without_its_time_is_named(place, platform_key):
    signed = peer.answer(platform_key)
    headers = peer.with_header(signed.headers, "Response-Time")
    given = raw(type(signed)(200, headers, signed.body))
    done = place.gateway("verify", "-", *TARGET, "--json", given=given)
    assert codes(done) == ["time_missing"]


def test_an_unsigned_refusal_is_no_success_and_says_what_it_is(place):
    given = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + peer.FAILURE
    done = place.gateway("verify", "-", *TARGET, given=given)
    assert done.returncode == 1
    assert "not verified: unsigned_refusal" in error_of(done)
    assert b"PARAM_ILLEGAL" in done.stdout


def test_a_capture_that_is_not_exact_is_pointed_out(place, platform_key):
    answer = peer.answer(platform_key)
    headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
    given = raw(type(answer)(200, headers, answer.body + b"\n"))
    done = place.gateway("verify", "-", *TARGET, "--json", given=given)
    assert codes(done) == ["body_newline_added", "capture_inexact"]


def test_freshness_counts_only_where_a_time_is_given(place, platform_key):
    given = raw(peer.answer(platform_key))
    words = ("verify", "-", *TARGET, "--now")
    near, far = "2026-11-23T06:04:59Z", "2026-11-23T06:05:01Z"
    assert place.gateway(*words, near, given=given).returncode == 0
    done = place.gateway(*words, far, "--json", given=given)
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == "response_stale"


def test_a_plain_answer_to_an_encrypted_request_is_a_downgrade(place, platform_key):
    given = raw(peer.answer(platform_key))
    done = place.gateway("verify", "-", *TARGET, "--encrypted", given=given)
    assert done.returncode == 1
    assert "encryption_downgraded" in error_of(done)


def test_a_response_whose_time_cannot_be_read_is_malformed(place, platform_key):
    given = raw(peer.answer(platform_key, time="noon"))
    done = place.gateway("verify", "-", *TARGET, given=given)
    assert "response_malformed: Response-Time cannot be read" in error_of(done)


def test_a_request_for_another_client_id_is_not_ours(place, partner_key):
    given = raw(peer.call(partner_key, client_id="OTHER"))
    done = place.gateway("verify", "-", given=given)
    assert done.returncode == 1
    assert "client_id_mismatch" in error_of(done)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"", "no blank line"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n", "no blank line"),
        (b"hello\n\nbody", "line 1 of the message is neither"),
        (b"HTTP/1.1 200 OK\nA: b\n* Connected to\n\nbody", "line 3 of the message"),
        (b"HTTP/1.1 200 OK\nA : b\n\nbody", "line 2 of the message"),
    ],
)
def test_what_is_no_message_is_named_with_its_line(given, says, place):
    done = place.gateway("verify", "-", *TARGET, given=given)
    assert done.returncode == 1
    assert says in error_of(done)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("verify", "name a captured message"),
        ("verify answer.http --body b --time t", "name a captured message"),
        ("verify --body order.json", "name a captured message"),
        ("verify answer.http", "give it with --target"),
        ("verify answer.http --target https://x/y", "--target: a target is a path"),
        ("verify answer.http --target /a --client-id é", "--client-id: a Client-Id"),
        ("verify answer.http --target /a --now noon", "not an ISO 8601 time"),
        ("verify answer.http --request answer.http", "is a response"),
        ("decrypt", "name a captured message"),
        ("encrypt", "required: FILE"),
        ("encrypt order.json --to me", "argument --to: it must be partner or platform"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(words, says, place, platform_key):
    (place.folder / "answer.http").write_bytes(raw(peer.answer(platform_key)))
    done = place.gateway(*words.split())
    assert done.returncode == 2
    assert says in error_of(done)
    assert " --help`" in error_of(done)


def test_a_file_that_is_not_there_is_named(place):
    done = place.process("verify", "nowhere.http", *TARGET)
    assert done.returncode == 1
    assert error_of(done) == "gateway: nowhere.http: No such file or directory"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("file", ["/dev/zero", "vast", "-"])
def test_what_never_ends_is_not_read_to_its_end(file, command, place):
    with (place.folder / "vast").open("wb") as vast:
        vast.truncate(1 << 40)  # a hole: it takes no room
    target = [] if command == "encrypt" else TARGET
    with Path("/dev/zero").open("rb") as endless:
        done = place.process(command, file, *target, stdin=endless)
    assert done.returncode == 1
    assert error_of(done) == (
        f"gateway: {file}: it is over 16384 KiB, which is more than is read here"
    )


def test_a_key_from_an_endless_pipe_is_not_read_to_its_end(place):
    with Path("/dev/zero").open("rb") as endless:
        done = place.process("keys", "import", "-", stdin=endless)
    assert done.returncode == 1
    assert error_of(done).startswith("gateway: -: it is over 64 KiB")


# --- encrypt and decrypt -----------------------------------------------------


def test_what_is_encrypted_to_the_platform_only_its_key_opens(place, platform_key):
    done = place.process("encrypt", "order.json", "--json")
    facts = json.loads(done.stdout)
    assert peer.REQUEST_BODY not in done.stdout
    wrapped = facts["headers"]["Encrypt"].partition("symmetricKey=")[2]
    content_key = _unwrap(platform_key, wrapped)
    assert peer.unseal(facts["body"].encode(), content_key) == peer.REQUEST_BODY


def _unwrap(key, value):
    import base64
    from urllib.parse import unquote

    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    return key.decrypt(base64.b64decode(unquote(value)), PKCS1v15())


def test_each_encryption_has_a_key_of_its_own(place):
    bodies = {place.gateway("encrypt", "order.json").stdout for _ in range(3)}
    assert len(bodies) == 3


def test_without_a_key_to_encrypt_to_nothing_is_encrypted(place):
    place.gateway("keys", "deactivate", "1", "--platform", "--leave-none")
    done = place.gateway("encrypt", "order.json")
    assert done.returncode == 1
    assert "No platform key is active for encryption" in error_of(done)


def test_without_a_key_of_ours_nothing_is_encrypted_to_us(tmp_path, platform_key):
    place = workspace(tmp_path)
    put(place.ring, Party.PLATFORM, platform_key)
    done = place.gateway("encrypt", "-", "--to", "partner", given=b"{}")
    assert done.returncode == 1
    assert "No partner key may decrypt" in error_of(done)


def test_an_encrypted_answer_is_decrypted_byte_for_byte(
    place, partner_key, platform_key
):
    plain = '{ "resultInfo" : {"resultStatus":"S"}, "名":"香港" }\r\n'.encode()
    answer = peer.sealed_answer(platform_key, partner_key.public_key(), plain)
    done = place.process("decrypt", "-", *TARGET, given=raw(answer))
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain
    done = place.gateway("decrypt", "-", *TARGET, "--json", given=raw(answer))
    assert json.loads(done.stdout)["body"].encode() == plain


def test_an_answer_is_decrypted_from_its_parts(place, partner_key, platform_key):
    answer = peer.sealed_answer(platform_key, partner_key.public_key())
    headers = dict(answer.headers)
    done = place.gateway(
        *("decrypt", "--body", "-", *TARGET, "--time", headers["Response-Time"]),
        *("--signature", headers["Signature"], "--encrypt", headers["Encrypt"]),
        given=answer.body,
    )
    assert done.stdout == peer.SUCCESS


def test_nothing_is_decrypted_that_does_not_verify(place, partner_key, other_key):
    answer = peer.sealed_answer(other_key, partner_key.public_key())
    done = place.gateway("decrypt", "-", *TARGET, given=raw(answer))
    assert done.returncode == 1
    assert done.stdout == b""
    assert "The signature does not hold" in error_of(done)
    assert not [word for word in ("skip", "no-verify") if word in _help(place)]


def _help(place):
    return place.gateway("decrypt", "--help").stdout.decode()


def test_an_answer_to_an_older_key_is_decrypted(place, partner_key, platform_key):
    place.gateway("keys", "generate")
    place.gateway("keys", "activate", "2")
    header = peer.encrypt_header(peer.wrap(partner_key.public_key()), version=None)
    answer = peer.answer(platform_key, peer.seal(peer.SUCCESS), encrypt=header)
    done = place.gateway("decrypt", "-", *TARGET, given=raw(answer))
    assert done.stdout == peer.SUCCESS


@pytest.mark.parametrize(
    ("make", "words", "says"),
    [
        pytest.param(
            lambda ours, theirs: peer.answer(theirs),
            TARGET,
            "no Encrypt header",
            id="plain",
        ),
        pytest.param(
            lambda ours, theirs: peer.answer(
                theirs,
                peer.seal(peer.SUCCESS),
                encrypt=peer.encrypt_header(peer.wrap(theirs.public_key())),
            ),
            TARGET,
            "does not decrypt with the keys held",
            id="for another",
        ),
        pytest.param(
            lambda ours, theirs: peer.call(
                ours,
                peer.seal(peer.SUCCESS),
                encrypt=peer.encrypt_header(peer.wrap(theirs.public_key())),
            ),
            (),
            "encrypted to AlipayHK: it alone can decrypt it",
            id="a request of ours",
        ),
    ],
)
def test_what_cannot_be_decrypted_is_named(make, words, says, place, three_keys):
    given = raw(make(*three_keys[:2]))
    done = place.gateway("decrypt", "-", *words, given=given)
    assert done.returncode == 1
    assert says in error_of(done)
    assert done.stdout == b""


# --- envelopes that do not open ----------------------------------------------


def _oaep(key):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    how = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    return key.public_key().encrypt(peer.CONTENT_KEY, how)


def _cbc(body):
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    padder = PKCS7(128).padder()
    padded = padder.update(body) + padder.finalize()
    encryptor = Cipher(algorithms.AES(peer.CONTENT_KEY), modes.CBC(bytes(16)))
    return base64.b64encode(encryptor.encryptor().update(padded))


ENVELOPES = [
    pytest.param(
        lambda ours, theirs, _: (_oaep(ours), peer.seal(peer.SUCCESS), "1"),
        ["wrapped_oaep"],
        id="OAEP",
    ),
    pytest.param(
        lambda ours, theirs, _: (
            peer.wrap(ours.public_key()),
            _cbc(peer.SUCCESS),
            "1",
        ),
        ["cipher_cbc"],
        id="CBC",
    ),
    pytest.param(
        lambda ours, theirs, _: (
            peer.wrap(ours.public_key(), base64.b64encode(peer.CONTENT_KEY)),
            peer.seal(peer.SUCCESS),
            "1",
        ),
        ["wrapped_text"],
        id="a content key as base64",
    ),
    pytest.param(
        lambda ours, theirs, _: (
            peer.wrap(ours.public_key(), peer.CONTENT_KEY[:31]),
            peer.seal(peer.SUCCESS),
            "1",
        ),
        ["wrapped_length"],
        id="a content key of 31 bytes",
    ),
    pytest.param(
        lambda ours, theirs, _: (
            peer.wrap(ours.public_key()),
            base64.b64decode(peer.seal(peer.SUCCESS)).hex().encode(),
            "1",
        ),
        ["ciphertext_hex"],
        id="a body in hexadecimal",
    ),
    pytest.param(
        lambda ours, theirs, _: (
            peer.wrap(ours.public_key()),
            peer.seal_padded(peer.SUCCESS + b" " * (-len(peer.SUCCESS) % 16)),
            "1",
        ),
        ["cipher_padding"],
        id="spaces for padding",
    ),
    pytest.param(
        lambda ours, theirs, _: (
            peer.wrap(ours.public_key()),
            peer.seal(peer.SUCCESS, bytes(32)),
            "1",
        ),
        ["cipher_unknown"],
        id="another content key than the body's",
    ),
    pytest.param(
        lambda ours, theirs, _: (
            peer.wrap(theirs.public_key()),
            peer.seal(peer.SUCCESS),
            "1",
        ),
        ["wrapped_for_another"],
        id="the platform's key",
    ),
    pytest.param(
        lambda ours, theirs, other: (
            peer.wrap(other.public_key()),
            peer.seal(peer.SUCCESS),
            "1",
        ),
        ["wrapped_pre_active", "wrapped_version"],
        id="our next key under the version of this one",
    ),
    pytest.param(
        lambda ours, theirs, other: (
            peer.wrap(other.public_key()),
            peer.seal(peer.SUCCESS),
            "9",
        ),
        ["wrapped_pre_active", "wrapped_version"],
        id="our next key under a version that is not held",
    ),
]


@pytest.mark.parametrize(("make", "expected"), ENVELOPES)
def test_why_an_envelope_does_not_open_is_named(make, expected, place, three_keys):
    put(place.ring, Party.PARTNER, three_keys[2], version="2", active=False)
    wrapped, body, version = make(*three_keys)
    header = peer.encrypt_header(wrapped, version)
    given = raw(peer.answer(three_keys[1], body, encrypt=header))

    done = place.gateway("verify", "-", *TARGET, "--json", given=given)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert (facts["verified"], facts["encrypted"], facts["decrypts"]) == (
        True,
        True,
        False,
    )
    assert codes(done) == expected

    done = place.gateway("verify", "-", *TARGET, given=given)
    assert done.returncode == 1
    assert done.stdout.startswith(b"Verified: signed by AlipayHK's key version 1")
    assert expected[0].encode() in done.stdout
    assert error_of(done).startswith(
        "gateway: the signature holds, and the body does not decrypt: "
    )

    done = place.gateway("decrypt", "-", *TARGET, given=given)
    assert (done.returncode, done.stdout) == (1, b"")
    assert expected[0] in error_of(done)

    done = place.gateway("decrypt", "-", *TARGET, "--json", given=given)
    assert done.returncode == 1
    assert codes(done) == expected
    facts = json.loads(done.stdout)
    held = version == "1"
    assert (facts["ok"], facts["code"]) == (
        False,
        "decryption_failed" if held else "key_version_unknown",
    )


def test_an_envelope_under_another_label_than_its_keys_opens(
    place, partner_key, platform_key
):
    header = peer.encrypt_header(peer.wrap(partner_key.public_key()), "9")
    body = peer.seal(peer.SUCCESS)
    given = raw(peer.answer(platform_key, body, encrypt=header))
    done = place.gateway("decrypt", "-", *TARGET, given=given)
    assert (done.returncode, done.stdout.strip()) == (0, peer.SUCCESS)


def test_an_envelope_that_opens_is_told_apart(place, partner_key, platform_key):
    given = raw(peer.sealed_answer(platform_key, partner_key.public_key()))
    done = place.gateway("verify", "-", *TARGET, given=given)
    assert done.returncode == 0
    assert b"bytes, encrypted to us; `gateway decrypt` prints it" in done.stdout
    done = place.gateway("verify", "-", *TARGET, "--json", given=given)
    assert json.loads(done.stdout)["decrypts"] is True


def test_of_our_own_request_only_alipayhk_can_tell(place, partner_key, platform_key):
    header = peer.encrypt_header(peer.wrap(platform_key.public_key()))
    call = peer.call(partner_key, peer.seal(peer.REQUEST_BODY), encrypt=header)
    done = place.gateway("verify", "-", given=raw(call))
    assert done.returncode == 0
    assert b"encrypted to AlipayHK, which alone can tell whether it opens" in (
        done.stdout
    )
    done = place.gateway("verify", "-", "--json", given=raw(call))
    assert json.loads(done.stdout)["decrypts"] is None


def test_our_own_request_that_is_encrypted_to_ourselves_is_named(place, partner_key):
    header = peer.encrypt_header(peer.wrap(partner_key.public_key()))
    call = peer.call(partner_key, peer.seal(peer.REQUEST_BODY), encrypt=header)
    for command in ("verify", "decrypt"):
        done = place.gateway(command, "-", "--json", given=raw(call))
        assert done.returncode == 1
        assert codes(done) == ["wrapped_own_key"]
        assert b"contentId" not in done.stdout


def test_an_envelope_for_another_client_is_named(two_clients, platform_key, other_key):
    place = two_clients
    put(place.folder / "keys/production", Party.PARTNER, other_key)
    given = raw(peer.sealed_answer(platform_key, other_key.public_key()))
    words = ("verify", "-", *TARGET, "--client", "hk-sandbox", "--json")
    assert codes(place.gateway(*words, given=given)) == ["wrapped_other_client"]


def test_an_unsigned_refusal_is_not_decrypted(place):
    given = b"HTTP/1.1 200 OK\n\n" + peer.FAILURE
    done = place.gateway("decrypt", "-", *TARGET, given=given)
    assert done.returncode == 1
    assert "a refusal without a signature" in error_of(done)


# --- secrets -----------------------------------------------------------------


def test_no_command_prints_a_private_key(place, partner_key, platform_key):
    secret = (place.ring / "partner-1.pem").read_text().splitlines()[5]
    ours = partner_key.public_key()
    given = raw(peer.sealed_answer(platform_key, ours))
    for words in (
        ["sign", "order.json", *TARGET, "--encrypt", "--json"],
        ["encrypt", "order.json"],
        ["verify", "-", *TARGET],
        ["verify", "-", "--target", "/else", "--debug"],
        ["decrypt", "-", *TARGET],
        ["decrypt", "-", "--target", "/else", "--debug"],
        ["keys", "list", "--json"],
        ["keys", "public", "--json"],
        ["keys", "import", "keys/hk-sandbox/partner-1.pem", "--debug"],
    ):
        done = place.gateway(*words, given=given)
        output = done.stdout + done.stderr
        assert secret.encode() not in output
        assert b"PRIVATE" not in output
        assert peer.CONTENT_KEY.hex().encode() not in output
