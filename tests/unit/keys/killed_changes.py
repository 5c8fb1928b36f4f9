"""Makes a change of a ring, over and over, each time killed one disk operation later.

    python -m tests.unit.keys.killed_changes RING KEY CHANGE

leaves a folder `killed-NNN` beside RING for each time, the last one of a change that
was not killed. KEY is the file of a new pair of ours, for the change that adds one.
"""

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.keys import schedule
from gateway.keys.backends.folder import KeyFile, locked
from gateway.keys.backends.halts import Halt, write_halt
from gateway.keys.backends.history import recall
from gateway.keys.changes import Party, activate, add, destroy, roll_back
from gateway.keys.manifest import Entry
from gateway.keys.model import KeyState

OURS = Party.PARTNER
NOW, HOUR = datetime(2026, 12, 1, tzinfo=UTC), timedelta(hours=1)
HALT = Halt(9, "2", "refused")

OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink")


def rotate(folder, key):
    with locked(folder) as opened:
        name = "partner-2.pem"
        new = Entry(version="2", state=KeyState.PRE_ACTIVE, key=name)
        after = activate(add(opened.manifest, OURS, new), OURS, "2")
        after = destroy(after, OURS, "1")
        opened.replace(after, KeyFile(name, key.read_bytes(), private=True))


def plan(folder, key=None):
    with locked(folder) as opened:
        which = OURS, "2", None
        opened.replace(schedule.plan_activation(opened.manifest, which, NOW, HOUR))


def settle(folder, key=None):
    with locked(folder) as opened:
        due = schedule.at(opened.manifest, NOW + HOUR)
        opened.replace(due.model_copy(update={"generation": due.generation + 1}))


def back(folder, key=None):
    with locked(folder) as opened:
        earlier = recall(folder, opened.manifest)
        opened.replace(roll_back(opened.manifest, earlier, NOW))


def halt(folder, key=None):
    write_halt(folder, HALT)


CHANGES = {each.__name__: each for each in (rotate, plan, settle, back, halt)}


class Cut:
    """Ends the process before the operation that would be one too many."""

    left = None

    def __call__(self, event, arguments):
        if self.left is None or event not in OPERATIONS:
            return
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), 9)


def main(ring, key, change):
    cut = Cut()
    sys.addaudithook(cut)
    for operations in range(1000):
        folder = ring.with_name(f"killed-{operations:03}")
        shutil.copytree(ring, folder)
        child = os.fork()
        if child == 0:
            cut.left = operations
            CHANGES[change](folder, key)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
