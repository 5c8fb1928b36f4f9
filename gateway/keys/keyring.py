"""All key versions of one client at one moment, as a value.

An exchange takes one keyring and keeps it to its end, so that a rotation never
splits it. Which key may do what is decided here and nowhere else:

1. One key signs: the partner's active one.
   While there is a canary, that one signs its share of the exchanges instead.
2. The partner's active, staged and deactivated keys decrypt, in this order, but first
   the one that the message names: nobody documents whose label that is.
3. AlipayHK's active, staged and deactivated keys verify, in this order.
4. One key encrypts to AlipayHK: its active one.
5. A version that is named and not among these is unknown, whatever its state. What it
   signed is refused; what it is to decrypt may be opened by another.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeAlias

from gateway.errors import (
    DecryptionFailed,
    KeyringError,
    KeyUnavailable,
    KeyVersionUnknown,
)
from gateway.keys.model import KeyInfo, KeyState, Use
from gateway.keys.ports import PrivateKey
from gateway.protocol import PublicKey, PublicKeys, Result, read_encryption
from gateway.protocol.encryption import decrypt_object
from gateway.protocol.messages import Verified

_TRIED: Final = (KeyState.ACTIVE, KeyState.PRE_ACTIVE, KeyState.DEACTIVATED)
"""Where no version is named: the key in use, the one to come, the one that was."""

_MOST_TRIED: Final = 8
"""Keys for one message: each is a private-key operation, in a token a call of it."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A key that signs a share of the exchanges, to see whether AlipayHK knows it.

    Attributes:
        share: from 0 to 1.
        halted: why it signs nothing until told otherwise; None while it may.
        steps: the shares that its schedule has come to by now, in their order.
    """

    key: PrivateKey = field(repr=False)
    share: float
    halted: str | None = None
    steps: tuple[float, ...] = ()

    @property
    def version(self) -> str:
        """The partner's version that is tried."""
        return self.key.public.version

    def takes(self, lot: float) -> bool:
        """Return whether it signs an exchange.

        Args:
            lot: the exchange's, from 0 to below 1, that its caller cannot foresee.
        """
        return self.halted is None and lot < self.share


@dataclass(frozen=True, slots=True)
class Opened:
    """A body that was decrypted.

    Attributes:
        version: ours that did it.
        result: what the body says of the request.
        named: the version that the Encrypt header names; None if it names none.
    """

    body: bytes = field(repr=False)
    version: str
    result: Result | None
    named: str | None = None


