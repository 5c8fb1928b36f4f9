"""The commands on pairs that are encrypted, or in a token."""

import json

import pytest

from gateway.keys import formats
from gateway.keys.changes import Party
from gateway.keys.formats import read_public_key
from tests import peer
from tests.e2e.workspace import Workspace, error_of, put, workspace
from tests.tokens import PIN, SOFTHSM, SoftHsm

pytestmark = pytest.mark.e2e

PASSPHRASE = "correct horse battery"
TARGET = ("--target", peer.TARGET)


@pytest.fixture
def place(tmp_path, platform_key):
    made = workspace(tmp_path)
    put(made.ring, Party.PLATFORM, platform_key)
    return made


@pytest.fixture
def secret(tmp_path):
    """A passphrase in a file."""
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text(f"{PASSPHRASE}\n")
    return file


@pytest.fixture
def hsm(tmp_path, partner_key, monkeypatch):
    made = SoftHsm(tmp_path / "hsm")
    made.token()
    made.put(partner_key, "first")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def manifest(place):
    return (place.ring / "keyring.yaml").read_text()


def done(place, *arguments, **more):
    result = place.gateway(*arguments, **more)
    assert result.returncode == 0, result.stderr
    return result.stdout.decode()


# --- encrypted files ---------------------------------------------------------


@pytest.mark.parametrize("source", ["file", "env"])
def test_a_pair_is_generated_encrypted_and_signs(place, secret, monkeypatch, source):
    monkeypatch.setenv("RING_PASSPHRASE", PASSPHRASE)
    where = f"file:{secret}" if source == "file" else "env:RING_PASSPHRASE"
    done(place, "keys", "generate", "--passphrase", where)
    file = place.ring / "partner-1.pem"
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in file.read_bytes()
    assert PASSPHRASE not in manifest(place)
    done(place, "keys", "activate", "1")
    assert "Signature: " in done(place, "sign", "-", *TARGET, given=b"{}")
    assert "no problem" in done(place, "check")
    done(place, "keys", "list")


def test_an_encrypted_file_is_taken_up_as_it_is(place, secret, partner_key):
    given = formats.private_pem(partner_key, PASSPHRASE.encode())
    (place.folder / "key.pem").touch(0o600)
    (place.folder / "key.pem").write_bytes(given)
    told = place.gateway("keys", "import", "key.pem")
    assert "no passphrase is named" in error_of(told)
    done(place, "keys", "import", "key.pem", "--passphrase", f"file:{secret}")
    held = (place.ring / "partner-1.pem").read_bytes()
    read = formats.read_private_key(held, PASSPHRASE.encode())
    assert read.private_numbers() == partner_key.private_numbers()
    done(place, "keys", "destroy", "1")
    assert "passphrase" not in manifest(place)


def test_a_wrong_or_missing_passphrase_is_told_with_its_place(place, secret):
    done(place, "keys", "generate", "--passphrase", f"file:{secret}")
    secret.write_text("another")
    told = place.gateway("check")
    assert "partner[0].key" in told.stderr.decode()
    assert "its passphrase is wrong" in told.stderr.decode()
    assert "another" not in told.stderr.decode()
    secret.unlink()
    told = place.gateway("keys", "list")
    assert "its passphrase is missing" in told.stderr.decode()
    assert str(secret) in told.stderr.decode()


@pytest.mark.parametrize("where", [PASSPHRASE, "file:here", "env:a b", "file:", "env:"])
def test_a_passphrase_itself_is_no_place_and_is_not_repeated(place, where):
    told = place.gateway("keys", "generate", "--passphrase", where)
    assert told.returncode == 2
    assert "must be file:/PATH or env:NAME" in told.stderr.decode()
    assert PASSPHRASE not in told.stderr.decode()


# --- tokens ------------------------------------------------------------------


def test_a_pair_in_a_token_lives_as_one_in_a_file_does(place, hsm, partner_key):
    uri = hsm.uri("first")
    told = done(place, "keys", "import", uri, "--version", "A", "--json")
    facts = json.loads(told)
    assert facts["version"] == "A"
    assert facts["state"] == "pre-active"
    assert facts["fingerprint"] == formats.fingerprint(partner_key.public_key())
    assert uri in manifest(place)
    assert PIN not in manifest(place)
    public = done(place, "keys", "public", "A")
    assert public == formats.public_pem(partner_key.public_key())
    told = done(place, "keys", "activate", "A")
    assert "it signs and decrypts from now on" in told
    assert "no problem" in done(place, "check")
    assert uri in done(place, "keys", "list", "--json")
    message = done(place, "sign", "-", *TARGET, "--message", given=b"{}")
    assert "keyVersion=A" in message
    told = place.gateway("verify", "-", "--from", "partner", given=message.encode())
    assert told.returncode == 0, told.stderr


