"""Prometheus metrics. Names and labels are the public contract."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from gateway.events import REFUSED, VERIFIED, CertificateInUse, ExchangeRecord
from gateway.keys.keyring import Canary, Keyring
from gateway.telemetry.certificates import CertificateMetrics
from gateway.telemetry.key_metrics import KeyFigures, KeyMetrics
from gateway.telemetry.merging import Told, told
from gateway.telemetry.process import build
from gateway.telemetry.series import Count, Counts, Levels, Spread, Times

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_JUDGEMENTS: Final = frozenset(
    {
        REFUSED,
        "signature_missing",
        "signature_invalid",
        "key_version_unknown",
        "client_id_mismatch",
        "response_stale",
        "response_malformed",
        "encryption_downgraded",
    }
)
"""Codes that are a verdict of the verification itself."""


_LEVELS: Final = {
    "in_flight": ("gateway_in_flight", "Exchanges under way."),
    "waiting": ("gateway_waiting", "Exchanges that wait for a place."),
    "buffered_bytes": ("gateway_buffered_bytes", "Bytes of bodies that are held."),
    "connections": ("gateway_connections", "Open connections of callers."),
}


@dataclass(frozen=True, slots=True)
class Series:
    """Where exchanges of one kind are counted.

    Attributes:
        counts: the counters, each with how much an exchange adds to it.
    """

    counts: list[tuple[Count, int]]
    seconds: Spread
    upstream_seconds: Spread


class Metrics:
    """Counts exchanges and keyrings. An `Observer` and a `KeyringListener`."""

    def __init__(self) -> None:
        # Else there is a second series for each one, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._keys = KeyMetrics()
        self._registry.register(self._keys)
        self._certificate_ends = CertificateMetrics()
        self._registry.register(self._certificate_ends)
        self._exchanges = Counts(
            "gateway_exchanges",
            "Exchanges by how they ended.",
            "caller client route code",
        )
        self._seconds = Times(
            "gateway_exchange_seconds",
            "From request to answer.",
            "client route",
            _SECONDS,
        )
        self._upstream_seconds = Times(
            "gateway_upstream_seconds",
            "Of it, waiting for AlipayHK.",
            "client route",
            _SECONDS,
        )
        self._signatures = Counts(
            "gateway_signatures", "Requests signed.", "client key_version"
        )
        self._verifications = Counts(
            "gateway_verifications",
            "Answers judged; key_version is empty where no key verified.",
            "client key_version result",
        )
        self._skew = Levels(
            "gateway_clock_skew_seconds",
            "Response-Time minus our clock, of the last signed answer.",
        )
        self._date_skew = Levels(
            "gateway_clock_date_skew_seconds",
            "The Date header minus our clock, of the last answer.",
        )
        self._in_a_row = Levels(
            "gateway_unverified_answers_in_a_row",
            "Answers of AlipayHK since the last that was verified.",
        )
        for each in (
            *(self._exchanges, self._seconds, self._upstream_seconds),
            *(self._signatures, self._verifications, self._skew, self._date_skew),
            self._in_a_row,
        ):
            self._registry.register(each)
        self._denials = self._counts(
            "gateway_policy_denials",
            "Calls that the policy refuses; not enforced where it only reports.",
            "caller code enforced",
        )
        self._repeats = self._counts(
            "gateway_repeats", "Attempts beyond an exchange's first.", "client route"
        )
        self._undelivered = self._counts(
            "gateway_answers_undelivered",
            "Answers that the caller did not take.",
            "client route",
        )
        self._breaker = self._gauge(
            "gateway_breaker_state", "0 closed, 1 half open, 2 open.", "client"
        )
        self._refused_connections = self._counter(
            "gateway_connections_refused",
            "Connections closed because there were too many, of either listener.",
            "",
        )
        self._handshakes = self._counter(
            "gateway_tls_handshakes_failed",
            "TLS handshakes of peers that came to nothing.",
            "listener",
        )
        self._certificates = self._counter(
            "gateway_tls_reload_failures",
            "Changed TLS files that were refused; those before stay in use.",
            "setting",
        )
        self._audit_failures = self._counter(
            "gateway_audit_failures",
            "Attempts to write the audit log that failed, and lines dropped for it.",
            "",
        )
        self._lines_dropped = self._counter(
            "gateway_log_lines_dropped",
            "Log lines that could not be written without waiting.",
            "stream",
        )

        self._make_keyring_metrics()
        self._make_canary_metrics()
        self._tell_process()

    def _make_keyring_metrics(self) -> None:
        self._generation = self._gauge(
            "gateway_keyring_generation", "The generation in use.", "client"
        )
        self._ring_info = self._gauge(
            "gateway_keyring_info",
            "1 for the generation in use and the digest of its content.",
            "client generation digest",
        )
        self._rings: dict[str, tuple[str, str, str]] = {}
        self._failures = self._counter(
            "gateway_keyring_reload_failures",
            "Keyrings that were refused; the last good one stays in use.",
            "client",
        )
        self._labels = self._counts(
            "gateway_decryption_label_mismatches",
            "Answers that another key of ours decrypted than the one they name.",
            "client",
        )

    def _make_canary_metrics(self) -> None:
        self._canary_share = self._gauge(
            "gateway_canary_share",
            "The part of the exchanges that a key on trial signs, from 0 to 1.",
            "client key_version",
        )
        self._canary_halted = self._gauge(
            "gateway_canary_halted", "1 where a key on trial was given up.", "client"
        )
        self._canary_exchanges = self._counter(
            "gateway_canary_exchanges",
            "Exchanges by how a version's key fared, while one is on trial.",
            "client key_version result",
        )
        self._canaries: dict[str, str] = {}

    def __call__(self, record: ExchangeRecord) -> None:
        """Count a finished exchange."""
        self.count(record, self.series_of(record))

    def count(self, record: ExchangeRecord, series: Series) -> None:
        """Count a finished exchange where those of its kind are counted."""
        for count, times in series.counts:
            count.count += times
        series.seconds.observe(record.seconds)
        if record.upstream_seconds is not None:
            series.upstream_seconds.observe(record.upstream_seconds)
        if record.clock_skew_s is not None:
            self._skew.set(record.client, record.clock_skew_s)
        if record.date_skew_s is not None:
            self._date_skew.set(record.client, record.date_skew_s)

    def series_of(self, record: ExchangeRecord) -> Series:
        """Give where exchanges of this one's kind are counted."""
        called = record.client, record.route
        return Series(
            list(self._counted(record)),
            self._seconds.of(called),
            self._upstream_seconds.of(called),
        )

    def _counted(self, record: ExchangeRecord) -> Iterator[tuple[Count, int]]:
        """Give the counters of an exchange, each with what it adds to it."""
        caller, client, route = record.caller, record.client, record.route
        yield self._exchanges.of((caller, client, route, record.code)), 1
        for version, times in record.signatures.items():
            yield self._signatures.of((client, version)), times
        if record.verified_by is not None:
            yield self._verifications.of((client, record.verified_by, VERIFIED)), 1
        elif record.code in _JUDGEMENTS:
            yield self._verifications.of((client, "", record.code)), 1
        if record.denied is not None:
            enforced = "true" if record.denied == record.code else "false"
            yield self._denials.of((caller, record.denied, enforced)), 1
        if record.attempts > 1:
            yield self._repeats.of((client, route)), record.attempts - 1
        if record.decryption_label is not None:
            yield self._labels.of((client,)), 1
        if not record.delivered:
            yield self._undelivered.of((client, route)), 1

    def watch(self, **levels: Callable[[], int]) -> None:
        """Take present levels from these functions whenever metrics are read.

        Args:
            levels: `in_flight`, `waiting`, `buffered_bytes` and `connections`.
        """
        for name, read in levels.items():
            self._gauge(*_LEVELS[name], "").set_function(read)

    def keep(self, clients: Container[str]) -> None:
        """Show the present state of these clients alone; what was counted stays."""
        for client in [each for each in self._rings if each not in clients]:
            self._ring_info.remove(*self._rings.pop(client))
        self._skew.keep(clients)
        self._date_skew.keep(clients)
        self._in_a_row.keep(clients)
        for gauge in (self._generation, self._breaker):
            for metric in gauge.collect():
                for sample in metric.samples:
                    if sample.labels["client"] not in clients:
                        gauge.remove(sample.labels["client"])

    def watch_keys(self, read: Callable[[], Iterable[KeyFigures]]) -> None:
        """Take the figures of keys from this function whenever metrics are read."""
        self._keys.read = read

    def watch_certificates(
        self, read: Callable[[], Iterable[CertificateInUse]]
    ) -> None:
        """Take the certificates in use from this function whenever metrics are read."""
        self._certificate_ends.read = read

    def connection_refused(self) -> None:
        """Count a connection that was closed because there were too many."""
        self._refused_connections.inc()

    def handshake_failed(self, listener: str) -> None:
        """Count a TLS handshake that came to nothing."""
        self._handshakes.labels(listener).inc()

    def unverified_in_a_row(self, client: str, answers: int) -> None:
        """Note how many answers were not verified since the last that was."""
        self._in_a_row.set(client, answers)

    def certificates_refused(self, setting: str) -> None:
        """Count TLS files that were refused."""
        self._certificates.labels(setting).inc()

    def audit_failed(self) -> None:
        """Count an attempt to write the audit log that failed."""
        self._audit_failures.inc()

    def breaker_changed(self, client: str, state: int) -> None:
        """Note where a client's breaker stands."""
        self._breaker.labels(client).set(state)

    def lines_dropped(self, stream: str) -> Callable[[], None]:
        """Give what counts a log line of this stream that was dropped."""
        return self._lines_dropped.labels(stream).inc

    def loaded(self, client: str, ring: Keyring) -> None:
        """Note the generation that is in use."""
        self._generation.labels(client).set(ring.generation)
        if client in self._rings:
            self._ring_info.remove(*self._rings[client])
        self._rings[client] = client, str(ring.generation), ring.digest
        self._ring_info.labels(*self._rings[client]).set(1)
        self._failures.labels(client)  # at zero, so that an alert sees the first
        self._show_canary(client, ring.canary)

    def failed(self, client: str, reason: str) -> None:  # noqa: ARG002 - a listener
        """Count a keyring that was refused."""
        self._failures.labels(client).inc()

    def canary_judged(self, client: str, key_version: str, *, failed: bool) -> None:
        """Count an exchange that tells of a canary, or of the version beside it."""
        result = "failed" if failed else VERIFIED
        self._canary_exchanges.labels(client, key_version, result).inc()

    def canary_halted(self, client: str) -> None:
        """Note that a canary signs nothing more."""
        self._canary_halted.labels(client).set(1)
        if client in self._canaries:
            self._canary_share.labels(client, self._canaries[client]).set(0)

    def _show_canary(self, client: str, canary: Canary | None) -> None:
        if before := self._canaries.pop(client, None):
            self._canary_share.remove(client, before)
        if canary is not None:
            self._canaries[client] = canary.version
            self._canary_share.labels(client, canary.version).set(canary.share)
        self._canary_halted.labels(client).set(0)
        if canary is not None and canary.halted:
            self.canary_halted(client)

    def expose(self) -> bytes:
        """Give all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def told(self) -> Told:
        """Give all metrics as they are now, to be put together with others'."""
        return told(self._registry)

    def _tell_process(self) -> None:
        ProcessCollector(registry=self._registry)
        about = self._gauge(
            "gateway_build_info", "What runs here; always 1.", "version python openssl"
        )
        about.labels(*build()).set(1)

    def _counter(self, name: str, text: str, labels: str) -> Counter:
        return Counter(name, text, labels.split(), registry=self._registry)

    def _counts(self, name: str, text: str, labels: str) -> Counts:
        counts = Counts(name, text, labels)
        self._registry.register(counts)
        return counts

    def _gauge(self, name: str, text: str, labels: str) -> Gauge:
        return Gauge(name, text, labels.split(), registry=self._registry)
