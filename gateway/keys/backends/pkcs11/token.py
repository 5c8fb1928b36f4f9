"""A token: one login, and a few sessions that its keys share.

Sessions are opened when they are needed, never more than there are workers, and kept
for the next call, also over a reload of the keyring. Where the session, the login or
the library has gone away, that is made up for in the same call. Where the token has,
calls fail at once for a while, and then the next one tries again.
"""

import asyncio
import math
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as WaitedTooLong
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakSet

from pkcs11 import Attribute, ObjectClass, TokenFlag
from pkcs11.exceptions import (
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
    UserAlreadyLoggedIn,
)
from pkcs11.types import Session, Token as OpenToken

from gateway.errors import KeyringError, KeyUnavailable
from gateway.keys.backends.pkcs11.module import Module
from gateway.keys.backends.pkcs11.pins import Pins
from gateway.keys.backends.pkcs11.uri import TokenUri

_T = TypeVar("_T")
TokenObject: TypeAlias = Any
"""A key of python-pkcs11: it makes the class of each from its attributes."""

WAIT_S: Final = 5.0
"""For one call, with everything that has to be made up for."""

_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0)
"""After a failure, the next, ...: how long calls then fail without a try."""

_PIN_REFUSED: Final = (PinIncorrect, PinInvalid, PinLenRange, PinLocked, PinExpired)


class Seat:
    """A session, and the keys that were found in it. One call at a time has it."""

    def __init__(self, session: Session, epoch: int) -> None:
        self.session = session
        self.epoch = epoch
        self._keys: dict[object, TokenObject] = {}

    def key(self, uri: TokenUri) -> TokenObject:
        """Give the private key that a URI names.

        Raises:
            KeyringError: there is none, or there are several.
        """
        if uri.key not in self._keys:
            self._keys[uri.key] = self._one(uri)
        return self._keys[uri.key]

    def find(self, kind: ObjectClass, uri: TokenUri) -> list[TokenObject]:
        """Give the objects of a kind that have a URI's label and id."""
        wanted: dict[Attribute, object] = {Attribute.CLASS: kind}
        if uri.label is not None:
            wanted[Attribute.LABEL] = uri.label
        if uri.id is not None:
            wanted[Attribute.ID] = uri.id
        return list(self.session.get_objects(wanted))

    def _one(self, uri: TokenUri) -> TokenObject:
        found = self.find(ObjectClass.PRIVATE_KEY, uri)
        if len(found) > 1:
            msg = f"{len(found)} private keys of the token fit; name one by its id="
            raise KeyringError(msg)
        if not found:
            hint = "" if uri.pin_source else "; without a pin-source= few are shown"
            msg = f"the token has no private key of that label and id{hint}"
            raise KeyringError(msg)
        return found[0]


