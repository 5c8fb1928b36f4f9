"""keyring.yaml: what is read is what is written, and what is refused."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, strategies as st

from gateway.documents import DocumentError
from gateway.keys import manifest
from gateway.keys.manifest import Entry, Manifest, Share, format_moment, parse_moment
from gateway.keys.model import (
    HELD,
    PARTNER_USES,
    PLATFORM_USES,
    KeyState,
    Life,
    Use,
)

CONTRACT = """\
# keyring.yaml
generation: 1                  # rises with each change
partner:                       # our key pairs: the active one signs; active and deactivated ones decrypt
  - {version: "1", state: active, key: partner-1.pem}
platform:                      # AlipayHK's public keys: active and deactivated ones verify; the active one encrypts
  - {version: "1", state: active, key: platform-1.pem}
"""


@pytest.fixture
def read(tmp_path):
    """Give a function that writes a text and reads it as a keyring's manifest."""

    def write_and_load(text):
        (tmp_path / "keyring.yaml").write_text(text)
        return manifest.load(tmp_path).value

    return write_and_load


@pytest.fixture
def problems(read):
    """Give a function that tells what is wrong with a text: [(line, where, what)]."""

    def refused(text):
        with pytest.raises(DocumentError) as caught:
            read(text)
        return [(each.line, each.where, each.message) for each in caught.value.problems]

    return refused


def ring(*partner, platform=(), generation=1):
    """Write a manifest whose entries stand from line 3."""
    lines = [f"generation: {generation}", "partner:" if partner else "partner: []"]
    lines += [f"  - {entry}" for entry in partner]
    lines += ["platform:" if platform else "platform: []"]
    lines += [f"  - {entry}" for entry in platform]
    return "\n".join(lines) + "\n"


# --- what is read ------------------------------------------------------------


def test_the_contracts_example_is_read(read):
    entry = {"version": "1", "state": KeyState.ACTIVE}
    assert read(CONTRACT) == Manifest(
        generation=1,
        partner=(Entry(**entry, key="partner-1.pem"),),
        platform=(Entry(**entry, key="platform-1.pem"),),
    )


def test_what_an_example_is_read_as_is_written_as_the_example(read):
    written = manifest.dump(read(CONTRACT))
    plain = [line.partition("  #")[0].rstrip() for line in CONTRACT.splitlines()[1:]]
    assert [line for line in written.splitlines() if line[0] != "#"] == plain


@pytest.mark.parametrize("version", ["1", "01", "0", "1.0", "yes", "null", "a-b_c.9"])
def test_a_version_is_the_text_that_it_is(read, version):
    entry = f'{{version: "{version}", state: active, key: a}}'
    assert read(ring(entry)).partner[0].version == version
    if version != "null":
        assert read(ring(entry.replace('"', ""))).partner[0].version == version


def test_a_use_is_both_where_the_pair_is_not_split():
    entry = Entry(version="1", state=KeyState.ACTIVE, key="a")
    assert entry.uses(PARTNER_USES) == {Use.SIGN, Use.DECRYPT}
    assert entry.uses(PLATFORM_USES) == {Use.VERIFY, Use.ENCRYPT}


@pytest.mark.parametrize(
    "use", ["sign", "decrypt", "sign, decrypt", "decrypt, decrypt"]
)
def test_a_use_is_what_stands_there(read, use):
    entry = f"{{version: a, state: active, key: a, use: [{use}]}}"
    found = read(ring(entry)).partner[0].uses(PARTNER_USES)
    assert {str(each) for each in found} == set(use.split(", "))


def test_a_destroyed_key_needs_no_file(read):
    found = read(ring("{version: a, state: destroyed}"))
    assert found.partner[0].key is None


def test_a_variable_is_no_variable_here(read):
    entry = '{version: a, state: active, key: "${HOME}"}'
    assert read(ring(entry)).partner[0].key == "${HOME}"


# --- what is refused, with its line ------------------------------------------

REQUIRED = "this key is required"
LABEL = "a key version is 1 to 64 letters, digits, dots, hyphens or underscores"
IN_FOLDER = "must be the name of a file in the keyring's folder"
STATES = "must be 'pre-active', 'active', 'deactivated', 'compromised' or 'destroyed'"
USES = "must be 'sign', 'decrypt', 'verify' or 'encrypt'"

