"""Whatever is done to a log is found, and the first bad line is named."""

import base64
import json
import subprocess
from itertools import combinations, pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings, strategies as st

from gateway.audit.chain import BEGINNING, Link, canonical, line_after, read
from gateway.audit.seal import Seal, checkpoint_text, head_text, public_pem
from gateway.audit.verification import Kind, Place, verify
from gateway.errors import AuditError
from tests.unit.audit.conftest import Log, entries


def found(log, lines, head=None, **settings):
    """Verify other lines against the same head."""
    placed = [(Place("audit.jsonl", n), line) for n, line in enumerate(lines, 1)]
    head = head or log.seal.public.read_head(log.head.read_bytes()).link
    return verify(placed, head, log.seal.public, **settings)


def fault_of(log, lines):
    """Give the kind, the line in the file, and the number in the chain."""
    fault = found(log, lines).fault
    return fault and (fault.kind, fault.place and fault.place.line, fault.seq)


def test_a_log_as_it_was_written_holds(written):
    report = written.verify()
    assert (report.fault, report.lines, report.checkpoints) == (None, 6, 1)
    assert report.last.seq == 6
    assert report.notes == []


def test_an_empty_log_holds(log):
    log.writer().probe()
    report = log.verify()
    assert (report.fault, report.lines, report.last) == (None, 0, BEGINNING)


def test_every_change_of_every_byte_is_found_at_its_line(written):
    """Each byte to three others, the line ends too: exhaustive on six lines."""
    data = written.file.read_bytes()
    tried = 0
    for at, byte in enumerate(data):
        line = data[:at].count(b"\n") + 1
        for other in {byte ^ 1, byte ^ 0x20, 0x0A} - {byte}:
            changed = data[:at] + bytes([other]) + data[at + 1 :]
            fault = found(written, changed.splitlines(keepends=True)).fault
            assert fault, (at, other)
            assert fault.place.line == line, (at, other, fault)
            tried += 1
    assert tried > 2500


def test_the_lines_that_hold_are_those_before_the_first_that_does_not(written):
    """A changed line shows at the next one, which names its hash."""
    lines = written.lines()
    links = [BEGINNING, *(read(line[:-1]).link for line in lines)]
    for at, line in enumerate(lines):
        changed = line.replace(b'"who":"t"', b'"who":"u"').replace(b'"2026', b'"2027')
        assert changed != line
        report = found(written, [*lines[:at], changed, *lines[at + 1 :]])
        assert report.fault.seq == at + 1
        assert (report.lines, report.last) == (at, links[at])
        assert report.checkpoints == int(at > 3)


def test_lines_behind_the_signed_end_do_not_hold(written):
    lines = written.lines()
    last = read(lines[-1][:-1]).link
    forged = line_after(last, {"what": "forged"})
    more = line_after(read(forged).link, {"what": "checkpoint"})
    for added in (
        [forged + b"\n"],
        [forged + b"\n", line_after(read(forged).link, {"what": "x"}) + b"\n"],
        [forged + b"\n", more + b"\n"],
        [forged + b"\n", b"{half"],
    ):
        report = found(written, [*lines, *added])
        assert report.fault is not None
        assert (report.lines, report.last, report.checkpoints) == (6, last, 1)
    report = found(written, [*lines, forged + b"\n"], expected={9: "0" * 64})
    assert (report.fault.kind, report.lines) == (Kind.CUT_OFF, 6)


def test_every_removal_of_bytes_within_a_line_is_found(written):
    data = written.file.read_bytes()
    for at in range(len(data)):
        changed = data[:at] + data[at + 1 :]
        assert found(written, changed.splitlines(keepends=True)).fault, at


def test_every_removal_of_lines_is_named(written):
    lines = written.lines()
    for first, last in combinations(range(len(lines) + 1), 2):
        left = lines[:first] + lines[last:]
        kind, _, seq = fault_of(written, left)
        if last == len(lines):
            assert (kind, seq) == (Kind.CUT_OFF, first + 1)
        else:
            assert (kind, seq) == (Kind.REMOVED, last + 1)


def test_every_swap_of_lines_is_named(written):
    for one, other in combinations(range(6), 2):
        lines = written.lines()
        lines[one], lines[other] = lines[other], lines[one]
        assert fault_of(written, lines) == (Kind.MOVED, one + 1, other + 1)


