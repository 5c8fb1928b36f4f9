"""The digest of a ring: equal where rings do the same, whoever made them, and where."""

from datetime import UTC, datetime

import pytest

from gateway.keys import manifest
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.formats import fingerprint, private_pem, public_pem

RING = """\
generation: 4
partner:
  - {version: "1", state: active, key: partner-1.pem}
  - {version: "2", state: pre-active, key: partner-2.pem, activate_at: 2026-12-01T02:00:00Z}
platform:
  - {version: "1", state: active, key: platform-1.pem}
"""
PLANNED = datetime(2026, 12, 1, 2, tzinfo=UTC)


@pytest.fixture
def write(tmp_path, partner_key, other_key, platform_key):
    """Give a function that writes a ring and reads its digest."""
    made = []

    def write_ring(text=RING, now=None, keys=(partner_key, other_key), names=()):
        folder = tmp_path / str(len(made))
        folder.mkdir(mode=0o700)
        made.append(folder)
        for name, key in zip(("partner-1.pem", "partner-2.pem"), keys, strict=True):
            file = folder / dict(names).get(name, name)
            file.touch(0o600)
            file.write_bytes(private_pem(key))
        (folder / "platform-1.pem").write_text(public_pem(platform_key.public_key()))
        (folder / "keyring.yaml").write_text(text)
        ring = KeyringFolder(folder)
        return (ring.read(now) if now else ring.read()).digest

    return write_ring


def test_it_is_that_of_the_content_wherever_it_is(write):
    digest = write()
    assert len(digest) == 64
    assert write() == digest


SAME = {
    "another generation": lambda text: text.replace("generation: 4", "generation: 9"),
    "another order": lambda text: "\n".join(
        [*text.splitlines()[:2], *text.splitlines()[3:1:-1], *text.splitlines()[4:]]
    ),
    "other white space and remarks": lambda text: f"# made here\n{text}\n",
    "the default written out": lambda text: text.replace(
        "key: partner-1.pem", "key: partner-1.pem, use: [decrypt, sign]"
    ),
    "a date that a command noted": lambda text: text.replace(
        "key: partner-1.pem", "key: partner-1.pem, created: 2026-11-01T02:00:00Z"
    ),
    "another zone": lambda text: text.replace("02:00:00Z", "10:00:00+08:00"),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_what_does_nothing_does_not_change_it(write, change):
    assert change(RING) != RING
    assert write(change(RING)) == write()


def test_neither_does_where_a_key_is_or_that_its_fingerprint_is_noted(
    write, partner_key
):
    moved = RING.replace("partner-1.pem", "ours.pem")
    assert write(moved, names={"partner-1.pem": "ours.pem"}) == write()
    noted = f'partner-1.pem, fingerprint: "{fingerprint(partner_key.public_key())}"'
    assert write(RING.replace("partner-1.pem", noted)) == write()


def test_a_planned_step_that_was_taken_does_not_change_it(write):
    """The generation stays, too: it is a part of what was written."""
    assert write(now=PLANNED) == write()


OTHER = {
    "a version": lambda text: text.replace('"2"', '"3"'),
    "a state": lambda text: text.replace(
        "activate_at: 2026-12-01T02:00:00Z", ""
    ).replace("pre-active", "deactivated"),
    "a plan": lambda text: text.replace("02:00:00Z", "02:00:01Z"),
    "a use": lambda text: text.replace(
        "key: platform-1.pem", "key: platform-1.pem, use: [verify]"
    ),
    "a key that is staged": lambda text: text.replace(
        "activate_at: 2026-12-01T02:00:00Z", "staged: true"
    ),
    "a canary": lambda text: text.replace(
        "activate_at: 2026-12-01T02:00:00Z",
        "canary: [{share: 5, at: 2026-12-01T02:00:00Z}]",
    ),
    "an entry less": lambda text: "\n".join(
        line for line in text.splitlines() if '"2"' not in line
    ),
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
def test_what_does_something_changes_it(write, change):
    assert change(RING) != RING
    assert write(change(RING)) != write()


def test_another_key_under_the_same_words_changes_it(write, partner_key, other_key):
    assert write(keys=(other_key, partner_key)) != write()


def test_the_file_of_a_key_that_was_given_up_does_not(write, tmp_path):
    """It may be there on one machine and not on the other."""
    given_up = RING.replace(
        "state: active, key: partner-1.pem", "state: compromised, key: partner-1.pem"
    )
    before = write(given_up)
    folder = max(tmp_path.iterdir())
    (folder / "partner-1.pem").unlink()
    assert KeyringFolder(folder).read().digest == before
    assert manifest.load(folder).value.partner[0].fingerprint is None
