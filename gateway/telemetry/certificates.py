"""Certificates that come to their end, told of in time."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.events import CertificateInUse

LOOKS_EVERY_S: Final = 60.0
_WARNS: Final = timedelta(days=14)


class CertificateMetrics(Collector):
    """Gives until when the certificates hold that are in use at the moment.

    Attributes:
        read: gives those certificates.
    """

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[CertificateInUse]] = list

    def collect(self) -> Iterator[Metric]:
        """Return the metric, with the first end of each setting's certificates."""
        family = GaugeMetricFamily(
            "gateway_certificate_not_after_timestamp_seconds",
            "When the first certificate of a setting expires.",
            labels=["setting"],
        )
        ends: dict[str, float] = {}
        for each in self.read():
            end = each.not_after.timestamp()
            ends[each.setting] = min(end, ends.get(each.setting, end))
        for setting, end in ends.items():
            family.add_metric([setting], end)
        yield family


class CertificateEnds:
    """Warns of certificates that have 14 days left, or none.

    Args:
        now: gives the present moment, aware.
        tell: takes an event's name and its fields, once per certificate.

    Attributes:
        read: gives the certificates in use.
    """

    def __init__(self, now: Callable[[], datetime], tell: Callable[..., None]) -> None:
        self.read: Callable[[], Iterable[CertificateInUse]] = list
        self._now = now
        self._tell = tell
        self._told: frozenset[tuple[CertificateInUse, bool]] = frozenset()

    def warnings(self) -> list[str]:
        """Return what an operator must know, for readiness."""
        return [_warning(each, left) for each, left in self._ending()]

    def look(self) -> None:
        """Tell of each certificate that has come near its end, or past it, once."""
        ending = {(each, left <= timedelta(0)): left for each, left in self._ending()}
        for (each, past), left in ending.items():
            if (each, past) in self._told:
                continue
            if past:
                self._note("certificate_past_end", each, left)
            else:
                self._note("certificate_near_end", each, left)
        self._told = frozenset(ending)

    async def watch(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look every minute. Runs until cancelled."""
        while True:
            self.look()
            await sleep(LOOKS_EVERY_S)

    def _ending(self) -> Iterator[tuple[CertificateInUse, timedelta]]:
        now = self._now()
        for each in self.read():
            left = each.not_after - now
            if left <= _WARNS:
                yield each, left

    def _note(self, event: str, each: CertificateInUse, left: timedelta) -> None:
        self._tell(
            event,
            setting=each.setting,
            certificate=each.name,
            not_after=each.not_after.isoformat(timespec="seconds"),
            days_left=_days(left),
        )


def _days(left: timedelta) -> int:
    """Return whole days; negative ones after the end."""
    return int(left / timedelta(days=1))


def _warning(each: CertificateInUse, left: timedelta) -> str:
    day = f"{each.not_after:%Y-%m-%d}"
    if left <= timedelta(0):
        return f"{each.setting}: the certificate {each.name} expired on {day}"
    return (
        f"{each.setting}: the certificate {each.name} expires on {day}, in "
        f"{_days(left)} days"
    )
