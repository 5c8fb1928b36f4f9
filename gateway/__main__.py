"""The process `gateway`, also `python -m gateway`: what holds for every command.

An interrupt ends it without a traceback at whatever moment it comes. While modules are
loaded an exception would not do: it may arise in a callback that swallows it.

Before a command runs, its process leaves no core file and cannot be read by others.
"""

# `_signal` and not `signal`, which loads modules of its own: milliseconds without the
# handler. These three the interpreter has loaded before.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` costs milliseconds
    from typing import Final

_INTERRUPTED: int = 128 + signal.SIGINT
_HELD: dict[str, set[int]] = {
    "serve": {signal.SIGTERM, signal.SIGHUP},
    "demo": {signal.SIGTERM, signal.SIGHUP},
    "simulate": {signal.SIGTERM},
}
"""Signals that a command handles, held until its handlers stand: whoever asks for an
end or a reload while it starts gets that, in good order. The command lets them in."""

_FOREIGN: "Final" = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
"""Variables that prometheus_client reads when it is imported. They are meant for
another program: metrics would be written to its folder, or the start would fail."""


def main() -> int:
    """Run the command line and return the exit status."""
    _open_standard_streams()
    for name in _FOREIGN:
        os.environ.pop(name, None)  # noqa: TID251 - before any library reads it
    if held := _HELD.get("".join(sys.argv[1:2])):
        signal.pthread_sigmask(signal.SIG_BLOCK, held)
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:  # and not ignored, as in the background of a script
        signal.signal(signal.SIGINT, _leave)
    from gateway import cli  # noqa: PLC0415 - under the handler above

    def begin() -> None:
        _harden()
        if heeded:
            _raise_interrupts()

    try:
        return cli.main(loaded=begin)
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        if heeded:
            signal.signal(signal.SIGINT, _leave)


def _open_standard_streams() -> None:
    """Open /dev/null in place of each standard stream that is closed.

    Otherwise the next file or socket gets its number. uvloop ends the process when it
    closes one of these, and `print` would write into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - for workers


def _harden() -> None:
    """Harden the process once modules are loaded: `--help` need not wait for it."""
    from gateway import hardening  # noqa: PLC0415 - see above

    hardening.leave_no_trace()


def _raise_interrupts() -> None:
    """Make an interrupt an exception, so that a command can clean up."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_: int, __: object) -> None:
    """End at once: no command is at work that would have to clean up."""
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
