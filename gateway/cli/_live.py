"""Ask the gateway that runs with a configuration what its keys did."""

import argparse
import re
import socket
import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ValidationError

from gateway.cli.options import path
from gateway.config import Address, Admin, ListenerTls, UnixAddress
from gateway.edge.reasons import reason_of
from gateway.edge.tls import client_context
from gateway.errors import SetupError

_PATIENCE_S: Final = 5.0
_MAX_BYTES: Final = 16 << 20
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound to
_REFUSALS: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "it asks for a token of admin.tokens: --token-file FILE",
    HTTPStatus.NOT_FOUND: "it has no page of keys: it is older, or no gateway",
}


class LiveUsage(BaseModel):
    """What a key did since the gateway started."""

    used: int
    operations: dict[str, int]
    first_used: AwareDatetime | None
    last_used: AwareDatetime | None
    first_seen: AwareDatetime | None


class LiveKey(LiveUsage):
    """A key as the running gateway has it."""

    section: str
    version: str
    uses: list[str]
    fingerprint: str | None


class LiveClient(BaseModel):
    """A client as the running gateway has it."""

    client: str
    generation: int | None
    digest: str | None = None
    keys: list[LiveKey]


class LivePage(BaseModel):
    """What `GET /keys` gives, as far as it is used here."""

    counted_since: AwareDatetime
    clients: list[LiveClient]


def add_live(parser: argparse.ArgumentParser) -> None:
    """Declare the options that ask a running gateway."""
    parser.add_argument(
        "--live",
        action="store_true",
        help="ask the gateway that runs with this configuration what its keys did",
    )
    for option, what in (
        ("--token-file", "a token of admin.tokens, for --live"),
        ("--certificate", "a certificate of admin.tls.client_ca, for --live"),
        ("--private-key", "its key"),
    ):
        parser.add_argument(option, type=path, metavar="FILE", help=what)


def ask(admin: Admin, arguments: argparse.Namespace) -> LivePage:
    """Get the page of keys from the admin listener of a running gateway.

    Args:
        admin: where it listens, and how.
        arguments: the files that let us in.

    Raises:
        SetupError: it cannot be reached, does not let us in, or is no gateway.
        OSError: one of the files cannot be read.
    """
    headers = {"Connection": "close"}
    if arguments.token_file is not None:
        headers["Authorization"] = f"Bearer {_token(arguments.token_file)}"
    context = _context(admin.tls, arguments) if admin.tls else None
    connection = _Connection(admin, context)
    try:
        connection.request("GET", "/keys", headers=headers)
        answer = connection.getresponse()
        body = answer.read(_MAX_BYTES)
    except OSError as error:
        reason = _reason_of(error)
        if admin.tls and admin.tls.client_ca and arguments.certificate is None:
            reason += "; it may ask for a certificate: --certificate FILE"
        raise _failed(admin, reason) from None
    except HTTPException:
        raise _failed(admin, "what answers does not speak HTTP") from None
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        status = f"it answers with status {answer.status}"
        raise _failed(admin, _REFUSALS.get(answer.status, status))
    try:
        return LivePage.model_validate_json(body)
    except ValidationError:
        raise _failed(admin, "what answers is no gateway") from None


class _Connection(HTTPConnection):
    """A connection to an admin listener, wherever it listens."""

    def __init__(self, admin: Admin, context: ssl.SSLContext | None) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._admin = admin
        self._context = context

    def connect(self) -> None:
        """Connect, and see that it is the gateway of this configuration."""
        self.sock = _connected(self._admin)
        if self._context is not None and self._admin.tls is not None:
            secured = self._context.wrap_socket(self.sock)
            self.sock = secured
            if secured.getpeercert(binary_form=True) != _shown(self._admin.tls):
                raise _failed(self._admin, "it shows another certificate than ours")


def _connected(admin: Admin) -> socket.socket:
    listen = admin.listen
    if isinstance(listen, UnixAddress):
        return _connected_in_files(listen.path)
    if not listen.port:
        raise _failed(admin, "port 0 is another one at each start: write one down")
    return socket.create_connection(_where(listen), _PATIENCE_S)


def _connected_in_files(file: Path) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(_PATIENCE_S)
    try:
        connected.connect(str(file))
    except OSError:
        connected.close()
        raise
    return connected


def _where(listen: Address) -> tuple[str, int]:
    return _ANYWHERE.get(listen.host, listen.host), listen.port


def _context(tls: ListenerTls, arguments: argparse.Namespace) -> ssl.SSLContext:
    """Trust the listener's own certificate, whatever name it was issued for."""
    context = client_context(
        tls.certificate, arguments.certificate, arguments.private_key
    )
    context.check_hostname = False  # it is compared as a whole
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _shown(tls: ListenerTls) -> bytes:
    """Give the certificate that a listener shows: the first of its chain."""
    end = ssl.PEM_FOOTER
    first, _, _ = tls.certificate.read_text("ascii", "replace").partition(end)
    return ssl.PEM_cert_to_DER_cert(first[first.find(ssl.PEM_HEADER) :] + end)


def _reason_of(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return reason_of(error)
    return f"no gateway answers: {reason_of(error)}"


def _token(file: Path) -> str:
    with file.open("rb") as stream:
        token = stream.read(4096).decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        msg = f"{file}: it does not hold a token alone"
        raise SetupError(msg)
    return token


def _failed(admin: Admin, reason: str) -> SetupError:
    return SetupError(f"admin.listen {admin.listen}: {reason}")