def test_an_answer_is_decrypted_in_the_token(place, hsm, partner_key, platform_key):
    done(place, "keys", "import", hsm.uri("first"), "--activate")
    answer = peer.sealed_answer(platform_key, partner_key.public_key())
    lines = ["HTTP/1.1 200 OK", *(f"{n}: {v}" for n, v in answer.headers), "", ""]
    raw = "\r\n".join(lines).encode() + answer.body
    assert done(place, "decrypt", "-", *TARGET, given=raw).encode() == peer.SUCCESS


def test_destroying_it_leaves_the_token_alone_and_says_so(place, hsm):
    done(place, "keys", "import", hsm.uri("first"))
    told = done(place, "keys", "destroy", "1")
    assert "is not touched: destroy the key where it is" in told
    assert "pkcs11:" not in manifest(place)
    other = place.folder / "another-ring"  # in this one it may not return
    done(place, "keys", "import", hsm.uri("first"), "--keyring", other)


def test_what_cannot_be_taken_up_is_told_and_changes_nothing(place, hsm, secret):
    before = manifest(place)
    uri = hsm.uri("first")
    for arguments, status, says in (
        ((hsm.uri("second"),), 1, "no private key of that label"),
        ((uri, "--platform"), 2, "a URI names a pair of ours"),
        ((uri, "--passphrase", f"file:{secret}"), 2, "which has no passphrase"),
        ((uri.replace("pin-source", "pin-value"),), 1, "use pin-source"),
        ((uri.replace("token=ours", "token=theirs"),), 1, "out of reach"),
        (("vault:ours",), 1, "no home of keys called vault:"),
    ):
        told = place.gateway("keys", "import", *arguments)
        assert told.returncode == status
        assert says in told.stderr.decode()
    assert manifest(place) == before


def test_a_token_that_is_away_holds_up_no_step_to_another_key(place, hsm):
    """The one key that is active there goes: we go on with a key in a file."""
    done(place, "keys", "import", hsm.uri("first"), "--activate")
    hsm.take_away()
    told = place.gateway("check")
    assert "out of reach" in told.stderr.decode()
    done(place, "keys", "generate")
    told = done(place, "keys", "activate", "2")
    assert "partner version 1: active -> deactivated" in told
    assert "no problem" in done(place, "check")
    told = done(place, "keys", "list")
    assert "deactivated" in told


def test_a_key_of_a_token_that_is_away_is_not_put_in_use(place, hsm):
    done(place, "keys", "import", hsm.uri("first"))
    done(place, "keys", "public", "1")
    hsm.take_away()
    told = place.gateway("keys", "activate", "1")
    assert told.returncode == 1
    assert "out of reach" in told.stderr.decode()
    assert "state: pre-active" in manifest(place)


# --- a pair that is made in a token ------------------------------------------


