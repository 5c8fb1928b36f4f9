"""What happens, handed to the metrics, to the log and to the audit log."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Final, TextIO

from gateway.audit.trail import Audit, NoAudit
from gateway.config import Settings
from gateway.events import CanaryHalt, CertificateInUse, ExchangeRecord, Kind, Tally
from gateway.keys.keyring import Keyring
from gateway.plant import CLOCK
from gateway.relay.breaker import BreakerState
from gateway.telemetry.answers import AnswerWatch
from gateway.telemetry.audit import facts_of
from gateway.telemetry.certificates import CertificateEnds
from gateway.telemetry.clocks import ClockWatch
from gateway.telemetry.crowding import FullListener
from gateway.telemetry.floods import Flood
from gateway.telemetry.inventory import Inventory
from gateway.telemetry.labels import LabelWatch
from gateway.telemetry.lines import text_of
from gateway.telemetry.log import EventLog, ExchangeLog, exchange_line
from gateway.telemetry.metrics import Metrics, Series
from gateway.telemetry.numbered import NumberedEventLog
from gateway.telemetry.reach import KeyReach
from gateway.telemetry.usage import Used

_MOST_KINDS: Final = 1024
"""Of exchanges, that are remembered; with one more, all are worked out anew."""


class Telemetry:
    """Hands each fact to the metrics, to the log and to the audit log.

    Args:
        stdout: takes one line per exchange.
        stderr: takes one line per event.
        worker: the number of this process, where it is one of several workers.
    """

    def __init__(
        self, stdout: TextIO, stderr: TextIO, worker: int | None = None
    ) -> None:
        self.metrics = Metrics()
        dropped = self.metrics.lines_dropped
        self.events = (
            EventLog(stderr, CLOCK.now, dropped("stderr"))
            if worker is None
            else NumberedEventLog(worker, stderr, CLOCK.now, dropped("stderr"))
        )
        self.clocks = ClockWatch(self.events.event)
        self.reach = KeyReach(self.events.event)
        self.answers = AnswerWatch(
            self.events.event, self.metrics.unverified_in_a_row, CLOCK.monotonic
        )
        self.labels = LabelWatch(self.events.event)
        self.inventory = Inventory(CLOCK.now, self.events.event)
        self.metrics.watch_keys(self.inventory.figures)
        self.certificates = CertificateEnds(CLOCK.now, self.events.event)
        self.audit: Audit = NoAudit()
        self._exchanges = ExchangeLog(
            stdout, CLOCK.now, dropped("stdout"), self._log_problem
        )
        self._refusals = Flood(self._exchanges.refusals, CLOCK.now)
        self._handshakes = Flood(self._tell_handshakes, CLOCK.now)
        self._loop = asyncio.get_running_loop()
        self._kinds: dict[Kind, tuple[Series, Used]] = {}
        """What exchanges of a kind count for, until keys or settings change. It is
        looked up in a tenth of the time that working it out takes."""
        self._ended: list[ExchangeRecord] = []
        """Exchanges of this turn of the loop."""
        self._rings: dict[str, Keyring] = {}

    def use(self, settings: Settings) -> None:
        """Judge clocks and keys by these settings from now on."""
        self._kinds.clear()
        clients = settings.clients
        tolerances = {each.name: each.clock_tolerance_s for each in clients}
        self.clocks.use(tolerances)
        self.answers.use(tolerances)
        self.inventory.use({each.name: each.cryptoperiod for each in clients})
        self.metrics.keep({each.name for each in clients})
        self.reach.keep({each.name for each in clients})
        self.labels.keep({each.name for each in clients})

    def watch_certificates(self, read: Callable[[], list[CertificateInUse]]) -> None:
        """Take the certificates in use from this function, whenever they are wanted."""
        self.certificates.read = read
        self.metrics.watch_certificates(read)

    def full(self, listener: str) -> FullListener:
        """Return what notes each connection that this listener has no room for."""
        return FullListener(
            listener, self.metrics.connection_refused, self.events.event
        )

    def __call__(self, record: ExchangeRecord) -> None:
        """Note a finished exchange, with all others of this turn of the loop.

        Together they cost half: the same code runs for one after the other, and their
        lines are one write.
        """
        self._ended.append(record)
        if len(self._ended) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Note what has not been noted yet. A defect costs no other exchange its line."""
        ended, self._ended = self._ended, []
        now = CLOCK.now()
        self._count(ended, now)
        self._audit(ended)
        # Last: all other looks at a record are slower after `vars` of it, by 0.5 µs.
        self._exchanges.write(self._lines(ended, text_of(now)))

    def _count(self, ended: list[ExchangeRecord], now: datetime) -> None:
        for record in ended:
            try:
                series, used = self._kinds.get(record.kind) or self._learn(record)
                self.metrics.count(record, series)
                self.clocks(record)
                self.reach(record)
                self.answers(record)
                self.labels(record)
                self.inventory.usage.count(used, now)
            except Exception as error:  # noqa: BLE001 - whatever it is
                self._tell_defect(error)

    def _audit(self, ended: list[ExchangeRecord]) -> None:
        """Note each in the audit log, where its place waits for it."""
        for record in ended:
            try:
                self.audit.exchange(record)
            except Exception as error:  # noqa: BLE001 - whatever it is
                self._tell_defect(error)

    def _lines(self, ended: list[ExchangeRecord], time: str) -> list[bytes]:
        lines = []
        for record in ended:
            if not record.route and self._is_one_of_many(record):
                continue
            try:
                lines.append(exchange_line(record, time))
            except Exception as error:  # noqa: BLE001 - whatever it is
                self._tell_defect(error)
        return lines

    def _is_one_of_many(self, record: ExchangeRecord) -> bool:
        """Count a stranger's refusal. Return whether it has no line of its own."""
        return record.is_strangers and self._refusals.takes(record.peer, record.code)

    def end(self) -> None:
        """Note what has not been noted yet: there is nothing more."""
        self.flush()
        self._refusals.end()
        self._handshakes.end()

    def handshake_failed(self, listener: str, peer: str | None, reason: str) -> None:
        """Note a TLS handshake of a peer that came to nothing."""
        self.metrics.handshake_failed(listener)
        if not self._handshakes.takes(peer, listener, reason):
            self.events.event(
                "handshake_failed", listener=listener, reason=reason, peer=peer
            )

    def _tell_handshakes(self, tally: Tally) -> None:
        listener, reason = tally.kind
        self.events.event(
            "handshakes_failed", listener=listener, reason=reason, **tally.facts
        )

    def log_problems(self) -> list[str]:
        """Return which log cannot be written, for readiness."""
        return [
            f"log: {name} cannot be written, and lines are lost: {log.problem}"
            for name, log in (
                ("standard output", self._exchanges),
                ("standard error", self.events),
            )
            if log.problem is not None
        ]

    def _log_problem(self, reason: str | None) -> None:
        if reason is None:
            self.events.event("log_works_again", stream="stdout")
        else:
            self.events.event(
                "log_failed",
                stream="stdout",
                reason=reason,
                consequence="exchanges go on, and their lines are lost",
            )

    def _tell_defect(self, error: Exception) -> None:
        context = {"message": "an exchange was not noted", "exception": error}
        self._loop.call_exception_handler(context)

    def _learn(self, record: ExchangeRecord) -> tuple[Series, Used]:
        """Work out what exchanges of this one's kind count for."""
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        known = self.metrics.series_of(record), self.inventory.usage.used_by(record)
        self._kinds[record.kind] = known
        return known

    def loaded(self, client: str, ring: Keyring) -> None:
        """Note a keyring that is in use from now on."""
        self._kinds.clear()
        self.metrics.loaded(client, ring)
        self.events.loaded(client, ring)
        self.inventory.loaded(client, ring)
        before, self._rings[client] = self._rings.get(client), ring
        self.audit.note(
            "keyring_loaded",
            client=client,
            source=facts_of(before),
            target=facts_of(ring),
        )

    def failed(self, client: str, reason: str) -> None:
        """Note a keyring that was refused."""
        self.metrics.failed(client, reason)
        self.events.failed(client, reason)
        self.audit.note(
            "keyring_refused",
            client=client,
            reason=reason,
            source=facts_of(self._rings.get(client)),
        )

    def reused(self, client: str, generation: int) -> None:
        """Note a keyring whose generation stood for another one."""
        self.events.reused(client, generation)

    def certificates_loaded(self, setting: str) -> None:
        """Note changed TLS files that are in use from now on."""
        self.events.event("certificates_loaded", setting=setting)
        self.audit.note("certificates_loaded", setting=setting)

    def certificates_refused(self, setting: str, reason: str) -> None:
        """Note changed TLS files that cannot be used."""
        self.metrics.certificates_refused(setting)
        self.events.event(
            "certificates_refused",
            setting=setting,
            reason=reason,
            consequence="new connections go on with those loaded before",
        )
        self.audit.note("certificates_refused", setting=setting, reason=reason)

    def canary_judged(self, client: str, key_version: str, *, failed: bool) -> None:
        """Note an exchange that tells of a canary, or of the version beside it."""
        self.metrics.canary_judged(client, key_version, failed=failed)

    def canary_halted(self, client: str, halt: CanaryHalt) -> None:
        """Note that the earlier version signs everything from now on, and why."""
        self.metrics.canary_halted(client)
        self.events.canary_halted(client, halt)
        self.audit.note(
            "canary_halted",
            client=client,
            reason=halt.reason,
            source={"signs": [halt.key_version, halt.other_version]},
            target={"signs": [halt.other_version]},
            evidence=asdict(halt),
        )

    def canary_halt_not_kept(self, client: str, reason: str) -> None:
        """Note that only this process knows of it."""
        self.events.event(
            "canary_halt_not_kept",
            client=client,
            reason=reason,
            consequence="other processes, and this one when it is started again, try "
            "the canary once more; change the ring where it comes from",
        )
        self.audit.note("canary_halt_not_kept", client=client, reason=reason)

    def breaker_changed(
        self, client: str, state: BreakerState, cause: str | None = None
    ) -> None:
        """Note that a client's breaker opened, and why, is probing, or closed."""
        self.metrics.breaker_changed(client, state)
        why = {} if cause is None else {"cause": cause}
        self.events.event(f"breaker_{state.name.lower()}", client=client, **why)

    def breaker_stands(self, client: str, state: BreakerState) -> None:
        """Note where the breaker stands that a client has from now on."""
        self.metrics.breaker_changed(client, state)
