"""Lines in their one form, links, and where a chain goes on."""

import json

import pytest
from hypothesis import given, strategies as st

from gateway.audit.chain import (
    BEGINNING,
    Link,
    bounded,
    canonical,
    hash_of,
    line_after,
    read,
    tail_of,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def chain(*names, after=BEGINNING):
    lines = []
    for name in names:
        lines.append(line_after(after, {"what": name}))
        after = Link(after.seq + 1, hash_of(lines[-1]))
    return lines, after


def joined(lines):
    return b"".join(line + b"\n" for line in lines)


@given(st.dictionaries(st.text(), JSON))
def test_whatever_is_noted_becomes_a_line_that_is_read_as_such(fields):
    line = line_after(BEGINNING, bounded(fields))
    record = read(line)
    assert record.follows(BEGINNING)
    assert record.link == Link(1, hash_of(line))
    assert b"\n" not in line
    assert line.isascii()


@given(st.dictionaries(st.text(), JSON), st.data())
def test_no_other_bytes_are_the_same_record(fields, data):
    line = line_after(BEGINNING, bounded(fields))
    at = data.draw(st.integers(0, len(line) - 1))
    other = bytearray(line)
    other[at] ^= data.draw(st.integers(1, 255))
    record = read(bytes(other))
    assert record is None or record.link.hash != hash_of(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a": 1}',
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b"\xff",
        b"[" * 100_000,
        b'{"seq":NaN}',
        canonical({"previous": "0" * 64}),
        canonical({"seq": 1}),
        canonical({"seq": 0, "previous": "0" * 64}),
        canonical({"seq": True, "previous": "0" * 64}),
        canonical({"seq": 1.0, "previous": "0" * 64}),
        canonical({"seq": 1, "previous": "0" * 63}),
        canonical({"seq": 1, "previous": "G" * 64}),
        canonical({"seq": 1, "previous": 0}),
    ],
)
def test_what_is_not_in_its_one_form_is_no_record(line):
    assert read(line) is None


@pytest.mark.parametrize(
    "other",
    [
        lambda line: line.replace(b"u00e9", b"u00E9"),
        lambda line: line.replace(b"\\u00e9", "é".encode()),
        lambda line: line.replace(b"/", b"\\/"),
        lambda line: line.replace(b"what", b"\\u0077hat"),
        lambda line: line.replace(b"1.5", b"1.50"),
        lambda line: line.replace(b"1.5", b"15e-1"),
        lambda line: line.replace(b'{"n"', b'{"n":2,"n"'),
        lambda line: b" " + line,
        lambda line: line + b" ",
        lambda line: line + b"\r",
        lambda line: line.replace(b",", b", "),
        lambda line: b"\xef\xbb\xbf" + line,
        lambda line: line.decode().encode("utf-16"),
    ],
)
def test_no_other_bytes_with_the_same_meaning_are_a_record(other):
    line = line_after(BEGINNING, {"what": "é/", "n": 1.5})
    assert other(line) != line
    assert json.loads(other(line)) == json.loads(line)
    assert read(other(line)) is None


def test_the_place_in_the_chain_is_never_the_callers():
    line = line_after(BEGINNING, {"seq": 9, "previous": "x", "what": "a"})
    assert read(line).follows(BEGINNING)


def test_a_record_follows_only_the_line_before_it():
    (first, second), last = chain("a", "b")
    one, two = read(first), read(second)
    assert two.follows(one.link)
    assert two.link == last
    assert not two.follows(BEGINNING)
    assert not two.follows(Link(1, "0" * 64))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("x" * 2000, "x" * 1000),
        (list(range(200)), list(range(100))),
        ((1, None, True, 1.5), [1, None, True, 1.5]),
        (float("inf"), "inf"),
        ({1: {2: 3}}, {"1": {"2": 3}}),
        (b"x", "b'x'"),
        (
            {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}},
            {"a": {"b": {"c": {"d": {"e": {"f": "{'g': 1}"}}}}}},
        ),
    ],
)
def test_a_value_is_json_and_short(value, kept):
    assert json.loads(json.dumps(bounded(value))) == kept


def test_a_link_is_read_as_it_is_written():
    _, link = chain("a")
    assert Link.parse(str(link)) == link


@pytest.mark.parametrize("text", ["", "1", "1:", f"x:{'0' * 64}", f"²:{'0' * 64}"])
def test_what_is_no_link_is_refused(text):
    with pytest.raises(ValueError, match="SEQ:HASH"):
        Link.parse(text)


# --- where it goes on --------------------------------------------------------


def test_a_chain_goes_on_after_the_line_that_was_signed():
    lines, last = chain("a", "b", "c")
    for whole in (True, False):
        assert tail_of(joined(lines), last, whole=whole) == (last, 0, b"", False, True)


def test_more_is_looked_at_where_the_signed_line_is_not_in_sight():
    lines, last = chain("a", "b", "c")
    assert tail_of(joined(lines[:1]), last, whole=False) is None


def test_lines_after_the_signed_one_are_gone_on_from():
    lines, _ = chain("a", "b", "c", "d")
    signed, last = read(lines[1]).link, read(lines[3]).link
    assert tail_of(joined(lines), signed, whole=True) == (last, 2, b"", False, True)
    assert tail_of(joined(lines[2:]), signed, whole=True) == (last, 2, b"", False, True)


def test_an_unfinished_line_is_nobodys():
    lines, last = chain("a", "b")
    tail = tail_of(joined(lines) + b'{"sta', last, whole=True)
    assert tail == (last, 0, b'{"sta', True, True)
    assert tail_of(b'{"sta', last, whole=True) == (last, 0, b'{"sta', True, True)


def test_a_line_without_its_end_is_whole_all_the_same():
    lines, last = chain("a", "b")
    signed = read(lines[0]).link
    data = joined(lines).removesuffix(b"\n")
    assert tail_of(data, signed, whole=True) == (last, 1, b"", True, True)


def test_a_file_without_the_signed_line_does_not_fit():
    lines, _ = chain("a", "b")
    _, other = chain("x", "y", "z")
    tail = tail_of(joined(lines) + b"{", other, whole=True)
    assert tail == (other, 0, b"{", True, False)
    assert tail_of(b"no line\n", other, whole=True) == (other, 0, b"", False, False)


def test_what_does_not_follow_the_signed_line_does_not_fit():
    lines, last = chain("a", "b")
    for strange in (b"no line\n", joined(lines)):
        tail = tail_of(joined(lines) + strange, last, whole=True)
        assert tail == (last, 0, b"", False, False)


def test_an_empty_file_is_a_new_segment():
    _, last = chain("a")
    assert tail_of(b"", last, whole=True) == (last, 0, b"", False, True)
