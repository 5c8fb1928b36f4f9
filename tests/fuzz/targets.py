"""What is fed with bytes that nobody chose, and what must hold of each.

A target takes any bytes and returns, or raises what is a finding: an error that is
not of the taxonomy, or an assertion about what was accepted. It knows nothing of
what feeds it: atheris in `tests.fuzz.run`, the kept corpus in `test_corpus`.
"""

import asyncio
import base64
import contextlib
import json
import math
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from yarl import URL

from gateway import config
from gateway.access.admission import Quota
from gateway.access.callers import Caller, Callers, Credentials
from gateway.access.tokens import hash_token
from gateway.edge.connection import Connection, Server
from gateway.edge.request import (
    Arriving,
    Bounds,
    check_body,
    credentials_of,
    read_body,
    read_head,
)
from gateway.edge.response import Response
from gateway.edge.rules import check_head
from gateway.errors import (
    ClientIdMismatch,
    ExchangeError,
    KeyringError,
    ResponseStale,
    Unauthenticated,
    UntrustedAnswer,
)
from gateway.keys import formats, manifest, strength
from gateway.protocol import (
    EncryptField,
    FieldError,
    PublicKey,
    ReceivedResponse,
    SignatureField,
    UnsignedRefusal,
    VerifiedResponse,
    decrypt,
    parse_time,
    read_date,
    read_encryption,
    read_tracer_id,
    unwrap,
    verify_response,
)
from gateway.protocol.fields import check_key_version
from gateway.trees import DocumentError
from tests import peer
from tests.hostile.wire import answers_in

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {}
"""Each target by its name, which is also that of its folder in the corpus."""

TOKEN = "ahkgw_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
SECRET = "canary-5e1c"
_CALLERS = Callers([Caller("known", (hash_token(TOKEN),))])
_BOUNDS = Bounds(16384, 1 << 20, 30, 30)
_TIMED = b"HTTP/1.1 200 OK\r\nDate: "


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


@cache
def keys():
    """Give the pairs of partner and platform: fresh ones, which belong to no one."""
    return [generate_private_key(65537, 2048) for _ in range(2)]


@target
def signature(data: bytes) -> None:
    _field(SignatureField, data)


@target
def encryption(data: bytes) -> None:
    _field(EncryptField, data)


def _field(kind, data):
    try:
        field = kind.parse(data.decode("latin-1"))
    except FieldError as error:
        _check_line(str(error))
        return
    version, value = (getattr(field, name) for name in kind.__slots__)
    assert value
    if version is not None:
        try:
            check_key_version(version)
        except ValueError:
            return  # read, and never held: no keyring has such a version
    assert kind.parse(field.format()) == field


@target
def times(data: bytes) -> None:
    text = data.decode("latin-1")
    date = read_date([("Date", text)])
    assert date is None or date.tzinfo is not None
    tracer = read_tracer_id([("Tracer-Id", text)])
    assert tracer is None or (tracer.isascii() and len(tracer) <= 128)
    try:
        moment = parse_time(text)
    except ValueError as error:
        _check_line(str(error))
        return
    assert moment.tzinfo is not None
    with contextlib.suppress(ResponseStale):
        peer.FRESH.check(moment)


@target
def credentials(data: bytes) -> None:
    """Any lines of Authorization: only the one token, shown once, is a caller."""
    lines = tuple(data.decode("latin-1").split("\n"))
    try:
        found = _CALLERS.identify(Credentials(lines))
    except Unauthenticated:
        return
    assert found.name == "known"
    (line,) = lines
    scheme, token = line.strip(" \t").split(" ", 1)
    assert (scheme.lower(), token.strip(" ")) == ("bearer", TOKEN)


@target
def client_id(data: bytes) -> None:
    """The Client-Id of an answer: only ours is taken, and it proves nothing."""
    text = data.decode("latin-1")
    received = ReceivedResponse(200, [("Client-Id", text)], peer.FAILURE)
    try:
        verdict = _judge(received)
    except UntrustedAnswer as error:
        _check_line(error.detail)
        assert text.strip(" \t") != peer.CLIENT_ID
        if text.strip(" \t") and text.isascii() and text.isprintable():
            assert isinstance(error, ClientIdMismatch)
        return
    assert isinstance(verdict, UnsignedRefusal)
    assert text.strip(" \t") in ("", peer.CLIENT_ID)


