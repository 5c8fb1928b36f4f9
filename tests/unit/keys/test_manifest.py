"""keyring.yaml: what is read is what is written, and what is refused."""

import json

import pytest
from hypothesis import example, given, strategies as st

from gateway.documents import DocumentError
from gateway.keys import manifest
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import PARTNER_USES, PLATFORM_USES, KeyState, Use

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


# --- reading and writing are inverse -----------------------------------------


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
    partner=st.lists(entries(PARTNER_USES), max_size=4).map(tuple),
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