ENTRIES = [
    ("{state: active, key: a}", "version", REQUIRED),
    ("{version: a, key: a}", "state", REQUIRED),
    ("{version: a, state: active}", "key", REQUIRED),
    ("{version: a, state: pre-active}", "key", REQUIRED),
    ("{version: a, state: deactivated, key: }", "key", REQUIRED),
    ("{version: a, state: compromised}", "key", REQUIRED),
    ('{version: a, state: active, key: ""}', "key", IN_FOLDER),
    ('{version: a, state: destroyed, key: ""}', "key", IN_FOLDER),
    (
        '{version: a, state: active, key: "a\\0b"}',
        "key",
        "the character U+0000 cannot stand in a path; take it out",
    ),
    (
        '{version: a, state: active, key: "a\\nb"}',
        "key",
        "the character U+000A cannot stand in a path; take it out",
    ),
    ("{version: , state: active, key: a}", "version", "must be text"),
    ("{version: [a], state: active, key: a}", "version", "must be text"),
    ('{version: "", state: active, key: a}', "version", LABEL),
    ('{version: "a b", state: active, key: a}', "version", LABEL),
    ('{version: "a,b", state: active, key: a}', "version", LABEL),
    ('{version: "1\\n", state: active, key: a}', "version", LABEL),
    ("{version: é, state: active, key: a}", "version", LABEL),
    (f"{{version: {'x' * 65}, state: active, key: a}}", "version", LABEL),
    ("{version: a, state: retired, key: a}", "state", STATES),
    ("{version: a, state: Active, key: a}", "state", STATES),
    ("{version: a, state: , key: a}", "state", STATES),
    ("{version: a, state: [active], key: a}", "state", STATES),
    ("{version: a, state: active, key: ../a}", "key", IN_FOLDER),
    ("{version: a, state: active, key: /etc/a}", "key", IN_FOLDER),
    ("{version: a, state: active, key: b/a}", "key", IN_FOLDER),
    ("{version: a, state: active, key: a/}", "key", IN_FOLDER),
    ("{version: a, state: active, key: ./a}", "key", IN_FOLDER),
    ("{version: a, state: active, key: .}", "key", IN_FOLDER),
    ("{version: a, state: active, key: ..}", "key", IN_FOLDER),
    ("{version: a, state: destroyed, key: ../a}", "key", IN_FOLDER),
    ("{version: a, state: active, key: [a]}", "key", "must be text"),
    ("{version: a, state: active, key: a, use: sign}", "use", "must be a list"),
    ("{version: a, state: active, key: a, use: [verfy]}", "use[0]", USES),
    ("{version: a, state: active, key: a, use: [~]}", "use[0]", USES),
    (
        "{version: a, state: active, key: a, uses: [sign]}",
        "uses",
        "unknown key; did you mean use?",
    ),
    (
        "{version: a, state: active, key: a, pass: x}",
        "pass",
        (
            "unknown key; known are: version, state, key, use, passphrase, staged, "
            "canary, activate_at, deactivate_at, destroy_at, created, exported, "
            "activated, deactivated, compromised, destroyed, fingerprint"
        ),
    ),
]


@pytest.mark.parametrize(("entry", "where", "message"), ENTRIES)
@pytest.mark.parametrize("section", ["partner", "platform"])
def test_a_bad_entry_is_refused_with_its_line(problems, section, entry, where, message):
    if section == "partner":
        text, line = ring(entry), 3
    else:
        text, line = ring(platform=[entry]), 4
    found = problems(text)
    assert found == [(line, f"{section}[0].{where}", message)]


@pytest.mark.parametrize(
    ("section", "use", "message"),
    [
        ("partner", "verify", "a partner key cannot verify; it may decrypt and sign"),
        ("partner", "encrypt", "a partner key cannot encrypt; it may decrypt and sign"),
        ("platform", "sign", "a platform key cannot sign; it may encrypt and verify"),
        (
            "platform",
            "decrypt",
            "a platform key cannot decrypt; it may encrypt and verify",
        ),
    ],
)
def test_a_use_that_a_section_cannot_have_is_refused(problems, section, use, message):
    entry = f"{{version: a, state: active, key: a, use: [{use}]}}"
    text = ring(entry) if section == "partner" else ring(platform=[entry])
    ((line, where, found),) = problems(text)
    assert (line, where, found) == (
        3 if section == "partner" else 4,
        f"{section}[0].use",
        message,
    )


def test_a_key_without_a_use_is_refused(problems):
    entry = "{version: a, state: active, key: a, use: []}"
    ((line, where, message),) = problems(ring(entry))
    assert (line, where) == (3, "partner[0].use")
    assert message == "at least one is needed"


