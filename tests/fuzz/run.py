"""Feeds the targets with atheris, guided by coverage, for a bounded time each.

usage: python -m tests.fuzz.run [SECONDS [TARGET...]]

What it finds interesting goes to .cache/fuzz, from where it goes on the next time;
what fails goes there too, and its name is printed. `tests/fuzz/corpus` is only read:
a finding is kept by copying its file there.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache/fuzz"
INSTRUMENTED = ["gateway", "yaml"]


def main(arguments):
    if arguments[:1] == ["--one"]:
        return _one(arguments[1], int(arguments[2]))
    seconds = arguments[0] if arguments else "20"
    if not seconds.isdecimal() or not int(seconds):
        print("FUZZ_SECONDS is a whole number of seconds from 1", file=sys.stderr)
        return 2
    from tests.fuzz.targets import TARGETS

    chosen = arguments[1:] or list(TARGETS)
    failed = [name for name in chosen if not _run(name, seconds)]
    print(f"failed: {', '.join(failed)}" if failed else f"{len(chosen)} targets held")
    return 1 if failed else 0


def _run(name, seconds):
    """Run one target in a process of its own: the fuzzer ends its process."""
    print(f"--- {name}: {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz.run", "--one", name, seconds]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    shown = [line for line in lines if line.startswith("Done ")]
    if done.returncode or not shown:
        shown = [line for line in lines if not line.startswith(("#", "INFO", "WARN"))]
    print("\n".join(shown), flush=True)
    return not done.returncode


def _one(name, seconds):
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from tests.fuzz import targets
    work = CACHE / name
    work.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(_seeds(name, targets)):
        (work / f"seed-{index}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=4096",
        f"-artifact_prefix={CACHE}/{name}-",
    ]
    corpus = HERE / "corpus" / name
    atheris.Setup(
        [sys.argv[0], *options, str(work), str(corpus)], targets.TARGETS[name]
    )
    atheris.Fuzz()
    return 0


def _seeds(name, targets):
    """Give what has to be made anew, because no key is kept."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    encoding = {"key_files": Encoding.PEM, "key_structures": Encoding.DER}.get(name)
    if encoding is None:
        return
    key = targets.keys()[0]
    for private in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        yield key.private_bytes(encoding, private, NoEncryption())
    for public in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1):
        yield key.public_key().public_bytes(encoding, public)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
