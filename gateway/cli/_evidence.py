"""What a diagnosis is made from: the captured message and every key at hand."""

import argparse
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.cli._judgement import Case
from gateway.cli._messages import header
from gateway.cli._ring import (
    Held,
    client_of,
    folder_of,
    held,
    manifest_of,
    settings_of,
)
from gateway.cli.options import environment
from gateway.config import Client
from gateway.errors import SetupError
from gateway.keys.backends.file import place_of
from gateway.keys.backends.homes import Homes
from gateway.keys.backends.pem import FileHome
from gateway.keys.changes import Party
from gateway.keys.locations import FILE, scheme_of
from gateway.keys.model import KeyState, Use
from gateway.protocol import Direction, ReceivedRequest
from gateway.protocol.diagnosis import Capture, KnownKey, Pair, Standing
from gateway.protocol.diagnosis.model import PLATFORM_HOSTS

_STANDINGS: Final = {
    KeyState.PRE_ACTIVE: Standing.PRE_ACTIVE,
    KeyState.COMPROMISED: Standing.COMPROMISED,
}


def capture_of(
    arguments: argparse.Namespace, case: Case, plaintext: bytes | None
) -> Capture:
    """Give the message, with what may have stood in its place."""
    received = case.received
    theirs = header(received.headers, "Client-Id")
    if case.request is None:
        assert isinstance(received, ReceivedRequest)  # noqa: S101 - the one other kind
        direction, client_id = Direction.REQUEST, theirs
        method, target = received.method, received.target
    else:
        sent = case.request.draft
        direction, client_id = Direction.RESPONSE, sent.client_id
        method, target = sent.method, sent.target
    related = [received.headers, *([case.sent.headers] if case.sent else [])]
    return Capture(
        method,
        target,
        client_id,
        header(received.headers, direction.value),
        received.body,
        header(received.headers, "Signature"),
        plaintext,
        other_targets=_routes(arguments),
        other_client_ids=tuple(
            dict.fromkeys(filter(None, (theirs, case.client_id, *_others(arguments))))
        ),
        other_times=tuple(
            time
            for headers in related
            for each in Direction
            if (time := header(headers, each.value))
        ),
        hosts=(
            *(host for headers in related if (host := header(headers, "Host"))),
            *PLATFORM_HOSTS,
        ),
    )


def known_keys(arguments: argparse.Namespace, case: Case) -> list[KnownKey]:
    """Give every key the message could be signed by, the trusted ones first.

    Those of the configuration's other clients are among them: sandbox and
    production are easily mixed.
    """
    folder = folder_of(arguments)
    keys = [
        KnownKey(_label(each), each.public, _standing(each, case.party))
        for each in held(folder, manifest_of(folder), arguments.homes)
        if each.public is not None
    ]
    for client in _other_clients(arguments):
        keys += _of_other(client, case.party, arguments.homes)
    return sorted(keys, key=lambda key: key.standing is not Standing.TRUSTED)


def known_pairs(arguments: argparse.Namespace, case: Case) -> list[Pair]:
    """Give every private key that is at hand, those that may decrypt first."""
    folder, to_us = folder_of(arguments), case.party is Party.PLATFORM
    homes = arguments.homes
    pairs = list(_pairs(folder, homes, "", None if to_us else Standing.OWN))
    for client in _other_clients(arguments):
        of_client = f" of client {client.name}"
        with suppress(SetupError):  # no ring, no keys: it is only looked at in passing
            pairs += _pairs(client.keyring, homes, of_client, Standing.OTHER_CLIENT)
    return sorted(pairs, key=lambda pair: pair.standing is not Standing.TRUSTED)


def _pairs(
    folder: Path, homes: Homes, of_client: str, standing: Standing | None
) -> Iterator[Pair]:
    """Give the pairs in files; one in a token unwraps in the one right way alone."""
    for each in held(folder, manifest_of(folder), homes):
        entry = each.entry
        place = place_of(entry, folder)
        if each.party is not Party.PARTNER or each.public is None or place is None:
            continue
        if scheme_of(place.key) != FILE:
            continue
        private = FileHome(environment()).read(place)
        known = standing or _STANDINGS.get(entry.state)
        if known is None:
            may = Use.DECRYPT in each.uses
            known = Standing.TRUSTED if may else Standing.OTHER_USE
        yield Pair(_label(each) + of_client, entry.version, known, private)


def _others(arguments: argparse.Namespace) -> Iterator[str]:
    return (client.client_id for client in _other_clients(arguments))


def _other_clients(arguments: argparse.Namespace) -> Iterator[Client]:
    if arguments.keyring is None:
        ours = client_of(arguments)
        for client in settings_of(arguments).clients:
            if client.name != ours.name:
                yield client


def _routes(arguments: argparse.Namespace) -> tuple[str, ...]:
    if arguments.keyring is not None:
        return ()
    return tuple(route.path for route in settings_of(arguments).routes)


def label(party: Party, version: str) -> str:
    """Name a key as a sentence about it does."""
    owner = "our own" if party is Party.PARTNER else "AlipayHK's"
    return f"{owner} key version {version}"


def _of_other(client: Client, party: Party, homes: Homes) -> Iterator[KnownKey]:
    try:
        ring = manifest_of(client.keyring)
    except SetupError:
        return  # no ring, no keys: this client is only looked at in passing
    for each in held(client.keyring, ring, homes):
        if each.party is party and each.public is not None:
            name = f"{_label(each)} of client {client.name}"
            yield KnownKey(name, each.public, Standing.OTHER_CLIENT)


def _label(each: Held) -> str:
    return label(each.party, each.entry.version)


def _standing(each: Held, party: Party) -> Standing:
    if each.party is not party:
        return Standing.OWN if party is Party.PLATFORM else Standing.THEIRS
    if each.entry.state in _STANDINGS:
        return _STANDINGS[each.entry.state]
    signs = Use.VERIFY if party is Party.PLATFORM else Use.SIGN
    return Standing.TRUSTED if signs in each.uses else Standing.OTHER_USE
