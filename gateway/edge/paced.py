"""What both kinds of connection know of what they write: whether the other side takes it."""

import asyncio


class Paced(asyncio.Protocol):
    """A connection that waits for its other side. `_taken` says for what.

    Its transport says so by `pause_writing` and `resume_writing`.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._taken: asyncio.Future[None] | None = None
        """Done once the other side takes what is written; None while it does."""

    def pause_writing(self) -> None:
        """Note that the other side does not take what is written."""
        self._taken = self._loop.create_future()

    def resume_writing(self) -> None:
        """Note that it does."""
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)
