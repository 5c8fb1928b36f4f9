"""Why a captured message does not verify, as far as it can be told.

First the key that made the signature is found, then the bytes that it was made over
are sought among those that the usual mistakes produce (protocol.md 9). What is found
that way is proven: no two messages have one digest. Nothing here decides what may be
believed: that is `gateway.protocol.incoming` alone.
"""

from gateway.protocol.diagnosis.findings import diagnose
from gateway.protocol.diagnosis.model import Capture, Diagnosis, KnownKey, Standing

__all__ = ["Capture", "Diagnosis", "KnownKey", "Standing", "diagnose"]
