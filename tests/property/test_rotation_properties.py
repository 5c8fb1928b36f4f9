"""What holds for every life of every key, in any order of steps, clocks and exchanges.

A machine plays the people who change a ring, a gateway that has it, and AlipayHK, which
keeps its own books of whose key is which. Rules take steps; invariants look after each.

`ROTATION_EXAMPLES` says how many lives are tried, each of fifty steps: a few by default,
more in `make chaos`.
"""

import asyncio
import functools
import os
import re
import shutil
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import unquote

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gateway.errors import ExchangeError, KeyringError, KeyUnavailable, Outcome
from gateway.events import ExchangeRecord
from gateway.keys import changes, manifest as manifests, schedule
from gateway.keys.backends import file as files, pem
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.folder import KeyFile, locked, unnamed
from gateway.keys.backends.history import KEPT, generations, recall
from gateway.keys.changes import Party, section
from gateway.keys.formats import fingerprint, private_pem, public_pem
from gateway.keys.manifest import Entry, Share
from gateway.keys.model import KeyState
from gateway.keys.store import KeyStore
from gateway.protocol import HONG_KONG, format_time
from gateway.relay.exchange import Relay
from gateway.relay.lots import Lots
from gateway.relay.outcome import Attempts
from gateway.relay.routes import Call, Client, Route
from gateway.relay.selftest import self_test
from tests import peer

PARTNER, PLATFORM = Party
PRE_ACTIVE, ACTIVE, DEACTIVATED, COMPROMISED, DESTROYED = KeyState
GIVEN_UP = (COMPROMISED, DESTROYED)