@pytest.mark.parametrize("use", ["[[sign]]", "[{sign: yes}]", "[[]]"])
@pytest.mark.parametrize("section", ["partner", "platform"])
def test_a_use_that_is_no_text_is_refused_like_any_other(problems, section, use):
    entry = f"{{version: a, state: active, key: a, use: {use}}}"
    text = ring(entry) if section == "partner" else ring(platform=[entry])
    line = 3 if section == "partner" else 4
    assert problems(text) == [(line, f"{section}[0].use[0]", USES)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [(1, key, REQUIRED) for key in ("generation", "partner", "platform")]),
        ("generation: 1\n", [(1, key, REQUIRED) for key in ("partner", "platform")]),
        ("generation: 1\npartner: []\n", [(1, "platform", REQUIRED)]),
        (
            "generation: 1\npartner:\nplatform:\n",
            [(2, "partner", "must be a list"), (3, "platform", "must be a list")],
        ),
        (
            "generation: 1\npartner: {version: a}\nplatform: x\n",
            [(2, "partner", "must be a list"), (3, "platform", "must be a list")],
        ),
        (
            "generation: 1\npartner: [a]\nplatform: []\n",
            [(2, "partner[0]", "must be a mapping of keys to values")],
        ),
        ("- a\n", [(1, "", "must be a mapping of keys to values")]),
        ("text\n", [(1, "", "must be a mapping of keys to values")]),
        (
            ring(generation=1) + "keys: []\n",
            [(4, "keys", "unknown key; known are: generation, partner, platform")],
        ),
    ],
)
def test_half_a_manifest_is_none(problems, text, found):
    assert problems(text) == found


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ("0", "must be at least 1"),
        ("-1", "must be at least 1"),
        ("one", "must be a whole number"),
        ("1.5", "must be a whole number"),
        ("'1 2'", "must be a whole number"),
        ("", "must be a whole number"),
        ("[1]", "must be a whole number"),
    ],
)
def test_a_generation_is_a_whole_number_from_one(problems, generation, message):
    assert problems(ring(generation=generation)) == [(1, "generation", message)]


def test_a_generation_is_no_greater_than_what_a_metric_can_hold(problems):
    """`gateway_keyring_generation` is a float: 10 to the 309 ends the gateway."""
    most = "must be at most 9007199254740992"
    for generation, message in (
        (str((1 << 53) + 1), most),
        ("9" * 400, most),
        ("9" * 5000, "must be a whole number of fewer digits"),
    ):
        assert problems(ring(generation=generation)) == [(1, "generation", message)]


def test_a_generation_may_be_as_great_as_a_float_tells_apart(read):
    assert read(ring(generation=1 << 53)).generation == 1 << 53


def test_every_problem_is_told_at_once(problems):
    text = ring(
        "{version: a, state: active}",
        "{version: b, state: gone, key: b, use: [verify]}",
        platform=["{version: a/b, state: active, key: c}"],
        generation=0,
    )
    assert [(line, where) for line, where, _ in problems(text)] == [
        (1, "generation"),
        (3, "partner[0].key"),
        (4, "partner[1].use"),
        (4, "partner[1].state"),
        (6, "platform[0].version"),
    ]


def test_an_entry_that_is_none_hides_no_other(problems):
    bad_use = "{version: b, state: active, key: b, use: [verify]}"
    found = problems(ring("text", bad_use, "{version: c, state: active}"))
    assert [(line, where) for line, where, _ in found] == [
        (3, "partner[0]"),
        (4, "partner[1].use"),
        (5, "partner[2].key"),
    ]


def test_a_folder_without_a_manifest_is_told_as_such(tmp_path):
    with pytest.raises(DocumentError, match=r"keyring\.yaml: cannot be read: No such"):
        manifest.load(tmp_path)


