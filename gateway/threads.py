"""A thread for each call that blocks, which nothing waits for at the end.

asyncio's own pool has a few threads, and a process does not end before they do. A name
server that does not answer holds one for as long as the system's look-up has patience:
some of them, and no keyring is read any more; one, and SIGTERM ends nothing.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class Threads(ThreadPoolExecutor):
    """An event loop's default executor. Its callers bound how many threads there are."""

    def submit(
        self,
        fn: Callable[_Given, _Result],
        /,
        *args: _Given.args,
        **kwargs: _Given.kwargs,
    ) -> Future[_Result]:
        """Call in a thread of its own."""
        future: Future[_Result] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is whoever waits who fails
                future.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        return future
