"""Keys that exchanges could not reach: a token that is gone is no fault of the ring.

The ring stays as it is and every exchange of the client ends as `key_unavailable`, so
that only exchanges tell.
"""

from collections.abc import Callable, Container
from typing import Final

from gateway.errors import KeyUnavailable
from gateway.events import ExchangeRecord

_CODE: Final = KeyUnavailable.code
_WARNING: Final = (
    "the last exchange found no key to sign with: key_unavailable. See that its token "
    "or vault can be reached, or put a key in use"
)


class KeyReach:
    """Warns from the first exchange that found no key until one that did. An `Observer`.

    Args:
        tell: takes the event's name and its fields, once per change.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._missed: set[str] = set()

    def keep(self, clients: Container[str]) -> None:
        """Forget the clients that are not among these."""
        self._missed = {each for each in self._missed if each in clients}

    def __call__(self, record: ExchangeRecord) -> None:
        """Note what a finished exchange tells of its client's keys."""
        client, missed = record.client, self._missed
        if record.code == _CODE:
            if client and client not in missed:
                missed.add(client)
                self._tell("keys_out_of_reach", client=client)
        elif missed and client in missed and record.key_version is not None:
            missed.discard(client)
            self._tell("keys_in_reach", client=client)

    def warnings(self) -> list[str]:
        """Give what an operator must know, for readiness."""
        return [f"{client}: {_WARNING}" for client in sorted(self._missed)]