def test_every_line_that_stands_twice_is_named(written):
    for line in range(6):
        for at in range(line + 1, 7):
            lines = written.lines()
            lines.insert(at, lines[line])
            assert fault_of(written, lines) == (Kind.MOVED, at + 1, line + 1)


def test_every_cut_is_found(written):
    data = written.file.read_bytes()
    for length in range(len(data)):
        fault = found(written, data[:length].splitlines(keepends=True)).fault
        assert fault.kind is Kind.CUT_OFF, length
        assert fault.seq == data[:length].count(b"\n") + 1


def test_lines_that_are_added_are_found(written):
    (last,) = (read(line[:-1]).link for line in written.lines()[-1:])
    forged = line_after(last, {"what": "forged"}) + b"\n"
    for added in (forged, b"\n", b"{}\n", b"x" * 99):
        lines = [*written.lines(), added]
        kind, line, seq = fault_of(written, lines)
        assert (line, seq) == (7, 7)
        assert kind in (Kind.UNSIGNED, Kind.CHANGED)
        for at in range(6):
            lines = written.lines()
            lines.insert(at, added)
            assert fault_of(written, lines)


def test_a_line_that_is_replaced_by_one_that_fits_is_found(written):
    """Who can compute hashes and cannot sign: each line, up to all that follow it."""
    lines = written.lines()
    links = [BEGINNING, *(read(line[:-1]).link for line in lines)]
    for at in range(6):
        forged = line_after(links[at], {"what": "forged"})
        kind, line, seq = fault_of(
            written, [*lines[:at], forged + b"\n", *lines[at + 1 :]]
        )
        assert (kind, line, seq) == (Kind.CHANGED, at + 1, at + 1)
        chained, link = [], links[at]
        for _ in range(at, 6):
            chained.append(line_after(link, {"what": "forged"}) + b"\n")
            link = read(chained[-1][:-1]).link
        assert fault_of(written, [*lines[:at], *chained])[0] is Kind.CHANGED


@settings(max_examples=200)
@given(st.data())
def test_whatever_else_is_done_is_found(tmp_path_factory, data):
    log = Log(tmp_path_factory.mktemp("log"))
    names = data.draw(st.lists(st.text(max_size=5), min_size=1, max_size=12))
    log.writer(checkpoint_every=data.draw(st.integers(2, 9))).append(entries(*names))
    whole = log.file.read_bytes()
    assert found(log, whole.splitlines(keepends=True)).fault is None
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    put = data.draw(st.binary(max_size=20) | st.just(whole) | st.just(whole[start:]))
    changed = whole[:start] + put + whole[end:]
    if changed != whole:
        pieces = changed.split(b"\n")
        lines = [piece + b"\n" for piece in pieces[:-1]] + [pieces[-1]]
        assert found(log, [line for line in lines if line]).fault


def test_a_checkpoint_that_somebody_else_signed_is_found(log):
    """Also where the head is theirs too: the key is not."""
    stranger = Seal(Ed25519PrivateKey.from_private_bytes(b"s" * 32))
    line = line_after(BEGINNING, stranger.checkpoint(BEGINNING))
    for fields in ({}, {"signature": "AAAA"}, {"signature": "é"}, {"signature": 1}):
        line = line_after(BEGINNING, {**stranger.checkpoint(BEGINNING), **fields})
        report = found(log, [line + b"\n"], read(line).link)
        assert report.fault.kind is Kind.CHANGED
        assert "signature" in report.fault.text


# --- the head ----------------------------------------------------------------


def test_every_change_of_every_byte_of_the_head_is_found(written):
    data = written.head.read_bytes()
    for at, byte in enumerate(data):
        for other in {byte ^ 1, byte ^ 2, byte ^ 0x20, 0x0A} - {byte}:
            changed = data[:at] + bytes([other]) + data[at + 1 :]
            with pytest.raises(AuditError):
                written.seal.public.read_head(changed)
        with pytest.raises(AuditError):
            written.seal.public.read_head(data[:at])


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": "1"},
        {"hash": "x"},
        {"time": 1},
        {"seq": None},
        {"key": "other"},
    ],
)
def test_a_head_of_another_form_is_refused(written, fields):
    head = {"seq": 1, "hash": "0" * 64, "time": "", "key": "k", "signature": "s"}
    with pytest.raises(AuditError):
        written.seal.public.read_head(canonical({**head, **fields}) + b"\n")
    for data in (b"[]\n", b"{}\n", b"[" * 100_000):
        with pytest.raises(AuditError):
            written.seal.public.read_head(data)


