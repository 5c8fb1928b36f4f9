"""Writes dist/sbom.json: what the container holds, as CycloneDX, the same each time.

usage: python deploy/sbom.py LOCK OUTPUT       (from the project's root)

cyclonedx-py reads versions and hashes from the lock. Licences are no part of a lock:
they come from the metadata of the installed packages, where the same version is
installed, and are left out where not. There is no time and no serial number.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path
from typing import Any


def main(lock: str, output: str) -> int:
    """Write the bill, and pass if it has all that is locked. Gives the exit status."""
    bill = json.loads(_generate(lock))
    for each in bill["components"]:
        each.pop("description", None)  # the lock's own line, hashes and all
        if licences := _licences(each["name"], each["version"]):
            each["licenses"] = licences
    missing = missing_from(bill, Path(lock).read_text("utf-8"))
    if missing:
        sys.stderr.write(f"{lock}: not in the bill: {', '.join(missing)}\n")
        return 1
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n", "utf-8")
    unlicensed = [c["name"] for c in bill["components"] if "licenses" not in c]
    print(
        f"{output}: {len(bill['components'])} packages; "
        f"licence not known of: {', '.join(unlicensed) or 'none'}"
    )
    return 0


def missing_from(bill: dict[str, Any], lock: str) -> list[str]:
    """Give each locked package that the bill lacks, or has without all its hashes."""
    listed = {
        f"{each['name']}=={each['version']}": {
            digest["content"]
            for place in each.get("externalReferences", ())
            for digest in place.get("hashes", ())
        }
        for each in bill["components"]
    }
    return [name for name, hashes in locked(lock).items() if listed.get(name) != hashes]


def locked(lock: str) -> dict[str, set[str]]:
    """Give the hashes of each locked package by its `name==version`."""
    packages: dict[str, set[str]] = {}
    for entry in lock.replace("\\\n", " ").splitlines():
        if entry and not entry.startswith("#"):
            name = entry.split()[0].partition(";")[0]
            packages[name] = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    return packages


def _generate(lock: str) -> str:
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", lock]
    command += ["--pyproject", "pyproject.toml", "--output-reproducible"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"cyclonedx-py failed: {done.stderr.strip()}")
    return done.stdout


def _licences(name: str, version: str) -> list[dict[str, Any]]:
    try:
        known = metadata(name)
    except PackageNotFoundError:
        return []
    if known["Version"] != version:
        return []
    if expression := known.get("License-Expression"):
        return [{"expression": expression}]
    return [{"license": {"name": each}} for each in _named(known)]


def _named(known: PackageMetadata) -> list[str]:
    """Give licences as older metadata has them: in classifiers, or in a line."""
    classifiers = known.get_all("Classifier") or []
    found = [each.rpartition(" :: ")[2] for each in classifiers if "License" in each]
    line = known.get("License") or ""
    return found or ([line] if line and "\n" not in line else [])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
