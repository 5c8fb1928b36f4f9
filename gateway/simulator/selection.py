"""Which fault a request gets.

The first of these that names one decides:

1. the query: `?simulate=NAME`. It is part of the signed target.
2. the body: a `contentId` of the form `simulate:NAME`, found after decryption, so it
   passes any proxy that leaves the body alone.
3. the standing order of the control listener.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from gateway.simulator.calls import JsonObject
from gateway.simulator.faults import NO_FAULT, Fault, fault_named

_PARAMETER: Final = "simulate"
_PREFIX: Final = "simulate:"


@dataclass(slots=True)
class StandingOrder:
    """A fault for the next requests that name none themselves.

    Attributes:
        left: for how many more; None: until it is cleared.
    """

    fault: Fault = NO_FAULT
    left: int | None = None

    def take(self) -> Fault:
        """Give the fault for one request, and count it."""
        fault = self.fault
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.fault, self.left = NO_FAULT, None
        return fault


def fault_for(target: str, value: JsonObject, standing: StandingOrder) -> Fault:
    """Choose the fault for a request.

    Args:
        target: of the request, with its query string.
        value: its body, decrypted; empty if it is no JSON object.
        standing: counts this request only if nothing else decides.

    Raises:
        UnknownFault: the request names one that does not exist.
    """
    named = parse_qs(target.partition("?")[2]).get(_PARAMETER)
    if named:
        return fault_named(named[0])
    content_id = value.get("contentId")
    if isinstance(content_id, str) and content_id.startswith(_PREFIX):
        return fault_named(content_id.removeprefix(_PREFIX))
    return standing.take()
