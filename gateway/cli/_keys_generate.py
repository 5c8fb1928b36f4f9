"""Make a key pair of ours, not in use yet, and print its public key.

The private key is written to the ring's folder, for its owner alone, and is never
printed. With --in it is made in a token, which it never leaves: the URI says which
token, what the pair is to be called there (object= or id=), and where the PIN is. Where
the configuration's keys.homes does not allow files, that is the only way. The folder is
made where it is missing. AlipayHK's console takes the public
key as PEM or as one line of base64: both are printed, with the fingerprint (SHA-256
of the SPKI) by which two people can compare what was registered.

A pair in a token is made by --in with a URI such as
'pkcs11:token=hk;object=ours-2?module-path=/usr/lib/hsm.so&pin-source=file:/run/secrets/pin'

AlipayHK's documents ask for RSA with 2048 bits, which is the default.

Examples:
  gateway keys generate                         the next version, in config.yaml's ring
  gateway keys generate --keyring keys/hk       in this folder
  gateway keys generate --version 2026-11       under a label of one's own
  gateway keys generate --use sign              a pair that only signs
  gateway keys generate --passphrase env:RING_PASSPHRASE    encrypted on the disk
  gateway keys generate --json | jq -r .public_pem
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPublicKey,
    generate_private_key,
)

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
    with_fingerprint,
)
from gateway.cli._ring import add_ring, folder_of, options_of, this_second
from gateway.cli._witness import witness_of
from gateway.cli.options import add_json
from gateway.keys.backends.folder import KeyFile, locked
from gateway.keys.backends.homes import Homes
from gateway.keys.changes import Party, add, dated
from gateway.keys.formats import private_pem, public_base64, public_pem
from gateway.keys.locations import FILE
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import PARTNER_USES, Use
from gateway.keys.ports import Place
from gateway.keys.strength import MINIMUM_BITS
from gateway.protocol import PublicKeys

_EXPONENT: Final = 65537
_Made: TypeAlias = tuple[Entry, RSAPublicKey, list[KeyFile]]
"""The entry of a pair, its public half, and the files that the ring gets with it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway keys generate`."""
    parser.add_argument(
        "--version", metavar="V", help="its label (default: the next whole number)"
    )
    add_choice(
        parser,
        "--use",
        (Use.SIGN, Use.DECRYPT),
        help="what the pair is for (default: both)",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=(MINIMUM_BITS, 3072, 4096),
        default=MINIMUM_BITS,
        help="length of the key (default: %(default)s)",
    )
    parser.add_argument(
        "--in",
        dest="uri",
        metavar="URI",
        help="make it there, in a token, not in a file: a pkcs11: URI",
    )
    add_passphrase(parser)
    add_dry_run(parser)
    add_ring(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Generate a pair, add it to the ring and print its public half."""
    if arguments.uri is not None and arguments.passphrase is not None:
        msg = "--passphrase encrypts a file, and --in makes none"
        raise UsageError(msg)
    folder = folder_of(arguments)
    homes = homes_of(arguments, folder)
    homes.check_allowed(arguments.uri or FILE)
    if arguments.dry_run:
        return _tried(arguments, folder)
    if arguments.uri is None:
        make = partial(_in_file, passphrase=passphrase_of(arguments))
    else:
        make = partial(_in_home, homes=homes)
    witness = witness_of(arguments, folder)
    with locked(folder, create=True, witness=witness, homes=homes) as ring:
        before = ring.manifest
        with make(arguments, folder, before) as (entry, public, files):
            after = ring.replace(_taken_up(before, entry), *files)
    if arguments.json:
        facts = facts_of(folder, after.generation, Party.PARTNER, entry, public)
        print(json.dumps(facts))
        return 0
    print(headline(folder, Party.PARTNER, entry, public))
    print(_both_forms(public))
    print(_next_steps(entry.version, options_of(arguments), platform=after.verifiers))
    return 0


@contextmanager
def _in_file(
    arguments: argparse.Namespace,
    _: Path,
    before: Manifest,
    passphrase: bytes | None,
) -> Iterator[_Made]:
    """Make a pair that the ring's folder is to hold."""
    key = generate_private_key(_EXPONENT, arguments.bits)
    public, location = key.public_key(), arguments.passphrase
    entry = entry_of(before, Party.PARTNER, public, arguments, passphrase=location)
    file = KeyFile(str(entry.key), private_pem(key, passphrase), private=True)
    yield entry, public, [file]


@contextmanager
def _in_home(
    arguments: argparse.Namespace, folder: Path, before: Manifest, homes: Homes
) -> Iterator[_Made]:
    """Make a pair that stays where it is made; the ring is to name it.

    It is made last: what speaks against its entry is told before.
    """
    uri: str = arguments.uri
    entry = entry_of(before, Party.PARTNER, None, arguments, key=uri)
    _taken_up(before, entry)
    place = Place(uri, entry.version, entry.uses(PARTNER_USES), folder)
    public = homes.generate(place, arguments.bits)
    try:
        yield with_fingerprint(entry, public), public, []
    except BaseException:
        text = (
            f"the pair was made, and no ring names it: gateway keys import {quote(uri)}"
        )
        print(f"gateway: {text}", file=sys.stderr)
        raise


def _tried(arguments: argparse.Namespace, folder: Path) -> int:
    """Say which pair would be made; this one is thrown away."""
    public = generate_private_key(_EXPONENT, arguments.bits).public_key()
    before, location = present(folder), arguments.passphrase
    entry = entry_of(
        before,
        Party.PARTNER,
        public,
        arguments,
        key=arguments.uri,
        passphrase=location,
    )
    after = _taken_up(before, entry)
    facts = facts_of(folder, after.generation, Party.PARTNER, entry, public)
    if arguments.json:
        gone = ("fingerprint", "public_pem", "public_base64")
        told = {name: value for name, value in facts.items() if name not in gone}
        print(json.dumps({**told, "dry_run": True}))
        return 0
    print("Dry run, nothing was changed. The change would be:")
    place = "" if arguments.uri is None else f", made in {arguments.uri}"
    print(
        f"partner version {entry.version}: new -> pre-active; an RSA key of "
        f"{public.key_size} bits, in {folder}, which would be at generation "
        f"{after.generation}{place}"
    )
    return 0


def _taken_up(before: Manifest, entry: Entry) -> Manifest:
    """Add the entry. Its public key is given out here and now: it is printed."""
    now = this_second()
    added = add(before, Party.PARTNER, entry.model_copy(update={"exported": now}))
    return dated(before, added, now)


def _both_forms(key: RSAPublicKey) -> str:
    return f"""
The public key as PEM:

{public_pem(key)}
The same as one line of base64:

{public_base64(key)}
"""


def _next_steps(version: str, options: str, *, platform: PublicKeys) -> str:
    steps = [f"Register this public key with AlipayHK, as key version {version}."]
    if not platform:
        steps.append(
            "Take up the public key that AlipayHK gives you in return:\n"
            f"     gateway keys import FILE --activate{options}"
        )
    steps.append(
        "When AlipayHK has registered yours, sign with it:\n"
        f"     gateway keys activate {version}{options}"
    )
    return "Next:\n" + "\n".join(
        f"  {number}. {step}" for number, step in enumerate(steps, start=1)
    )
