"""The trail: what happens in a gateway becomes lines, by a thread of its own.

Whoever notes something never waits for the disk. What is noted together is written
together, with one sync. While the log cannot be written, what was noted is kept, up
to a bound, and tried again until it is; what had to be dropped is told in a line.

An exchange reserves the place of its line before anything is sent. What is refused
before that is counted, and told in a line per interval and kind: so nobody who is
refused takes a place from an exchange, however often.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Protocol

from gateway.audit.chain import bounded
from gateway.audit.file import AuditFile, Fields, time_of
from gateway.errors import AuditError, AuditUnavailable
from gateway.events import ExchangeRecord, Tallies, Tally

_TOGETHER: Final = 256
_KEPT: Final = 8192
"""Lines that wait to be written; one more is dropped, and counted. Half of them are for
exchanges, those under way included, and half for what happens to the gateway."""

_REFUSALS_EVERY: Final = timedelta(seconds=5)
"""Between two lines of the same kind of refusals: 17,280 lines a day, about 7 MB, of
each kind under a flood that does not end."""

_TRY_AGAIN_S: Final = 0.5
_PATIENCE_S: Final = 10.0
"""For a disk that does not answer, at the start and at the end."""

_PROBE_S: Final = 1.0
"""Where nothing is written for so long, whether it could be is looked at."""

_NOT_OF_EXCHANGES: Final = frozenset(
    {"seconds", "upstream_seconds", "clock_skew_s", "date_skew_s", "error"}
)
"""Of a record, what tells an auditor nothing."""


class Audit(Protocol):
    """Where what happens is noted."""

    def note(
        self,
        what: str,
        *,
        source: object = None,
        target: object = None,
        **facts: object,
    ) -> None:
        """Note that something happened. Never waits, never fails.

        Args:
            what: its name, such as `keyring_loaded`.
            source: what was so before, if that has changed: `from` in the line.
            target: what is so now: `to` in the line.
            facts: whatever else an auditor needs: never a secret, never a body.
        """
        ...

    def reserve(self) -> None:
        """Reserve the place of an exchange's line, before anything is sent.

        Whoever calls this gives the exchange's record its `request_sha256`, where
        exchanges are noted, and hands it to `exchange` at the end.

        Raises:
            AuditUnavailable: the log cannot be written, or has no place left, and
                nothing goes without it.
        """
        ...

    def exchange(self, record: ExchangeRecord) -> None:
        """Note a finished exchange, if exchanges are noted.

        One that was refused before it had a place is counted with others of its kind.
        """
        ...


class AuditListener(Protocol):
    """Is told how the writing goes. Called by the thread that writes."""

    def audit_failed(self, reason: str) -> None:
        """Note an attempt to write that failed."""
        ...

    def audit_works(self) -> None:
        """Note that the log is written again."""
        ...

    def audit_dropped(self) -> None:
        """Note that a line was dropped: too many wait."""
        ...


class NoAudit:
    """The audit of a gateway that keeps none."""

    def note(
        self,
        what: str,
        *,
        source: object = None,
        target: object = None,
        **facts: object,
    ) -> None:
        """Note nothing."""

    def reserve(self) -> None:
        """Reserve nothing."""

    def exchange(self, record: ExchangeRecord) -> None:
        """Note nothing."""


class Trail:
    """The audit of a gateway. `start` begins to write, `close` ends.

    Args:
        file: the log.
        who: who does what is noted here.
        now: gives the time of each line.
        listener: is told how the writing goes.
        required: whether no traffic may go on without.
        exchanges: whether each exchange is a line.
    """

    def __init__(
        self,
        file: AuditFile,
        *,
        who: str,
        now: Callable[[], datetime],
        listener: AuditListener,
        required: bool = False,
        exchanges: bool = False,
    ) -> None:
        self.problem: str | None = None
        """Why the log cannot be written; None if it can."""
        self.required = required
        self._file = file
        self._who = who
        self._now = now
        self._listener = listener
        self._exchanges = exchanges
        self._waiting: deque[Fields] = deque()
        self._lines = 0
        """Of those that wait, the exchanges'."""
        self._under_way = 0
        """Exchanges whose place is reserved and whose line is not there yet."""
        self._refusals = Tallies(_REFUSALS_EVERY)
        self._dropped = 0
        self._refused = 0
        self._changed = threading.Condition()
        self._closing = False
        self._checkpoint = True
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def note(
        self,
        what: str,
        *,
        source: object = None,
        target: object = None,
        **facts: object,
    ) -> None:
        """Note that something happened; as `Audit.note`."""
        fields = entry(self._now(), self._who, what, source, target, facts)
        with self._changed:
            kept = len(self._waiting) - self._lines < _KEPT // 2
            self._keep(fields, kept=kept)
        if not kept:
            self._listener.audit_dropped()

    def reserve(self) -> None:
        """Reserve the place of an exchange's line; as `Audit.reserve`.

        Where the log is not required, an exchange goes on without a place; its line
        may be dropped.
        """
        with self._changed:
            full = self._lines + self._under_way >= _KEPT // 2
            if self.required and (self.problem or full):
                self._refused += 1
                msg = "The audit log cannot be written, so nothing was sent."
                raise AuditUnavailable(msg)
            self._under_way += self._exchanges

    def exchange(self, record: ExchangeRecord) -> None:
        """Note a finished exchange; as `Audit.exchange`."""
        if not self._exchanges:
            return
        now = self._now()
        if record.request_sha256 is None:
            with self._changed:
                self._refusals.add((record.caller, record.code), record.peer, now)
            return
        facts = {
            name: value
            for name, value in asdict(record).items()
            if value is not None and name not in _NOT_OF_EXCHANGES
        }
        fields = entry(now, self._who, "exchange", None, None, facts)
        with self._changed:
            self._under_way -= 1
            kept = self._lines < _KEPT // 2
            self._lines += kept
            self._keep(fields, kept=kept)
        if not kept:
            self._listener.audit_dropped()

    def start(self) -> None:
        """Begin to write. Returns once what is noted was written, or could not be."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(self._is_settled, _PATIENCE_S)

    def close(self) -> None:
        """Write what is noted, with a checkpoint, and end; give up where it fails.

        A slow disk is waited for, for as long as lines go there at all.
        """
        with self._changed:
            self._closing = self._checkpoint = True
            self._changed.notify_all()
        before = None
        while self._thread.is_alive() and before != len(self._waiting):
            before = len(self._waiting)
            self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            self._listener.audit_failed("the disk did not answer before the end")

    def _keep(self, fields: Fields, *, kept: bool) -> None:
        if kept:
            self._waiting.append(fields)
            self._changed.notify_all()
        else:
            self._dropped += 1

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, self._patience())
                batch, closing = [*islice(self._waiting, _TOGETHER)], self._closing
                checkpoint = self._checkpoint and len(batch) == len(self._waiting)
                self._checkpoint = self._checkpoint and not checkpoint
                refusals = self._refusals.take(None if closing else self._now())
            self._write(batch, refusals, checkpoint=checkpoint)
            if closing and (self.problem or not self._waiting):
                return

    def _is_settled(self) -> bool:
        return not self._waiting or self.problem is not None

    def _has_work(self) -> bool:
        return self._closing or bool(self._waiting and not self.problem)

    def _patience(self) -> float:
        return _TRY_AGAIN_S if self.problem else _PROBE_S

    def _write(
        self, batch: list[Fields], refusals: list[Tally], *, checkpoint: bool
    ) -> None:
        """Write these, or look whether it could be done; note how that went."""
        dropped, refused = self._dropped, self._refused
        extra: list[Fields] = []
        if self.problem is not None:
            facts = {"reason": self.problem, "refused": refused}
            extra.append(self._own("audit_works_again", **facts))
        if dropped:
            extra.append(self._own("lines_dropped", count=dropped))
        for each in refusals:
            caller, code = each.kind
            extra.append(self._own("refusals", caller=caller, code=code, **each.facts))
        try:
            if batch or extra or checkpoint:
                self._file.append([*extra, *batch], checkpoint=checkpoint)
            else:
                self._file.probe()
        except AuditError as error:
            self._failed(error.detail)
        except Exception as error:  # noqa: BLE001 - the thread must go on
            self._failed(f"a defect of the gateway ({type(error).__name__})")
        else:
            self._written(len(batch), dropped, refused)
            return
        with self._changed:
            self._refusals.put_back(refusals)
        self._checkpoint = self._checkpoint or checkpoint

    def _own(self, what: str, **facts: object) -> Fields:
        return entry(self._now(), self._who, what, None, None, facts)

    def _failed(self, reason: str) -> None:
        with self._changed:
            self.problem = reason
            self._changed.notify_all()
        self._listener.audit_failed(reason)

    def _written(self, lines: int, dropped: int, refused: int) -> None:
        with self._changed:
            for _ in range(lines):
                self._lines -= self._waiting.popleft()["what"] == "exchange"
            self._dropped -= dropped
            self._refused -= refused
            works, self.problem = self.problem is not None, None
            self._changed.notify_all()
        if works:
            self._listener.audit_works()


def entry(  # noqa: PLR0917 - the words of a line
    time: datetime,
    who: str,
    what: str,
    source: object,
    target: object,
    facts: Fields,
) -> Fields:
    """Give the fields of a line; its texts and lists are cut where they are long."""
    fields = {**facts, "time": time_of(time), "who": who, "what": what}
    fields |= {
        name: value
        for name, value in (("from", source), ("to", target))
        if value is not None
    }
    return {name: bounded(value) for name, value in fields.items()}
