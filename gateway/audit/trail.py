"""The trail: what happens in a gateway becomes lines, by a thread of its own.

Whoever notes something never waits for the disk. What is noted together is written
together, with one sync. While the log cannot be written, what was noted is kept, up
to a bound, and tried again until it is; what had to be dropped is told in a line.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import Final, Protocol

from gateway.audit.chain import bounded
from gateway.audit.file import AuditFile, Fields, time_of
from gateway.errors import AuditError, AuditUnavailable
from gateway.events import ExchangeRecord

_TOGETHER: Final = 256
_KEPT: Final = 8192
"""Lines that wait to be written; one more is dropped, and counted. Exchanges take half
of them at most: however many there are, what happens to the gateway has room."""

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

    def exchange(self, record: ExchangeRecord) -> None:
        """Note a finished exchange, if exchanges are noted."""
        ...

    def check(self) -> None:
        """Pass if traffic may go on.

        Raises:
            AuditUnavailable: the log cannot be written, and nothing goes without.
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

    def exchange(self, record: ExchangeRecord) -> None:
        """Note nothing."""

    def check(self) -> None:
        """Pass."""


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
        self._keep(fields, _KEPT)

    def exchange(self, record: ExchangeRecord) -> None:
        """Note a finished exchange, if exchanges are noted.

        Not one that `check` refused: those are counted, and told once.
        """
        if self._exchanges and record.code != AuditUnavailable.code:
            facts = {
                name: value
                for name, value in asdict(record).items()
                if value is not None and name not in _NOT_OF_EXCHANGES
            }
            fields = entry(self._now(), self._who, "exchange", None, None, facts)
            self._keep(fields, _KEPT // 2)

    def check(self) -> None:
        """Pass if traffic may go on.

        Raises:
            AuditUnavailable: the log cannot be written, and it is required.
        """
        if self.required and (self.problem or len(self._waiting) >= _KEPT // 2):
            self._refused += 1
            msg = "The audit log cannot be written, so nothing was sent."
            raise AuditUnavailable(msg)

    def start(self) -> None:
        """Begin to write. Returns once what is noted was written, or could not be."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(self._is_settled, _PATIENCE_S)

    def close(self) -> None:
        """Write what is noted, with a checkpoint, and end; give up where it fails."""
        with self._changed:
            self._closing = self._checkpoint = True
            self._changed.notify_all()
        self._thread.join(_PATIENCE_S)

    def _keep(self, fields: Fields, most: int) -> None:
        with self._changed:
            if len(self._waiting) < most:
                self._waiting.append(fields)
                self._changed.notify_all()
                return
            self._dropped += 1
        self._listener.audit_dropped()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, self._patience())
                batch, closing = [*islice(self._waiting, _TOGETHER)], self._closing
                checkpoint = self._checkpoint and len(batch) == len(self._waiting)
                self._checkpoint = self._checkpoint and not checkpoint
            self._write(batch, checkpoint=checkpoint)
            if closing and (self.problem or not self._waiting):
                return

    def _is_settled(self) -> bool:
        return not self._waiting or self.problem is not None

    def _has_work(self) -> bool:
        return self._closing or bool(self._waiting and not self.problem)

    def _patience(self) -> float:
        return _TRY_AGAIN_S if self.problem else _PROBE_S

    def _write(self, batch: list[Fields], *, checkpoint: bool) -> None:
        """Write these, or look whether it could be done; note how that went."""
        dropped, refused = self._dropped, self._refused
        extra: list[Fields] = []
        if self.problem is not None:
            facts = {"reason": self.problem, "refused": refused}
            extra.append(self._own("audit_works_again", **facts))
        if dropped:
            extra.append(self._own("lines_dropped", count=dropped))
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
                self._waiting.popleft()
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
