"""Looks the locked dependencies up among known vulnerabilities, with pip-audit.

usage: python deploy/audit.py LOCK...       (from the project's root)

Exit status 1 for a vulnerability that was found, and for nothing else: a service that
cannot be reached, or does not know a package, makes no build fail, but it is said.
"""

import json
import subprocess
import sys
from typing import Any

_SECONDS = 240


def main(locks: list[str]) -> int:
    """Audit each lock. Gives the exit status."""
    return max([_audit(lock) for lock in locks], default=0)


def _audit(lock: str) -> int:
    packages, reason = _ask(lock)
    known = [each for each in packages if "skip_reason" not in each]
    unknown = [str(each["name"]) for each in packages if "skip_reason" in each]
    found = [(each, every) for each in known for every in each.get("vulns", ())]
    for each, every in found:
        fixed = ", ".join(every.get("fix_versions", ())) or "no version"
        _say(lock, f"{each['name']} {each['version']}: {every['id']}; fixed in {fixed}")
    if not known:
        _say(lock, f"THE AUDIT WAS NOT DONE: {reason or 'no package is known there'}")
    elif unknown:
        _say(lock, f"NOT AUDITED, for they are not known there: {', '.join(unknown)}")
    if known:
        _say(lock, f"{len(known)} packages looked up, {len(found)} vulnerabilities")
    return 1 if found else 0


def _ask(lock: str) -> tuple[list[dict[str, Any]], str]:
    """Give what pip-audit says of each package, and why it says nothing."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock]
    command += ["--require-hashes", "--disable-pip", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", "15"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        return json.loads(done.stdout)["dependencies"], ""
    except subprocess.TimeoutExpired:
        return [], f"no answer within {_SECONDS} s"
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]


def _say(lock: str, text: str) -> None:
    print(f"{lock}: {text}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
