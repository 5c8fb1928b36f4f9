"""What workers share out: parts of limits, and buckets that are one for all."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from gateway.access.rates import Bucket, Rate
from gateway.config import Settings
from gateway.sharing import (
    Allotment,
    Buckets,
    Crowds,
    Memory,
    SharedBucket,
    SharedRefusals,
    part_of,
    slots_of,
)

CALLER = {"name": "a", "token_sha256": "0" * 64, "clients": ["hk"]}
CLIENT = {"name": "hk", "client_id": "C1", "upstream": "https://a.example"}


def settings(callers=(), **inbound):
    return Settings.model_validate(
        {
            "inbound": inbound,
            "clients": [{**CLIENT, "keyring": "ring", "max_concurrent": 5}],
            "routes": [{"path": "/a", "client": "hk"}],
            "callers": callers,
        }
    )


def rated(**rates):
    return settings(
        [
            {**CALLER, "name": name, "rate": {"per_second": n, "burst": n}}
            for name, n in rates.items()
        ]
    )


@given(limit=st.integers(1, 5000), workers=st.integers(1, 256))
def test_parts_are_the_limit_to_within_one_less_than_the_workers(limit, workers):
    whole = settings(max_concurrent=limit, max_connections=limit)
    part = part_of(whole, workers).inbound
    for each in (part.max_concurrent, part.max_connections):
        assert each >= 1
        assert limit <= each * workers <= limit + workers - 1


def test_limits_by_caller_and_client_are_divided_and_none_stays_none():
    callers = [{**CALLER, "max_concurrent": 3}, {**CALLER, "name": "b"}]
    part = part_of(settings(callers, max_buffered_bytes=1001), 2)
    assert [each.max_concurrent for each in part.callers] == [2, None]
    assert part.clients[0].max_concurrent == 3
    assert part.inbound.max_buffered_bytes == 501
    assert part.room_for_bodies >= part.inbound.max_body_bytes


def test_no_worker_has_anything_of_the_admin_listener():
    whole = settings().model_copy(
        update={"admin": settings().admin.model_copy(update={"tokens": (b"x" * 32,)})}
    )
    assert part_of(whole, 2).admin.tokens == ()


@pytest.fixture
def memory():
    memory = Memory.new(os.urandom)
    yield memory
    memory.close()


@given(
    rate=st.builds(Rate, st.floats(0.1, 100), st.integers(1, 20)),
    steps=st.lists(st.floats(0, 3), max_size=40),
)
def test_a_shared_bucket_does_what_one_alone_does(rate, steps):
    memory = Memory.new(os.urandom)
    try:
        buckets = Buckets(memory)
        buckets.fill(7, rate, 0.0)
        shared, alone, now = SharedBucket(buckets, 7, rate), Bucket(rate, 0.0), 0.0
        for step in steps:
            now += step
            assert shared.take(now) == alone.take(now)
    finally:
        memory.close()


HAMMER = """
import sys, time
from gateway.access.rates import Rate
from gateway.sharing import Buckets, Memory
buckets, rate = Buckets(Memory(int(sys.argv[1]))), Rate(1e-6, 3000)
print("ready", flush=True)
sys.stdin.readline()
print(sum(not buckets.take(3, rate, time.monotonic()) for _ in range(4000)))
"""


def hammer(memory):
    return subprocess.Popen(
        [sys.executable, "-c", HAMMER, str(memory.descriptor)],
        pass_fds=[memory.descriptor],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_that_take_at_once_take_exactly_what_there_is(memory):
    Buckets(memory).fill(3, Rate(1e-6, 3000), 0.0)
    with hammer(memory) as one, hammer(memory) as two:
        for each in (one, two):
            assert each.stdout.readline() == "ready\n"
        for each in (one, two):
            each.stdin.write("go\n")
            each.stdin.flush()
        taken = [int(each.communicate(timeout=30)[0]) for each in (one, two)]
    assert sum(taken) == 3000


HOLD = """
import fcntl, sys, time
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX, 16, 3 * 16)
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_of_a_process_that_was_stopped_is_not_waited_for_and_dies_with_it(
    memory,
):
    buckets, rate = Buckets(memory), Rate(1.0, 5)
    buckets.fill(3, rate, 0.0)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(memory.descriptor)],
        pass_fds=[memory.descriptor],
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        os.kill(holder.pid, signal.SIGSTOP)
        assert buckets.take(3, rate, 0.0) > 0  # refused, and no longer held up
        assert buckets.take(4, rate, 0.0) >= 0  # another bucket is free
        holder.kill()
    assert buckets.take(3, rate, 0.0) == 0
    fcntl.lockf(memory.descriptor, fcntl.LOCK_UN)


def test_a_rate_that_stays_keeps_its_bucket_over_reloads(memory):
    buckets = Buckets(memory)
    allotment = Allotment(buckets, lambda: 0.0)
    allotment.use(allotment.plan(rated(a=1, b=2)))
    before = allotment.slots
    assert buckets.take(before["a"], Rate(1, 1), 0.0) == 0
    planned = allotment.plan(rated(a=1, b=3, c=1))
    after = slots_of(planned)
    assert after["a"] == before["a"]
    assert len({*after.values(), *before.values()}) == 4
    assert allotment.slots == before, "nothing is changed by a plan"
    allotment.use(planned)
    assert allotment.slots == after
    assert buckets.take(after["a"], Rate(1, 1), 0.0) > 0
    assert buckets.take(after["b"], Rate(3, 3), 0.0) == 0


def test_who_has_more_connections_than_another_gives_way(memory):
    crowds = Crowds(memory, 3)
    one, two = crowds.of(1), crowds.of(2)
    assert not one(5), "nobody else is there"
    assert not two(2)
    assert one(5)
    assert not one(2)
    crowds.nobody(2)
    assert not one(5)


def test_refused_pins_are_known_to_all_who_have_the_memory_and_the_oldest_goes(memory):
    one, two = (SharedRefusals(memory, os.urandom) for _ in range(2))
    assert one.secret() == two.secret() != bytes(32)
    digests = [os.urandom(32) for _ in range(65)]
    for digest in digests[:64]:
        with one.alone(b"token"):
            assert digest not in two
            one.add(digest)
            assert digest in two
    assert all(digest in two for digest in digests[:64])
    two.add(digests[64])
    assert [digest in one for digest in digests] == [False] + [True] * 64


def test_a_process_that_dies_while_it_tries_a_pin_holds_up_nobody(memory):
    code = (
        "import os, sys\nfrom gateway.sharing import Memory, SharedRefusals\n"
        "refusals = SharedRefusals(Memory(int(sys.argv[1])), os.urandom)\n"
        "with refusals.alone(b'token'): os._exit(9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(memory.descriptor)],
        pass_fds=[memory.descriptor],
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 9
    with SharedRefusals(memory, os.urandom).alone(b"token"):
        pass