class Token:
    """A token as its URI names it, there or not.

    Args:
        module: the library that leads to it.
        uri: of any key of it.
        pins: where its PIN is read, at each login.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        module: Module,
        uri: TokenUri,
        pins: Pins,
        monotonic: Callable[[], float],
    ) -> None:
        self.keys: WeakSet[object] = WeakSet()
        """Those that are in use somewhere."""
        self.uri = uri
        """Of the key that was opened last: its PIN may be elsewhere than before."""
        self._module = module
        self._pins = pins
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._free: list[Seat] = []
        self._login: Session | None = None
        self._era = self._epoch = 0
        self._failures = 0
        self._closed_until = 0.0

    async def run(self, work: Callable[[Seat], _T]) -> _T:
        """Have `work` done with a session, off the event loop.

        Raises:
            KeyUnavailable: the token is out of reach, or did not answer in time.
        """
        self._check_pause()
        future = self._module.workers.submit(lambda: self._carry_out(work))
        try:
            async with asyncio.timeout(WAIT_S):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise self._failed("it does not answer") from None
        except KeyringError as error:  # of this key or its PIN; the token is there
            raise _unavailable(error.detail) from None

    def do(self, work: Callable[[Seat], _T], wait_s: float = WAIT_S) -> _T:
        """Have `work` done with a session; blocks, but for no longer than `wait_s`.

        Raises:
            KeyringError: `work` did, or the PIN is missing or wrong.
            KeyUnavailable: as `run`.
        """
        self._check_pause()
        future = self._module.workers.submit(lambda: self._carry_out(work))
        try:
            return future.result(wait_s)
        except WaitedTooLong:
            future.cancel()
            raise self._failed("it does not answer") from None

    def close(self) -> None:
        """Close the sessions, and with them end the login. For good."""
        self._closed_until = math.inf
        with suppress(WaitedTooLong):
            self._module.workers.submit(self._end).result(WAIT_S)

    def _carry_out(self, work: Callable[[Seat], _T]) -> _T:
        """In a worker: make up for a session that is gone, then for a library."""
        reason = ""
        for remedy in (None, self._module.restart, None):
            with self._module.use() as era:
                try:
                    result = self._in_session(era, work)
                except PKCS11Error as error:
                    # Only its name: the error itself keeps a lock of its session.
                    reason = type(error).__name__
                else:
                    self._failures = 0
                    return result
            if remedy is not None:
                remedy(era)
        raise self._failed(reason)

    def _in_session(self, era: int, work: Callable[[Seat], _T]) -> _T:
        seat = self._take(era)
        try:
            result = work(seat)
        except PKCS11Error:
            self._forget(seat.epoch)
            raise
        except BaseException:
            self._give(seat)
            raise
        self._give(seat)
        return result

    def _take(self, era: int) -> Seat:
        with self._lock:
            if era != self._era:
                # Not closed: the library is another, where their numbers mean others.
                self._free, self._login = [], None
                self._era, self._epoch = era, self._epoch + 1
            if self._free:
                return self._free.pop()
            if self._login is None:
                self._login = self._log_in()
            return Seat(self._login.token.open(), self._epoch)

    def _give(self, seat: Seat) -> None:
        with self._lock:
            if seat.epoch == self._epoch:
                self._free.append(seat)
                return
        _close(seat.session)

    def _forget(self, epoch: int) -> None:
        """Drop every session, unless that was done since `epoch`. Inside `use`."""
        with self._lock:
            if epoch != self._epoch:
                return
            sessions = [each.session for each in self._free]
            sessions += [self._login] if self._login is not None else []
            self._free, self._login = [], None
            self._epoch += 1
        for session in sessions:
            _close(session)

    def _log_in(self) -> Session:
        token = self._module.find(self.uri.token)
        if self.uri.pin_source is None:
            return token.open()
        name = _name_of(token)
        with self._pins.alone(name):
            pin = self._pins.read(self.uri, name)
            token = self._module.find(self.uri.token)  # its flags as they are now
            _check_tries(token.flags)
            try:
                return token.open(user_pin=pin)
            except UserAlreadyLoggedIn:  # through another name of the same token
                return token.open()
            except _PIN_REFUSED as error:
                reason = type(error).__name__
            raise self._pins.refused(self.uri, name, pin, reason)

    def _end(self) -> None:
        with self._module.use() as era:
            if era == self._era:
                self._forget(self._epoch)

    def _check_pause(self) -> None:
        if self._monotonic() < self._closed_until:
            raise _unavailable("it was out of reach a moment ago")

    def _failed(self, reason: str) -> KeyUnavailable:
        pause = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        self._closed_until = self._monotonic() + pause
        return _unavailable(reason)


def _name_of(token: OpenToken) -> bytes:
    """Return what tells a token from all others, whatever a URI calls it by."""
    texts = (token.manufacturer_id, token.model, token.label)
    return b"\0".join((*(each.encode() for each in texts), token.serial))


def _check_tries(flags: TokenFlag) -> None:
    """Refuse the last try before a token locks, and any on one that did.

    A token that says that it has one left, and that somebody took one in vain: with
    either alone it may be one that never has more.

    Raises:
        KeyringError: it says so.
    """
    if flags & TokenFlag.USER_PIN_LOCKED:
        msg = "the token has locked its PIN: have its security officer unlock it"
        raise KeyringError(msg)
    if flags & TokenFlag.USER_PIN_FINAL_TRY and flags & TokenFlag.USER_PIN_COUNT_LOW:
        msg = (
            "the token has one try of its PIN left, which is not taken lest it lock: "
            "log in once by other means with the right PIN, then correct it here"
        )
        raise KeyringError(msg)


def _unavailable(reason: str) -> KeyUnavailable:
    return KeyUnavailable(f"The token that holds the key is out of reach: {reason}.")


def _close(session: Session) -> None:
    with suppress(PKCS11Error):  # it may be gone already
        session.close()
