"""Make a key pair of ours, not in use yet, and print its public key.

The private key is written to the ring's folder, for its owner alone, and is never
printed. The folder is made where it is missing. AlipayHK's console takes the public
key as PEM or as one line of base64: both are printed, with the fingerprint (SHA-256
of the SPKI) by which two people can compare what was registered.

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
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPublicKey,
    generate_private_key,
)

from gateway.cli._choices import add_choice
from gateway.cli._keys_add import (
    add_dry_run,
    add_passphrase,
    entry_of,
    facts_of,
    headline,
    passphrase_of,
    present,
)
from gateway.cli._ring import add_ring, folder_of, options_of, this_second
from gateway.cli._witness import witness_of
from gateway.cli.options import add_json
from gateway.keys.backends.folder import KeyFile, locked
from gateway.keys.changes import Party, add, dated
from gateway.keys.formats import MINIMUM_BITS, private_pem, public_base64, public_pem
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import Use
from gateway.protocol import PublicKeys

_EXPONENT: Final = 65537


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
    add_passphrase(parser)
    add_dry_run(parser)
    add_ring(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Generate a pair, add it to the ring and print its public half."""
    passphrase = passphrase_of(arguments)
    key = generate_private_key(_EXPONENT, arguments.bits)
    public = key.public_key()
    folder = folder_of(arguments)
    if arguments.dry_run:
        return _tried(arguments, folder, public)
    with locked(
        folder,
        create=True,
        witness=witness_of(arguments, folder),
        homes=arguments.homes,
    ) as ring:
        before = ring.manifest
        entry = entry_of(
            before,
            Party.PARTNER,
            public,
            arguments,
            passphrase=arguments.passphrase,
        )
        file = KeyFile(str(entry.key), private_pem(key, passphrase), private=True)
        after = ring.replace(_taken_up(before, entry), file)
    if arguments.json:
        facts = facts_of(folder, after.generation, Party.PARTNER, entry, public)
        print(json.dumps(facts))
        return 0
    print(headline(folder, Party.PARTNER, entry, public))
    print(_both_forms(public))
    print(_next_steps(entry.version, options_of(arguments), platform=after.verifiers))
    return 0


def _tried(arguments: argparse.Namespace, folder: Path, public: RSAPublicKey) -> int:
    """Say which pair would be made; this one is thrown away."""
    before, location = present(folder), arguments.passphrase
    entry = entry_of(before, Party.PARTNER, public, arguments, passphrase=location)
    after = _taken_up(before, entry)
    facts = facts_of(folder, after.generation, Party.PARTNER, entry, public)
    if arguments.json:
        gone = ("fingerprint", "public_pem", "public_base64")
        told = {name: value for name, value in facts.items() if name not in gone}
        print(json.dumps({**told, "dry_run": True}))
        return 0
    print("Dry run, nothing was changed. The change would be:")
    print(
        f"partner version {entry.version}: new -> pre-active; an RSA key of "
        f"{public.key_size} bits, in {folder}, which would be at generation "
        f"{after.generation}"
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
