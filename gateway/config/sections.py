"""The sections of config.yaml. Its keys are the contract; see docs/operations.md."""

import os
from enum import StrEnum
from math import ceil
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from gateway.access.policy import Mode
from gateway.config.values import (
    Address,
    Bytes,
    Count,
    File,
    HostName,
    ListenAt,
    MediaType,
    Name,
    Offset,
    Origin,
    ResultCode,
    Seconds,
    SecondsOrNone,
    SubjectName,
    Target,
    TokenDigest,
    TokenDigests,
    Workers,
    is_never_public,
)
from gateway.documents import Section
from gateway.keys.inventory import Cryptoperiod
from gateway.protocol import HONG_KONG
from gateway.protocol.messages import JSON_UTF8
from gateway.protocol.outgoing import check_client_id
from gateway.protocol.results import SIGNATURE_REFUSALS


class Encryption(StrEnum):
    """Whether requests of a route are encrypted."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class ListenerTls(Section):
    """TLS of a listener, and whose certificates it takes from those who call."""

    certificate: File
    private_key: File
    client_ca: File | None = None


class Inbound(Section):
    """Where internal services call."""

    listen: ListenAt = Address("127.0.0.1", 8080)
    hosts: tuple[HostName, ...] = ()
    tls: ListenerTls | None = None
    max_header_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 16384
    max_body_bytes: Bytes = 1 << 20
    body_timeout_s: Seconds = 30.0
    write_timeout_s: Seconds = 30.0
    head_timeout_s: Seconds = 10.0
    idle_timeout_s: Seconds = 75.0
    max_connections: Count = 2048
    max_concurrent: Count = 512
    queue_timeout_s: SecondsOrNone = 1.0
    max_buffered_bytes: Annotated[int, Field(gt=0, le=1 << 40)] = 256 << 20
    drain_grace_s: SecondsOrNone = 1.0


class Admin(Section):
    """Health and metrics; never for services."""

    listen: ListenAt = Address("127.0.0.1", 9090)
    hosts: tuple[HostName, ...] = ()
    tls: ListenerTls | None = None
    tokens: tuple[TokenDigest, ...] = Field(default=(), repr=False)


class Tls(Section):
    """What TLS to AlipayHK adds to the system's trust: it is always verified.

    `ca_file` replaces the system's authorities; `certificate` with `private_key`
    is what the gateway shows of itself.
    """

    ca_file: File | None = None
    certificate: File | None = None
    private_key: File | None = None

    @model_validator(mode="after")
    def _pair(self) -> "Tls":
        if (self.certificate is None) != (self.private_key is None):
            msg = "certificate and private_key come together"
            raise ValueError(msg)
        return self


class Breaker(Section):
    """When attempts stop for a while: AlipayHK could not be reached."""

    failures: Count = 10
    open_s: Seconds = 5.0


class Client(Section):
    """One Client-Id at one AlipayHK host, with its keyring."""

    name: Name
    client_id: Annotated[str, AfterValidator(check_client_id)]
    upstream: Origin
    keyring: File
    clock_tolerance_s: Seconds = 300.0
    connect_timeout_s: Seconds = 5.0
    first_byte_timeout_s: Seconds | None = None
    max_connection_age_s: Seconds = 300.0
    max_concurrent: Count | None = None
    cryptoperiod_days: Annotated[int, Field(ge=1, le=36500)] = 365
    cryptoperiod_warning_days: Annotated[int, Field(ge=0, le=36500)] = 30
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    breaker: Breaker = Breaker()
    public_addresses_only: bool = False
    max_response_bytes: Bytes = 8 << 20
    time_offset: Offset = HONG_KONG
    send_key_version: bool = True
    encrypted_content_type: MediaType = JSON_UTF8
    reuse_content_key: bool = False
    signature_refusal_codes: Annotated[tuple[ResultCode, ...], Field(min_length=1)] = (
        SIGNATURE_REFUSALS
    )
    tls: Tls = Tls()

    @property
    def cryptoperiod(self) -> Cryptoperiod:
        """How long a key of this client may sign."""
        return Cryptoperiod(self.cryptoperiod_days, self.cryptoperiod_warning_days)

    @model_validator(mode="after")
    def _public(self) -> "Client":
        # An address is never looked up, so that no resolver could refuse it.
        host = urlsplit(self.upstream).hostname or ""
        if self.public_addresses_only and is_never_public(host):
            msg = (
                "upstream is not in the public internet, and public_addresses_only "
                "lets nothing else be connected to"
            )
            raise ValueError(msg)
        return self


class Route(Section):
    """A path that may be called. Anything else is `unknown_route`."""

    path: Target
    client: Name
    encryption: Encryption = Encryption.OPTIONAL
    timeout_s: Seconds = 10.0
    repeat_unknown: bool = False


class Rate(Section):
    """How often a caller may call; `burst` is how many at once after a pause."""

    per_second: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
    burst: Count | None = None

    @property
    def burst_or_default(self) -> int:
        """The burst; by default, what comes in a second."""
        return self.burst or ceil(self.per_second)


class Caller(Section):
    """A service that may call, and what it may call.

    Without `routes` it may use all those of its clients. With a token and a
    certificate, it must show both.
    """

    name: Name
    token_sha256: TokenDigests | None = Field(default=None, repr=False)
    client_certificate: SubjectName | None = None
    clients: Annotated[tuple[Name, ...], Field(min_length=1)]
    routes: Annotated[tuple[Target, ...], Field(min_length=1)] | None = None
    rate: Rate | None = None
    max_concurrent: Count | None = None

    @model_validator(mode="after")
    def _credential(self) -> "Caller":
        if self.token_sha256 is None and self.client_certificate is None:
            msg = "must have a token_sha256, a client_certificate, or both"
            raise ValueError(msg)
        return self


class Audit(Section):
    """The audit log: what was changed, by whom, in a chain that shows tampering."""

    file: File
    key: File
    max_bytes: Annotated[int, Field(ge=4096, le=1 << 30)] = 64 << 20
    checkpoint_every: Annotated[int, Field(ge=2, le=1 << 20)] = 100
    exchanges: bool = False
    required: bool = False


class KeyHome(StrEnum):
    """Where a private key may live: the scheme of its URI."""

    FILE = "file"
    PKCS11 = "pkcs11"


class Keys(Section):
    """What holds for the private keys of every client."""

    homes: Annotated[tuple[KeyHome, ...], Field(min_length=1)] = tuple(KeyHome)


_HEADS_BYTES: Final = 68 << 10
"""An answer's head, 64 KiB at most, and the objects of a request."""


class Settings(Section):
    """A whole config.yaml."""

    inbound: Inbound = Inbound()
    admin: Admin = Admin()
    workers: Workers = 1
    clients: tuple[Client, ...] = Field(min_length=1)
    routes: tuple[Route, ...] = Field(min_length=1)
    callers: tuple[Caller, ...] = ()
    policy: Mode = Mode.ENFORCE
    keys: Keys = Keys()
    audit: Audit | None = None

    @property
    def processes(self) -> int:
        """How many workers that is here."""
        if isinstance(self.workers, int):
            return self.workers
        return len(os.sched_getaffinity(0))

    @property
    def room_for_bodies(self) -> int:
        """How many bytes may be held: always enough for one exchange, with its heads."""
        answer = max(client.max_response_bytes for client in self.clients)
        heads = self.inbound.max_header_bytes + _HEADS_BYTES
        one_exchange = self.inbound.max_body_bytes + answer + heads
        return max(self.inbound.max_buffered_bytes, one_exchange)
