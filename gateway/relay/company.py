"""Exchanges that are under way at the same time go on together.

Each step is taken by all that can take it in this turn of the loop, one behind the
other: they sign, then they send. The processor has the code of a step at hand, and what
is written at once wakes the other side once. Measured at 32 callers: a seventh of an
exchange's processor time (docs/benchmarks.md). Whoever is alone waits for nobody.
"""


class Company:
    """The exchanges of a relay. Each is in it for as long as its `with` block lasts.

    Attributes:
        size: how many there are; one that is not alone lets the others come as far as
            they can in this turn, by `await asyncio.sleep(0)`.
    """

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0

    def __enter__(self) -> None:
        self.size += 1

    def __exit__(self, *_: object) -> None:
        self.size -= 1
