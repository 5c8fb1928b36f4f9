"""Which addresses are public: an IPv6 form of a private one is not."""

import pytest

from gateway.addresses import is_public

PUBLIC = [
    *("8.8.8.8", "47.89.64.1", "2001:4860:4860::8888", "2606:4700::1111"),
    *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "::ffff:0:8.8.8.8"),
]
PRIVATE = [
    *("0.0.0.0", "10.0.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1"),
    *("192.168.1.1", "100.64.0.1", "192.0.0.9", "224.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "fec0::1"),
    *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "::10.0.0.1", "::8.8.8.8"),
    *("::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254"),
    *("64:ff9b:1::8.8.8.8", "64:ff9b:1:fffe::10.0.0.1", "64:ff9b::64:ff9b:0:1"),
    *("2002:a00:1::1", "2002:7f00:1::", "2002:c0a8:101:1::5", "2002:a9fe:a9fe::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "3fff::1"),
    *("100::1", "5f00::1", "4000::1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_public_internet_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_no_form_of_any_other_address_is(address):
    assert not is_public(address)


@pytest.mark.parametrize("text", ["open.alipay.hk", "127.1", "", "1.2.3.4.5"])
def test_what_is_no_address_is_told(text):
    with pytest.raises(ValueError, match=r"."):
        is_public(text)
