"""What `generate` and `import` share: the new entry, and how its key is shown."""

import argparse
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.cli._ring import manifest_of
from gateway.cli.options import environment
from gateway.errors import KeyringError
from gateway.keys.backends.access import read_secret
from gateway.keys.backends.folder import check_ours
from gateway.keys.changes import EMPTY, Party, next_version
from gateway.keys.formats import fingerprint, public_base64, public_pem
from gateway.keys.locations import check_secret
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import KeyState, Use
from gateway.protocol.fields import check_key_version


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    """Declare the option that says where a passphrase is."""
    parser.add_argument(
        "--passphrase",
        type=_secret,
        metavar="WHERE",
        help="encrypt the file under what stands in file:/PATH or env:NAME",
    )


def passphrase_of(arguments: argparse.Namespace) -> bytes | None:
    """Read the passphrase that the command line names, if it does.

    Raises:
        KeyringError: it is not there, is empty, or others may read it.
    """
    if arguments.passphrase is None:
        return None
    return read_secret(arguments.passphrase, environment())


def entry_of(
    manifest: Manifest,
    party: Party,
    public: RSAPublicKey | None,
    labels: argparse.Namespace,
    *,
    key: str | None = None,
    passphrase: str | None = None,
) -> Entry:
    """Give the entry of a new key, with the name its file will have.

    Its fingerprint stays in the entry when the key is destroyed, so that it cannot
    return as another version.

    Args:
        manifest: the ring as it stands.
        party: whose key it is.
        public: its public half; None where it is not made yet.
        labels: its `version`, by default the next whole number, and its `use`, by
            default all that the party's keys are for.
        key: its URI, if it is no file that the ring will have.
        passphrase: where the passphrase of its file is, if it has one.

    Raises:
        KeyringError: the version cannot stand in a header.
    """
    use: Use | None = labels.use
    label: str | None = labels.version
    if label is None:
        label = next_version(manifest, party)
    try:
        check_key_version(label)
    except ValueError as error:
        raise KeyringError(str(error)) from None
    stem = f"{party}-{label}" if use is None else f"{party}-{label}-{use}"
    return Entry(
        version=label,
        state=KeyState.PRE_ACTIVE,
        key=f"{stem}.pem" if key is None else key,
        use=None if use is None else (use,),
        passphrase=passphrase,
        fingerprint=None if public is None else fingerprint(public),
    )


def with_fingerprint(entry: Entry, public: RSAPublicKey) -> Entry:
    """Return the entry of a key that was made since."""
    return entry.model_copy(update={"fingerprint": fingerprint(public)})


def facts_of(
    folder: Path, generation: int, party: Party, entry: Entry, key: RSAPublicKey
) -> dict[str, object]:
    """Give what may be known of a key that was added, for `--json`."""
    uses = entry.uses(party.uses)
    return {
        "keyring": str(folder),
        "generation": generation,
        "section": party,
        "version": entry.version,
        "state": entry.state,
        "uses": [use for use in Use if use in uses],
        "bits": key.key_size,
        "fingerprint": fingerprint(key),
        "public_pem": public_pem(key),
        "public_base64": public_base64(key),
    }


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Declare `--dry-run` of a command that adds a key."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be added, and change nothing",
    )


def present(folder: Path) -> Manifest:
    """Give a ring's manifest; the empty one where the ring would be made.

    Raises:
        KeyringError: a command could not change it.
    """
    if not folder.exists():
        return EMPTY
    check_ours(folder.resolve(), folder)
    return manifest_of(folder)


def headline(folder: Path, party: Party, entry: Entry, key: RSAPublicKey) -> str:
    """Say in two lines which key was added, and how to recognise it."""
    uses = entry.uses(party.uses)
    purpose = " and ".join(use for use in Use if use in uses)
    return (
        f"{party} version {entry.version}, an RSA key of {key.key_size} bits to "
        f"{purpose}, is in {folder} ({entry.state}).\n"
        f"SHA-256 of its SPKI: {fingerprint(key)}"
    )


def _secret(text: str) -> str:
    try:
        return check_secret(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