def test_a_checkpoint_does_not_pass_for_the_end(written):
    """Else the log could be cut off before any of its checkpoints."""
    checkpoint = read(written.lines()[3][:-1]).fields
    fields = {"key": checkpoint["key"], "signature": checkpoint["signature"]}
    head = {"seq": 3, "hash": checkpoint["previous"], "time": checkpoint["time"]}
    with pytest.raises(AuditError):
        written.seal.public.read_head(canonical({**head, **fields}) + b"\n")


def test_openssl_verifies_a_checkpoint_and_the_head(written, tmp_path):
    """An oracle that shares no code with us."""
    checkpoint = read(written.lines()[3][:-1])
    head = written.seal.public.read_head(written.head.read_bytes())
    last = Link(3, checkpoint.previous)
    signed_head = read(
        canonical({**json.loads(written.head.read_bytes()), "previous": "0" * 64})
    )
    (tmp_path / "k.pem").write_bytes(public_pem(written.key.public_key()))
    for fields, text in (
        (checkpoint.fields, checkpoint_text(last)),
        (signed_head.fields, head_text(head.link, head.time)),
    ):
        assert _openssl(tmp_path, fields["signature"], text) == 0
        assert _openssl(tmp_path, fields["signature"], text + b"x") == 1


def _openssl(folder, signature, text):
    (folder / "text").write_bytes(text)
    (folder / "signature").write_bytes(base64.b64decode(signature))
    verify = (
        "openssl pkeyutl -verify -pubin -inkey k.pem -rawin -in text -sigfile signature"
    )
    return subprocess.run(
        verify.split(), cwd=folder, check=False, capture_output=True
    ).returncode


# --- anchors elsewhere -------------------------------------------------------


def test_a_line_that_was_kept_elsewhere_must_be_there(written):
    links = [read(line[:-1]).link for line in written.lines()]
    assert written.verify(expected=dict(links)).fault is None
    wrong = written.verify(expected={3: "0" * 64}).fault
    assert (wrong.kind, wrong.seq) == (Kind.CHANGED, 3)
    beyond = written.verify(expected={9: "0" * 64}).fault
    assert (beyond.kind, beyond.seq) == (Kind.CUT_OFF, 7)


def test_lines_before_one_that_was_kept_may_be_gone(written):
    lines = written.lines()
    links = [read(line[:-1]).link for line in lines]
    for at in range(6):
        report = found(written, lines[at + 1 :], after=links[at])
        assert (report.fault, report.lines) == (None, 5 - at)
        earlier = found(written, lines[at + 1 :], after=links[at], expected={1: "x"})
        assert earlier.fault is None
    for one, other in pairwise(links):
        assert found(written, lines[one.seq :], after=other).fault
        assert found(written, lines[other.seq :], after=one).fault


def test_a_head_that_is_older_than_what_was_kept_is_found(written):
    for after in (Link(6, "0" * 64), Link(7, "0" * 64)):
        fault = found(written, [], after=after).fault
        assert (fault.kind, fault.seq) == (Kind.CUT_OFF, 6)
    first_of_all = found(written, [], head=BEGINNING, after=Link(6, "0" * 64)).fault
    assert (first_of_all.kind, first_of_all.seq) == (Kind.CUT_OFF, 0)


def test_a_first_line_that_does_not_follow_is_the_one_that_is_named(written):
    lines = written.lines()
    fault = found(written, lines[1:], after=Link(1, "0" * 64)).fault
    assert (fault.kind, fault.place.line, fault.seq) == (Kind.CHANGED, 1, 2)


# --- what a killed writer left -----------------------------------------------


def test_an_unfinished_line_is_no_fault_once_the_next_names_it(written):
    with written.file.open("ab") as stream:
        stream.write(b'{"half')
    assert fault_of(written, written.lines()) == (Kind.UNSIGNED, 7, 7)
    written.writer().append(entries("f"))
    report = written.verify()
    assert report.fault is None
    assert len(report.notes) == 1
    assert "an unfinished line" in report.notes[0]
    lines = written.lines()
    assert lines[6] == b'{"half\n'
    assert fault_of(written, lines[:6] + lines[7:]) == (Kind.REMOVED, 7, 7)
    lines[6] = b'{"hulf\n'
    assert fault_of(written, lines) == (Kind.CHANGED, 7, 7)
    assert fault_of(written, [*lines[:6], b"x\n", *lines[6:]]) == (Kind.CHANGED, 7, 7)