def attributes(label):
    """Give what the token says of a private key."""
    from pkcs11 import Attribute, ObjectClass
    from pkcs11._pkcs11 import lib

    library = lib(str(SOFTHSM))
    wanted = {Attribute.LABEL: label, Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    asked = ("SENSITIVE", "EXTRACTABLE", "NEVER_EXTRACTABLE", "LOCAL", "PRIVATE")
    uses = ("SIGN", "DECRYPT", "UNWRAP")
    with library.get_token(token_label="ours").open(user_pin=PIN) as session:
        (key,) = session.get_objects(wanted)
        facts = {name: key[Attribute[name]] for name in (*asked, *uses)}
    library.finalize()
    return facts


def test_a_pair_is_made_in_the_token_and_never_leaves_it(place, hsm, platform_key):
    uri = hsm.uri("made")
    facts = json.loads(done(place, "keys", "generate", "--in", uri, "--json"))
    assert (facts["version"], facts["state"], facts["bits"]) == (
        "1",
        "pre-active",
        2048,
    )
    assert uri in manifest(place)
    assert facts["fingerprint"] in manifest(place)
    assert not list(place.ring.glob("partner-*"))
    done(place, "keys", "activate", "1")
    message = done(place, "sign", "-", *TARGET, "--message", given=b"{}")
    told = place.gateway("verify", "-", "--from", "partner", given=message.encode())
    assert told.returncode == 0, told.stderr
    public = read_public_key(facts["public_pem"].encode())
    answer = peer.sealed_answer(platform_key, public)
    lines = ["HTTP/1.1 200 OK", *(f"{n}: {v}" for n, v in answer.headers), "", ""]
    raw = "\r\n".join(lines).encode() + answer.body
    assert done(place, "decrypt", "-", *TARGET, given=raw).encode() == peer.SUCCESS
    assert attributes("made") == {
        **dict.fromkeys(("SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL", "PRIVATE"), True),
        "EXTRACTABLE": False,
        "SIGN": True,
        "DECRYPT": True,
        "UNWRAP": False,
    }


@pytest.mark.parametrize("use", ["sign", "decrypt"])
def test_a_pair_that_is_made_for_one_use_can_do_no_other(place, hsm, use):
    words = ("--in", hsm.uri("made", id="%07"), "--use", use, "--bits", "3072")
    told = json.loads(done(place, "keys", "generate", *words, "--json"))
    assert (told["uses"], told["bits"]) == ([use], 3072)
    facts = attributes("made")
    assert (facts["SIGN"], facts["DECRYPT"]) == (use == "sign", use == "decrypt")


def test_a_pair_that_cannot_be_made_in_the_token_changes_nothing(place, hsm, secret):
    before = manifest(place)
    uri = hsm.uri("made")
    for arguments, status, says in (
        ((hsm.uri("first"),), 1, "a key of that label and id already"),
        ((uri, "--passphrase", f"file:{secret}"), 2, "--in makes none"),
        ((uri.replace("token=ours", "token=theirs"),), 1, "out of reach"),
        (("file:a.pem",), 1, "no pair can be made at a file: location"),
        (("vault:ours",), 1, "no private key may be at a vault: location"),
    ):
        told = place.gateway("keys", "generate", "--in", *arguments)
        assert told.returncode == status
        assert says in told.stderr.decode()
    assert manifest(place) == before
    told = done(place, "keys", "generate", "--in", uri, "--dry-run")
    assert f"made in {uri}" in told
    assert manifest(place) == before
    done(place, "keys", "generate", "--in", uri)
    other = hsm.uri("other")
    told = place.gateway("keys", "generate", "--in", other, "--version", "1")
    assert "version 1 is there already" in told.stderr.decode()
    done(place, "keys", "generate", "--in", other)


def test_a_pair_that_was_made_for_a_change_that_failed_is_told(place, hsm):
    (place.ring / "keyring.yaml").chmod(0o666)  # the gateway would refuse the ring
    (place.ring / "platform-1.pem").chmod(0o666)
    uri = hsm.uri("made")
    told = place.gateway("keys", "generate", "--in", uri)
    assert told.returncode == 1
    assert f"the pair was made, and no ring names it: gateway keys import '{uri}'" in (
        told.stderr.decode()
    )
    (place.ring / "platform-1.pem").chmod(0o644)
    (place.ring / "keyring.yaml").chmod(0o644)
    done(place, "keys", "import", uri)


# --- where keys may live -----------------------------------------------------


@pytest.fixture
def tokens_alone(place):
    file = place.folder / "config.yaml"
    file.write_text(file.read_text() + "keys: {homes: [pkcs11]}\n")
    return place


REFUSED = "no private key may be at a file: location: keys.homes of the configuration"


def test_no_key_gets_into_a_file_where_tokens_alone_are_allowed(
    tokens_alone, hsm, partner_key, tmp_path_factory
):
    place = tokens_alone
    file = place.folder / "ours.pem"
    file.touch(0o600)
    file.write_bytes(formats.private_pem(partner_key))
    before = manifest(place)
    for words in (
        ("generate",),
        ("generate", "--dry-run"),
        ("import", file),
        ("import", file, "--dry-run"),
        ("generate", "--keyring", place.ring),
    ):
        told = place.gateway("keys", *words)
        assert (told.returncode, REFUSED in told.stderr.decode()) == (1, True), words
    elsewhere = Workspace(tmp_path_factory.mktemp("elsewhere"))
    told = elsewhere.gateway("keys", "generate", "--keyring", place.ring)
    assert REFUSED in told.stderr.decode()
    assert manifest(place) == before
    done(place, "keys", "generate", "--in", hsm.uri("made"))
    done(place, "keys", "activate", "1")
    assert "no problem" in done(place, "check")


def test_a_ring_with_a_key_in_a_file_is_refused_where_tokens_alone_are_allowed(
    place, hsm, partner_key
):
    put(place.ring, Party.PARTNER, partner_key)
    assert "no problem" in done(place, "check")
    file = place.folder / "config.yaml"
    file.write_text(file.read_text() + "keys: {homes: [pkcs11]}\n")
    for words in (["check"], ["keys", "list"], ["sign", "-", *TARGET]):
        told = place.gateway(*words, given=b"{}")
        assert told.returncode == 1, words
        text = told.stderr.decode() + told.stdout.decode()
        assert f"partner-1.pem: {REFUSED}" in text, words
    done(place, "keys", "compromise", "1")  # which is the way out of it
    assert "missing: a partner key" in place.gateway("check").stderr.decode()