@dataclass(frozen=True, slots=True)
class Keyring:
    """An immutable ring. Build it with `Keyring.of`, which checks it.

    A ring is that of a moment: its source may know which comes next, and when.

    Attributes:
        partner: what is known of our versions, in every state.
        platform: what is known of AlipayHK's.
        verifiers: AlipayHK's keys that may verify, the active one first.
        decrypters: our keys that may decrypt, the active one first.
        active_signer: our key that signs, if one is active.
        active_recipient: AlipayHK's key to encrypt to, if one is active.
        canary: our key that is tried on a share of the exchanges, if one is.
        due: when the next planned step is to be taken; None if none is planned.
        content: what the generation stands for: equal where nothing was changed.
        digest: of what it holds, to compare machines; empty if it has no source.
    """

    generation: int
    partner: tuple[KeyInfo, ...]
    platform: tuple[KeyInfo, ...]
    verifiers: PublicKeys
    decrypters: tuple[PrivateKey, ...] = field(repr=False)
    active_signer: PrivateKey | None = field(repr=False)
    active_recipient: PublicKey | None = field(repr=False)
    canary: Canary | None = None
    due: datetime | None = None
    later: "Callable[[datetime], Keyring] | None" = field(default=None, repr=False)
    content: object = field(default=None, repr=False)
    digest: str = ""

    @classmethod
    def of(
        cls,
        generation: int,
        partner: Iterable["Pair"],
        platform: Iterable[KeyInfo],
        *,
        canary: Canary | None = None,
        due: datetime | None = None,
        later: "Callable[[datetime], Keyring] | None" = None,
    ) -> "Keyring":
        """Build a ring of the partner's pairs and the platform's public keys.

        Args:
            generation: rises with each change of where it comes from.
            partner: our pairs; the private half where it is held.
            platform: AlipayHK's keys.
            canary: our key that is tried, if one is.
            due: when the next planned step is to be taken, if one is.
            later: gives the ring of a later moment.

        Raises:
            KeyringError: a version or a key stands twice, or two keys are active
                for one use.
        """
        pairs, theirs = tuple(partner), tuple(platform)
        ours = tuple(info for info, _ in pairs)
        for name, section in (("partner", ours), ("platform", theirs)):
            _check_versions(name, section)
        _check_distinct(ours + theirs)
        return cls(
            generation,
            ours,
            theirs,
            _publics(_processing(theirs, Use.VERIFY)),
            _keys(pairs, _processing(ours, Use.DECRYPT)),
            next(iter(_keys(pairs, _active(ours, Use.SIGN))), None),
            next(iter(_publics(_active(theirs, Use.ENCRYPT))), None),
            canary,
            due,
            later,
        )

    def at(self, now: datetime) -> "Keyring":
        """Give the ring of a later moment: this one, where no step is due by then."""
        if self.later is None or self.due is None or now < self.due:
            return self
        return self.later(now)

    def with_canary_halted(self, reason: str) -> "Keyring":
        """Give the same ring with a canary that signs nothing, for this reason."""
        if self.canary is None or self.canary.halted is not None:
            return self
        return replace(self, canary=replace(self.canary, halted=reason))

    def with_canary_share(self, share: float) -> "Keyring":
        """Return the same ring with a canary that signs this share."""
        if self.canary is None or self.canary.share == share:
            return self
        return replace(self, canary=replace(self.canary, share=share))

    @property
    def signer(self) -> PrivateKey:
        """The one key that signs.

        Raises:
            KeyUnavailable: no key of the partner is active for signing.
        """
        if self.active_signer is None:
            msg = "No partner key is active for signing. Activate one in the keyring."
            raise KeyUnavailable(msg)
        return self.active_signer

    def signer_for(self, lot: float) -> PrivateKey:
        """Return the one key that signs an exchange.

        Args:
            lot: the exchange's; see `Canary.takes`.

        Raises:
            KeyUnavailable: no key of the partner is active for signing.
        """
        if self.canary is not None and self.canary.takes(lot):
            return self.canary.key
        return self.signer

    @property
    def recipient(self) -> PublicKey:
        """AlipayHK's key that messages are encrypted to.

        Raises:
            KeyUnavailable: no key of the platform is active for encryption.
        """
        if self.active_recipient is None:
            msg = (
                "No platform key is active for encryption. Activate one in the keyring."
            )
            raise KeyUnavailable(msg)
        return self.active_recipient

    def missing(self, *, encrypting: bool = True) -> list[str]:
        """Say what the ring lacks for exchanges to succeed.

        Args:
            encrypting: whether some of them are encrypted.
        """
        lacks = {
            "a partner key that is active to sign": self.active_signer is None,
            "a platform key that may verify": not self.verifiers,
            "a partner key that may decrypt": encrypting and not self.decrypters,
            "a platform key that is active to encrypt": encrypting
            and self.active_recipient is None,
        }
        return [lack for lack, applies in lacks.items() if applies]

    async def decrypt(self, message: Verified) -> bytes:
        """Give the plain body of a verified message that has an Encrypt header.

        Raises:
            DecryptionFailed, KeyVersionUnknown: as `opened`.
        """
        return (await self.opened(message)).body

    async def opened(self, message: Verified) -> "Opened":
        """Decrypt the body of a verified message, and return by which key.

        The keys of `unwrappers` are tried: a wrong one gives random bytes, not an
        error, so only the whole decryption tells.

        Raises:
            DecryptionFailed: no key gives a body. A key that cannot be reached is no
                other error: the message is here, so its `not_sent` would be a lie.
            KeyVersionUnknown: the same, and the named version may not decrypt.
            ResponseMalformed: the body contradicts the answer's status.
        """
        encryption = read_encryption(message)
        named = encryption.key_version
        keys = self.unwrappers(named)
        blames_key = True
        for key in keys:
            try:
                content_key = await key.unwrap(encryption.wrapped_key)
                body, result = decrypt_object(message, content_key)
            except DecryptionFailed as error:
                blames_key &= error.blames_key
                continue
            except KeyUnavailable:
                blames_key = False
                continue
            return Opened(body, key.public.version, result, named)
        if named in (None, keys[0].public.version):
            raise DecryptionFailed(blames_key=blames_key)
        raise _unknown_version(blames_key=blames_key)

    def unwrappers(self, version: str | None) -> tuple[PrivateKey, ...]:
        """Return the keys that may unwrap, in the order in which they are to be tried.

        The named one is first, if it may decrypt; of the others, so many that there
        are eight at most.

        Raises:
            KeyVersionUnknown: no key may decrypt.
        """
        if not self.decrypters:
            raise _unknown_version()
        keys = self.decrypters
        if version not in (None, keys[0].public.version):
            keys = tuple(sorted(keys, key=lambda key: key.public.version != version))
        return keys[:_MOST_TRIED]


