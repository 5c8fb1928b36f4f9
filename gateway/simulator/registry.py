"""The keys that AlipayHK holds: its own pairs, and the partners' public keys."""

from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from gateway.errors import KeyVersionUnknown, Unauthenticated
from gateway.protocol import (
    Draft,
    PublicKey,
    PublicKeys,
    SignedMessage,
    VerifiedRequest,
    attach_signature,
    sign,
    signature_base,
)


class Registry:
    """All keys, by version. Changes take effect with the next request.

    Args:
        keys: AlipayHK's private keys. All of them decrypt.
        active: the version that signs.
        partners: the registered public keys: by Client-Id, then by version.
    """

    def __init__(
        self,
        keys: Mapping[str, RSAPrivateKey],
        active: str,
        partners: Mapping[str, Mapping[str, RSAPublicKey]],
    ) -> None:
        self._keys = dict(keys)
        self._active = active
        self._partners = {name: dict(theirs) for name, theirs in partners.items()}

    @property
    def active(self) -> PublicKey:
        """The public half of the key that signs."""
        return PublicKey(self._active, self._keys[self._active].public_key())

    def register(self, client_id: str, version: str, key: RSAPublicKey) -> None:
        """Take in a partner's public key, beside those it has already."""
        self._partners.setdefault(client_id, {})[version] = key

    def forget(self, client_id: str, version: str) -> None:
        """Know a partner's public key no longer; one that is not known is none."""
        self._partners.get(client_id, {}).pop(version, None)

    def announce(self, version: str, key: RSAPrivateKey) -> PublicKey:
        """Take in a pair of its own that does not sign yet. Gives its public half."""
        self._keys[version] = key
        return PublicKey(version, key.public_key())

    def activate(self, version: str) -> None:
        """Sign with this one of its own pairs from now on; the others still decrypt.

        Raises:
            KeyVersionUnknown: there is no such pair.
        """
        if version not in self._keys:
            raise KeyVersionUnknown(version)
        self._active = version

    def rotate(self, version: str, key: RSAPrivateKey) -> None:
        """Sign with a new key from now on; the earlier ones still decrypt."""
        self.announce(version, key)
        self.activate(version)

    def versions(self) -> dict[str, list[str]]:
        """Give every version that is held: its own, and each partner's."""
        theirs = {name: list(keys) for name, keys in self._partners.items()}
        return {"alipayhk": list(self._keys), **theirs}

    def verifiers(self, client_id: str) -> PublicKeys:
        """Give the keys that may have signed, the last registered first.

        Raises:
            Unauthenticated: no partner has this Client-Id.
        """
        if client_id not in self._partners:
            raise Unauthenticated(client_id)
        theirs = self._partners[client_id]
        return [PublicKey(version, key) for version, key in theirs.items()][::-1]

    def unwrappers(self, version: str | None) -> Iterable[RSAPrivateKey]:
        """Give the keys that may unwrap: the named one, or all, the active first.

        Raises:
            KeyVersionUnknown: the named one is not held.
        """
        if version is None:
            return [self._keys[self._active], *self._keys.values()]
        if version not in self._keys:
            raise KeyVersionUnknown(version)
        return [self._keys[version]]

    def recipient(self, request: VerifiedRequest) -> PublicKey:
        """Give the key to encrypt an answer to: the one that signed the request."""
        version = request.key_version
        return PublicKey(version, self._partners[request.client_id][version])

    def sign(self, draft: Draft) -> SignedMessage:
        """Sign with the active key."""
        signature = sign(self._keys[self._active], signature_base(draft))
        return attach_signature(draft, signature, key_version=self._active)
