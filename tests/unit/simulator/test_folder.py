import os
import stat
from pathlib import Path

import pytest
import yaml

from gateway.errors import SetupError
from gateway.keys import formats
from gateway.keys.backends.file import KeyringFolder
from gateway.simulator import folder
from gateway.simulator.folder import SANDBOX_CLIENT_ID, open_keys

SHIPPED = Path(__file__).resolve().parents[3] / "config.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder that the simulator has made."""
    keys = tmp_path_factory.mktemp("made") / "keys"
    open_keys(keys)
    return keys


@pytest.fixture
def keys(made, tmp_path):
    """A copy of that folder, to spoil."""
    copy = tmp_path / "keys"
    for file in made.rglob("*"):
        target = copy / file.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            target.touch(mode=0o600)
            target.write_bytes(file.read_bytes())
    return copy


def test_the_two_halves_fit_together(made):
    ours = open_keys(made)
    ring = KeyringFolder(made / "hk-sandbox").read()

    (verifier,) = ring.verifiers
    assert verifier.rsa == ours.keys["1"].public_key()
    assert ring.signer.public.rsa == ours.partners[SANDBOX_CLIENT_ID]["1"]
    assert ring.signer.public.version == ours.active == "1"


def test_they_are_what_the_shipped_configuration_names():
    (client,) = yaml.safe_load(SHIPPED.read_text())["clients"]

    assert client["client_id"] == SANDBOX_CLIENT_ID
    assert client["keyring"] == f"keys/{folder.SANDBOX}"


def test_nobody_else_may_read_anything(made):
    for path in (made, *made.rglob("*")):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_files_are_private_from_the_start_and_manifests_come_last(
    tmp_path, monkeypatch
):
    opened = []
    real_open = os.open

    def watching(path, flags, mode=0o777, **options):
        descriptor = real_open(path, flags, mode, **options)
        opened.append((Path(path).name, flags & os.O_EXCL, mode))
        ring = tmp_path / "hk-sandbox"
        assert not (ring / "keyring.yaml").exists()
        return descriptor

    monkeypatch.setattr(folder.os, "open", watching)
    open_keys(tmp_path)

    assert all(exclusive and mode == 0o600 for _, exclusive, mode in opened)
    assert [name for name, _, _ in opened] == [
        "platform-1.pem",
        "hk-sandbox-1.pem",
        ".simulator.yaml.new",
        "partner-1.pem",
        "platform-1.pem",
        ".keyring.yaml.new",
    ]
    assert not list(tmp_path.rglob(".*"))


def test_a_second_start_takes_the_same_keys(keys):
    before = {file: file.read_bytes() for file in keys.rglob("*") if file.is_file()}

    open_keys(keys)

    after = {file: file.read_bytes() for file in keys.rglob("*") if file.is_file()}
    assert before == after


@pytest.mark.parametrize(
    ("missing", "there"),
    [
        ("simulator/simulator.yaml", "hk-sandbox"),
        ("hk-sandbox/keyring.yaml", "simulator"),
    ],
)
def test_one_half_alone_is_an_error_that_says_what_to_remove(keys, missing, there):
    (keys / missing).unlink()

    with pytest.raises(SetupError) as caught:
        open_keys(keys)

    assert f"{keys / missing} is missing" in caught.value.detail
    assert f"Remove the folder {keys / there}" in caught.value.detail


def test_a_file_in_the_way_is_never_overwritten(tmp_path):
    valuable = tmp_path / "hk-sandbox" / "partner-1.pem"
    valuable.parent.mkdir()
    valuable.write_text("a real key")

    with pytest.raises(SetupError, match="is in the way"):
        open_keys(tmp_path)

    assert valuable.read_text() == "a real key"


def test_a_further_key_is_registered_in_the_file(keys, other_key):
    (keys / "second.txt").write_text(formats.public_base64(other_key.public_key()))
    file = keys / "simulator" / "simulator.yaml"
    file.write_text(file.read_text() + '      - {version: "2", key: ../second.txt}\n')

    partners = open_keys(keys).partners

    assert partners[SANDBOX_CLIENT_ID]["2"] == other_key.public_key()


def test_every_problem_of_the_file_is_told_with_its_line(keys):
    file = keys / "simulator" / "simulator.yaml"
    (keys / "simulator" / "empty.pem").touch()
    file.write_text(
        'active: "2"\n'
        "keys:\n"
        '  - {version: "1", key: absent.pem}\n'
        "partners:\n"
        "  - client_id: X\n"
        "    keys:\n"
        '      - {version: "1", key: empty.pem}\n'
    )

    with pytest.raises(SetupError) as caught:
        open_keys(keys)

    assert caught.value.detail.splitlines() == [
        f"{file}:1: active: no key has this version",
        f"{file}:3: keys[0].key: absent.pem: No such file or directory",
        f"{file}:7: partners[0].keys[0].key: empty.pem: it is empty",
    ]


@pytest.mark.parametrize("name", ["", "a\\0b", "a\\nb"])
def test_a_key_file_that_cannot_be_is_told_with_its_line(keys, name):
    file = keys / "simulator" / "simulator.yaml"
    file.write_text(file.read_text().replace("platform-1.pem", f'"{name}"'))

    with pytest.raises(SetupError) as caught:
        open_keys(keys)

    assert "simulator.yaml:6: keys[0].key: " in caught.value.detail
    assert len(caught.value.detail.splitlines()) == 1


def test_a_version_that_cannot_stand_in_a_header_is_an_error(keys):
    file = keys / "simulator" / "simulator.yaml"
    file.write_text(file.read_text().replace('version: "1"', 'version: "1,2"'))

    with pytest.raises(SetupError, match="a key version is"):
        open_keys(keys)