def _unknown_version(*, blames_key: bool = False) -> KeyVersionUnknown:
    error = KeyVersionUnknown(
        "The Encrypt header names a keyVersion that the keyring does not hold as "
        "active or deactivated, and no other key of ours opens the answer. Ask "
        "AlipayHK which key it encrypts to."
    )
    error.blames_key = blames_key
    return error


Pair: TypeAlias = tuple[KeyInfo, PrivateKey | None]


def _keys(pairs: Iterable[Pair], chosen: list[KeyInfo]) -> tuple[PrivateKey, ...]:
    found = [key for info in chosen for each, key in pairs if each is info]
    return tuple(key for key in found if key is not None)


def _publics(chosen: list[KeyInfo]) -> tuple[PublicKey, ...]:
    return tuple(info.public for info in chosen if info.public is not None)


def _active(section: Iterable[KeyInfo], use: Use) -> list[KeyInfo]:
    return [k for k in section if k.state is KeyState.ACTIVE and use in k.uses]


def _processing(section: Iterable[KeyInfo], use: Use) -> list[KeyInfo]:
    usable = [key for key in section if key.processes and use in key.uses]
    return sorted(usable, key=lambda key: _TRIED.index(key.state))


def _check_versions(name: str, section: tuple[KeyInfo, ...]) -> None:
    for use in Use:
        seen: set[str] = set()
        for key in section:
            if use in key.uses and key.version in seen:
                msg = f"{name}: version {key.version} stands twice for use {use}"
                raise KeyringError(msg)
            if use in key.uses:
                seen.add(key.version)
        if len(active := _active(section, use)) > 1:
            versions = " and ".join(key.version for key in active)
            msg = f"{name}: versions {versions} are both active for use {use}"
            raise KeyringError(msg)


def _check_distinct(every: tuple[KeyInfo, ...]) -> None:
    """Refuse one key under two names: a rotation to itself, or ours as theirs."""
    seen: dict[str, KeyInfo] = {}
    for key in every:
        if key.fingerprint is None:
            continue
        other = seen.setdefault(key.fingerprint, key)
        if other is not key:
            ours = Use.SIGN in other.uses or Use.DECRYPT in other.uses
            theirs = Use.VERIFY in key.uses or Use.ENCRYPT in key.uses
            hint = (
                "; our own public key stands where AlipayHK's belongs"
                if ours and theirs
                else ""
            )
            msg = f"versions {other.version} and {key.version} are the same key{hint}"
            raise KeyringError(msg)
