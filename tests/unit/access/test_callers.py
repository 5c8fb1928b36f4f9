"""Who is who: tokens and certificates, each as its caller's entry says."""

import hashlib
import os
import re
import sys
from contextlib import suppress

import pytest

from gateway.access.callers import Caller, Callers, Credentials
from gateway.access.tokens import hash_token, new_token, read_bearer
from gateway.errors import Outcome, Unauthenticated

TOKEN, OTHER = "t" * 43, "o" * 43
SPIFFE = "spiffe://prod/orders"

CATALOGUE = Caller("catalogue", (hash_token(TOKEN),))
ORDERS = Caller("orders", certificate=SPIFFE)
PAY = Caller("pay", (hash_token(OTHER),), "spiffe://prod/pay")
ALL = Callers([CATALOGUE, ORDERS, PAY])


def shown(token=None, *names):
    authorization = () if token is None else (f"Bearer {token}",)
    return Credentials(authorization, frozenset(names) if names else None)


KNOWN = {
    "a token": (shown(TOKEN), CATALOGUE),
    "a token over a certificate of no caller": (
        shown(TOKEN, "spiffe://prod/proxy"),
        CATALOGUE,
    ),
    "a certificate": (shown(None, SPIFFE), ORDERS),
    "a certificate of several names": (shown(None, "orders.prod", SPIFFE), ORDERS),
    "a token and a certificate": (shown(OTHER, "spiffe://prod/pay"), PAY),
    "bearer in small letters": (Credentials((f"bearer {TOKEN}",)), CATALOGUE),
}


@pytest.mark.parametrize(("credentials", "caller"), KNOWN.values(), ids=KNOWN.keys())
def test_a_caller_is_known_by_what_its_entry_says(credentials, caller):
    assert ALL.identify(credentials) is caller


UNKNOWN = {
    "nothing": Credentials(),
    "no certificate's names": Credentials((), frozenset()),
    "another token": shown("x" * 43),
    "a token but for its last letter": shown(TOKEN[:-1] + "u"),
    "a token and more": shown(TOKEN + "t"),
    "a token in the wrong case": shown(TOKEN.upper()),
    "the hash itself": shown(hash_token(TOKEN).hex()),
    "another name": shown(None, "spiffe://prod/order"),
    "a name in another case": shown(None, SPIFFE.upper()),
    "half of what is needed: the token": shown(OTHER),
    "half of what is needed: the name": shown(None, "spiffe://prod/pay"),
    "one caller's token, another's name": shown(OTHER, SPIFFE),
    "a good name and a wrong token": shown("x" * 43, SPIFFE),
    "a good name and no bearer": Credentials(("Basic eDp5",), frozenset({SPIFFE})),
    "a token as Basic": Credentials((f"Basic {TOKEN}",)),
    "no scheme": Credentials((TOKEN,)),
    "an empty header": Credentials(("",)),
    "a scheme alone": Credentials(("Bearer",)),
    "two tokens in one": shown(f"{TOKEN} {TOKEN}"),
    "a list of tokens": shown(f"{TOKEN}, {TOKEN}"),
    "two headers, both right": Credentials((f"Bearer {TOKEN}",) * 2),
    "letters outside of ASCII": shown("é" * 43),
}


@pytest.mark.parametrize("credentials", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_whoever_shows_anything_else_is_nobody(credentials):
    with pytest.raises(Unauthenticated) as caught:
        ALL.identify(credentials)
    assert caught.value.outcome is Outcome.NOT_SENT


def test_all_who_are_nobody_are_told_the_same():
    told = set()
    for credentials in UNKNOWN.values():
        with pytest.raises(Unauthenticated) as caught:
            ALL.identify(credentials)
        told.add(caught.value.detail)
    assert len(told) == 1


def test_two_tokens_are_good_while_one_replaces_the_other():
    caller = Caller("pay", (hash_token(TOKEN), hash_token(OTHER)))
    callers = Callers([caller])
    assert callers.identify(shown(TOKEN)) is callers.identify(shown(OTHER)) is caller


def steps_of(callers, credentials):
    """Count the calls, of Python and of C, that it takes to identify a caller."""
    calls = []
    sys.setprofile(lambda _frame, event, _: calls.append(event))
    try:
        with suppress(Unauthenticated):
            callers.identify(credentials)
    finally:
        sys.setprofile(None)
    return len([each for each in calls if each.endswith("call")])


@pytest.mark.parametrize("shows", [shown("x" * 20), shown("7" * 20), shown(None, "n7")])
def test_who_calls_costs_the_same_with_a_thousand_callers(shows):
    """P11: a stranger's 401 must not be a thousand comparisons."""

    def callers(count):
        return Callers(
            [
                *(Caller(f"t{n}", (hash_token(f"{n}" * 20),)) for n in range(count)),
                *(Caller(f"c{n}", certificate=f"n{n}") for n in range(count)),
            ]
        )

    assert steps_of(callers(8), shows) == steps_of(callers(1000), shows)


@pytest.mark.parametrize("place", [0, 15, 31])
def test_a_hash_that_is_nearly_right_is_that_of_nobody(place):
    near = bytearray(hash_token(TOKEN))
    near[place] ^= 1
    callers = Callers([Caller("a", (bytes(near),))])
    with pytest.raises(Unauthenticated):
        callers.identify(shown(TOKEN))


def test_no_text_shows_a_token_or_its_hash():
    texts = f"{CATALOGUE!r} {ALL!r} {shown(TOKEN)!r}"
    assert TOKEN not in texts
    assert hash_token(TOKEN).hex() not in texts
    assert repr(hash_token(TOKEN)) not in texts


def test_a_token_is_256_bits_of_the_operating_system_with_a_name_for_scanners():
    bits = bytes(range(32))
    token = new_token(lambda size: bits[:size])
    assert token == "ahkgw_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert re.fullmatch(r"ahkgw_[A-Za-z0-9_-]{43}", new_token(os.urandom))
    assert read_bearer(f"Bearer {token}") == token


def test_a_hash_is_that_of_the_tokens_text():
    # printf %s password | sha256sum
    assert hash_token("password").hex() == (
        "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
    )
    assert hash_token("x") == hashlib.sha256(b"x").digest()


def test_without_callers_there_are_none():
    assert not Callers([])
    assert ALL
