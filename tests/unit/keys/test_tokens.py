"""Pairs in tokens: what they must be able to do, their PIN, and their sessions."""

import asyncio
import builtins
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from pkcs11 import (
    Attribute,
    KeyType,
    Mechanism,
    MechanismFlag,
    ObjectClass,
    TokenFlag,
)
from pkcs11._pkcs11 import lib
from pkcs11.exceptions import (
    AttributeTypeInvalid,
    EncryptedDataInvalid,
    MechanismInvalid,
)

from gateway.errors import KeyringError, KeyUnavailable
from gateway.keys.backends.homes import Homes
from gateway.keys.backends.pkcs11 import key as keys, token as tokens
from gateway.keys.backends.pkcs11.home import Pkcs11Home
from gateway.keys.backends.pkcs11.module import Module
from gateway.keys.backends.pkcs11.workers import Workers
from gateway.keys.model import PARTNER_USES, Use
from gateway.keys.ports import Place
from gateway.sharing import Memory
from tests import peer
from tests.tokens import PIN, SOFTHSM, SoftHsm


@pytest.fixture
def softhsm(tmp_path, partner_key, monkeypatch):
    made = SoftHsm(tmp_path / "hsm")
    made.token()
    made.put(partner_key, "first")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def home():
    made = Pkcs11Home({"PIN": PIN}, entropy=os.urandom, monotonic=time.monotonic)
    yield made
    made.close()


@pytest.fixture
def opened(home, tmp_path):
    """Give a function that opens a pair by its URI."""

    def open_(uri, uses=PARTNER_USES):
        return home.open(Place(uri, "1", frozenset(uses), tmp_path))

    return open_


def refusal(opened, uri, **more):
    with pytest.raises(KeyringError) as caught:
        opened(uri, **more)
    assert PIN not in caught.value.detail
    return caught.value.detail


def change(label, attributes, kinds=(ObjectClass.PRIVATE_KEY,)):
    """Change a pair in its token, or take a half of it away where there is nothing."""
    library = lib(str(SOFTHSM))
    with library.get_token(token_label="ours").open(rw=True, user_pin=PIN) as session:
        for kind in kinds:
            wanted = {Attribute.LABEL: label, Attribute.CLASS: kind}
            for each in list(session.get_objects(wanted)):
                for attribute, value in attributes.items():
                    each[attribute] = value
    library.finalize()


# --- what a pair must be able to do ------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "uses", "says"),
    [
        (
            Attribute.SIGN,
            (Use.SIGN, Use.DECRYPT),
            "it may not sign (CKA_SIGN is false)",
        ),
        (
            Attribute.DECRYPT,
            (Use.DECRYPT, Use.SIGN),
            "it may not decrypt (CKA_DECRYPT is false); give the entry use: [sign]",
        ),
    ],
)
def test_a_pair_that_may_not_do_what_it_is_for_is_refused_at_once(
    softhsm, opened, attribute, uses, says
):
    use, other = uses
    change("first", {attribute: False})
    assert says in refusal(opened, softhsm.uri("first"))
    assert says in refusal(opened, softhsm.uri("first"), uses={use})
    opened(softhsm.uri("first"), uses={other})
    opened(softhsm.uri("first"), uses=())


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        (Use.DECRYPT, "its token cannot unwrap PKCS#1 v1.5 (CKM_RSA_PKCS)"),
        (Use.SIGN, "its token cannot sign with RSA PKCS#1 v1.5"),
    ],
)
def test_a_token_that_has_not_the_mechanism_is_refused_at_once(
    softhsm, opened, monkeypatch, lacks, says
):
    offers = keys._offers

    def but(seat, mechanism, flag):
        return flag.name != lacks.name and offers(seat, mechanism, flag)

    monkeypatch.setattr(keys, "_offers", but)
    assert says in refusal(opened, softhsm.uri("first"))
    opened(softhsm.uri("first"), uses=PARTNER_USES - {lacks})


