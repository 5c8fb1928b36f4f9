"""Threads for calls that block, and may never come back.

concurrent.futures joins its threads when the interpreter ends: a call into the
library of a token that hangs would hold up the end of the process. These do not.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Final, TypeAlias, TypeVar

_T = TypeVar("_T")
_Job: TypeAlias = Callable[[], None]

THREADS: Final = 8
"""As many calls of a library are under way at once: the bound of a token's sessions."""


class Workers:
    """A fixed number of daemon threads, started at the first call."""

    def __init__(self, name: str, count: int = THREADS) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        self._starting = threading.Lock()

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Have `work` done. A future that is cancelled before its turn is skipped."""
        with self._starting:
            if not self._threads[0].ident:
                for thread in self._threads:
                    thread.start()
        future: Future[_T] = Future()
        self._jobs.put(lambda: _carry_out(future, work))
        return future

    def stop(self) -> None:
        """Let the threads end after what they are at; nothing more is done."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # with what it gave: a content key is not kept until the next one


def _carry_out(future: Future[_T], work: Callable[[], _T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is the waiter's to handle
        future.set_exception(error)
