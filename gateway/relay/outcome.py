"""What a caller is told of an exchange whose last attempt failed: from facts.

Each attempt either went out, in part at least, or it did not. The write says so, not
the error. One rule follows: an attempt of which nothing went out tells nothing of
AlipayHK, so once another one did, that one's end is the end of the exchange.

    attempts of one exchange                          told
    nothing went out                                  the last error: not_sent
    cut off, then not sent                            the first error: unknown
    canary refused, then not sent                     the refusal, unverified
    canary refused, then cut off                      the last error: unknown
    anything, then an answer that is not trusted      the last error: answered
    something went out, then a defect or the end      internal_error: unknown

"Not sent" is any reason: no connection, an open breaker, no time, no key. `not_sent`
tells a payment service to pay again, so it is only told where it is true.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.errors import ExchangeError, InternalError, Outcome
from gateway.protocol import Headers, Result

_DEFECT = "A defect of the gateway, or its end; its log has the place."


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the service.

    Attributes:
        headers: AlipayHK's, all of them; the edge picks those that are passed on.
        refusal: the result of an unsigned refusal; None where the answer is verified.
    """

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    refusal: Result | None = None

    @property
    def verified(self) -> bool:
        """Whether AlipayHK signed it."""
        return self.refusal is None


End: TypeAlias = Answer | ExchangeError
"""How an attempt ended."""


class Attempts:
    """The facts about one exchange's attempts, and what its caller is told for them.

    Attributes:
        written: of how many attempts a byte went out, or may have.
        last: how the last of those ended; None where that is the exchange's end.
    """

    __slots__ = ("last", "written")

    def __init__(self) -> None:
        self.written = 0
        self.last: End | None = None

    def wrote(self) -> None:
        """Note that an attempt is written. The upstream calls it just before."""
        self.written += 1

    def settle(self, error: ExchangeError) -> Answer:
        """Return the answer that an exchange ended in, although it ended in `error`.

        Raises:
            ExchangeError: there is none; its outcome is the exchange's.
        """
        last, self.last = self.last, None
        try:
            if last is None or error.outcome is not Outcome.NOT_SENT:
                raise self.told(error)
            if isinstance(last, Answer):
                return last
            raise self.told(last) from error
        finally:
            # A raised error leads back here: a circle, which would keep the bodies
            # of a failed exchange until garbage is looked for.
            del last, error

    def told(self, cause: BaseException) -> ExchangeError:
        """Return the error to tell a caller for whatever ended its exchange.

        An `ExchangeError` is that error, unless it claims what is not so. Anything
        else is a defect, or the end of the gateway.
        """
        if isinstance(cause, ExchangeError) and not (
            self.written and cause.outcome is Outcome.NOT_SENT
        ):
            return cause
        outcome = Outcome.UNKNOWN if self.written else Outcome.NOT_SENT
        return InternalError(_DEFECT, outcome)
