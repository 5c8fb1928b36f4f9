"""The price of an exchange: cryptography alone, and through the gateway.

Everything runs on this machine, in one go, so that the ratios mean something where
the machine is noisy. AlipayHK is a process that gives one canned, signed answer.

    python benchmarks/exchange.py [--exchanges 2000] [--connections 32]
"""

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from gateway.keys.formats import private_pem, public_pem
from gateway.protocol import (
    PublicKey,
    ReceivedRequest,
    attach_signature,
    draft_request,
    draft_response,
    encrypt,
    format_time,
    sign,
    signature_base,
    verify_request,
)
from gateway.protocol.signature import matches

TARGET = "/api/open/alipay/v1/content/synchronize"
CLIENT_ID = "4Q5Y8W0WSG45P907917"
ANSWER = b'{"resultInfo":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"Success"}}'
BODY = (
    b'{"requestId":"0123456789abcdef0123456789abcdef","contentId":"C001",'
    b'"contentType":"SKU","contentStatus":1,"contentInfo":"%s"}' % (b"x" * 850)
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--exchanges", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=32)
    asyncio.run(measure(parser.parse_args()))


async def measure(options: argparse.Namespace) -> None:
    partner = generate_private_key(public_exponent=65537, key_size=2048)
    platform = generate_private_key(public_exponent=65537, key_size=2048)
    plain_floor = floor(partner, platform, encrypted=False)
    sealed_floor = floor(partner, platform, encrypted=True)
    print(
        f"{'':22}{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}{'cpu µs':>9}{'x floor':>9}"
    )
    for name, price in (
        ("floor, plain", plain_floor),
        ("floor, encrypted", sealed_floor),
    ):
        print(f"{name:22}{1 / price:12.0f}{'':18}{price * 1e6:9.0f}{1:9.2f}")
    with tempfile.TemporaryDirectory() as folder:
        for name, encrypted, price in (
            ("gateway, plain", False, plain_floor),
            ("gateway, encrypted", True, sealed_floor),
        ):
            answer = canned(partner, platform, encrypted=encrypted)
            await through_gateway(
                Path(folder), (partner, platform), answer, name, price, options
            )


def floor(partner, platform, *, encrypted: bool) -> float:
    """Give the processor seconds of the cryptography of one exchange."""
    base, rounds = b"x" * 1100, 300
    signature = sign(platform, base)
    theirs, ours = (
        PublicKey("1", platform.public_key()),
        PublicKey("1", partner.public_key()),
    )
    draft = draft_request(target=TARGET, client_id=CLIENT_ID, time="t", body=BODY)
    sealed = encrypt(draft, bytes(32), ours)
    from gateway.protocol import unwrap
    from gateway.protocol.encryption import _decrypt_body

    started = time.process_time()
    for _ in range(rounds):
        sign(partner, base)
        assert matches(theirs, signature, base)
        if encrypted:
            encrypt(draft, os.urandom(32), theirs)
            _decrypt_body(unwrap(partner, sealed.encryption.wrapped_key), sealed.body)
    return (time.process_time() - started) / rounds


def canned(partner, platform, *, encrypted: bool) -> bytes:
    """Make the one answer: no signature covers the request's body."""
    now = format_time(datetime.now(UTC))
    draft = draft_request(target=TARGET, client_id=CLIENT_ID, time=now, body=b"{}")
    request = attach_signature(
        draft, sign(partner, signature_base(draft)), key_version="1"
    )
    received = ReceivedRequest("POST", TARGET, request.headers, b"{}")
    verified = verify_request(received, keys=[PublicKey("1", partner.public_key())])
    reply = draft_response(verified, time=now, body=ANSWER)
    if encrypted:
        reply = encrypt(reply, os.urandom(32), PublicKey("1", partner.public_key()))
    signed = attach_signature(
        reply, sign(platform, signature_base(reply)), key_version="1"
    )
    lines = ["HTTP/1.1 200 OK", *(f"{k}: {v}" for k, v in signed.headers)]
    lines.append(f"Content-Length: {len(signed.body)}")
    return "\r\n".join([*lines, "", ""]).encode() + signed.body


async def through_gateway(folder, keys, answer, name, price, options) -> None:
    upstream = subprocess.Popen(
        [sys.executable, __file__, "--serve-canned"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    upstream.stdin.write(len(answer).to_bytes(4, "big") + answer)
    upstream.stdin.flush()
    port = int(upstream.stdout.readline())
    gateway = start_gateway(folder, keys, port)
    try:
        url, pid = gateway.url, gateway.pid
        await load(url, options.connections * 4, options.connections, name)
        before = processor_seconds(pid)
        started = time.perf_counter()
        seconds = await load(url, options.exchanges, options.connections, name)
        wall = time.perf_counter() - started
        cpu = (processor_seconds(pid) - before) / options.exchanges
        p50, p99 = statistics.median(seconds), statistics.quantiles(seconds, n=100)[98]
        print(
            f"{name:22}{options.exchanges / wall:12.0f}{p50 * 1e3:9.1f}{p99 * 1e3:9.1f}"
            f"{cpu * 1e6:9.0f}{cpu / price:9.2f}"
        )
    finally:
        gateway.terminate()
        upstream.terminate()
        gateway.wait()
        upstream.wait()


def start_gateway(folder, keys, port):
    partner, platform = keys
    for name, data in (
        ("partner-1.pem", private_pem(partner)),
        ("platform-1.pem", public_pem(platform.public_key()).encode()),
    ):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(data)
    (folder / "keyring.yaml").write_text(
        "generation: 1\n"
        'partner: [{version: "1", state: active, key: partner-1.pem}]\n'
        'platform: [{version: "1", state: active, key: platform-1.pem}]\n'
    )
    (folder / "config.yaml").write_text(
        'inbound: {listen: "127.0.0.1:0"}\nadmin: {listen: "127.0.0.1:0"}\n'
        f'clients: [{{name: hk, client_id: {CLIENT_ID}, keyring: ".",'
        f' upstream: "http://127.0.0.1:{port}"}}]\n'
        f"routes: [{{path: {TARGET}, client: hk}}]\n"
    )
    gateway = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "-c", str(folder / "config.yaml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in gateway.stderr:
        if found := re.search(r'"inbound": "([^"]+)"', line):
            gateway.url = f"http://{found[1]}{TARGET}"
            break
    return gateway


async def load(url: str, exchanges: int, connections: int, name: str) -> list[float]:
    """Send so many exchanges over so many connections. Gives each one's seconds."""
    seconds: list[float] = []
    left = iter(range(exchanges))
    headers = {"Gateway-Encrypt": "true"} if "encrypted" in name else {}

    async def one_connection(session) -> None:
        for _ in left:
            started = time.perf_counter()
            async with session.post(url, data=BODY, headers=headers) as answer:
                body = await answer.read()
                if answer.headers.get("Gateway-Verified") != "true":
                    msg = f"not verified: {body[:500]!r}"
                    raise SystemExit(msg)
            seconds.append(time.perf_counter() - started)

    connector = aiohttp.TCPConnector(limit=connections)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(connections):
            tasks.create_task(one_connection(session))
    return seconds


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def serve_canned() -> None:
    """Be AlipayHK: read whole requests, answer each with the bytes from standard input."""
    size = int.from_bytes(sys.stdin.buffer.read(4), "big")
    answer = sys.stdin.buffer.read(size)

    async def serve(reader, writer) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]))
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if "--serve-canned" in sys.argv:
        asyncio.run(serve_canned())
    else:
        main()