def test_a_token_knows_what_it_offers():
    info = SimpleNamespace(get_mechanisms=set)
    seat = SimpleNamespace(session=SimpleNamespace(token=SimpleNamespace(slot=info)))
    assert keys._signing(seat) is None


async def test_where_the_token_does_not_hash_we_do(
    softhsm, opened, partner_key, monkeypatch
):
    monkeypatch.setattr(keys, "_SIGNING", (Mechanism.RSA_PKCS,))
    signature = await opened(softhsm.uri("first")).sign(b"base")
    partner_key.public_key().verify(
        signature, b"base", padding.PKCS1v15(), hashes.SHA256()
    )


async def test_a_refused_padding_is_no_error_whatever_the_token_calls_it(
    softhsm, opened, partner_key, monkeypatch
):
    """SoftHSM says general error; others say that the data is invalid."""
    pair = opened(softhsm.uri("first"))
    refusing = SimpleNamespace(get_attributes=lambda _: {}, decrypt=None)

    def refuse(*_, **__):
        raise EncryptedDataInvalid

    refusing.decrypt = refuse
    monkeypatch.setattr(tokens.Seat, "key", lambda *_: refusing)
    wrapped = peer.wrap(partner_key.public_key())
    assert await pair.unwrap(wrapped) == await pair.unwrap(wrapped)
    assert len(await pair.unwrap(wrapped)) == 32


def test_which_pair_is_meant_must_be_clear(softhsm, opened, other_key):
    softhsm.put(other_key, "first", "02")
    both = softhsm.uri("first")
    without_pin = both.partition("&")[0]
    assert "without a pin-source=" in refusal(opened, without_pin)
    assert refusal(opened, both) == (
        "2 private keys of the token fit; name one by its id="
    )
    opened(softhsm.uri("first", id="%02"))
    assert "no private key of that label" in refusal(opened, softhsm.uri("none"))


def test_which_token_is_meant_must_be_clear(softhsm, opened):
    softhsm.token("theirs")
    anyone = softhsm.uri("first").replace("token=ours;", "")
    assert "2 tokens of" in refusal(opened, anyone)
    with pytest.raises(KeyUnavailable, match="TokenNotPresent"):
        opened(softhsm.uri("first", serial="0"))


# --- the PIN -----------------------------------------------------------------


def test_a_wrong_pin_is_tried_once_until_it_changes(softhsm, opened, monkeypatch):
    tried = []
    real = tokens.Token._log_in
    monkeypatch.setattr(
        tokens.Token, "_log_in", lambda each: tried.append(1) or real(each)
    )
    uri = softhsm.uri("first")
    softhsm.pin.write_text("0000")
    assert "refuses its PIN in file:" in refusal(opened, uri)
    for _ in range(20):  # SoftHSM would lock after a few
        assert "is not tried again" in refusal(opened, uri)
    softhsm.pin.write_text(PIN)
    opened(uri)


TRY = """
import os, sys, time
from pathlib import Path
from gateway.errors import KeyringError, KeyUnavailable
from gateway.keys.backends.pkcs11.home import Pkcs11Home
from gateway.keys.ports import Place
from gateway.sharing import Memory, SharedRefusals
memory, uri = Memory(int(sys.argv[1])), sys.argv[2]
home = Pkcs11Home(
    {}, entropy=os.urandom, monotonic=time.monotonic,
    refusals=SharedRefusals(memory, os.urandom),
)
print("ready", flush=True)
sys.stdin.readline()
told = 0
while told < 3:
    try:
        home.open(Place(uri, "1", frozenset(), Path()))
        print("opened")
    except KeyringError as error:
        print(error.detail)
    except KeyUnavailable:  # SoftHSM's files, while another process writes them
        time.sleep(0.1)
        continue
    told += 1
"""


