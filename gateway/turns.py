"""Turns of the event loop: what several exchanges do in one of them is done together."""

from collections.abc import Generator
from types import coroutine


@coroutine
def next_turn() -> Generator[None, None, None]:
    """Go on in the loop's next turn, behind all that is to be done in this one.

    As `asyncio.sleep(0)`, without its two calls: an exchange waits so three times.
    """
    yield
