"""TLS on both sides: verified towards AlipayHK, with callers' certificates inbound.

Certificates change without a restart: a `LiveContext` hands each new connection to
the context that was made last, and `Certificates` makes one when the files change.
"""

import asyncio
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, Self

from gateway.edge.certificates import CertificateRefused, parsed
from gateway.edge.pieces import READ_BYTES
from gateway.errors import SetupError
from gateway.events import CertificateInUse

_DER: Final = 2
"""`_ssl.ENCODING_DER`."""

POLL_SECONDS: Final = 0.4
"""A change is taken up after two equal looks: within a second."""


class LiveContext(ssl.SSLContext):
    """Settings for connections to come, which may be replaced at any time.

    asyncio asks its context for one object per connection (`wrap_bio`): this gives
    the present context's. Connections that are open keep what they began with.
    """

    def __new__(cls, present: ssl.SSLContext) -> Self:
        """Begin with `present`."""
        return super().__new__(cls, present.protocol)

    def __init__(self, present: ssl.SSLContext) -> None:
        self.present = present

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:  # noqa: ANN401
        """Begin a connection with the present context."""
        return self.present.wrap_bio(*args, **kwargs)


class VerifiedObject(ssl.SSLObject):
    """TLS towards a server; a certificate that does not verify is named.

    OpenSSL's own error has neither its names nor its dates nor its issuer. They are in
    the chain that the server sent in the same handshake, which has failed by then.
    """

    incoming: ssl.MemoryBIO
    """What came and is not decrypted yet."""

    def do_handshake(self) -> None:
        """Carry the handshake on.

        Raises:
            CertificateRefused: the server's certificate does not verify.
        """
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            shown = parsed(chain_of(self))
            raise CertificateRefused(error, shown, self.server_hostname) from None

    def read_rest(self, data: bytes) -> bytes:
        """Return in clear what came last, of a connection that is gone already.

        Args:
            data: as it came, behind what was read before.
        """
        self.incoming.write(data)
        parts = []
        with suppress(ssl.SSLError):
            while part := self.read(READ_BYTES):
                parts.append(part)
        return b"".join(parts)


class _ClientContext(ssl.SSLContext):
    """Settings towards a server."""

    sslobject_class = VerifiedObject

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> ssl.SSLObject:
        """Begin a connection."""
        tls = super().wrap_bio(incoming, *args, **kwargs)
        tls.incoming = incoming  # type: ignore[attr-defined]
        return tls


def chain_of(tls: ssl.SSLObject) -> list[bytes]:
    """Return the certificates that the other side sent, in DER, verified or not."""
    if sys.version_info >= (3, 13):
        return tls.get_unverified_chain()
    inner: Any = tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - public in 3.13
    shown = inner.get_unverified_chain() or ()
    return [each.public_bytes(_DER) for each in shown]


class CallersObject(ssl.SSLObject):
    """A caller's TLS, which stays open for answers once the caller sends no more.

    A close_notify ends one half (RFC 8446, 6.1). Where a read shows it, both event
    loops end the connection at once, and with it answers that are still to be written:
    so it does not, and `on_end` is called. The context makes such objects by its
    `sslobject_class`.
    """

    on_end: Callable[[], object] | None = None
    """Is called, perhaps more than once; without it a read shows the end."""

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002, ANN401
        """Read up to `len` bytes, as `ssl.SSLObject.read`.

        Raises:
            SSLWantReadError: there is nothing to read, and never will be where the
                caller has ended its half.
        """
        data = super().read(len, buffer)
        if data or self.on_end is None:
            return data
        self.on_end()
        raise ssl.SSLWantReadError


def keep_small_buffers() -> None:
    """Have each TLS connection of this process keep a buffer as large as one read.

    asyncio makes and fills one of 256 KiB at once, for which it has no setting.
    """
    SSLProtocol.max_size = READ_BYTES


class CertificatesListener(Protocol):
    """Is told what became of each attempt to take up changed files."""

    def certificates_loaded(self, setting: str) -> None:
        """Note that the files are in use from now on."""
        ...

    def certificates_refused(self, setting: str, reason: str) -> None:
        """Note that they cannot be used and what is in use stays in use."""
        ...


