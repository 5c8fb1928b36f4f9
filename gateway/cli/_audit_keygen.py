"""Make the key that signs the audit log: an Ed25519 pair.

The private half is for its owner alone; the gateway and `gateway keys` sign with it.
The public half, FILE.pub, is all that verifying needs: give it to who audits. A log has
a key of its own: with a new key, put the old log away and begin a new one.

Examples:
  gateway audit keygen audit.pem         audit.pem and audit.pem.pub
  gateway audit keygen audit.pem --json | jq -r .fingerprint
"""

import argparse
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.seal import fingerprint, private_pem, public_pem
from gateway.cli.options import add_json, path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway audit keygen`."""
    parser.add_argument(
        "file", type=path, metavar="FILE", help="for the private key; must not exist"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make the pair, and say which it is."""
    key = Ed25519PrivateKey.generate()
    file: Path = arguments.file
    beside = file.with_name(file.name + ".pub")
    _write(file, private_pem(key), 0o600)
    _write(beside, public_pem(key.public_key()), 0o644)
    digest = fingerprint(key.public_key())
    if arguments.json:
        facts = {"key": str(file), "public": str(beside), "fingerprint": digest}
        print(json.dumps(facts))
    else:
        print(f"{file} signs the audit log; {beside} is enough to verify it.")
        print(f"SHA-256 of its SPKI: {digest}")
    return 0


def _write(file: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(file, flags, mode), "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(data)
