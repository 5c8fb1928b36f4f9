"""What several workers share: limits by their number, rates and PINs by shared memory.

The places of exchanges and connections and the bytes of bodies are divided: each worker
has its part, rounded up. A caller's rate holds over all of them, exactly: its bucket is
in memory that all have mapped, and whoever takes from it holds a lock of that bucket.
"""

import fcntl
import math
import mmap
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Self

from gateway.access.rates import Level, Rate
from gateway.config import Admin, Caller, Client, Settings

_SLOT: Final = struct.Struct("=dd")
_SLOTS: Final = 1 << 16
"""A configuration of 1 MiB, which is the greatest, has room for 10,000 callers; each
may have an old and a new bucket, and a slot is used again as late as possible."""

_CROWD: Final = struct.Struct("=Q")
_PINS: Final = _SLOTS * _SLOT.size + 257 * _CROWD.size
_DIGEST_BYTES: Final = 32
_MOST_PINS: Final = 64
"""Refused PINs that are known; with one more, the oldest may be tried again."""

_SECRET_AT: Final = _PINS + (1 + _MOST_PINS) * _DIGEST_BYTES
_SECRET_BYTES: Final = 32
_BYTES: Final = _SECRET_AT + _SECRET_BYTES
_TOKENS: Final = 64
"""Locks for tokens, by their hash. They are of bytes behind the memory."""

_TRIES: Final = 200
_BETWEEN_TRIES_S: Final = 0.0002
"""A lock is held for microseconds. A holder that is off the processor takes longer,
and one that was stopped would hold up everybody: 40 ms, and the call is refused."""

Slots = Mapping[str, int]
"""Where the bucket of each caller is, by the caller's name."""


def part_of(settings: Settings, workers: int) -> Settings:
    """Give what one of so many workers is to keep to.

    The admin listener is not its business.
    """
    inbound = settings.inbound

    def part(limit: int) -> int:
        return math.ceil(limit / workers)

    def parts(entry: Caller | Client) -> dict[str, object]:
        most = entry.max_concurrent
        return {} if most is None else {"max_concurrent": part(most)}

    return settings.model_copy(
        update={
            "admin": Admin(),
            "inbound": inbound.model_copy(
                update={
                    "max_concurrent": part(inbound.max_concurrent),
                    "max_connections": part(inbound.max_connections),
                    "max_buffered_bytes": part(inbound.max_buffered_bytes),
                }
            ),
            "clients": tuple(
                each.model_copy(update=parts(each)) for each in settings.clients
            ),
            "callers": tuple(
                each.model_copy(update=parts(each)) for each in settings.callers
            ),
        }
    )


