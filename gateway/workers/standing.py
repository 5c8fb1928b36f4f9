"""What the workers tell, put together: readiness, metrics and keys of one gateway."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, cast

from gateway.telemetry.answers import Answered, AnswerWatch
from gateway.telemetry.merging import (
    OF_ALL,
    Family,
    Labels,
    Snapshot,
    combined,
    counted,
    counter,
    gauge,
    read,
    values_of,
)
from gateway.telemetry.pages import Page, Usages, told_by
from gateway.workers.channel import Answer


class Told:
    """What a worker told of itself last.

    Args:
        answer: as `Part.told` gave it, over the channel. It is read when it is wanted.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = cast("dict[str, Any]", answer)

    @cached_property
    def metrics(self) -> Snapshot:
        """All its metrics."""
        return read(self._answer["metrics"])

    @property
    def reasons(self) -> Sequence[str]:
        """Why it is not ready."""
        return list(map(str, self._answer["reasons"]))

    @property
    def warnings(self) -> Sequence[str]:
        """What is wrong with it."""
        return list(map(str, self._answer["warnings"]))

    @property
    def keys(self) -> Page:
        """Its page of keys."""
        page: Page = self._answer["keys"]
        return page

    @property
    def answers(self) -> dict[str, Answered]:
        """What it saw of AlipayHK's answers, by client."""
        return {name: Answered(*each) for name, each in self._answer["answers"].items()}

    @property
    def in_flight(self) -> int:
        """How many exchanges were under way."""
        return sum(int(n) for _, n in values_of(self.metrics, "gateway_in_flight"))


class Standing:
    """The workers by their numbers, those that are gone included.

    Args:
        workers: how many there are to be.
        answers: watches the answers of all of them together.
    """

    def __init__(self, workers: int, answers: AnswerWatch) -> None:
        self._answers = answers
        self.restarts = dict.fromkeys(range(1, workers + 1), 0)
        self._told: dict[int, Told] = {}
        self._gone: Snapshot = ()
        self._usages = Usages()

    def told(self, worker: int, told: Told) -> None:
        """Note what a worker told, which replaces what it told before."""
        before = self._told.get(worker)
        self._told[worker] = told
        known = before.answers if before is not None else {}
        for client, answered in told.answers.items():
            self._answers.add(client, answered.since(known.get(client, Answered())))

    def died(self, worker: int) -> Told | None:
        """Keep what a worker counted, as far as it told. Gives what it told last."""
        last = self._told.pop(worker, None)
        if last is not None:
            self._gone = counted([self._gone, last.metrics])
            self._usages.add(last.keys)
        return last

    def reasons(self) -> list[str]:
        """Give why the gateway is not ready; empty if it is."""
        if not self._told:
            return ["no worker serves at the moment"]
        return told_by({worker: told.reasons for worker, told in self._living()})

    def warnings(self) -> list[str]:
        """Give what is wrong and does not stop traffic yet."""
        missing = [
            f"worker {worker}: it ended, and another takes its place"
            for worker in self.restarts
            if worker not in self._told
        ]
        return missing + told_by(
            {worker: told.warnings for worker, told in self._living()}
        )

    def in_flight(self) -> int:
        """Give how many exchanges were under way."""
        return sum(told.in_flight for told in self._told.values())

    def metrics(self, own: Snapshot) -> Snapshot:
        """Give the metrics of the gateway, and those of its workers as such.

        Args:
            own: what the supervisor itself counts.
        """
        living = [told.metrics for told in self._told.values()]
        living.append([family for family in own if family.name in OF_ALL])
        gone = counted([self._gone, own])
        return [*combined(living, gone), *self._of_workers()]

    def keys(self, empty: Page) -> Page:
        """Give what `GET /keys` tells.

        Args:
            empty: what is told where no worker lives.
        """
        pages = [told.keys for told in self._told.values()]
        return self._usages.together(pages) if pages else empty

    def _living(self) -> list[tuple[int, Told]]:
        return sorted(self._told.items())

    def _of_workers(self) -> Iterable[Family]:
        yield gauge("gateway_workers", "Workers that serve.", [((), len(self._told))])
        yield counter(
            "gateway_worker_restarts",
            "Workers that took the place of one that ended.",
            [((("worker", str(n)),), times) for n, times in self.restarts.items()],
        )
        yield self._of_each("keyring_generation", "The generation in use.")
        yield self._of_each("connections", "Open connections of callers.")
        memory, fds = "resident_memory_bytes", "open_fds"
        yield self._of_each(memory, "Memory that a worker has.", of="process")
        yield self._of_each(fds, "Descriptors that a worker has open.", of="process")
        yield counter(
            "gateway_worker_cpu_seconds",
            "Processor time of the workers that serve.",
            self._values("process_cpu_seconds"),
        )

    def _of_each(self, name: str, text: str, *, of: str = "gateway") -> Family:
        """Give a gauge as each worker has it."""
        return gauge(f"gateway_worker_{name}", text, self._values(f"{of}_{name}"))

    def _values(self, name: str) -> list[tuple[Labels, float]]:
        """Return the series of one metric, with the worker as one more label."""
        return [
            ((*labels, ("worker", str(worker))), value)
            for worker, told in self._living()
            for labels, value in values_of(told.metrics, name)
        ]
