"""The process `gateway`, also `python -m gateway`: what signals do before a command runs.

An interrupt ends it without a traceback at whatever moment it comes. While modules are
loaded an exception would not do: it may arise in a callback that swallows it.
"""

# `_signal` and not `signal`, which loads modules of its own: milliseconds without the
# handler. These three the interpreter has loaded before.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

_INTERRUPTED: int = 128 + signal.SIGINT
_HELD: dict[str, set[int]] = {
    "serve": {signal.SIGTERM, signal.SIGHUP},
    "demo": {signal.SIGTERM, signal.SIGHUP},
    "simulate": {signal.SIGTERM},
}
"""Signals that a command handles, held until its handlers stand: whoever asks for an
end or a reload while it starts gets that, in good order. The command lets them in."""


def main() -> int:
    """Run the command line. Gives the exit status."""
    if held := _HELD.get("".join(sys.argv[1:2])):
        signal.pthread_sigmask(signal.SIG_BLOCK, held)
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:  # and not ignored, as in the background of a script
        signal.signal(signal.SIGINT, _leave)
    from gateway import cli  # noqa: PLC0415 - under the handler above

    try:
        return cli.main(loaded=_raise_interrupts if heeded else None)
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        if heeded:
            signal.signal(signal.SIGINT, _leave)


def _raise_interrupts() -> None:
    """Make an interrupt an exception, so that a command can clean up."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_: int, __: object) -> None:
    """End at once: no command is at work that would have to clean up."""
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