def test_processes_that_share_refusals_try_a_wrong_pin_once(softhsm):
    """Also under another name of the same token, and at the same moment."""
    softhsm.pin.write_text("0000")
    memory = Memory.new(os.urandom)
    uris = [
        softhsm.uri("first"),
        softhsm.uri("first", manufacturer="SoftHSM%20project"),
    ]
    told = tried(memory, uris * 2)
    assert sum("the token refuses its PIN" in each for each in told) == 1
    assert sum("is not tried again" in each for each in told) == 11
    softhsm.pin.write_text(PIN)
    assert tried(memory, uris) == ["opened"] * 6
    softhsm.pin.write_text("1111")
    told = tried(memory, uris)
    assert sum("the token refuses its PIN" in each for each in told) == 1
    memory.close()


def tried(memory, uris):
    """Have as many processes as there are URIs open a pair thrice; give what they say."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRY, str(memory.descriptor), uri],
            pass_fds=[memory.descriptor],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for uri in uris
    ]
    for each in processes:
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        each.stdin.write("go\n")
        each.stdin.flush()
    return [
        line
        for each in processes
        for line in each.communicate(timeout=60)[0].splitlines()
    ]


def test_two_names_of_a_token_do_not_try_a_wrong_pin_twice(softhsm, opened):
    softhsm.pin.write_text("0000")
    assert "refuses its PIN" in refusal(opened, softhsm.uri("first"))
    other = softhsm.uri("first", manufacturer="SoftHSM%20project")
    assert "is not tried again" in refusal(opened, other)


LOW, LAST = TokenFlag.USER_PIN_COUNT_LOW, TokenFlag.USER_PIN_FINAL_TRY


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (LOW | LAST, "has one try of its PIN left, which is not taken"),
        (TokenFlag.USER_PIN_LOCKED, "has locked its PIN"),
        (LOW, None),
        (LAST, None),
        (TokenFlag.TOKEN_INITIALIZED, None),
    ],
)
def test_the_last_try_before_a_token_locks_is_not_taken(flags, says):
    """After a restart nobody knows which PIN was refused, but the token counts."""
    if says is None:
        tokens._check_tries(flags)
        return
    with pytest.raises(KeyringError, match=says):
        tokens._check_tries(flags)


def test_the_tokens_own_count_is_asked_before_each_login(softhsm, opened, monkeypatch):
    seen = []
    monkeypatch.setattr(tokens, "_check_tries", seen.append)
    softhsm.pin.write_text("0000")
    refusal(opened, softhsm.uri("first"))
    softhsm.pin.write_text("1111")
    refusal(opened, softhsm.uri("first"))
    assert [bool(flags & LOW) for flags in seen] == [False, True]


def test_a_pin_may_stand_in_a_variable(softhsm, opened):
    uri = softhsm.uri("first")
    place = f"file:{softhsm.pin}"
    opened(uri.replace(place, "env:PIN"))


def test_a_pin_that_is_missing_or_no_text_is_told(softhsm, opened):
    uri = softhsm.uri("first")
    softhsm.pin.write_bytes(b"\xff")
    assert "is not UTF-8" in refusal(opened, uri)
    softhsm.pin.unlink()
    assert "its PIN is missing" in refusal(opened, uri)


# --- sessions ----------------------------------------------------------------


@pytest.fixture
def logins(monkeypatch):
    """Note each login."""
    noted = []
    real = tokens.Token._log_in

    def noting(token):
        session = real(token)
        noted.append(token)
        return session

    monkeypatch.setattr(tokens.Token, "_log_in", noting)
    return noted


async def test_many_signatures_over_many_reloads_take_one_login(
    softhsm, opened, logins
):
    for _ in range(5):
        pair = opened(softhsm.uri("first"))
        await asyncio.gather(*(pair.sign(b"x") for _ in range(32)))
    (token,) = logins
    assert 0 < len(token._free) <= 8


async def test_two_names_of_a_token_share_its_login(softhsm, opened):
    first = opened(softhsm.uri("first"))
    by_maker = softhsm.uri("first", manufacturer="SoftHSM%20project")
    second = opened(by_maker)
    assert await first.sign(b"x") == await second.sign(b"x")


async def test_sessions_end_when_no_pair_needs_them(softhsm, home, opened, logins):
    pair = opened(softhsm.uri("first"))
    await pair.sign(b"x")
    home.tidy()
    await pair.sign(b"x")
    assert len(logins) == 1
    del pair
    async with asyncio.timeout(5):
        while logins[0]._login is not None:  # a worker may be about to let go of it
            home.tidy()
            await asyncio.sleep(0.01)
    await opened(softhsm.uri("first")).sign(b"x")
    assert len(logins) == 2


async def test_homes_are_tidied_now_and_then(softhsm, home, opened, monkeypatch):
    monkeypatch.setattr("gateway.keys.backends.homes._TIDY_SECONDS", 0.01)
    opened(softhsm.uri("first"))
    watch = asyncio.ensure_future(Homes({"pkcs11": home}).watch())
    async with asyncio.timeout(5):
        while home._tokens:  # noqa: ASYNC110 - it is watched, not told
            await asyncio.sleep(0.01)
    watch.cancel()


async def test_a_session_that_is_gone_is_made_up_for_in_the_same_call(
    softhsm, opened, partner_key, logins
):
    pair = opened(softhsm.uri("first"))
    await pair.sign(b"x")
    (token,) = logins
    for seat in token._free:
        seat.session.close()
    token._login.close()  # and with it the login
    assert await pair.sign(b"x")
    wrapped = peer.wrap(partner_key.public_key())
    for seat in token._free:
        seat.session.close()
    assert await pair.unwrap(wrapped) == peer.CONTENT_KEY


async def test_after_its_end_a_home_gives_nothing_more(softhsm, home, opened):
    pair = opened(softhsm.uri("first"))
    home.close()
    with pytest.raises(KeyUnavailable):
        await pair.sign(b"x")


async def test_a_token_that_does_not_answer_is_not_waited_for(
    softhsm, opened, monkeypatch
):
    monkeypatch.setattr(tokens, "WAIT_S", 0.2)
    monkeypatch.setattr(tokens, "_PAUSES_S", (0.1,))
    pair = opened(softhsm.uri("first"))
    over = threading.Event()
    monkeypatch.setattr(keys.TokenKey, "_sign", lambda *_: over.wait(20))
    with pytest.raises(KeyUnavailable, match="does not answer"):
        await pair.sign(b"x")
    with pytest.raises(KeyUnavailable, match="a moment ago"):
        await pair.sign(b"x")
    over.set()
    monkeypatch.undo()
    await asyncio.sleep(0.2)


async def test_a_pair_that_was_found_before_is_given_while_its_token_is_away(
    softhsm, opened
):
    """A reload need not wait for the token, and the pair works when it is back."""
    opened(softhsm.uri("first"))
    softhsm.take_away()
    pair = opened(softhsm.uri("first"))
    with pytest.raises(KeyUnavailable):
        await pair.sign(b"x")
    with pytest.raises(KeyUnavailable):
        opened(softhsm.uri("second"))
    softhsm.bring_back()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await pair.sign(b"x")
                break
            except KeyUnavailable:
                await asyncio.sleep(0.05)


# --- the library -------------------------------------------------------------


def test_without_python_pkcs11_it_is_told_what_to_install(opened, softhsm, monkeypatch):
    real = builtins.__import__

    def without(name, *more):
        if name == "gateway.keys.backends.pkcs11" and more[2] == ("key",):
            raise ImportError
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    told = refusal(opened, softhsm.uri("first"))
    assert "pip install '.[pkcs11]'" in told


def test_what_is_no_library_is_told(tmp_path):
    file = tmp_path / "a.so"
    file.write_text("hello")
    with pytest.raises(KeyringError, match="it is no PKCS#11 library"):
        Module(file)
    with pytest.raises(KeyringError, match="No such file"):
        Module(tmp_path / "none.so")
    file.chmod(0o666)
    with pytest.raises(KeyringError, match="others may write to it"):
        Module(file)


def test_a_library_that_another_has_initialised_is_left_alone(softhsm, opened, home):
    library = lib(str(SOFTHSM))
    try:
        told = refusal(opened, softhsm.uri("first"))
    except KeyUnavailable as error:
        told = error.detail
    finally:
        library.finalize()
    assert told


def test_a_library_is_not_initialised_anew_while_a_call_is_under_way(
    softhsm, monkeypatch
):
    monkeypatch.setattr("gateway.keys.backends.pkcs11.module._PATIENCE_S", 0.01)
    module = Module(SOFTHSM)
    module.restart(0)
    with module.use() as era:
        module.restart(era)
    with module.use() as after:
        assert after == era
    module.restart(0)  # somebody did since
    with module.use() as after:
        assert after == era
    module.close()


def test_a_call_that_nobody_waits_for_any_more_is_not_begun():
    workers, begun = Workers("test", 1), threading.Event()
    first = workers.submit(begun.wait)
    second = workers.submit(lambda: 1 / 0)
    assert second.cancel()
    third = workers.submit(lambda: "done")
    begun.set()
    assert first.result(5)
    assert third.result(5) == "done"
    workers.stop()


# --- what else may lie in a token --------------------------------------------


class Piece(dict):
    """An object of a token, with these attributes and no others."""

    key_type = KeyType.RSA

    def __missing__(self, attribute):
        raise AttributeTypeInvalid(attribute)


def examined(key, uses=(), publics=()):
    mechanisms = SimpleNamespace(
        get_mechanisms=lambda: {Mechanism.RSA_PKCS},
        get_mechanism_info=lambda _: SimpleNamespace(
            flags=MechanismFlag.SIGN | MechanismFlag.DECRYPT
        ),
    )
    seat = SimpleNamespace(
        key=lambda _: key,
        find=lambda *_: list(publics),
        session=SimpleNamespace(token=SimpleNamespace(slot=mechanisms)),
    )
    return keys.examine(SimpleNamespace(), frozenset(uses), seat)


def halves(key):
    numbers = key.public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    return Piece(
        {
            Attribute.MODULUS: numbers.n.to_bytes(size),
            Attribute.PUBLIC_EXPONENT: numbers.e.to_bytes(3),
            Attribute.SIGN: True,
        }
    )


def test_the_public_half_may_be_an_object_of_its_own(partner_key):
    found = examined(Piece({Attribute.SIGN: True}), {Use.SIGN}, [halves(partner_key)])
    numbers = partner_key.public_key().public_numbers()
    assert found.rsa.public_numbers() == numbers
    assert found.signing is Mechanism.RSA_PKCS


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({Attribute.MODULUS: b"\1" * 128}, "at least 2048 are needed"),
        ({Attribute.PUBLIC_EXPONENT: b"\3"}, "its public exponent is 3"),
        ({Attribute.PUBLIC_EXPONENT: b"\4"}, "its public half cannot be read"),
        ({Attribute.MODULUS: b""}, "its public half cannot be read"),
        ({Attribute.ALWAYS_AUTHENTICATE: True}, "asks for the PIN with each signature"),
    ],
)
def test_what_no_gateway_can_use_is_told(partner_key, change, says):
    key = halves(partner_key)
    key.update(change)
    with pytest.raises(KeyringError, match=says):
        examined(key)


def test_a_key_that_is_not_rsa_is_told(partner_key):
    key = halves(partner_key)
    key.key_type = KeyType.EC
    with pytest.raises(KeyringError, match="no RSA key"):
        examined(key)


def test_a_mechanism_that_the_token_names_and_does_not_know_is_none():
    def unknown(_):
        raise MechanismInvalid

    slot = SimpleNamespace(
        get_mechanisms=lambda: {Mechanism.RSA_PKCS}, get_mechanism_info=unknown
    )
    seat = SimpleNamespace(session=SimpleNamespace(token=SimpleNamespace(slot=slot)))
    assert keys._signing(seat) is None
