"""Which keyring a command works on, and what is in it, usable or not."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shlex import quote

from gateway import config
from gateway.cli import UsageError
from gateway.cli._choices import add_choice
from gateway.cli.options import add_config, add_homes, environment, path
from gateway.errors import KeyringError, KeyUnavailable
from gateway.keys import manifest
from gateway.keys.backends.access import Others, read_key_file
from gateway.keys.backends.file import place_of
from gateway.keys.backends.homes import Homes
from gateway.keys.changes import Party, section
from gateway.keys.formats import read_public_key
from gateway.keys.locations import path_of
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import KeyState, Use
from gateway.protocol import PublicKey


@dataclass(frozen=True, slots=True)
class Held:
    """An entry with the public half of its key, in whatever state it is.

    Attributes:
        public: None where there is no key to read.
        problem: why the key could not be read; None where nothing is wrong.
    """

    party: Party
    entry: Entry
    public: PublicKey | None
    problem: str | None

    @property
    def uses(self) -> list[Use]:
        """What the key is for, in a fixed order."""
        return [use for use in Use if use in self.entry.uses(self.party.uses)]


def clock() -> datetime:
    """Give the present moment."""
    from gateway.plant import CLOCK

    return CLOCK.now()


def this_second() -> datetime:
    """Give the present moment as a step notes it in a ring: without a fraction."""
    return clock().replace(microsecond=0)


def add_ring(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name a keyring."""
    parser.add_argument(
        "--keyring",
        type=path,
        metavar="DIR",
        help="the keyring's folder (default: the client's in the configuration)",
    )
    add_config(parser)
    parser.add_argument(
        "--client",
        metavar="NAME",
        help="the client in the configuration (default: the only one)",
    )
    add_homes(parser)


def add_which(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which key of a ring a version means."""
    parser.add_argument(
        "--platform",
        dest="party",
        action="store_const",
        const=Party.PLATFORM,
        default=Party.PARTNER,
        help="AlipayHK's key, not one of ours",
    )
    add_choice(
        parser,
        "--use",
        Use,
        help="which key is meant, where a version has one for each use",
    )


def folder_of(arguments: argparse.Namespace) -> Path:
    """Give the folder of the keyring that is meant.

    Raises:
        UsageError: nothing names one.
        DocumentError: the configuration cannot be used.
    """
    given: Path | None = arguments.keyring
    return client_of(arguments).keyring if given is None else given


def client_of(arguments: argparse.Namespace) -> config.Client:
    """Give the client of the configuration that is meant.

    Raises:
        UsageError: there is no configuration, or no one client in it is meant.
        DocumentError: the configuration cannot be used.
    """
    clients = settings_of(arguments).clients
    found = [each for each in clients if arguments.client in (None, each.name)]
    if len(found) != 1:
        names = ", ".join(each.name for each in clients)
        msg = f"name a client with --client: {arguments.config} has {names}"
        raise UsageError(msg)
    return found[0]


def sender_of(arguments: argparse.Namespace) -> config.Client:
    """Give the client that is meant, or one with defaults for a bare keyring.

    Its Client-Id is that of `--client-id` where there is one; empty if unknown.

    Raises:
        UsageError: nothing names a client or a keyring.
        DocumentError: the configuration cannot be used.
    """
    if arguments.keyring is None:
        client = client_of(arguments)
    else:
        client = config.Client.model_construct(
            name="", client_id="", upstream="", keyring=arguments.keyring
        )
    client_id = arguments.client_id or client.client_id
    return client.model_copy(update={"client_id": client_id})


def settings_of(arguments: argparse.Namespace) -> config.Settings:
    """Read the configuration that is meant.

    Raises:
        UsageError: there is no configuration.
        DocumentError: the configuration cannot be used.
    """
    if not arguments.config.exists():
        msg = (
            f"there is no {arguments.config}: name a keyring with --keyring, or a "
            "configuration with --config"
        )
        raise UsageError(msg)
    return config.load(arguments.config, environment())


def options_of(arguments: argparse.Namespace) -> str:
    """Give the options that named the keyring, for a command line to go on with."""
    if arguments.keyring is not None:
        return f" --keyring {quote(str(arguments.keyring))}"
    options = (
        ""
        if str(arguments.config) == "config.yaml"
        else f" -c {quote(str(arguments.config))}"
    )
    return options + (
        f" --client {quote(arguments.client)}" if arguments.client else ""
    )


def manifest_of(folder: Path) -> Manifest:
    """Read a keyring's manifest.

    Raises:
        KeyringError: there is none.
        DocumentError: it cannot be used.
    """
    if not (folder / manifest.FILE_NAME).exists():
        msg = f"{folder}: there is no keyring; `gateway keys generate` makes one"
        raise KeyringError(msg)
    return manifest.load(folder).value


def held(folder: Path, ring: Manifest, homes: Homes) -> Iterator[Held]:
    """Read each entry's key, whatever state it is in and whatever is wrong with it."""
    for party in Party:
        for entry in section(ring, party):
            try:
                yield Held(party, entry, _public(folder, party, entry, homes), None)
            except (KeyringError, KeyUnavailable) as error:
                missed = entry.state is not KeyState.COMPROMISED
                yield Held(party, entry, None, error.detail if missed else None)


def _public(folder: Path, party: Party, entry: Entry, homes: Homes) -> PublicKey | None:
    place = place_of(entry, folder, uses=frozenset())
    if place is None:
        return None
    if party is Party.PARTNER:
        return homes.open(place).public
    file = path_of(place.key, folder)
    return PublicKey(
        entry.version, read_public_key(read_key_file(file, Others.MAY_READ))
    )
