"""A PKCS#11 library in this process: loaded once, initialised when it must be.

python-pkcs11 initialises a library for one thread: SoftHSM, and others, then take no
locks, and two calls at once crash them. So its initialisation is undone here, and
done again with the library's own locks (CKF_OS_LOCKING_OK). Where that is out of reach,
calls take turns: p11-kit gives each caller of C_GetFunctionList a library of its own.

A library that has lost its token, or the process or device behind it, often finds it
only after C_Finalize and C_Initialize. No call may be under way then: `use` counts
those that are, `restart` waits for them.
"""

import ctypes
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

from pkcs11 import TokenFlag
from pkcs11._pkcs11 import lib  # `pkcs11.lib` keeps every library in a global
from pkcs11.exceptions import PKCS11Error, TokenNotPresent
from pkcs11.types import Token

from gateway.errors import KeyringError
from gateway.keys.backends.access import Others, check_file
from gateway.keys.backends.pkcs11.workers import Workers

_PATIENCE_S: Final = 2.0
_OS_LOCKING_OK: Final = 2
_CANNOT_LOCK: Final = 0x0A
_ALREADY_INITIALISED: Final = 0x191
_REFUSALS: Final = {
    _CANNOT_LOCK: "it cannot be used from several threads (CKR_CANT_LOCK)",
    _ALREADY_INITIALISED: "another part of this process uses it already",
}


class _Arguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (
        ("callbacks", ctypes.c_void_p * 4),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class _Functions(ctypes.Structure):
    """The beginning of CK_FUNCTION_LIST."""

    _fields_ = (
        ("version", ctypes.c_ubyte * 2),
        ("initialize", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)),
        ("finalize", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)),
    )


class Module:
    """A library and the threads that call it.

    Args:
        path: the library.

    Raises:
        KeyringError: it cannot be loaded, or others may have put it there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._functions = _functions_of(path)
        self._turns = nullcontext() if self._functions else threading.Lock()
        self.workers = Workers(path.stem)
        self._library: lib | None = None
        self._ready = False
        self._era = 0
        self._users = 0
        self._idle = threading.Condition()

    @contextmanager
    def use(self) -> Iterator[int]:
        """Keep the library as it is until the block ends. Gives its era.

        What was opened in another era is gone, and its handles may mean others.
        """
        with self._turns:
            with self._idle:
                self._users += 1
                era = self._era
            try:
                yield era
            finally:
                with self._idle:
                    self._users -= 1
                    self._idle.notify_all()

    def restart(self, era: int) -> None:
        """Initialise the library, unless that was done since `era`.

        Nothing happens where a call does not come back: it has its own end to wait
        for, and whoever makes it.

        Raises:
            KeyringError: the library does not take threads.
        """
        with self._idle:
            idle = self._idle.wait_for(lambda: not self._users, _PATIENCE_S)
            if not idle or self._era != era:
                return
            self._era += 1
            self._finalize()
            with suppress(PKCS11Error):  # out of reach, then, as `find` says
                self._ready = self._initialize()

    def close(self) -> None:
        """Let go of the library, if no call is under way, and of the threads."""
        self.workers.stop()
        with self._idle:
            if self._idle.wait_for(lambda: not self._users, _PATIENCE_S):
                self._finalize()

    def find(self, labels: Mapping[str, str]) -> Token:
        """Give the token with these labels. Call it inside `use`.

        Raises:
            TokenNotPresent: there is none now.
            KeyringError: there are several.
        """
        if self._library is None or not self._ready:
            raise TokenNotPresent
        found = []
        for slot in self._library.get_slots(token_present=True):
            try:
                token = slot.get_token()
            except PKCS11Error:
                continue  # it was just taken out, or is no token that we can read
            if token.flags & TokenFlag.TOKEN_INITIALIZED and _fits(token, labels):
                found.append(token)
        if len(found) > 1:
            msg = f"{len(found)} tokens of {self.path} fit; name one by its serial="
            raise KeyringError(msg)
        if not found:
            raise TokenNotPresent
        return found[0]

    def _initialize(self) -> bool:
        if self._library is None:
            self._library = lib(str(self.path))
            self._library.finalize()
        if self._functions is None:
            self._library.initialize()
            return True
        arguments = _Arguments(flags=_OS_LOCKING_OK)
        result = self._functions.initialize(ctypes.byref(arguments))
        if result in _REFUSALS:
            msg = f"{self.path}: {_REFUSALS[result]}"
            raise KeyringError(msg)
        return bool(result == 0)

    def _finalize(self) -> None:
        if self._ready and self._functions is not None:
            self._functions.finalize(None)
        elif self._ready and self._library is not None:
            with suppress(PKCS11Error):  # whom it would take leave of is gone
                self._library.finalize()
        self._ready = False


def _functions_of(path: Path) -> _Functions | None:
    """Load a library and give what initialises it; None if not for other callers.

    Raises:
        KeyringError: it is none, or others may have put it there.
    """
    try:
        check_file(path, Others.MAY_READ)
        library = ctypes.CDLL(str(path))
        first, second = ctypes.POINTER(_Functions)(), ctypes.POINTER(_Functions)()
        for functions in (first, second):
            library.C_GetFunctionList(ctypes.byref(functions))
        of_caller, of_another = first.contents, second.contents
    except (OSError, AttributeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no PKCS#11 library"
        msg = f"{path} cannot be loaded: {reason}"
        raise KeyringError(msg) from None
    except KeyringError as error:
        msg = f"{path}: {error.detail}"
        raise KeyringError(msg) from None
    same = ctypes.addressof(of_caller) == ctypes.addressof(of_another)
    return of_caller if same else None


def _fits(token: Token, labels: Mapping[str, str]) -> bool:
    own = {
        "token": token.label,
        "serial": token.serial.decode("utf-8", "replace"),
        "manufacturer": token.manufacturer_id,
        "model": token.model,
    }
    return all(own[name] == value for name, value in labels.items())
