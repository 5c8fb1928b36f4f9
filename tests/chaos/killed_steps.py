"""Kills a command of `gateway` at each thing that it does to files, one after another.

    python killed_steps.py FOLDER COMMAND...

Each time FOLDER is laid out anew as it was, and a child process runs the command, but
ends itself by SIGKILL just before the next of its steps. A line of JSON is written for
each child: how many steps it was let take, and whether it came to its end. Then this
process waits for a line on standard input: the reader looks at FOLDER meanwhile.
"""

import json
import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

from gateway import plant
from gateway.cli import _keys_activate, _keys_destroy, _keys_generate, main

LOADED = (plant, _keys_activate, _keys_destroy, _keys_generate)
"""Imported once, before there are children: it takes most of a command's time."""

WATCHED = {
    "open",
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
}


def run_child(command, folder, steps):
    """Run the command until its end or its end by force."""
    taken = 0

    def kill_at(event, arguments):
        nonlocal taken
        if event not in WATCHED or not str(arguments[0]).startswith(str(folder)):
            return
        if taken == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        taken += 1

    sys.addaudithook(kill_at)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os._exit(main(command))


def run(folder, command):
    original = folder.with_name(folder.name + ".original")
    shutil.copytree(folder, original)
    for steps in count():
        shutil.rmtree(folder)
        shutil.copytree(original, folder)
        child = os.fork()
        if child == 0:
            run_child(command, folder, steps)
        _, status = os.waitpid(child, 0)
        done = os.WIFEXITED(status)
        print(json.dumps({"steps": steps, "done": done, "status": status}), flush=True)
        sys.stdin.readline()
        if done:
            return


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
