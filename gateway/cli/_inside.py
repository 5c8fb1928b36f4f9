"""Command lines of this project, run in this process by what `gateway` itself calls."""

import asyncio
import io
import shlex
from contextlib import redirect_stderr, redirect_stdout

from gateway.cli import main
from gateway.errors import GatewayError


async def run_line(line: str) -> str:
    """Run a line such as `gateway keys list`, in a thread. Gives what it printed.

    Nothing else may print meanwhile: standard output is the process's. So is the
    present folder: whoever is cancelled waits for the command's end all the same.

    Raises:
        GatewayError: it did not end with status 0.
    """
    running = asyncio.ensure_future(asyncio.to_thread(_run, line))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _run(line: str) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            status: object = main(shlex.split(line)[1:])
        except SystemExit as ended:
            status = ended.code
    if status != 0:
        msg = f"`{line}` ended with status {status}: {printed.getvalue().rstrip()}"
        raise GatewayError(msg)
    return printed.getvalue()
