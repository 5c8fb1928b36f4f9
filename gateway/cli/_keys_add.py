"""What `generate` and `import` share: the new entry, and how its key is shown."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.errors import KeyringError
from gateway.keys.changes import Party, next_version
from gateway.keys.formats import fingerprint, public_base64, public_pem
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import KeyState, Use
from gateway.protocol.fields import check_key_version


def entry_of(
    manifest: Manifest,
    party: Party,
    key: RSAPublicKey,
    version: str | None,
    use: Use | None,
) -> Entry:
    """Give the entry of a new key, with the name its file will have.

    Its fingerprint stays in the entry when the key is destroyed, so that it cannot
    return as another version.

    Raises:
        KeyringError: the version cannot stand in a header.
    """
    label = next_version(manifest, party) if version is None else version
    try:
        check_key_version(label)
    except ValueError as error:
        raise KeyringError(str(error)) from None
    stem = f"{party}-{label}" if use is None else f"{party}-{label}-{use}"
    return Entry(
        version=label,
        state=KeyState.PRE_ACTIVE,
        key=f"{stem}.pem",
        use=None if use is None else (use,),
        fingerprint=fingerprint(key),
    )


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


def headline(folder: Path, party: Party, entry: Entry, key: RSAPublicKey) -> str:
    """Say in two lines which key was added, and how to recognise it."""
    uses = entry.uses(party.uses)
    purpose = " and ".join(use for use in Use if use in uses)
    return (
        f"{party} version {entry.version}, an RSA key of {key.key_size} bits to "
        f"{purpose}, is in {folder} ({entry.state}).\n"
        f"SHA-256 of its SPKI: {fingerprint(key)}"
    )
