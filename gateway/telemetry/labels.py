"""Labels of our keys in AlipayHK's answers that are not ours, told once each.

Nobody documents whose label the Encrypt header's `keyVersion` is. Such an answer is
decrypted all the same; whoever plans a rotation by these labels has to know.
"""

from collections.abc import Callable, Container
from typing import Final

from gateway.events import ExchangeRecord

_MOST: Final = 32
"""Labels that are told of a client: no signature covers them."""


class LabelWatch:
    """Tells each client's differing labels, each once. An `Observer`.

    Args:
        tell: takes the event's name and its fields.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._told: dict[str, set[str]] = {}

    def keep(self, clients: Container[str]) -> None:
        """Forget the clients that are not among these."""
        self._told = {
            each: told for each, told in self._told.items() if each in clients
        }

    def __call__(self, record: ExchangeRecord) -> None:
        """Note what a finished exchange tells of its client's labels."""
        label = record.decryption_label
        if label is None:
            return
        told = self._told.setdefault(record.client, set())
        if label in told or len(told) >= _MOST:
            return
        told.add(label)
        self._tell(
            "decryption_label_differs",
            client=record.client,
            label=label,
            key_version=record.decrypted_by,
            consequence="such answers are decrypted with the key that opens them; ask "
            "AlipayHK whose label the keyVersion of its Encrypt header is",
        )
