"""Why the operating system would not, in its own words."""

import os


def reason_of(error: OSError) -> str:
    """Give the reason alone: asyncio's own texts repeat addresses around it."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    # A name that does not resolve has a negative number, which is none of errno's.
    return error.strerror or type(error).__name__
