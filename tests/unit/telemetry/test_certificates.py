"""Certificates near their end: a figure, a warning, and an event once."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.events import CertificateInUse
from gateway.telemetry.certificates import CertificateEnds
from gateway.telemetry.metrics import Metrics

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Scene:
    def __init__(self):
        self.now = NOW
        self.told = []
        self.ends = CertificateEnds(
            lambda: self.now, lambda name, **fields: self.told.append((name, fields))
        )

    def use(self, *left, name="CN=a"):
        used = [
            CertificateInUse("inbound.tls.certificate", name, NOW + d) for d in left
        ]
        self.ends.read = lambda: used


@pytest.fixture
def scene():
    return Scene()


def test_from_14_days_on_it_is_warned_of_and_told_once(scene):
    scene.use(20 * DAY)
    scene.ends.look()
    assert scene.ends.warnings() == scene.told == []
    scene.now += 6 * DAY
    for _ in range(3):
        scene.ends.look()
    (warning,) = scene.ends.warnings()
    assert warning.startswith("inbound.tls.certificate: the certificate CN=a expires ")
    assert warning.endswith("on 2026-06-21, in 14 days")
    assert scene.told == [
        (
            "certificate_near_end",
            {
                "setting": "inbound.tls.certificate",
                "certificate": "CN=a",
                "not_after": "2026-06-21T00:00:00+00:00",
                "days_left": 14,
            },
        )
    ]


def test_past_its_end_it_is_told_once_more_and_replaced_no_more(scene):
    scene.use(DAY)
    scene.ends.look()
    scene.now += 3 * DAY
    for _ in range(3):
        scene.ends.look()
    assert [name for name, _ in scene.told] == [
        "certificate_near_end",
        "certificate_past_end",
    ]
    assert scene.told[1][1]["days_left"] == -2
    assert scene.ends.warnings() == [
        "inbound.tls.certificate: the certificate CN=a expired on 2026-06-02"
    ]
    scene.use(100 * DAY)
    scene.ends.look()
    assert scene.ends.warnings() == []
    assert len(scene.told) == 2


async def test_it_looks_every_minute(scene):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            raise InterruptedError
        scene.use(DAY)

    with pytest.raises(InterruptedError):
        await scene.ends.watch(sleep)
    assert slept == [60.0] * 2
    assert [name for name, _ in scene.told] == ["certificate_near_end"]


def test_the_metric_has_the_first_end_of_each_setting():
    metrics = Metrics()
    metrics.watch_certificates(
        lambda: [
            CertificateInUse("admin.tls.certificate", "CN=a", NOW + 3 * DAY),
            CertificateInUse("admin.tls.certificate", "CN=b", NOW + 2 * DAY),
            CertificateInUse("client hk: upstream", "CN=c", NOW),
        ]
    )
    lines = [
        line
        for line in metrics.expose().decode().splitlines()
        if line.startswith("gateway_certificate_not_after")
    ]
    name = "gateway_certificate_not_after_timestamp_seconds"
    ends = [line.rsplit(" ", 1) for line in lines]
    assert {labels: float(value) for labels, value in ends} == {
        f'{name}{{setting="admin.tls.certificate"}}': (NOW + 2 * DAY).timestamp(),
        f'{name}{{setting="client hk: upstream"}}': NOW.timestamp(),
    }
