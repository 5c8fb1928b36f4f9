"""Take up a key from a file or a token, not in use yet.

A public key is taken for AlipayHK's and a private one for ours. PKCS#1, PKCS#8 and
SPKI are read, as PEM or as base64 on one line. The ring gets a copy of its own: for
a private key, delete the file that it came from. An encrypted one stays encrypted, under
the passphrase that is named; every gateway that reads the ring needs it there.

A pair in a PKCS#11 token is named by its URI (RFC 7512) and stays where it is: the ring
gets the URI, with the place of the PIN and not the PIN. In quotes, such as
'pkcs11:token=hk;object=ours?module-path=/usr/lib/hsm.so&pin-source=file:/run/secrets/pin'

Compare the fingerprint that is printed with AlipayHK's, over another way than the
one the key came by: whoever exchanges this key can speak as AlipayHK.

Examples:
  gateway keys import alipayhk.pem                 AlipayHK's public key
  gateway keys import alipayhk.pem --activate      and verify with it at once
  gateway keys import alipayhk.pem --version 2     as AlipayHK's keyVersion=2
  pbpaste | gateway keys import -                  from standard input
  gateway keys import ours.pem --partner           a pair that was made elsewhere
  gateway keys import encrypted.pem --passphrase env:RING_PASSPHRASE
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.cli import UsageError
from gateway.cli._choices import add_choice
from gateway.cli._governing import homes_of
from gateway.cli._keys_add import (
    add_dry_run,
    add_passphrase,
    entry_of,
    facts_of,
    headline,
    passphrase_of,
    present,
)
from gateway.cli._messages import read_input
from gateway.cli._ring import add_ring, folder_of, options_of, this_second
from gateway.cli._witness import witness_of
from gateway.cli.options import add_json
from gateway.errors import KeyringError
from gateway.keys.backends.access import Others, read_key_file
from gateway.keys.backends.folder import KeyFile, locked
from gateway.keys.backends.homes import Homes
from gateway.keys.changes import Party, activate, add, dated, find
from gateway.keys.formats import (
    private_pem,
    public_pem,
    read_private_key,
    read_public_key,
)
from gateway.keys.locations import FILE, scheme_of
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import PARTNER_USES, Use
from gateway.keys.ports import Place

_MAX_KEY_BYTES: Final = 64 << 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys import`."""
    parser.add_argument(
        "file", metavar="FILE", help="the key; - is standard input; or a URI"
    )
    party = parser.add_mutually_exclusive_group()
    party.add_argument(
        "--platform",
        dest="party",
        action="store_const",
        const=Party.PLATFORM,
        help="it must be AlipayHK's public key",
    )
    party.add_argument(
        "--partner",
        dest="party",
        action="store_const",
        const=Party.PARTNER,
        help="it must be a private key of ours",
    )
    parser.add_argument(
        "--version", metavar="V", help="its label (default: the next whole number)"
    )
    add_choice(parser, "--use", Use, help="what it is for (default: both)")
    parser.add_argument(
        "--activate", action="store_true", help="put it in use in the same step"
    )
    add_passphrase(parser)
    add_dry_run(parser)
    add_ring(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import the key, and say which one it is."""
    folder = folder_of(arguments)
    homes = homes_of(arguments, folder)
    if _is_uri(arguments.file):
        key = _opened(arguments, folder, homes)
    else:
        key = _read(arguments, homes)
    party, public = key.party, key.public
    if arguments.dry_run:
        return _tried(arguments, folder, key)
    with locked(
        folder,
        create=True,
        witness=witness_of(arguments, folder),
        homes=homes,
    ) as ring:
        entry = entry_of(
            ring.manifest,
            party,
            public,
            arguments,
            key=key.uri,
            passphrase=key.passphrase,
        )
        after = _taken_up(ring.manifest, party, entry, activated=arguments.activate)
        ring.replace(after, *key.files(str(entry.key)))
    entry = find(after, party, entry.version, arguments.use)
    if arguments.json:
        print(json.dumps(facts_of(folder, after.generation, party, entry, public)))
        return 0
    print(headline(folder, party, entry, public))
    if not arguments.activate:
        option = " --platform" if party is Party.PLATFORM else ""
        again = f"{entry.version}{option}{options_of(arguments)}"
        print(f"Put it in use with:\n     gateway keys activate {again}")
    return 0


def _tried(arguments: argparse.Namespace, folder: Path, key: "_Found") -> int:
    """Say which key would be taken up."""
    before, party = present(folder), key.party
    entry = entry_of(
        before, party, key.public, arguments, key=key.uri, passphrase=key.passphrase
    )
    after = _taken_up(before, party, entry, activated=arguments.activate)
    entry = find(after, party, entry.version, arguments.use)
    if arguments.json:
        facts = facts_of(folder, after.generation, party, entry, key.public)
        print(json.dumps({**facts, "dry_run": True}))
        return 0
    print("Dry run, nothing was changed. The change would be:")
    print(headline(folder, party, entry, key.public))
    return 0


def _taken_up(
    before: Manifest, party: Party, entry: Entry, *, activated: bool
) -> Manifest:
    """Add the entry, in use or not: then AlipayHK must have had it before us."""
    now = this_second()
    if activated:
        entry = entry.model_copy(update={"exported": now})
    after = add(before, party, entry)
    if activated:
        use = entry.use[0] if entry.use else None
        after = activate(after, party, entry.version, use)
    return dated(before, after, now)


@dataclass(frozen=True, slots=True)
class _Found:
    """A key that was named on the command line.

    Attributes:
        uri: where it stays, if it does.
        pem: what the ring will hold of it, if it does not.
        passphrase: where the passphrase of that is.
    """

    party: Party
    public: RSAPublicKey
    uri: str | None = None
    pem: bytes = field(default=b"", repr=False)
    passphrase: str | None = None

    def files(self, name: str) -> list[KeyFile]:
        """Give the file that the ring gets, if it gets one."""
        if self.uri is not None:
            return []
        return [KeyFile(name, self.pem, private=self.party is Party.PARTNER)]


def _is_uri(name: str) -> bool:
    return scheme_of(name) != FILE and not Path(name).exists()


def _opened(arguments: argparse.Namespace, folder: Path, homes: Homes) -> _Found:
    """Open a pair that stays where it is, for the uses that it is to have.

    Raises:
        KeyringError: there is no such pair, or it cannot do what it is for.
        UsageError: it is given as what it cannot be.
    """
    if arguments.party is Party.PLATFORM or arguments.passphrase is not None:
        msg = "a URI names a pair of ours, which has no passphrase"
        raise UsageError(msg)
    uses = PARTNER_USES if arguments.use is None else frozenset({arguments.use})
    place = Place(arguments.file, arguments.version or "", uses, folder)
    public = homes.open(place).public
    return _Found(Party.PARTNER, public.rsa, uri=arguments.file)


def _read(arguments: argparse.Namespace, homes: Homes) -> _Found:
    """Read a key: whose it is, its PEM as the ring will hold it, its public half.

    Raises:
        KeyringError: it is not the key it should be, and the text says what it is; or
            keys of ours may not live in files.
    """
    name, party = arguments.file, arguments.party
    passphrase = passphrase_of(arguments)
    try:
        data = _data(name)
        if (party or _party(data)) is Party.PLATFORM:
            public = read_public_key(data)
            return _Found(Party.PLATFORM, public, pem=public_pem(public).encode())
        homes.check_allowed(FILE)
        if name != "-":
            data = read_key_file(Path(name), Others.MAY_NOTHING)
        private = read_private_key(data, passphrase)
    except KeyringError as error:
        msg = f"{name}: {error.detail}"
        raise KeyringError(msg) from None
    pem = private_pem(private, passphrase)
    return _Found(
        Party.PARTNER,
        private.public_key(),
        pem=pem,
        passphrase=arguments.passphrase,
    )


def _data(name: str) -> bytes:
    if name == "-":
        return read_input(name, _MAX_KEY_BYTES)
    return read_key_file(Path(name), Others.MAY_ALL)


def _party(data: bytes) -> Party:
    """Tell whose key it must be: nobody has AlipayHK's private one."""
    try:
        read_private_key(data)
    except KeyringError:
        return Party.PARTNER if b"PRIVATE KEY-----" in data else Party.PLATFORM
    return Party.PARTNER
