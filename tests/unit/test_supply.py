"""The audit fails for a vulnerability alone, and the bill has all that is locked."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy.sbom import locked, missing_from

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "deploy/requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FOUND = {"id": "CVE-2026-1", "fix_versions": ["2"]}


def audit(tmp_path, printed):
    """Run the audit with a pip-audit that prints this."""
    stand_in = tmp_path / "pip_audit"
    stand_in.mkdir()
    (stand_in / "__init__.py").touch()
    (stand_in / "__main__.py").write_text(printed)
    return subprocess.run(
        [sys.executable, ROOT / "deploy/audit.py", "a.lock"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )


def dependencies(*entries):
    return f"print({json.dumps({'dependencies': entries})!r})"


@pytest.mark.parametrize(
    ("printed", "status", "said"),
    [
        (
            dependencies({"name": "a", "version": "1", "vulns": [FOUND]}),
            1,
            "a.lock: a 1: CVE-2026-1; fixed in 2",
        ),
        (
            dependencies({"name": "a", "version": "1", "vulns": []}),
            0,
            "a.lock: 1 packages looked up, 0 vulnerabilities",
        ),
        (
            dependencies({"name": "a", "skip_reason": "Dependency not found"}),
            0,
            "a.lock: THE AUDIT WAS NOT DONE: no package is known there",
        ),
        (
            dependencies(
                {"name": "a", "skip_reason": "Dependency not found"},
                {"name": "b", "version": "1", "vulns": []},
            ),
            0,
            "a.lock: NOT AUDITED, for they are not known there: a",
        ),
        (
            "raise SystemExit('ConnectionError: pypi.org')",
            0,
            "a.lock: THE AUDIT WAS NOT DONE: ConnectionError: pypi.org",
        ),
        ("", 0, "a.lock: THE AUDIT WAS NOT DONE: it printed nothing"),
    ],
)
def test_an_audit_fails_for_what_it_found_and_says_what_it_did_not_do(
    tmp_path, printed, status, said
):
    done = audit(tmp_path, printed)
    assert (done.returncode, done.stderr) == (status, "")
    assert said in done.stdout.splitlines()


def component(name, version, *hashes):
    digests = [{"alg": "SHA-256", "content": each} for each in hashes]
    places = [{"url": "https://pypi.org/", "hashes": digests}]
    return {"name": name, "version": version, "externalReferences": places}


def test_a_bill_that_lacks_a_package_a_version_or_a_hash_is_noticed():
    lock = "".join(
        f"{name}==1 \\\n    --hash=sha256:{digit * 64}\n"
        for name, digit in ("a1", "b2")
    )
    right = [component("a", "1", "1" * 64), component("b", "1", "2" * 64)]
    assert missing_from({"components": right}, lock) == []
    for wrong in ([], [component("b", "2", "2" * 64)], [component("b", "1", "3" * 64)]):
        assert missing_from({"components": [right[0], *wrong]}, lock) == ["b==1"]


def test_every_locked_package_is_exact_and_has_hashes():
    for lock in (LOCK, ROOT / "deploy/build.lock"):
        packages = locked(lock.read_text("utf-8"))
        assert packages
        for name, hashes in packages.items():
            assert name.count("==") == 1
            assert hashes


def test_the_lock_has_what_tokens_need_too():
    locked_names = {name.partition("==")[0] for name in locked(LOCK.read_text("utf-8"))}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["pkcs11"]]
    assert {re.split("[<>=]", each)[0] for each in wanted} <= locked_names
    assert "--extra pkcs11" in (ROOT / "Makefile").read_text("utf-8")


def test_nobody_is_told_to_install_the_project_from_an_index():
    """Its name is not registered there: whoever takes it has everybody's gateway."""
    name = re.escape(PROJECT["name"])
    from_index = re.compile(
        rf"(?:pip|uv|pipx)\b[^\n]*install[^\n]*['\" ]{name}\b", re.IGNORECASE
    )
    for file in shipped():
        lines = file.read_text("utf-8").splitlines()
        assert [line for line in lines if from_index.search(line)] == [], file


def test_no_lock_names_an_index():
    for lock in (LOCK, ROOT / "deploy/build.lock"):
        assert "://" not in lock.read_text("utf-8")
        assert "--index" not in lock.read_text("utf-8")


def shipped():
    """Give every file that tells people or machines what to run."""
    kinds = ("gateway/**/*.py", "docs/**/*.md", "deploy/*", "*.md", "Makefile")
    files = [file for kind in kinds for file in ROOT.glob(kind) if file.is_file()]
    assert len(files) > 100
    return files
