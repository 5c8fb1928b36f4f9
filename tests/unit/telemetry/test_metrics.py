"""Metrics: names, labels and what each exchange adds. The names are the contract's."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import ExchangeError
from gateway.events import CertificateInUse, ExchangeRecord
from gateway.keys.keyring import Canary, Keyring
from gateway.telemetry.key_metrics import KeyFigures
from gateway.telemetry.metrics import Metrics

CONTRACT = {
    "gateway_exchanges_total": {"caller", "client", "route", "code"},
    "gateway_exchange_seconds": {"client", "route"},
    "gateway_upstream_seconds": {"client", "route"},
    "gateway_signatures_total": {"client", "key_version"},
    "gateway_verifications_total": {"client", "key_version", "result"},
    "gateway_keyring_generation": {"client"},
    "gateway_keyring_info": {"client", "generation", "digest"},
    "gateway_keyring_reload_failures_total": {"client"},
    "gateway_in_flight": set(),
    "gateway_clock_skew_seconds": {"client"},
    "gateway_log_lines_dropped_total": {"stream"},
    "gateway_clock_date_skew_seconds": {"client"},
    "gateway_policy_denials_total": {"caller", "code", "enforced"},
    "gateway_repeats_total": {"client", "route"},
    "gateway_answers_undelivered_total": {"client", "route"},
    "gateway_decryption_label_mismatches_total": {"client"},
    "gateway_breaker_state": {"client"},
    "gateway_waiting": set(),
    "gateway_buffered_bytes": set(),
    "gateway_connections": set(),
    "gateway_connections_refused_total": set(),
    "gateway_tls_reload_failures_total": {"setting"},
    "gateway_audit_failures_total": set(),
    "gateway_certificate_not_after_timestamp_seconds": {"setting"},
    "gateway_key_days_left": {"client", "key_version"},
    "gateway_key_uses_total": {"client", "section", "key_version"},
    "gateway_key_last_used_timestamp_seconds": {"client", "section", "key_version"},
    "gateway_canary_share": {"client", "key_version"},
    "gateway_canary_exchanges_total": {"client", "key_version", "result"},
    "gateway_canary_halted": {"client"},
    "gateway_unverified_answers_in_a_row": {"client"},
    "gateway_tls_handshakes_failed_total": {"listener"},
    "gateway_build_info": {"version", "python", "openssl"},
    "process_virtual_memory_bytes": set(),
    "process_resident_memory_bytes": set(),
    "process_start_time_seconds": set(),
    "process_cpu_seconds_total": set(),
    "process_open_fds": set(),
    "process_max_fds": set(),
}
NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
DAY = timedelta(days=1)
LEVELS = ("in_flight", "waiting", "buffered_bytes", "connections")


@pytest.fixture
def metrics():
    return Metrics()


def samples(metrics):
    """Give every series: {(name, labels…): value}, labels sorted by their names."""
    families = text_string_to_metric_families(metrics.expose().decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): (
            sample.value
        )
        for family in families
        for sample in family.samples
    }


def counted(metrics, name):
    """Give the series of one name: {labels: value}."""
    return {key[1:]: value for key, value in samples(metrics).items() if key[0] == name}


def exchange(code="verified", **fields):
    fields = {"client": "hk", "route": "/pay", "seconds": 0.2, **fields}
    return ExchangeRecord("e1", code=code, **fields)


def with_canary(version, share, halted=None):
    key = SimpleNamespace(public=SimpleNamespace(version=version))
    return replace(Keyring.of(1, [], []), canary=Canary(key, share, halted))


WHOLE = {
    "upstream_seconds": 0.1,
    "key_version": "1",
    "verified_by": "7",
    "clock_skew_s": -1.5,
    "date_skew_s": -2.0,
    "caller": "shop",
}


def test_the_names_and_labels_are_the_contracts_and_no_others(metrics):
    metrics(exchange(**WHOLE))
    metrics(exchange(caller="shop", denied="forbidden", attempts=2, delivered=False))
    metrics(exchange(decrypted_by="2", decryption_label="1"))
    metrics.loaded("hk", with_canary("2", 0.05))
    metrics.canary_judged("hk", "2", failed=True)
    metrics.lines_dropped("stdout")
    metrics.watch(**{level: lambda: 0 for level in LEVELS})
    metrics.connection_refused()
    metrics.certificates_refused("inbound.tls")
    metrics.breaker_changed("hk", 2)
    metrics.audit_failed()
    metrics.handshake_failed("inbound")
    metrics.unverified_in_a_row("hk", 1)
    metrics.watch_keys(lambda: [KeyFigures("hk", "partner", "1", 1, NOW, DAY)])
    metrics.watch_certificates(lambda: [CertificateInUse("admin.tls", "CN=a", NOW)])
    found = {}
    for family in text_string_to_metric_families(metrics.expose().decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = [set(sample.labels) - {"le"} for sample in family.samples]
        assert all(each == labels[0] for each in labels)
        found[name] = labels[0]
        assert family.documentation
    assert found == CONTRACT


def test_two_sets_of_metrics_are_two(metrics):
    metrics(exchange())
    assert not counted(Metrics(), "gateway_exchanges_total")


def test_a_verified_exchange_counts_once_everywhere(metrics):
    metrics(exchange(**WHOLE))
    assert counted(metrics, "gateway_exchanges_total") == {
        ("shop", "hk", "verified", "/pay"): 1
    }
    assert counted(metrics, "gateway_signatures_total") == {("hk", "1"): 1}
    assert counted(metrics, "gateway_verifications_total") == {
        ("hk", "7", "verified"): 1
    }
    assert counted(metrics, "gateway_clock_skew_seconds") == {("hk",): -1.5}
    assert counted(metrics, "gateway_clock_date_skew_seconds") == {("hk",): -2.0}
    for name, seconds in (("exchange", 0.2), ("upstream", 0.1)):
        assert counted(metrics, f"gateway_{name}_seconds_count") == {("hk", "/pay"): 1}
        total = counted(metrics, f"gateway_{name}_seconds_sum")[("hk", "/pay")]
        assert total == pytest.approx(seconds)


def test_exchanges_add_up_by_caller_client_route_and_code(metrics):
    for _ in range(3):
        metrics(exchange())
    metrics(exchange("refused"))
    metrics(exchange(client="mo"))
    metrics(exchange(route="/other"))
    metrics(exchange(caller="shop"))
    assert counted(metrics, "gateway_exchanges_total") == {
        ("", "hk", "verified", "/pay"): 3,
        ("", "hk", "refused", "/pay"): 1,
        ("", "mo", "verified", "/pay"): 1,
        ("", "hk", "verified", "/other"): 1,
        ("shop", "hk", "verified", "/pay"): 1,
    }


def test_an_exchange_that_was_not_sent_counts_no_signature_and_no_wait(metrics):
    metrics(exchange("invalid_request"))
    for name in (
        "gateway_signatures_total",
        "gateway_verifications_total",
        "gateway_upstream_seconds_count",
        "gateway_clock_skew_seconds",
        "gateway_clock_date_skew_seconds",
        "gateway_repeats_total",
        "gateway_policy_denials_total",
        "gateway_answers_undelivered_total",
        "gateway_decryption_label_mismatches_total",
    ):
        assert counted(metrics, name) == {}
    assert len(counted(metrics, "gateway_exchange_seconds_count")) == 1


def test_a_call_of_no_route_counts_without_its_path(metrics):
    metrics(exchange("unknown_route", client="", route=""))
    assert counted(metrics, "gateway_exchanges_total") == {
        ("", "", "unknown_route", ""): 1
    }


def codes():
    found, classes = set(), [ExchangeError]
    while classes:
        below = classes.pop().__subclasses__()
        classes += below
        found |= {each.code for each in below if "code" in vars(each)}
    return found


JUDGED = {
    "refused",
    "signature_missing",
    "signature_invalid",
    "key_version_unknown",
    "client_id_mismatch",
    "response_stale",
    "response_malformed",
    "encryption_downgraded",
}


@pytest.mark.parametrize("code", sorted(codes() | {"refused"}))
def test_an_answer_that_no_key_verified_is_counted_where_it_was_judged(metrics, code):
    metrics(exchange(code))
    expected = {("hk", "", code): 1} if code in JUDGED else {}
    assert counted(metrics, "gateway_verifications_total") == expected


@pytest.mark.parametrize("code", ["decryption_failed", "key_version_unknown"])
def test_an_answer_that_verified_counts_as_such_whatever_came_later(metrics, code):
    metrics(exchange(code, **WHOLE))
    assert counted(metrics, "gateway_verifications_total") == {
        ("hk", "7", "verified"): 1
    }


def test_the_clock_skew_is_that_of_the_last_answer_that_told_it(metrics):
    metrics(exchange(clock_skew_s=301.0))
    metrics(exchange(clock_skew_s=2.0))
    metrics(exchange())
    assert counted(metrics, "gateway_clock_skew_seconds") == {("hk",): 2.0}


def test_a_skew_of_nothing_is_told_too(metrics):
    metrics(exchange(clock_skew_s=0.0, upstream_seconds=0.0))
    assert counted(metrics, "gateway_clock_skew_seconds") == {("hk",): 0.0}
    assert counted(metrics, "gateway_upstream_seconds_count") == {("hk", "/pay"): 1}


@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_asked_for_each_time(metrics, level):
    now = [2]
    metrics.watch(**{level: lambda: now[0]})
    assert counted(metrics, f"gateway_{level}") == {(): 2}
    now[0] = 5
    assert counted(metrics, f"gateway_{level}") == {(): 5}


@pytest.mark.parametrize(
    ("code", "enforced"), [("forbidden", "true"), ("verified", "false")]
)
def test_a_denial_counts_whether_or_not_it_was_enforced(metrics, code, enforced):
    metrics(exchange(code, caller="shop", denied="forbidden"))
    assert counted(metrics, "gateway_policy_denials_total") == {
        ("shop", "forbidden", enforced): 1
    }


@pytest.mark.parametrize(("attempts", "repeats"), [(0, {}), (1, {}), (3, {2})])
def test_every_attempt_is_a_signature_and_all_but_the_first_are_repeats(
    metrics, attempts, repeats
):
    metrics(exchange(attempts=attempts, key_version="1"))
    signed = counted(metrics, "gateway_signatures_total")
    assert signed == {("hk", "1"): max(attempts, 1)}
    assert set(counted(metrics, "gateway_repeats_total").values()) == set(repeats)


def test_an_answer_that_the_caller_did_not_take_is_counted(metrics):
    metrics(exchange(delivered=False))
    metrics(exchange())
    assert counted(metrics, "gateway_answers_undelivered_total") == {("hk", "/pay"): 1}


def test_an_answer_that_names_another_key_is_counted(metrics):
    metrics(exchange(decrypted_by="2", decryption_label="1"))
    metrics(exchange(decrypted_by="2", decryption_label="any"))
    metrics(exchange(decrypted_by="2"))
    name = "gateway_decryption_label_mismatches_total"
    assert counted(metrics, name) == {("hk",): 2}


def test_a_breaker_is_told_by_where_it_stands(metrics):
    for state in (2, 1, 0):
        metrics.breaker_changed("hk", state)
        assert counted(metrics, "gateway_breaker_state") == {("hk",): state}


def test_connections_that_are_refused_are_counted_from_nought(metrics):
    assert counted(metrics, "gateway_connections_refused_total") == {(): 0}
    metrics.connection_refused()
    assert counted(metrics, "gateway_connections_refused_total") == {(): 1}


def test_tls_files_that_are_refused_are_counted_by_their_setting(metrics):
    metrics.certificates_refused("inbound.tls")
    assert counted(metrics, "gateway_tls_reload_failures_total") == {
        ("inbound.tls",): 1
    }


def test_a_keyring_in_use_is_told_by_its_generation(metrics):
    metrics.loaded("hk", Keyring.of(3, [], []))
    metrics.loaded("hk", Keyring.of(4, [], []))
    assert counted(metrics, "gateway_keyring_generation") == {("hk",): 4}


def test_a_keyring_in_use_is_told_by_its_digest_beside_its_generation(metrics):
    """Of one that was replaced, or whose client is gone, no series is left."""
    for client, digests in (("hk", "ab"), ("gone", "c")):
        for digest in digests:
            ring = replace(Keyring.of(3, [], []), digest=digest)
            metrics.loaded(client, ring)
    assert counted(metrics, "gateway_keyring_info") == {
        ("hk", "b", "3"): 1,
        ("gone", "c", "3"): 1,
    }
    metrics.keep({"hk"})
    assert counted(metrics, "gateway_keyring_info") == {("hk", "b", "3"): 1}


def test_of_a_client_that_is_gone_what_was_counted_stays_and_no_present_state(metrics):
    for client in ("hk", "gone"):
        metrics.loaded(client, Keyring.of(3, [], []))
        metrics.breaker_changed(client, 2)
        metrics(exchange(client=client, clock_skew_s=99.0, date_skew_s=99.0))
    metrics.keep({"hk"})
    metrics.keep({"hk"})
    for name in (
        *("keyring_generation", "breaker_state"),
        *("clock_skew_seconds", "clock_date_skew_seconds"),
    ):
        assert list(counted(metrics, f"gateway_{name}")) == [("hk",)]
    assert len(counted(metrics, "gateway_exchanges_total")) == 2


def test_failures_to_reload_count_from_nought(metrics):
    """So that an alert on their rise sees the first one too."""
    metrics.loaded("hk", Keyring.of(1, [], []))
    assert counted(metrics, "gateway_keyring_reload_failures_total") == {("hk",): 0}
    metrics.failed("hk", "secret reason")
    metrics.failed("hk", "secret reason")
    assert counted(metrics, "gateway_keyring_reload_failures_total") == {("hk",): 2}
    assert b"secret" not in metrics.expose()


def test_a_keyring_that_never_loaded_has_failures_and_no_generation(metrics):
    metrics.failed("hk", "x")
    assert counted(metrics, "gateway_keyring_generation") == {}
    assert counted(metrics, "gateway_keyring_reload_failures_total") == {("hk",): 1}


BOUNDS = [
    "0.005",
    "0.01",
    "0.025",
    "0.05",
    "0.1",
    "0.25",
    "0.5",
    "1.0",
    "2.5",
    "5.0",
    "10.0",
    "30.0",
    "+Inf",
]


@pytest.mark.parametrize("name", ["exchange", "upstream"])
def test_histograms_reach_from_milliseconds_to_half_a_minute(metrics, name):
    for seconds in (0.001, 29.0, 100.0):
        metrics(exchange(seconds=seconds, upstream_seconds=seconds))
    buckets = counted(metrics, f"gateway_{name}_seconds_bucket")
    by_bound = {bound: value for (_, bound, _), value in buckets.items()}
    assert list(by_bound) == BOUNDS
    assert [by_bound[bound] for bound in BOUNDS] == [1] * 11 + [2, 3]


def test_no_series_tells_when_it_was_made(metrics):
    metrics(exchange(**WHOLE))
    assert b"_created" not in metrics.expose()


def test_a_label_with_signs_of_its_own_breaks_no_line(metrics):
    metrics(exchange(client='a"b\\c\nd'))
    assert counted(metrics, "gateway_exchanges_total") == {
        ("", 'a"b\\c\nd', "verified", "/pay"): 1
    }


def test_log_lines_that_are_dropped_are_counted_and_begin_at_zero(metrics):
    drop = metrics.lines_dropped("stdout")
    assert counted(metrics, "gateway_log_lines_dropped_total") == {("stdout",): 0}
    drop()
    drop()
    assert counted(metrics, "gateway_log_lines_dropped_total") == {("stdout",): 2}


# --- keys --------------------------------------------------------------------


def test_a_key_is_counted_by_what_is_read_of_it(metrics):
    figures = [
        KeyFigures("hk", "partner", "1", 7, NOW, DAY * 1.5),
        KeyFigures("hk", "platform", "1"),
    ]
    metrics.watch_keys(lambda: figures)
    assert counted(metrics, "gateway_key_uses_total") == {
        ("hk", "1", "partner"): 7,
        ("hk", "1", "platform"): 0,
    }
    assert counted(metrics, "gateway_key_days_left") == {("hk", "1"): 1.5}
    assert counted(metrics, "gateway_key_last_used_timestamp_seconds") == {
        ("hk", "1", "partner"): NOW.timestamp()
    }
    figures.clear()
    assert counted(metrics, "gateway_key_uses_total") == {}


def test_two_keys_of_one_version_are_told_as_one():
    sign = KeyFigures("hk", "partner", "1").and_of(2, NOW, DAY)
    both = sign.and_of(3, NOW - DAY, None)
    assert both == KeyFigures("hk", "partner", "1", 5, NOW, DAY)


# --- canaries ----------------------------------------------------------------


def test_signatures_of_a_repeated_canary_count_for_both_versions(metrics):
    metrics(exchange(key_version="1", canary="2", attempts=3, canary_attempts=1))
    metrics(exchange(key_version="2", canary="2", attempts=1))
    metrics(exchange(key_version="2", canary="2", attempts=2, canary_attempts=2))
    metrics(exchange(key_version="1", canary="2", attempts=1, canary_attempts=0))
    assert counted(metrics, "gateway_signatures_total") == {
        ("hk", "1"): 3,
        ("hk", "2"): 4,
    }


def test_the_share_is_that_of_the_canary_there_is(metrics):
    def shares():
        return counted(metrics, "gateway_canary_share")

    metrics.loaded("hk", with_canary("2", 0.05))
    assert shares() == {("hk", "2"): 0.05}
    metrics.loaded("hk", with_canary("2", 0.25))
    metrics.loaded("mo", with_canary("9", 1.0))
    assert shares() == {("hk", "2"): 0.25, ("mo", "9"): 1.0}
    metrics.loaded("hk", with_canary("3", 0.5))
    assert shares() == {("hk", "3"): 0.5, ("mo", "9"): 1.0}
    metrics.loaded("hk", Keyring.of(2, [], []))
    assert shares() == {("mo", "9"): 1.0}


def test_a_canary_that_is_over_shows_until_there_is_another_ring(metrics):
    def halted():
        return counted(metrics, "gateway_canary_halted")[("hk",)]

    metrics.loaded("hk", with_canary("2", 0.05))
    assert halted() == 0
    metrics.canary_halted("hk")
    assert halted() == 1
    assert counted(metrics, "gateway_canary_share") == {("hk", "2"): 0}
    metrics.loaded("hk", with_canary("2", 0.05, halted="why"))
    assert halted() == 1
    assert counted(metrics, "gateway_canary_share") == {("hk", "2"): 0}
    metrics.loaded("hk", Keyring.of(2, [], []))
    assert halted() == 0


def test_a_canary_that_is_over_after_its_ring_was_replaced_is_no_trouble(metrics):
    metrics.loaded("hk", Keyring.of(2, [], []))
    metrics.canary_halted("hk")
    assert counted(metrics, "gateway_canary_share") == {}


def test_exchanges_are_counted_by_version_and_how_the_key_fared(metrics):
    for version, failed in (("2", True), ("2", True), ("1", False)):
        metrics.canary_judged("hk", version, failed=failed)
    assert counted(metrics, "gateway_canary_exchanges_total") == {
        ("hk", "2", "failed"): 2,
        ("hk", "1", "verified"): 1,
    }