# --- times -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-01T02:00:00Z", datetime(2026, 12, 1, 2, tzinfo=UTC)),
        ("2026-12-01T10:00:00+08:00", datetime(2026, 12, 1, 2, tzinfo=UTC)),
        ("2026-12-01T10:00+0800", datetime(2026, 12, 1, 2, tzinfo=UTC)),
        ("2026-11-30 18:30:00.25-07:30", datetime(2026, 12, 1, 2, 0, 0, 250000, UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_a_time_is_read_with_its_zone_as_utc(read, text, moment):
    entry = f"{{version: a, state: active, key: a, created: {text}}}"
    created = read(ring(entry)).partner[0].created
    assert created == moment
    assert created.tzinfo is UTC
    assert parse_moment(format_moment(moment)) == moment


def test_a_time_is_written_in_utc():
    east = datetime(2026, 12, 1, 2, tzinfo=timezone(timedelta(hours=8)))
    assert format_moment(east) == "2026-11-30T18:00:00Z"


TIME = "must be a time with its zone, such as 2026-12-01T02:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-01T02:00:00",
        "2026-12-01",
        "2026-13-01T02:00:00Z",
        "2026-02-29T02:00:00Z",
        "2026-12-01T02:00:60Z",
        "2026-12-01T02:00:00+25:00",
        "2026-12-01T02:00:00.1234567Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "+12026-12-01T02:00:00Z",
        "\u0662026-12-01T02:00:00Z",
        "1764554400",
        "tomorrow",
        "[]",
    ],
)
def test_another_time_is_refused_with_its_line(problems, text):
    entry = f'{{version: a, state: active, key: a, created: "{text}"}}'
    assert problems(ring(entry)) == [(3, "partner[0].created", TIME)]


# --- what a state cannot have ------------------------------------------------

AT = "2026-12-01T02:00:00Z"
NEW_KEYS = {
    "staged": ("true", {"pre-active"}),
    "canary": (f"[{{share: 5, at: {AT}}}]", {"pre-active", "deactivated"}),
    "activate_at": (AT, {"pre-active", "deactivated"}),
    "deactivate_at": (AT, {"pre-active", "active", "deactivated"}),
    "destroy_at": (AT, {"pre-active", "active", "deactivated"}),
    "created": (AT, set(KeyState)),
    "exported": (AT, set(KeyState)),
    "activated": (AT, set(KeyState)),
    "deactivated": (AT, set(KeyState)),
    "compromised": (AT, {"compromised", "destroyed"}),
    "destroyed": (AT, {"compromised", "destroyed"}),
    "fingerprint": ("a" * 64, set(KeyState)),
}


@pytest.mark.parametrize("state", KeyState)
@pytest.mark.parametrize("key", NEW_KEYS)
def test_a_key_has_what_its_state_can_have(read, problems, key, state):
    """Most of all: what was given up is not in use, whatever its state says."""
    value, states = NEW_KEYS[key]
    text = ring(f"{{version: a, state: {state}, key: a, {key}: {value}}}")
    if state in states:
        assert getattr(read(text).partner[0], key)
    else:
        message = f"a key that is {state} has none"
        assert problems(text) == [(3, f"partner[0].{key}", message)]


def test_the_states_in_which_a_key_is_held_are_not_past_return():
    assert NEW_KEYS["destroyed"][1] == set(KeyState) - HELD


def test_a_compromised_key_that_was_destroyed_needs_no_file(read):
    entry = f"{{version: a, state: compromised, destroyed: {AT}}}"
    assert read(ring(entry)).partner[0].key is None


def test_alipayhks_keys_are_no_canaries(problems):
    entry = (
        f"{{version: a, state: pre-active, key: a, canary: [{{share: 5, at: {AT}}}]}}"
    )
    assert problems(ring(platform=[entry])) == [
        (
            4,
            "platform[0].canary",
            "AlipayHK's keys sign nothing of ours; stage this one instead",
        )
    ]


def test_a_canary_is_not_to_be_activated_whatever_becomes_of_it(problems):
    entry = (
        "{version: a, state: pre-active, key: a, "
        f"canary: [{{share: 5, at: {AT}}}], activate_at: {AT}}}"
    )
    message = "it would not heed the canary; let its last share be 100"
    assert problems(ring(entry)) == [(3, "partner[0].activate_at", message)]


def test_a_canary_signs(problems, read):
    entry = f"{{version: a, state: pre-active, key: a, use: [%s], canary: [{{share: 5, at: {AT}}}]}}"
    assert problems(ring(entry % "decrypt")) == [
        (3, "partner[0].canary", "a key that does not sign cannot sign a share")
    ]
    assert read(ring(entry % "decrypt, sign")).partner[0].canary


