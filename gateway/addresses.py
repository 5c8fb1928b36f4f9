"""Which IP addresses belong to the public internet."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_UNICAST: Final = IPv6Network("2000::/3")
"""All global unicast addresses that IANA allocates from."""

_CARRIERS: Final = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped: RFC 4291, 2.5.5.2
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated: RFC 7915
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64: RFC 6052
    (IPv6Network("2002::/16"), 80),  # 6to4: RFC 3056
)
"""Prefixes of addresses that lead to an IPv4 address, and how many bits follow it."""

_SPECIAL: Final = (
    IPv6Network("2001::/23"),  # IETF protocols, Teredo among them: RFC 2928, RFC 4380
    IPv6Network("3fff::/20"),  # documentation: RFC 9637
)
_SPECIAL_4: Final = IPv4Network("192.0.0.0/24")  # IETF protocols: RFC 6890


def is_public(address: str) -> bool:
    """Return whether an IP address, with or without a zone, is in the public internet.

    An IPv6 address that leads to an IPv4 address is as public as that one. Site-local,
    IPv4-compatible, local NAT64 (64:ff9b:1::/48) and Teredo addresses never are.

    Raises:
        ValueError: it is no IP address.
    """
    return _is_public(ip_address(address.partition("%")[0]))


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address.is_multicast or isinstance(address, IPv4Address):
        special = address in _SPECIAL_4
        return address.is_global and not (address.is_multicast or special)
    for prefix, behind in _CARRIERS:
        if address in prefix:
            return _is_public(IPv4Address(int(address) >> behind & 0xFFFFFFFF))
    special = any(address in each for each in _SPECIAL)
    return address in _UNICAST and address.is_global and not special
