"""The results that the simulator gives, and their form in a body.

content/synchronize has the codes of the seed. What AlipayHK's own edge says when it
refuses a request is not public; these are the common codes of its sister product
(docs.alipayplus.com, "Error codes").
"""

import json
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ResultInfo:
    """A result, with its message: what an envelope holds."""

    code: str
    status: str
    message: str

    def body(self, envelope: str) -> bytes:
        """Give the JSON of an answer. `envelope`: `resultInfo` or `result`."""
        members = {
            "resultCode": self.code,
            "resultStatus": self.status,
            "resultMessage": self.message,
        }
        text = json.dumps(
            {envelope: members}, ensure_ascii=False, separators=(",", ":")
        )
        return text.encode()


SUCCESS: Final = ResultInfo("SUCCESS", "S", "Success")
CONTENT_RISKY: Final = ResultInfo(
    "CONTENT_RISKY", "F", "Content passed is risky, no need to retry."
)
UNKNOWN_EXCEPTION: Final = ResultInfo(
    "UNKNOWN_EXCEPTION", "F", "Unknown exception, please retry."
)
UNDECIDED: Final = ResultInfo(
    "UNKNOWN_EXCEPTION", "U", "Unknown exception, please retry."
)
INVALID_SIGNATURE: Final = ResultInfo(
    "INVALID_SIGNATURE",
    "F",
    "The signature does not hold over the method, target, Client-Id, Request-Time "
    "and body as they arrived.",
)

FINAL: Final = frozenset({SUCCESS, CONTENT_RISKY})
"""Results that a requestId keeps; after any other the request may be sent again."""


def param_illegal(problem: str) -> ResultInfo:
    """Refuse a request, saying what is wrong with it."""
    return ResultInfo("PARAM_ILLEGAL", "F", f"Request is invalid: {problem}")