@pytest.mark.parametrize(
    ("step", "where", "message"),
    [
        (f"{{share: 0, at: {AT}}}", "share", "must be above 0"),
        (f"{{share: 101, at: {AT}}}", "share", "must be at most 100"),
        (f"{{share: .nan, at: {AT}}}", "share", "must be a number"),
        (f"{{share: inf, at: {AT}}}", "share", "must be a finite number"),
        (f"{{share: 5%, at: {AT}}}", "share", "must be a number"),
        (f"{{at: {AT}}}", "share", REQUIRED),
        ("{share: 5}", "at", REQUIRED),
        ("{share: 5, at: 12:00}", "at", TIME),
    ],
)
def test_a_share_is_a_part_of_a_hundred_from_a_time_on(problems, step, where, message):
    entry = f"{{version: a, state: pre-active, key: a, canary: [{step}]}}"
    assert problems(ring(entry)) == [(3, f"partner[0].canary[0].{where}", message)]


@pytest.mark.parametrize("text", ["", "a" * 63, "A" * 64, "a" * 64 + "\\n", "z" * 64])
def test_a_fingerprint_is_64_hex_digits(problems, text):
    entry = f'{{version: a, state: active, key: a, fingerprint: "{text}"}}'
    message = "must be the SHA-256 of the key's SPKI: 64 hex digits"
    assert problems(ring(entry)) == [(3, "partner[0].fingerprint", message)]


def test_the_facts_of_an_entry_are_its_life():
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 6)]
    names = ["created", "activated", "deactivated", "compromised", "destroyed"]
    facts = dict(zip(names, times, strict=True))
    assert Entry(version="a", state=KeyState.DESTROYED, **facts).life == Life(*times)


# --- reading and writing are inverse -----------------------------------------


MOMENTS = st.datetimes(timezones=st.just(UTC))
SHARES = st.builds(
    Share, share=st.floats(0, 100, exclude_min=True, allow_subnormal=False), at=MOMENTS
)
FINGERPRINTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


@st.composite
def facts(draw, state, uses):
    """Give some of the keys that an entry in this state may have."""
    signs = uses is None or Use.SIGN in uses
    values = {
        "staged": st.just(value=True),
        "canary": st.lists(SHARES, min_size=1, max_size=3).map(tuple),
        "fingerprint": FINGERPRINTS,
    }
    may = [name for name, (_, states) in NEW_KEYS.items() if state in states]
    if not signs:
        may = [name for name in may if name != "canary"]
    chosen = draw(st.sets(st.sampled_from(may)))
    if "canary" in chosen:
        chosen -= {"activate_at"}
    return {name: draw(values.get(name, MOMENTS)) for name in sorted(chosen)}


@st.composite
def full_entries(draw):
    plain = draw(entries(PARTNER_USES))
    return plain.model_copy(update=draw(facts(plain.state, plain.use)))


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)


def entries(allowed):
    uses = st.lists(st.sampled_from(sorted(allowed)), min_size=1, max_size=3)
    names = NAMES.filter(lambda name: name.lower() != "null")
    held = [state for state in KeyState if state != "destroyed"]
    versions = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
    use = st.none() | uses.map(tuple)
    return st.builds(
        Entry, version=versions, state=st.sampled_from(held), key=names, use=use
    ) | st.builds(
        Entry,
        version=versions,
        state=st.just(KeyState.DESTROYED),
        key=st.none() | names,
        use=use,
    )


MANIFESTS = st.builds(
    Manifest,
    generation=st.integers(1, 10**12),
    partner=st.lists(full_entries(), max_size=4).map(tuple),
    platform=st.lists(entries(PLATFORM_USES), max_size=4).map(tuple),
)


def written_and_read(folder, value):
    (folder / "keyring.yaml").write_text(manifest.dump(value))
    return manifest.load(folder).value


@given(MANIFESTS)
def test_what_is_written_is_read_back_as_it_was(tmp_path_factory, value):
    assert written_and_read(tmp_path_factory.getbasetemp(), value) == value


AWKWARD = st.text(
    st.sampled_from("ab.0 ,:#{}[]&*!|>'\"%@`$?~-\\é\n\t"), min_size=1, max_size=8
)


@given(AWKWARD)
@example("a, b")
@example("null")
@example("#a")
@example("a\nb")
def test_a_name_that_is_read_is_written_so_that_it_is_read_again(
    tmp_path_factory, name
):
    """A file may have any name. `gateway keys` must not write a ring that is none."""
    folder = tmp_path_factory.getbasetemp()
    entry = f"{{version: a, state: active, key: {json.dumps(name)}}}"
    (folder / "keyring.yaml").write_text(ring(entry))
    try:
        value = manifest.load(folder).value
    except DocumentError:
        return  # a name that is never read needs not be written
    assert value.partner[0].key == name
    assert written_and_read(folder, value) == value
