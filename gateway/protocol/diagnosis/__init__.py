"""Why a captured message does not verify or decrypt, as far as it can be told.

First the key that made the signature is found, then the bytes that it was made over
are sought among those that the usual mistakes produce (protocol.md 9). What is found
that way is proven: no two messages have one digest. How a body was encrypted is found by
opening it with each private key at hand, in each way that is guessed. Nothing here decides what may be
believed: that is `gateway.protocol.incoming` alone.
"""

from gateway.protocol.diagnosis.envelope import Envelope, Pair, examine
from gateway.protocol.diagnosis.findings import diagnose, other_protocol
from gateway.protocol.diagnosis.model import Capture, Diagnosis, KnownKey, Standing

__all__ = [
    "Capture",
    "Diagnosis",
    "Envelope",
    "KnownKey",
    "Pair",
    "Standing",
    "diagnose",
    "examine",
    "other_protocol",
]