class Memory:
    """Memory that several processes have mapped: buckets, then a number for each worker.

    Behind them is a secret, by which all of them draw the same lots.

    Args:
        descriptor: of the memory; closed with this.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.mapped = mmap.mmap(descriptor, _BYTES)

    @classmethod
    def new(cls, entropy: Callable[[int], bytes]) -> Self:
        """Make such memory. It is gone with the last process that has it.

        Args:
            entropy: gives so many random bytes.
        """
        descriptor = os.memfd_create("gateway")
        os.ftruncate(descriptor, _BYTES)
        memory = cls(descriptor)
        memory.mapped[_SECRET_AT:] = entropy(_SECRET_BYTES)
        return memory

    @property
    def secret(self) -> bytes:
        """32 random bytes that are the same in each process."""
        return self.mapped[_SECRET_AT:]

    def close(self) -> None:
        """Let go of it."""
        self.mapped.close()
        os.close(self.descriptor)


class Crowds:
    """How many connections each worker has, so that who has fewest takes the next.

    Each worker writes its own number, when there is a connection to be taken. That of a
    worker that ended stands for none until another takes its place.
    """

    def __init__(self, memory: Memory, workers: int) -> None:
        self._memory = memory.mapped
        self._workers = range(1, workers + 1)

    def nobody(self, worker: int) -> None:
        """Note that a worker takes none."""
        _CROWD.pack_into(self._memory, _place_of(worker), 0)

    def of(self, worker: int) -> Callable[[int], bool]:
        """Give what notes how many a worker has, and tells whether another has fewer."""
        place = _place_of(worker)
        others = [_place_of(each) for each in self._workers if each != worker]

        def fewer_elsewhere(connections: int) -> bool:
            _CROWD.pack_into(self._memory, place, connections + 1)
            return any(
                0 < _CROWD.unpack_from(self._memory, other)[0] <= connections
                for other in others
            )

        return fewer_elsewhere


def _place_of(worker: int) -> int:
    return _SLOTS * _SLOT.size + worker * _CROWD.size


class Buckets:
    """Buckets in memory that several processes have mapped."""

    def __init__(self, memory: Memory) -> None:
        self._descriptor = memory.descriptor
        self._memory = memory.mapped

    def fill(self, slot: int, rate: Rate, now: float) -> None:
        """Begin a bucket, full."""
        self._write(slot, Level(float(rate.burst), now))

    def take(self, slot: int, rate: Rate, now: float) -> float:
        """Take one of a bucket. Gives 0, or after how many seconds there will be one.

        The kernel frees the lock of a process that dies.
        """
        if not self._locked(slot):
            return 1.0
        try:
            # Somebody else may have taken from it after our `now`.
            level = self._read(slot)
            level = level.at_moment(max(now, level.at), rate)
            wait_s = level.wait_s(rate)
            self._write(slot, level if wait_s else level.less_one())
        finally:
            self._lock(slot, fcntl.LOCK_UN)
        return wait_s

    def _locked(self, slot: int) -> bool:
        for _ in range(_TRIES):
            try:
                self._lock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(_BETWEEN_TRIES_S)
            else:
                return True
        return False

    def _lock(self, slot: int, how: int) -> None:
        fcntl.lockf(self._descriptor, how, _SLOT.size, slot * _SLOT.size)

    def _read(self, slot: int) -> Level:
        return Level(*_SLOT.unpack_from(self._memory, slot * _SLOT.size))

    def _write(self, slot: int, level: Level) -> None:
        _SLOT.pack_into(self._memory, slot * _SLOT.size, *level)


class SharedRefusals:
    """The PINs that tokens refused, in memory that several processes have mapped.

    Each worker logs in by itself: without this, a wrong PIN would be tried once by each,
    and again by each that takes the place of one that died. Implements
    `gateway.keys.backends.pkcs11.pins.Refusals`.

    Args:
        memory: the memory. First in its part is the secret, then the digests.
        entropy: gives that many random bytes.
    """

    def __init__(self, memory: Memory, entropy: Callable[[int], bytes]) -> None:
        self._descriptor = memory.descriptor
        self._memory = memory.mapped
        self._entropy = entropy
        self._own = [threading.Lock() for _ in range(1 + _TOKENS)]

    @contextmanager
    def alone(self, token: bytes) -> Iterator[None]:
        """Keep other processes, and threads, from trying a PIN of a token.

        Args:
            token: what tells the token from all others.
        """
        with self._locked(1 + zlib.crc32(token) % _TOKENS):
            yield

    def secret(self) -> bytes:
        """Return the secret; the first process that asks for it makes it."""
        with self._locked(0):
            if not any(self._read(0)):
                self._write(0, self._entropy(_DIGEST_BYTES))
            return self._read(0)

    def add(self, digest: bytes) -> None:
        """Note a digest."""
        with self._locked(0):
            known = [self._read(each) for each in range(1, _MOST_PINS + 1)]
            kept = [*filter(any, known), digest][-_MOST_PINS:]
            for place, each in enumerate(kept, 1):
                self._write(place, each)

    def __contains__(self, digest: bytes) -> bool:
        """Check whether a digest was noted."""
        with self._locked(0):
            return any(self._read(each) == digest for each in range(1, _MOST_PINS + 1))

    @contextmanager
    def _locked(self, number: int) -> Iterator[None]:
        """Hold a lock of the kernel's, which it frees if this process dies."""
        with self._own[number]:  # it is the process's, whichever thread has it
            place = _BYTES + number
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, place)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)

    def _read(self, place: int) -> bytes:
        start = _PINS + place * _DIGEST_BYTES
        return self._memory[start : start + _DIGEST_BYTES]

    def _write(self, place: int, data: bytes) -> None:
        start = _PINS + place * _DIGEST_BYTES
        self._memory[start : start + _DIGEST_BYTES] = data


class SharedBucket:
    """The bucket of one caller, which other workers take from, too."""

    def __init__(self, buckets: Buckets, slot: int, rate: Rate) -> None:
        self.rate = rate
        self._buckets = buckets
        self._slot = slot

    def take(self, now: float) -> float:
        """Take one. Gives 0, or after how many seconds there will be one."""
        return self._buckets.take(self._slot, self.rate, now)


class Allotment:
    """Which bucket is whose, over all reloads. One process alone decides.

    Args:
        buckets: the memory.
        monotonic: gives seconds that never go back.
    """

    def __init__(self, buckets: Buckets, monotonic: Callable[[], float]) -> None:
        self._buckets = buckets
        self._monotonic = monotonic
        self._in_use: dict[str, tuple[Rate, int]] = {}
        self._next = 0

    def plan(self, settings: Settings) -> dict[str, tuple[Rate, int]]:
        """Give each caller a bucket: its own, if its rate stays, else a full one."""
        planned: dict[str, tuple[Rate, int]] = {}
        taken = {slot for _, slot in self._in_use.values()}
        for name, rate in rates_of(settings).items():
            known = self._in_use.get(name)
            if known is None or known[0] != rate:
                known = rate, self._free(taken)
                self._buckets.fill(known[1], rate, self._monotonic())
            planned[name] = known
        return planned

    def use(self, planned: dict[str, tuple[Rate, int]]) -> None:
        """Take up what was planned; other buckets are free."""
        self._in_use = planned

    @property
    def slots(self) -> Slots:
        """Those in use."""
        return slots_of(self._in_use)

    def _free(self, taken: set[int]) -> int:
        while self._next in taken:
            self._next = (self._next + 1) % _SLOTS
        slot = self._next
        self._next = (slot + 1) % _SLOTS
        return slot


def slots_of(planned: Mapping[str, tuple[Rate, int]]) -> Slots:
    """Give where each caller's bucket is."""
    return {name: slot for name, (_, slot) in planned.items()}


def rates_of(settings: Settings) -> dict[str, Rate]:
    """Give the rate of each caller that has one."""
    return {
        each.name: Rate(each.rate.per_second, each.rate.burst_or_default)
        for each in settings.callers
        if each.rate is not None
    }