class Certificates:
    """A live context and the files that it is made of.

    Args:
        setting: where the files stand in the configuration.
        files: those whose change counts.
        make: reads them; raises SetupError. It blocks.
        listener: is told of each change.
        read: gives the certificates that are in those files; raises SetupError.

    Raises:
        SetupError: the files cannot be used.
    """

    def __init__(
        self,
        setting: str,
        files: Iterable[Path | None],
        make: Callable[[], ssl.SSLContext],
        listener: CertificatesListener,
        read: Callable[[], list[CertificateInUse]] = list,
    ) -> None:
        self._setting = setting
        self._files = tuple(file for file in files if file is not None)
        self._make = make
        self._listener = listener
        self._read = read
        self._seen = self._state()
        self.context = LiveContext(make())
        self.in_use = read()
        """The certificates in the files that are in use."""
        self.problem: str | None = None
        """Why the files' present content is not in use; None if it is."""

    async def watch(self) -> None:
        """Take up changed files once they have come to rest. Runs until cancelled."""
        before = self._seen
        while self._files:
            await asyncio.sleep(POLL_SECONDS)
            now = await asyncio.to_thread(self._state)
            if now == before != self._seen:
                self._seen = now
                await self._reload()
            before = now

    async def _reload(self) -> None:
        try:
            present, in_use = await asyncio.to_thread(self._take)
        except SetupError as error:
            self.problem = error.detail
            self._listener.certificates_refused(self._setting, error.detail)
        else:
            self.context.present, self.in_use = present, in_use
            self.problem = None
            self._listener.certificates_loaded(self._setting)

    def _take(self) -> tuple[ssl.SSLContext, list[CertificateInUse]]:
        return self._make(), self._read()

    def _state(self) -> object:
        return [_state_of(file) for file in self._files]


def client_context(
    ca_file: Path | None = None,
    certificate: Path | None = None,
    private_key: Path | None = None,
) -> ssl.SSLContext:
    """Make the settings towards AlipayHK: it is always verified, TLS 1.2 at least.

    Args:
        ca_file: authorities that replace the system's.
        certificate: what we show of ourselves, if anything.
        private_key: the certificate's.

    Raises:
        OSError: a file cannot be read, or is not what it should be.
    """
    context = _ClientContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, host names too
    _harden(context)
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    if certificate is not None:
        context.load_cert_chain(certificate, private_key, _no_passphrase)
    return context


def server_context(
    certificate: Path,
    private_key: Path,
    client_ca: Path | None = None,
    *,
    required: bool = True,
) -> ssl.SSLContext:
    """Make the settings of a listener: TLS 1.2 at least.

    Args:
        certificate: what the listener shows of itself, with its chain.
        private_key: the certificate's.
        client_ca: authorities of callers' certificates; None asks for none.
        required: whether a connection without a certificate is refused at once.

    Raises:
        OSError: a file cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.sslobject_class = CallersObject
    context.load_cert_chain(certificate, private_key, _no_passphrase)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def names_of(certificate: object) -> frozenset[str] | None:
    """Give the subject alternative names of a peer's verified certificate.

    URIs and names of hosts: an authority that vouches for hosts alone may let a host
    be called like somebody's URI.

    Args:
        certificate: as `SSLObject.getpeercert` gives it; empty or None without one.
    """
    if not isinstance(certificate, dict) or not certificate:
        return None
    names = certificate.get("subjectAltName", ())
    return frozenset(
        value for kind, value in names if kind == ("URI" if ":" in value else "DNS")
    )


def _harden(context: ssl.SSLContext) -> None:
    """Set what both sides have in common.

    Unlike Python's default, a context that is made plainly heeds no SSLKEYLOGFILE, which
    would have each connection's session keys written to a file.
    """
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if sys.version_info >= (3, 13):  # as strict as this Python's own default
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT


def _no_passphrase() -> str:
    """Refuse an encrypted key: OpenSSL would ask the terminal for its passphrase."""
    return ""


def _state_of(file: Path) -> object:
    try:
        status = file.stat()
    except OSError as error:
        return error.errno
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
