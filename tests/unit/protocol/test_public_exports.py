"""What the package gives, and what it must not bring along."""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import gateway.protocol

FOREIGN = ("aiohttp", "asyncio", "logging", "socket", "ssl", "yaml")
MODULES = [
    "gateway.protocol",
    *(
        module.name
        for module in pkgutil.walk_packages(
            gateway.protocol.__path__, "gateway.protocol."
        )
    ),
]


@pytest.mark.parametrize("name", gateway.protocol.__all__)
def test_every_exported_name_can_be_imported(name):
    assert getattr(gateway.protocol, name) is not None


def test_every_exported_name_is_there_once():
    names = gateway.protocol.__all__
    assert len(names) == len(set(names))


@pytest.mark.parametrize("module", MODULES)
def test_no_module_of_the_package_brings_in_the_outside(module):
    """In a fresh interpreter, without the coverage tool's own imports."""
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COV_", "COVERAGE_", "PYTEST_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = set(done.stdout.split())
    assert module in loaded
    assert loaded.isdisjoint(FOREIGN)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_of_the_package_asks_for_time_randomness_or_files(module):
    tree = ast.parse(Path(importlib.import_module(module).__file__).read_text("utf-8"))
    imported, called = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call):
            called.add(ast.unparse(node.func))
    assert imported.isdisjoint({"os", "pathlib", "random", "secrets", "time", "uuid"})
    assert called.isdisjoint({"open", "print", "datetime.now", "datetime.utcnow"})
