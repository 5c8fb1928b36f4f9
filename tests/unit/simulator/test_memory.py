import pytest

from gateway.simulator import memory
from gateway.simulator.memory import RequestIdReused, ResultMemory
from gateway.simulator.results import SUCCESS


def test_the_oldest_result_is_forgotten_when_it_is_full(monkeypatch):
    monkeypatch.setattr(memory, "_CAPACITY", 2)
    results = ResultMemory()
    for number in "123":
        results.keep(("client", "/", number), b"body", SUCCESS)

    assert results.recall(("client", "/", "1"), b"another") is None
    assert results.recall(("client", "/", "3"), b"body") is SUCCESS
    with pytest.raises(RequestIdReused):
        results.recall(("client", "/", "3"), b"another")
