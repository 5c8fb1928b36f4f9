"""Which loops the tests of the edge run on."""

import asyncio

import uvloop

ON_BOTH = {"test_connection.py", "test_early_answer.py"}
"""Tests that run on asyncio's own loop, and on the one that `gateway serve` has."""


def pytest_asyncio_loop_factories(config, item):
    if item.path.name in ON_BOTH:
        return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.SelectorEventLoop}
