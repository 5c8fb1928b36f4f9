"""PKCS#11 URIs: what is read, and what is refused."""

from pathlib import Path

import pytest

from gateway.errors import KeyringError
from gateway.keys.backends.pkcs11 import uri

MODULE = "?module-path=/usr/lib/a.so"


def test_a_uri_is_read_whole():
    found = uri.parse(
        "pkcs11:token=The%20HSM;serial=01ab;manufacturer=M;model=X;object=a%3Bb;"
        "id=%01%ff;type=private?module-path=/usr/lib/a.so&pin-source=file:/run/pin"
    )
    assert found.token == {
        "token": "The HSM",
        "serial": "01ab",
        "manufacturer": "M",
        "model": "X",
    }
    assert (found.label, found.id) == ("a;b", b"\1\xff")
    assert found.module == Path("/usr/lib/a.so")
    assert found.pin_source == "file:/run/pin"


@pytest.mark.parametrize(
    ("source", "read"),
    [("/run/pin", "file:/run/pin"), ("file:/run/pin", "file:/run/pin"), ("env:P",) * 2],
)
def test_a_pin_is_named_by_its_place(source, read):
    found = uri.parse(f"pkcs11:object=a{MODULE}&pin-source={source}")
    assert found.pin_source == read


def test_a_library_is_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "pkcs11").mkdir()
    library = tmp_path / "pkcs11/libhsm.so"
    library.touch()
    monkeypatch.setattr(uri, "_LIBRARIES", (str(tmp_path),))
    assert uri.parse("pkcs11:id=%01?module-name=hsm").module == library
    with pytest.raises(KeyringError, match=r"no library other\.so is installed"):
        uri.parse("pkcs11:id=%01?module-name=other")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"pkcs11:token=a{MODULE}", "it names no key"),
        (f"pkcs11:{MODULE}", "it names no key"),
        ("pkcs11:object=a", "it names no library"),
        ("pkcs11:object=a?module-name=../a", "it names no library"),
        ("pkcs11:object=a?module-path=a.so", "must be an absolute path"),
        (f"pkcs11:object=a{MODULE}&module-name=a", "without a module-name="),
        (f"pkcs11:object=a;type=public{MODULE}", "type= must be private"),
        (f"pkcs11:object=a;objekt=b{MODULE}", "an attribute is not known here"),
        (f"pkcs11:object{MODULE}", "an attribute is not known here"),
        (f"pkcs11:object=a;object=b{MODULE}", "object= stands twice"),
        (f"pkcs11:object={MODULE}", "object= is empty"),
        (f"pkcs11:object=a b{MODULE}", "written as %XX"),
        (f"pkcs11:object=%f{MODULE}", "written as %XX"),
        (f"pkcs11:object=%ff{MODULE}", "object= is not UTF-8"),
        (f"pkcs11:object=a{MODULE}&pin-value=hunter2", "use pin-source"),
        (f"pkcs11:object=a;pin-value=hunter2{MODULE}", "use pin-source"),
        (f"pkcs11:object=a{MODULE}&pin-source=hunter2", "pin-source= must be file:"),
        (f"pkcs11:object=a{MODULE}&hunter2=1", "an attribute is not known here"),
    ],
)
def test_what_is_wrong_with_a_uri_is_told_without_a_pin(text, says):
    with pytest.raises(KeyringError) as caught:
        uri.parse(text)
    assert says in caught.value.detail
    assert "hunter2" not in caught.value.detail