@target
def request(data: bytes) -> None:
    """What a caller sends, through a connection of the listeners and our reading of it.

    All that is written is whole answers, one for each request and in their order, and
    the last alone says that it is that. The connection comes to its end, and neither
    it nor the parser's callbacks fail. Cut into pieces, the same bytes are the same
    requests.
    """
    whole, apart = (_loop().run_until_complete(_serve(data, n)) for n in (1 << 16, 13))
    assert whole == apart


async def _serve(data, piece):
    """Feed a connection with pieces; gives each request, or why it was refused."""
    failed = []
    _loop().set_exception_handler(lambda _, context: failed.append(context))
    desk = _Desk()
    connection = Connection(Server(desk.answer, desk.refuse))
    transport = _Transport(connection)
    for start in range(0, len(data), piece):
        await _turn(lambda: transport.reading or transport.closing)
        if transport.closing:
            break
        connection.data_received(data[start : start + piece])
        for _ in range(4):
            await asyncio.sleep(0)
    await _turn(lambda: transport.reading or transport.closing)
    if not transport.closing and not connection.eof_received():
        transport.close()
    await _turn(lambda: transport.lost)
    assert failed == [], failed
    answers, _, rest = answers_in(transport.written)
    assert rest == b""
    assert [each.headers["number"] for each in answers] == [
        str(number) for number in range(len(desk.seen))
    ]
    for each in answers[:-1]:
        assert each.headers.get("connection") != "close"
    return desk.seen