START = datetime(2026, 12, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
USABLE = 6
LOTS = Lots(bytes(32))
IDS = [f"exchange-{number}" for number in range(5)]

parties = st.sampled_from(Party)
places = st.integers(0, 11)
mostly = st.sampled_from([True, True, True, False])
hours = st.integers(1, 5).map(lambda count: count * HOUR)
overlaps = st.none() | hours
backs = st.sampled_from([0 * HOUR, timedelta.resolution, HOUR, 50 * HOUR])


@functools.cache
def pool(party):
    """Give real pairs, made once: the last of AlipayHK's is a stranger's."""
    return [generate_private_key(65537, 2048) for _ in range(USABLE + 1)]


def key_file(party, version, key):
    name = f"{party}-{version}.pem"
    if party is PARTNER:
        return KeyFile(name, private_pem(key), private=True)
    return KeyFile(name, public_pem(key.public_key()).encode(), private=False)


def takes(entry):
    """Tell whether a key takes what comes in: of the states' table, by hand."""
    early = entry.state is PRE_ACTIVE and (entry.staged or entry.canary)
    return bool(early) or entry.state in (ACTIVE, DEACTIVATED)


def active(manifest, party):
    return [each for each in section(manifest, party) if each.state is ACTIVE]


def used(ring):
    """Give every key that a ring uses for anything."""
    pairs = [*ring.decrypters, ring.active_signer, ring.canary and ring.canary.key]
    publics = [pair.public for pair in pairs if pair]
    publics += [*ring.verifiers, ring.active_recipient]
    return [public.rsa for public in publics if public]


class AlipayHK:
    """The other party, with its own books: it knows every key that it was ever given.

    `answers` makes the answer of a time; `signed_by` is what signed each request.
    """

    def __init__(self):
        self.registered = {}
        self.signed_by = []
        self.encrypted_to = []
        self.answers = None

    async def send(self, request, *, timeout_s, memory, on_write):
        on_write()
        headers = dict(request.headers)
        version, signature = parts(headers["Signature"], "signature")
        base = peer.signature_base(time=headers["Request-Time"], body=request.body)
        (signer,) = [
            known
            for known, key in self.registered.items()
            if verifies(key.public_key(), signature, base)
        ]
        assert signer == version
        self.signed_by.append(signer)
        if "Encrypt" in headers:
            self.encrypted_to.append(parts(headers["Encrypt"], "symmetricKey")[0])
        return self.answers(headers["Request-Time"])


def parts(header, name):
    found = re.search(rf"keyVersion=([^,]+),{name}=(.+)", header)
    return found[1], b64decode(unquote(found[2]))


def verifies(public, signature, base):
    try:
        public.verify(signature, base, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


class Clock:
    """The gateway's own clock, which may go back."""

    def __init__(self):
        self.moment = START

    def now(self):
        return self.moment

    def monotonic(self):
        return 0.0

    async def sleep(self, seconds):
        raise AssertionError


class Listener:
    def loaded(self, client, ring): ...

    def failed(self, client, reason): ...

    def reused(self, client, generation):
        raise AssertionError("a change kept its generation")


class Rotation(RuleBasedStateMachine):
    """A ring on disk, the people who change it, and a gateway that has read it."""

    def __init__(self):
        super().__init__()
        self.folder = Path(mkdtemp(prefix="rotation-"))
        self.time = START
        """True time. People act by it, and the gateway has seen no later one."""
        self.clock = Clock()
        self.alipayhk = AlipayHK()
        self.keys = {party: {} for party in Party}
        self.given_up = {party: set() for party in Party}
        self.replaced = {}
        self.signers = {}
        self.seen_generation = 0
        self.loaded = None
        self.runner = asyncio.Runner()
        self.store = KeyStore(
            "hk",
            KeyringFolder(self.folder),
            functools.partial(self_test, entropy=os.urandom),
            Listener(),
            now=self.clock.now,
        )
        self.client = Client("hk", peer.CLIENT_ID, self.store, self.alipayhk)
        self.relay = Relay(self.clock, os.urandom, LOTS)

    def teardown(self):
        """See at the end that what was replaced last is kept as it was."""
        try:
            kept = generations(self.folder)
            assert kept == list(self.replaced)[-KEPT:]
            for each in kept:
                assert recall(self.folder, self.written, each) == self.replaced[each]
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)

    # --- what the rules are made of ------------------------------------------

    @property
    def written(self):
        """The manifest in the folder."""
        return manifests.load(self.folder).value

    def which(self, party, place, *states):
        """Give one of a party's keys, mostly one in these states; None for none."""
        there = section(schedule.at(self.written, self.time), party)
        likely = [each for each in there if each.state in states and place % 4]
        choice = likely or there
        return (party, choice[place % len(choice)].version, None)

    def change(self, step, *added, may_end=False):
        """Take a step as the commands do. Gives whether it was not refused.

        `may_end` is for steps that are meant to leave a use without an active key.
        """
        before = self.written
        settled = schedule.at(before, self.time)
        with locked(self.folder) as ring:
            try:
                after = changes.dated(settled, step(settled), self.time)
                ring.replace(after, *added, now=self.time)
            except KeyringError:
                assert self.written == before
                return False
        assert self.written == after
        assert after.generation == before.generation + 1
        assert generations(self.folder)[-1] == before.generation
        self.replaced[before.generation] = before
        if not may_end:
            self.nothing_ended(settled, after)
        return True

    def nothing_ended(self, before, after):
        """See that what had an active key has one, now and as planned."""
        for party in Party:
            if not active(before, party):
                continue
            for moment in (self.time, *schedule.moments(after)):
                assert active(schedule.at(after, max(moment, self.time)), party)

    def step(self, function, which, *arguments, may_end=False, **named):
        return self.change(
            lambda before: function(before, *which, *arguments, **named),
            may_end=may_end,
        )

    # --- people --------------------------------------------------------------

    @initialize()
    def begin(self):
        self.folder.chmod(0o700)
        with locked(self.folder, create=True):
            pass
        for party in Party:
            for number in range(3):
                self.add(party, number, exported=True)
            assert self.step(changes.activate, (party, "1", None))
        self.reload()

    @rule(party=parties, number=places, exported=mostly)
    def add(self, party, number, exported):
        """Add a key; one that is, or ever was, in the ring is refused."""
        key = pool(party)[number % USABLE]
        version = changes.next_version(self.written, party)
        file = key_file(party, version, key)
        entry = Entry(
            version=version,
            state=PRE_ACTIVE,
            key=file.name,
            exported=self.time if exported else None,
            fingerprint=fingerprint(key.public_key()),
        )
        added = self.change(lambda before: changes.add(before, party, entry), file)
        assert added == (key not in self.keys[party].values())
        if added:
            self.keys[party][version] = key
        if added and party is PARTNER:
            self.alipayhk.registered[version] = key

    @rule(party=parties, place=places)
    def export(self, party, place):
        which = self.which(party, place)
        self.change(lambda it: changes.mark_exported(it, which, self.time))

    @rule(party=parties, place=places)
    def stage(self, party, place):
        self.step(changes.stage, self.which(party, place, PRE_ACTIVE))

    @rule(party=parties, place=places, overlap=overlaps)
    def activate(self, party, place, overlap):
        which = self.which(party, place, PRE_ACTIVE, DEACTIVATED)

        def activated(before):
            after = changes.activate(before, *which)
            if overlap is None:
                return after
            return schedule.keep_for(before, after, self.time, overlap)

        self.change(activated)

    @rule(
        party=parties,
        place=places,
        delay=hours,
        overlap=overlaps,
        back=st.none() | backs,
    )
    def plan_activation(self, party, place, delay, overlap, back):
        """Plan it, and let its moment come or not."""
        which = self.which(party, place, PRE_ACTIVE, DEACTIVATED)
        moment = self.time + delay
        if self.change(lambda it: schedule.plan_activation(it, which, moment, overlap)):
            self.reload()
            if back is not None:
                self.time_passes(delay, back)

    @rule(party=parties, place=places, delay=hours)
    def plan_destruction(self, party, place, delay):
        which = self.which(party, place, DEACTIVATED)
        moment = self.time + delay
        self.change(lambda it: schedule.plan_destruction(it, which, moment))

    @rule(place=places, share=st.sampled_from([50, 5, 100]), delay=hours)
    def canary(self, place, share, delay):
        which = self.which(PARTNER, place, PRE_ACTIVE)
        shares = [
            Share(share=share, at=self.time),
            Share(share=100, at=self.time + delay),
        ]
        if self.change(lambda it: changes.start_canary(it, which, shares)):
            self.reload()
            for exchange_id in 2 * IDS:
                self.exchange(exchange_id, 0, None, named=True)

    @rule(party=parties, place=places, keep_one=mostly)
    def deactivate(self, party, place, keep_one):
        which, leave_none = self.which(party, place, ACTIVE), not keep_one
        self.step(changes.deactivate, which, leave_none=leave_none, may_end=leave_none)

    @rule(party=parties, place=places, early=st.booleans())
    def destroy(self, party, place, early):
        which = self.which(party, place, DEACTIVATED, COMPROMISED)
        if self.step(changes.destroy, which, early=early):
            self.given_up[party].add(which[1])
            assert not (self.folder / f"{party}-{which[1]}.pem").exists()

    @rule(party=parties, place=places)
    def compromise(self, party, place):
        """Refused only where it is known already."""
        which = self.which(party, place, PRE_ACTIVE, DEACTIVATED)
        now = schedule.at(self.written, self.time)
        known = changes.find(now, *which).state is COMPROMISED
        assert self.step(changes.compromise, which, may_end=True) is not known
        self.given_up[party].add(which[1])

    @rule(number=st.integers(0, 8))
    def roll_back(self, number):
        there = [each for each in generations(self.folder) if each in self.replaced]
        if there:
            earlier = recall(self.folder, self.written, there[-1 - number % len(there)])
            self.change(lambda it: changes.roll_back(it, earlier, self.time))

    @rule()
    def settle(self):
        if schedule.at(self.written, self.time) != self.written:
            self.change(
                lambda it: it.model_copy(update={"generation": it.generation + 1})
            )

    # --- the gateway ---------------------------------------------------------

    @rule()
    def reload(self):
        taken = self.runner.run(self.store.reload())
        assert taken, self.store.problem
        assert self.store.warning is None
        self.loaded = self.written

    @rule(how=st.integers(0, 3), place=places)
    def edit_what_is_refused(self, how, place):
        """By hand: something broken, an older generation, a key back from the dead."""
        file = self.folder / manifests.FILE_NAME
        good, ring = file.read_text(), self.written
        dead = [each for each in ring.partner if each.state in GIVEN_UP]
        if how == 0:
            bad = good.replace("platform:", "platforms:")
        elif how == 1 and self.store.ring.generation > 1:
            low = {"generation": self.store.ring.generation - 1}
            bad = manifests.dump(ring.model_copy(update=low))
        elif how == 2 and dead:
            back = dead[place % len(dead)]
            other = pool(PARTNER)[(place + 1) % USABLE]
            revived = back.model_copy(update={"state": ACTIVE, "key": "back.pem"})
            entries = [revived if each is back else each for each in ring.partner]
            high = {"generation": ring.generation + 1, "partner": tuple(entries)}
            bad = manifests.dump(ring.model_copy(update=high))
            (self.folder / "back.pem").write_bytes(private_pem(other))
            (self.folder / "back.pem").chmod(0o600)
        else:
            return
        file.write_text(bad)
        before = self.store.current
        assert self.runner.run(self.store.reload()) is False
        assert self.store.current is before
        file.write_text(good)
        (self.folder / "back.pem").unlink(missing_ok=True)

    @rule(
        delay=st.sampled_from([HOUR, timedelta.resolution, HOUR / 2, 3 * HOUR]),
        back=backs,
    )
    def time_passes(self, delay, back):
        """Then the gateway's own clock may go back: that untakes nothing."""
        self.time += delay
        self.clock.moment = self.time
        self.store.advance()
        for party in Party:
            if active(self.loaded, party):
                assert active(schedule.at(self.loaded, self.time), party)
        if back:
            self.clock.moment -= back
            self.reload()

    # --- exchanges -----------------------------------------------------------

    @rule(
        ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=5),
        theirs=places,
        ours=st.none() | places,
        named=st.booleans(),
    )
    def exchanges(self, ids, theirs, ours, named):
        """Call AlipayHK; it answers with some key, and may encrypt to one of ours."""
        for exchange_id in ids:
            self.exchange(exchange_id, theirs, ours, named=named)

    def exchange(self, exchange_id, theirs, ours, *, named):
        now = schedule.at(self.loaded, self.time)
        signed_by, verifying = self.answering(now, theirs)
        sealed_to, decrypting = self.opening(now, ours)
        self.alipayhk.answers = functools.partial(
            self.answer, signed_by, sealed_to, named
        )
        self.alipayhk.signed_by.clear()
        self.alipayhk.encrypted_to.clear()
        record = ExchangeRecord(exchange_id)
        call = Call(peer.TARGET, peer.REQUEST_BODY, encrypt=sealed_to is not None)
        exchanged = self.relay.exchange(
            Route(peer.TARGET, self.client), call, record, Attempts()
        )
        lacks = self.lacks(now, exchange_id, encrypted=sealed_to is not None)
        if lacks:
            with pytest.raises(KeyUnavailable):
                self.runner.run(exchanged)
            assert self.alipayhk.signed_by == []
            return
        if verifying and decrypting:
            assert self.runner.run(exchanged).body == peer.SUCCESS
        else:
            with pytest.raises(ExchangeError) as caught:
                self.runner.run(exchanged)
            assert caught.value.outcome is Outcome.ANSWERED
        self.one_key_signed(now, exchange_id, record)

    def answering(self, now, place):
        """Give the key with which AlipayHK answers, and whether it is to be believed."""
        there = [*section(now, PLATFORM), None]
        entry = there[place % len(there)]
        if entry is None:
            return ("1", pool(PLATFORM)[USABLE]), False
        return (entry.version, self.keys[PLATFORM][entry.version]), takes(entry)

    def opening(self, now, place):
        """Give the key of ours that AlipayHK encrypts to, and whether it still opens."""
        if place is None:
            return None, True
        entry = now.partner[place % len(now.partner)]
        return (entry.version, self.keys[PARTNER][entry.version]), takes(entry)

    def answer(self, signed_by, sealed_to, named, time):
        """Make AlipayHK's answer; that it is fresh is its clock's affair."""
        version, key = signed_by
        fresh = format_time(self.clock.moment, HONG_KONG)
        if sealed_to is None:
            return peer.answer(key, time=fresh, version=version)
        label, recipient = sealed_to
        return peer.answer(
            key,
            peer.seal(peer.SUCCESS),
            time=fresh,
            version=version,
            encrypt=peer.encrypt_header(
                peer.wrap(recipient.public_key()), label if named else None
            ),
        )

    def lacks(self, now, exchange_id, *, encrypted):
        """Tell whether the exchange lacks a key before anything is sent."""
        if not any(map(takes, now.platform)):
            return True
        if encrypted and not active(now, PLATFORM):
            return True
        try:
            self.store.current.signer_for(LOTS(exchange_id))
        except KeyUnavailable:
            return True
        return False

    def one_key_signed(self, now, exchange_id, record):
        """See that one key signed, which may, and always the same one."""
        (version,) = self.alipayhk.signed_by
        assert record.key_version == version
        shares = [
            (each.version, schedule.share_at(each, self.time)) for each in now.partner
        ]
        canaries = [name for name, share in shares if share]
        assert version in canaries + [each.version for each in active(now, PARTNER)]
        window = (
            exchange_id,
            now.generation,
            tuple(shares),
            *(e.state for e in now.partner),
        )
        assert self.signers.setdefault(window, version) == version
        for recipient in self.alipayhk.encrypted_to:
            assert [recipient] == [each.version for each in active(now, PLATFORM)]

    # --- what always holds ---------------------------------------------------

    @invariant()
    def the_ring_in_use_is_the_one_that_was_read_as_of_now(self):
        if self.loaded:
            expected = schedule.at(self.loaded, self.time)
            assert self.store.ring.content[0] == expected
            assert [each.state for each in self.store.ring.partner] == [
                each.state for each in expected.partner
            ]

    @invariant()
    def the_ring_on_disk_can_be_read_and_has_no_files_too_many(self):
        if self.loaded:
            ring = KeyringFolder(self.folder).read(self.time)
            assert ring.content[0] == schedule.at(self.written, self.time)
            assert unnamed(self.folder, self.written) == []

    @invariant()
    def what_was_given_up_stays_so(self):
        now = schedule.at(self.written, self.time)
        for party in Party:
            entries = section(now, party)
            gone = {each.version for each in entries if each.state in GIVEN_UP}
            assert gone >= self.given_up[party]
            self.given_up[party] = gone

    @invariant()
    def what_was_given_up_does_nothing(self):
        if not self.loaded:
            return
        for ring in (self.store.ring, KeyringFolder(self.folder).read(self.time)):
            infos = (*ring.partner, *ring.platform)
            gone = {each.fingerprint for each in infos if each.state in GIVEN_UP}
            assert not gone & set(map(fingerprint, used(ring)))

    @invariant()
    def generations_only_rise(self):
        if self.loaded:
            assert self.store.ring.generation >= self.seen_generation
            self.seen_generation = self.store.ring.generation


@pytest.mark.timeout(600)
def test_any_order_of_steps_clocks_and_exchanges_keeps_the_invariants(monkeypatch):
    """Each key file is parsed once: OpenSSL's checks of a pair take the most time."""
    for module, name in (
        (pem, "read_private_key"),
        (files, "read_private_key"),
        (files, "read_public_key"),
    ):
        monkeypatch.setattr(module, name, functools.cache(getattr(module, name)))
    run_state_machine_as_test(
        Rotation,
        settings=settings(
            max_examples=int(os.environ.get("ROTATION_EXAMPLES", "3")),
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
