"""The homes of keys that a gateway knows. A further one is a line here."""

from collections.abc import Callable, Mapping

from gateway.keys.backends.homes import Homes
from gateway.keys.backends.pem import FileHome
from gateway.keys.backends.pkcs11.home import Pkcs11Home
from gateway.keys.backends.pkcs11.pins import Refusals
from gateway.keys.backends.pkcs11.uri import SCHEME
from gateway.keys.locations import FILE


def known_homes(
    environment: Mapping[str, str],
    *,
    entropy: Callable[[int], bytes],
    monotonic: Callable[[], float],
    refusals: Refusals | None = None,
) -> Homes:
    """Make the homes of this process: call it once. Nothing is opened yet.

    Args:
        environment: the variables that may hold passphrases and PINs.
        entropy: gives that many random bytes.
        monotonic: seconds that never go back.
        refusals: the PINs that tokens refused, where several processes share them.
    """
    tokens = Pkcs11Home(
        environment, entropy=entropy, monotonic=monotonic, refusals=refusals
    )
    return Homes({FILE: FileHome(environment), SCHEME: tokens})
