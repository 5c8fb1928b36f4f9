"""What a configuration names on disk, looked at as serving would.

`gateway check` runs all of it; a gateway that serves takes the TLS part, at the start
and whenever a file has changed.
"""

import asyncio
import re
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from gateway import config
from gateway.audit.opening import flaw_of, seal_of
from gateway.config import ListenerTls, Settings, Tls
from gateway.documents import Document, DocumentError, Problem
from gateway.edge.certificates import certificates_in, day_of, in_use
from gateway.edge.tls import client_context, server_context
from gateway.errors import AuditError, KeyringError, SetupError
from gateway.events import CertificateInUse
from gateway.keys.backends.access import Others, check_file, read_key_file
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.homes import Homes
from gateway.keys.backends.pem import FILES
from gateway.keys.keyring import Keyring
from gateway.relay.selftest import self_test

_Made = TypeVar("_Made")
_ENCRYPTED: Final = re.compile(rb"BEGIN ENCRYPTED|Proc-Type: *4, *ENCRYPTED")
_HIDDEN: Final = (
    "it is encrypted with a passphrase, and nobody is there to type it; an "
    "unencrypted key belongs here"
)


async def check(
    document: Document[Settings],
    entropy: Callable[[int], bytes],
    now: datetime,
    homes: Homes = FILES,
) -> list[Problem]:
    """Find what is wrong with a configuration, and what keyrings and TLS files lack.

    A mistake in the one hides none in the others: each file whose path can be read
    is read as serving would, self-test included.

    Args:
        now: by which planned steps are due.
        document: the configuration, right or wrong.
        entropy: gives that many random bytes.
        homes: where private keys may live.
    """
    problems = [*document.problems]
    homes = homes.only(config.key_homes_of(document))
    for files in config.files_of(document):
        problems += await _keyring_problems(document, files, entropy, now, homes)
        tls = files.tls
        expired = _expired(tls.certificate, ("ca_file", tls.ca_file), now)
        for key, reason in (*_client_flaws(tls), *expired):
            place = (*files.place, "tls", key)
            problems.append(document.problem(place, reason))
    for section, of in config.listeners_of(document):
        expired = _expired(of.certificate, ("client_ca", of.client_ca), now)
        for key, reason in (*_listener_flaws(of), *expired):
            problems.append(document.problem((section, "tls", key), reason))
    for key, reason in _audit_flaws(config.audit_of(document)):
        problems.append(document.problem(("audit", key), reason))
    return list(dict.fromkeys(problems))


def client_tls(setting: str, tls: Tls) -> ssl.SSLContext:
    """Make the TLS settings towards AlipayHK.

    Args:
        setting: where `tls` stands in the configuration, for the error.
        tls: the files.

    Raises:
        SetupError: one of them cannot be used; the text says which and why.
    """
    for key, reason in _client_flaws(tls):
        msg = f"{setting}.{key}: {reason}"
        raise SetupError(msg)
    return _made(
        setting, lambda: client_context(tls.ca_file, tls.certificate, tls.private_key)
    )


def listener_tls(setting: str, tls: ListenerTls, *, required: bool) -> ssl.SSLContext:
    """Make the TLS settings of a listener.

    Args:
        setting: where `tls` stands in the configuration, for the error.
        tls: the files.
        required: whether every connection must show a certificate, if there is a
            `client_ca`.

    Raises:
        SetupError: one of them cannot be used; the text says which and why.
    """
    for key, reason in _listener_flaws(tls):
        msg = f"{setting}.{key}: {reason}"
        raise SetupError(msg)
    return _made(
        setting,
        lambda: server_context(
            tls.certificate, tls.private_key, tls.client_ca, required=required
        ),
    )


def certificates_of(
    setting: str, files: Mapping[str, Path | None]
) -> list[CertificateInUse]:
    """Return the certificates in TLS files, without those that cannot be read.

    Args:
        setting: where the files stand in the configuration.
        files: by their keys there.

    Raises:
        SetupError: a file has gone.
    """
    found = []
    for key, file in files.items():
        if file is not None:
            data = _made(setting, file.read_bytes)
            found += in_use(f"{setting}.{key}", certificates_in(data))
    return found


