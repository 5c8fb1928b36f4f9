"""What is measured: this gateway, and peers that do the same cryptography."""

import http.client
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import (
    CORES,
    SUBJECT_CORES,
    free_port,
    module,
    running,
)
from benchmarks.sample import CLIENT_ID, KIB, TARGET, request_body

PEERS = Path(__file__).parent / "peers"
LUA_MODULE = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")


@dataclass
class Subject:
    """A process under load.

    Attributes:
        log: where the gateway's lines go: one per exchange.
    """

    name: str
    port: int
    pid: int
    admin_port: int = 0
    log: Path | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{TARGET}"


def config(folder: Path, upstream: int, workers: int = 1) -> tuple[Path, int, int]:
    """Write a configuration. Gives its file, and the two ports."""
    port, admin = free_port(), free_port()
    file = folder / f"config-{workers}.yaml"
    file.write_text(
        f'inbound: {{listen: "127.0.0.1:{port}", max_buffered_bytes: {2048 * KIB**2}}}\n'
        f'admin: {{listen: "127.0.0.1:{admin}"}}\n'
        f"clients: [{{name: hk, client_id: {CLIENT_ID}, keyring: keys,"
        f' upstream: "http://127.0.0.1:{upstream}"}}]\n'
        f"routes: [{{path: {TARGET}, client: hk}}]\n"
        + (f"workers: {workers}\n" if workers > 1 else "")
    )
    return file, port, admin


def has_workers(folder: Path) -> bool:
    """Tell whether this gateway knows the key `workers`."""
    file, _, _ = config(folder, 1, workers=2)
    command = module("gateway", "check", "-c", str(file))
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def gateway(folder: Path, upstream: int, workers: int = 1) -> Iterator[Subject]:
    """Run this gateway: all checks, metrics, and its log to a file."""
    file, port, admin = config(folder, upstream, workers)
    log = folder / f"gateway-{workers}.log"
    cores = SUBJECT_CORES if workers == 1 else set(CORES)
    command = module("gateway", "serve", "-c", str(file))
    with (
        log.open("w") as out,
        (folder / "gateway.err").open("w") as err,
        running(command, cores, stdout=out, stderr=err) as process,
    ):
        name = f"gateway, {workers} worker" + "s" * (workers > 1)
        subject = Subject(name, port, process.pid, admin, log)
        until_ready(admin, of=folder / "gateway.err")
        yield subject


@contextmanager
def node(folder: Path, upstream: int) -> Iterator[Subject]:
    port = free_port()
    command = [
        "node",
        str(PEERS / "node.js"),
        str(folder / "keys"),
        str(port),
        str(upstream),
    ]
    with running(command, SUBJECT_CORES) as process:
        until_open(port)
        yield Subject("node", port, process.pid)


@contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[Subject]:
    port = free_port()
    home = folder / "nginx"
    home.mkdir(exist_ok=True)
    conf = (PEERS / "nginx.conf").read_text()
    for name, value in {
        "MODULES": LUA_MODULE.parent,
        "KEYS": folder / "keys",
        "PEERS": PEERS,
        "UPSTREAM": upstream,
        "PORT": port,
    }.items():
        conf = conf.replace(f"@{name}@", str(value))
    (home / "nginx.conf").write_text(conf)
    command = ["nginx", "-p", str(home), "-c", "nginx.conf", "-e", "stderr"]
    with running(command, SUBJECT_CORES) as process:
        until_open(port)
        yield Subject("nginx with Lua", port, process.pid)


def missing() -> dict[str, str]:
    """Say of each peer that cannot run what would let it."""
    lacks = {}
    if not shutil.which("node"):
        lacks["node"] = "install Node 20 or newer"
    if not shutil.which("nginx") or not LUA_MODULE.exists():
        packages = "nginx libnginx-mod-http-lua lua-resty-core"
        lacks["nginx"] = f"Debian: apt-get install {packages}"
    return lacks


@contextmanager
def all_subjects(folder: Path, upstream: int) -> Iterator[list[Subject]]:
    """Run all that can run here, at the same time: they take turns under load."""
    with ExitStack() as stack:
        starts = [lambda: gateway(folder, upstream)]
        if has_workers(folder):
            starts.append(lambda: gateway(folder, upstream, 2))
        else:
            print("skipped: 2 workers; this gateway has no `workers` yet")
        for name, peer in (("node", node), ("nginx", nginx)):
            if name in missing():
                print(f"skipped: {name}; {missing()[name]}")
            else:
                starts.append(lambda peer=peer: peer(folder, upstream))
        subjects = [stack.enter_context(start()) for start in starts]
        for subject in subjects:
            check(subject)
        yield subjects


def check(subject: Subject) -> None:
    """See that a subject answers, so that no refusal is ever measured."""
    connection = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=10)
    connection.request("POST", TARGET, request_body(KIB))
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 or len(body) != KIB:
        msg = f"{subject.name} does not answer: {answer.status} {body[:300]!r}"
        raise SystemExit(msg)
    connection.close()


def until_ready(admin: int, of: Path | None = None, within_s: float = 20.0) -> None:
    """Wait until the gateway is ready; show what it said, `of`, where it is not."""
    try:
        _until(lambda: is_ready(admin), within_s)
    except SystemExit:
        print(of.read_text() if of else "", end="")
        raise


def until_open(port: int, within_s: float = 20.0) -> None:
    """Wait until something listens."""
    _until(lambda: _is_open(port), within_s)


def is_ready(admin: int) -> bool:
    return _status(admin, "/readyz") == 200


def serving(admin: int) -> int:
    """Give how many workers serve."""
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=2)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    found = re.search(r"^gateway_workers (\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _until(true, within_s: float) -> None:
    until = time.perf_counter() + within_s
    while not true():
        if time.perf_counter() > until:
            msg = "a subject did not start"
            raise SystemExit(msg)
        time.sleep(0.002)