async def _turn(condition):
    """Let the loop turn until something holds, but not for ever."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0)
    msg = "the connection hangs"
    raise AssertionError(msg)


class _Desk:
    """Reads each request as the inbound listener does, and numbers the answers."""

    def __init__(self):
        self.seen = []

    async def answer(self, asked):
        with contextlib.suppress(Unauthenticated):
            _CALLERS.identify(credentials_of(asked))
        answer = self._next()
        try:
            check_head(asked)
            head = read_head(asked)
            _check_head(head)
            arriving = Arriving(Quota(1 << 20))
            async with arriving.one("", asked.body, _BOUNDS.body_timeout_s) as pending:
                await read_body(asked, _BOUNDS, pending, arriving)
            check_body(asked.body, _BOUNDS, "", arriving)
            body = asked.body.whole()
            declared = asked.only("Content-Length")
            assert declared is None or len(body) == int(declared)
            self.seen[-1] = (asked.method, *head, body)
        except ExchangeError as error:
            _check_line(error.detail)
            self.seen[-1] = error.code
            answer.closes = True
        await asked.wire.deliver(asked, answer, 30)

    def refuse(self, cause):
        _check_line(str(cause))
        answer = self._next()
        self.seen[-1] = "refused"
        return answer

    def _next(self):
        self.seen.append("begun")
        return Response(headers={"Number": str(len(self.seen) - 1)})


class _Transport(asyncio.Transport):
    """A caller that takes at once what is written, and reads to the end."""

    def __init__(self, connection):
        super().__init__()
        self.written = b""
        self.reading = True
        self.closing = self.lost = self._shown = False
        self._connection = connection
        connection.connection_made(self)

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def write(self, data):
        assert not self.closing
        assert not self._shown
        self.written += data

    def can_write_eof(self):
        return True

    def write_eof(self):
        self._shown = True

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        assert self.reading
        self.reading = False

    def resume_reading(self):
        assert not self.reading
        self.reading = True

    def close(self):
        if not self.closing:
            self.closing = True
            _loop().call_soon(self._lose)

    abort = close

    def _lose(self):
        self.lost = True
        self._connection.connection_lost(None)


def _check_head(head):
    assert head.target.startswith("/")
    assert head.target.isascii()
    assert head.target.isprintable()
    assert " " not in head.target
    assert URL("http://a" + head.target, encoded=True).host == "a"
    assert head.encrypt in (None, True, False)
    if head.timeout_s is not None:
        assert math.isfinite(head.timeout_s)
        assert 0 < head.timeout_s < 10_000


@cache
def _loop():
    return asyncio.new_event_loop()


@target
def answer(data: bytes) -> None:
    """A whole answer: headers, an empty line, a body.

    `@SIGN@` in it becomes a true signature over its own first Response-Time and its
    body, `@WRAP@` a true Encrypt header. A body that begins with `@SEAL@` is
    encrypted. The first byte says whether the request was encrypted. What is
    believed must be what was signed here, in every byte: no one else has the key.
    """
    asked_encrypted, data = data[:1] == b"E", data[1:]
    head, _, body = data.partition(b"\n\n")
    plain = body.removeprefix(b"@SEAL@") if body.startswith(b"@SEAL@") else None
    if plain is not None:
        body = peer.seal(plain)
    headers = _headers(head.decode("latin-1"))
    signed = _sign_in_place(headers, body)
    wrapped = _wrap_in_place(headers)
    received = ReceivedResponse(200, headers, body)
    try:
        verdict = _judge(received, encrypted=asked_encrypted)
    except UntrustedAnswer as error:
        _check_line(error.detail)
        return
    if isinstance(verdict, UnsignedRefusal):
        assert json.loads(verdict.body)
        assert not any(name.lower() == "signature" and v.strip() for name, v in headers)
        return
    assert isinstance(verdict, VerifiedResponse)
    assert (verdict.time_text, verdict.body) == signed
    assert verdict.client_id == peer.CLIENT_ID
    if verdict.encrypt is None:
        return
    try:
        field = read_encryption(verdict)
        text = decrypt(verdict, unwrap(keys()[0], field.wrapped_key))
    except UntrustedAnswer as error:
        assert error.code == "decryption_failed"
        return
    assert isinstance(json.loads(text), dict)
    if wrapped and plain is not None:
        assert text == plain


def _headers(text):
    pairs = (line.partition(":") for line in text.split("\n") if line)
    return [(name, value.strip(" ")) for name, _, value in pairs]


def _sign_in_place(headers, body):
    time = next((v for n, v in headers if n.lower() == "response-time"), "")
    time = time.strip(" \t")
    for index, (name, value) in enumerate(headers):
        if "@SIGN@" in value:
            true = _signature(time, body)
            headers[index] = name, value.replace("@SIGN@", true)
    return time, body


@cache
def _signature(time, body):
    base = peer.signature_base(time=time, body=body)
    return peer.signature_header(peer.rsa256(keys()[1], base))


def _wrap_in_place(headers):
    found = False
    for index, (name, value) in enumerate(headers):
        if name.lower() == "encrypt" and value == "@WRAP@":
            headers[index] = name, _wrapped()
            found = True
    return found


@cache
def _wrapped():
    return peer.encrypt_header(peer.wrap(keys()[0].public_key()))


def _judge(received, *, encrypted=False):
    platform = PublicKey("1", keys()[1].public_key())
    return verify_response(
        received,
        request=_encrypted_request() if encrypted else peer.sent_request(),
        keys=[platform],
        freshness=peer.FRESH,
    )


@cache
def _encrypted_request():
    return peer.sent_encrypted_request(PublicKey("1", keys()[1].public_key()))


@target
def configuration(data: bytes) -> None:
    """config.yaml: a value, or problems, each with its file and line."""

    def read(file):
        document = config.read(file, {"SECRET": SECRET, "PORT": "8080"})
        config.files_of(document)
        config.listeners_of(document)
        return document

    _document("config.yaml", data, read)


@target
def keyring(data: bytes) -> None:
    """keyring.yaml: as the configuration; what was read is written and read back."""

    def read(file):
        document = manifest.load(file.parent)
        file.write_text(manifest.dump(document.value))
        assert manifest.load(file.parent).value == document.value
        return document

    _document(manifest.FILE_NAME, data, read)


def _document(name, data, read):
    file = _folder() / name
    file.write_bytes(data)
    try:
        document = read(file)
        problems = document.problems
        if not problems:
            assert document.value
    except DocumentError as error:
        problems = error.problems
        assert problems
    lines = data.count(b"\n") + data.count(b"\r") + 1
    # YAML 1.1 knows further ends of lines.
    lines += sum(data.count(end.encode()) for end in "\x85\u2028\u2029")
    for problem in problems:
        assert problem.file == file
        assert 1 <= problem.line <= lines + 1
        _check_line(str(problem))
        assert SECRET not in str(problem)


@cache
def _folder():
    folder = tempfile.TemporaryDirectory(prefix="fuzz-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[object] = []


@target
def key_files(data: bytes) -> None:
    """PEM, base64 or anything, in a key's file."""
    _key_file(data)


@target
def key_structures(data: bytes) -> None:
    """Anything as the DER of a key."""
    _key_file(base64.b64encode(data))


def _key_file(data):
    for read in (formats.read_private_key, formats.read_public_key):
        try:
            key = read(data)
        except KeyringError as error:
            _check_line(error.detail)
            continue
        assert key.key_size >= strength.MINIMUM_BITS
        if read is formats.read_public_key:
            again = formats.read_public_key(formats.public_base64(key).encode())
            assert again.public_numbers() == key.public_numbers()


def _check_line(text):
    """Errors are one line that any terminal can show."""
    assert text
    assert text.isprintable(), "an error is not one printable line"