def lacks(ring: Keyring, *, encrypts: bool) -> list[str]:
    """Give what a ring has not, of what its client's routes need."""
    return [f"missing: {lack}" for lack in ring.missing(encrypting=encrypts)]


def _audit_flaws(audit: config.Audit | None) -> Iterator[tuple[str, str]]:
    if audit is None:
        return
    if flaw := flaw_of(audit.file):
        yield "file", flaw
    try:
        seal_of(audit.key)
    except AuditError as error:
        yield "key", error.detail


async def _keyring_problems(
    document: Document[Settings],
    files: config.Files,
    entropy: Callable[[int], bytes],
    now: datetime,
    homes: Homes,
) -> list[Problem]:
    if files.keyring is None:
        return []
    place = (*files.place, "keyring")
    try:
        folder = KeyringFolder(files.keyring, homes)
        ring = await asyncio.to_thread(folder.read, now)
        await self_test(ring, entropy=entropy)
    except DocumentError as error:
        return [*error.problems]
    except SetupError as error:
        return [document.problem(place, error.detail)]
    missing = lacks(ring, encrypts=files.encrypts)
    return [document.problem(place, lack) for lack in missing]


def _client_flaws(tls: Tls) -> Iterator[tuple[str, str]]:
    """Find what is wrong with TLS files: the key that names one, and the reason."""
    if (file := tls.ca_file) and (reason := _refusal(file, client_context)):
        yield "ca_file", reason
    yield from _pair_flaws(
        tls.certificate,
        tls.private_key,
        lambda certificate: client_context(None, certificate, tls.private_key),
    )


def _listener_flaws(tls: ListenerTls) -> Iterator[tuple[str, str]]:
    if (file := tls.client_ca) and (reason := _refusal(file, client_context)):
        yield "client_ca", reason
    yield from _pair_flaws(
        tls.certificate,
        tls.private_key,
        lambda certificate: server_context(certificate, tls.private_key),
    )


def _pair_flaws(
    certificate: Path | None, private_key: Path | None, load: Callable[[Path], object]
) -> Iterator[tuple[str, str]]:
    if private_key is None:
        return
    try:
        pem = read_key_file(private_key, Others.MAY_NOTHING)
    except KeyringError as error:
        yield "private_key", error.detail
        return
    if _ENCRYPTED.search(pem):
        yield "private_key", _HIDDEN
        return
    if certificate is not None and (reason := _refusal(certificate, load)):
        yield "certificate", reason


def _expired(
    certificate: Path | None, authorities: tuple[str, Path | None], now: datetime
) -> Iterator[tuple[str, str]]:
    """Find certificates past their end: our own, or all authorities of a file."""
    key, file = authorities
    for each in _certificates_in(certificate)[:1]:
        if each.not_after <= now:
            yield "certificate", f"{each.name} has expired on {day_of(each.not_after)}"
    ends = [each.not_after for each in _certificates_in(file)]
    if ends and max(ends) <= now:
        yield key, f"its last authority has expired on {day_of(max(ends))}"


def _certificates_in(file: Path | None) -> list[CertificateInUse]:
    """Return the certificates in a file; none if it cannot be read, as others tell."""
    if file is None or _refusal(file, Path.read_bytes):
        return []
    return in_use("", certificates_in(file.read_bytes()))


def _made(setting: str, make: Callable[[], _Made]) -> _Made:
    """Make something of files that were good a moment ago: they may have changed."""
    try:
        return make()
    except OSError as error:
        msg = f"{setting}: a file of it changed while it was read: {_reason(error)}"
        raise SetupError(msg) from error


def _refusal(file: Path, load: Callable[[Path], object]) -> str:
    """Give why TLS cannot use this file; nothing if it can."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
            return "it is not a file"
        check_file(file, Others.MAY_READ)
        load(file)
    except KeyringError as error:
        return error.detail
    except OSError as error:
        return _reason(error)
    return ""


def _reason(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return f"it cannot be read: {error.strerror}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return "it does not belong to the private key"
    return "not PEM as it must be"
