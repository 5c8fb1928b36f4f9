"""What requestIds are for: the same request has one result, however often it comes."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gateway.simulator.results import FINAL, ResultInfo

_CAPACITY: Final = 10_000

RequestKey: TypeAlias = tuple[str, str, str]
"""Client-Id, path, requestId."""


class RequestIdReused(ValueError):
    """The requestId came before, with another body."""


@dataclass(slots=True)
class ResultMemory:
    """Final results by requestId. The oldest is forgotten when it is full.

    A result that is not final is not kept: after UNKNOWN_EXCEPTION the same request
    may succeed, and after PARAM_ILLEGAL a corrected one may. Nor is one without a
    requestId, for which the key is None.
    """

    _results: OrderedDict[RequestKey, tuple[bytes, ResultInfo]] = field(
        default_factory=OrderedDict, repr=False
    )

    def recall(self, key: RequestKey | None, body: bytes) -> ResultInfo | None:
        """Give the result that `key` has, if it has one.

        Raises:
            RequestIdReused: it has one, for another body.
        """
        if key is None or key not in self._results:
            return None
        digest, result = self._results[key]
        if digest != _digest(body):
            msg = "requestId was used before, with another body"
            raise RequestIdReused(msg)
        return result

    def keep(self, key: RequestKey | None, body: bytes, result: ResultInfo) -> None:
        """Keep a result, if it is final and the first."""
        if key is not None and result in FINAL:
            self._results.setdefault(key, (_digest(body), result))
        if len(self._results) > _CAPACITY:
            self._results.popitem(last=False)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
