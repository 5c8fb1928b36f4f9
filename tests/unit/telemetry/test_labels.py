"""Labels that differ are told once each, and no more than an attacker needs to be told."""

from gateway.events import ExchangeRecord
from gateway.telemetry.labels import LabelWatch


def watched():
    told = []
    return LabelWatch(lambda event, **fields: told.append((event, fields))), told


def opened(label, client="hk"):
    return ExchangeRecord("1", client=client, decrypted_by="2", decryption_label=label)


def test_a_label_is_told_once_for_each_client():
    labels, told = watched()
    for _ in range(3):
        labels(opened("1"))
        labels(opened("3"))
        labels(opened("1", "other"))
        labels(opened(None))
    assert [(fields["client"], fields["label"]) for _, fields in told] == [
        ("hk", "1"),
        ("hk", "3"),
        ("other", "1"),
    ]
    event, fields = told[0]
    assert event == "decryption_label_differs"
    assert fields["key_version"] == "2"
    assert "AlipayHK" in fields["consequence"]


def test_labels_without_end_are_told_32_times():
    labels, told = watched()
    for number in range(100):
        labels(opened(f"{number}"))
    assert len(told) == 32


def test_a_client_that_a_reload_takes_out_is_forgotten():
    labels, told = watched()
    labels(opened("1"))
    labels.keep({"other"})
    labels(opened("1"))
    assert len(told) == 2
