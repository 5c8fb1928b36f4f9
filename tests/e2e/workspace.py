"""A folder as an operator has it, and the command line as processes in it."""

import contextlib
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from gateway.cli import main
from gateway.keys.backends.folder import KeyFile, locked
from gateway.keys.changes import Party, activate, add
from gateway.keys.formats import private_pem, public_pem
from gateway.keys.manifest import Entry
from gateway.keys.model import KeyState

ROOT = Path(__file__).parents[2]
GATEWAY = [sys.executable, "-m", "gateway"]


@dataclass(frozen=True)
class Workspace:
    """A folder with the shipped config.yaml and the ring of its client."""

    folder: Path

    @property
    def ring(self):
        return self.folder / "keys/hk-sandbox"

    def gateway(self, *arguments, given=b""):
        """Run a command to its end, in this process: it starts in no time."""
        out, err = (io.TextIOWrapper(io.BytesIO()) for _ in range(2))
        stdin = io.TextIOWrapper(io.BytesIO(given))
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "stdin", stdin),
        ):
            try:
                status = main([*map(str, arguments)])
            except SystemExit as ended:
                status = ended.code
        return subprocess.CompletedProcess(
            arguments, status, *(_all_of(each) for each in (out, err))
        )

    def process(self, *arguments, given=b"", stdin=None):
        """Run a command to its end, as a process of its own."""
        source = {"input": given} if stdin is None else {"stdin": stdin}
        return subprocess.run(
            [*GATEWAY, *map(str, arguments)],
            cwd=self.folder,
            **source,
            capture_output=True,
            check=False,
            timeout=30,
        )

    def example(self, line):
        """Run a line of a help text."""
        words = shlex.split(line)
        if words[0] == "gateway" and not {"|", ">", "&&"} & set(words):
            return self.gateway(*words[1:])
        return self.shell(line)

    def shell(self, line):
        """Run a line as an operator types it, with `gateway` on the path."""
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        self._tool(tools / "gateway", f'exec "{sys.executable}" -m gateway "$@"')
        self._tool(tools / "pbpaste", "cat alipayhk.pem")
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            capture_output=True,
            check=False,
            timeout=30,
        )

    def _tool(self, file, script):
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)


def _all_of(stream):
    stream.flush()
    return stream.buffer.getvalue()


def workspace(folder):
    """Lay out a workspace without a ring."""
    shutil.copy(ROOT / "config.yaml", folder)
    return Workspace(folder)


def put(folder, party, key, *, version="1", active=True):
    """Add a key to a ring: its private half if it is the partner's."""
    name = f"{party}-{version}.pem"
    ours = party is Party.PARTNER
    data = private_pem(key) if ours else public_pem(key.public_key()).encode()
    entry = Entry(version=version, state=KeyState.PRE_ACTIVE, key=name)
    with locked(folder, create=True) as ring:
        after = add(ring.manifest, party, entry)
        if active:
            after = activate(after, party, version)
        ring.replace(after, KeyFile(name, data, private=ours))


def examples(module):
    """Give the command lines in a module's help, without what is said of them."""
    text = importlib.import_module(module).__doc__.replace("\\\n", " ")
    lines = re.findall(r"^  (\S.*)$", text, re.MULTILINE)
    joined = [re.sub(r" {2,}(?=--)", " ", line) for line in lines]
    commands = [re.split(r" {2,}", line)[0] for line in joined]
    return [each for each in commands if "gateway " in each and "VERB" not in each]


def error_of(done):
    """Give the one line that a command failed with."""
    (line,) = done.stderr.decode().splitlines()
    return line
