"""The client's address behind proxies: believed of trusted ones only, whatever a stranger sends."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from api.http.addresses import TrustedProxies, address_behind
from vm_webapp.trusted_proxies import PLATFORM_PROXIES, WANTED, parse_networks

PRIVATE = TrustedProxies(parse_networks("10.0.0.0/8, ::1, fd00::/8"))
PLATFORM = TrustedProxies(PLATFORM_PROXIES)
NONE = TrustedProxies()


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        # Without a header, or from a stranger, the connection says it.
        ("203.0.113.9", [], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("11.0.0.1", ["198.51.100.1"], "11.0.0.1"),
        ("2001:db8::1", ["198.51.100.1"], "2001:db8::1"),
        # The right-most entry that is no trusted proxy, over one header or several.
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.7"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1, 10.0.0.7"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", "10.0.0.7", "10.0.0.8"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        # Ports, IPv6, and one address that is written in several ways.
        ("10.0.0.1", ["198.51.100.1:51234"], "198.51.100.1"),
        ("::1", ["2001:db8::7"], "2001:db8::7"),
        ("::1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("::1", ["[2001:db8::7]"], "2001:db8::7"),
        ("::1", ["2001:0DB8:0:0::7"], "2001:db8::7"),
        ("::1", ["fe80::1%eth0"], "fe80::1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("fd00::2", ["198.51.100.1 ,  fd00::3"], "198.51.100.1"),
        # An entry that is no address: whatever stands before it could be anything.
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.7"], "10.0.0.7"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [",,,"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1,"], "10.0.0.1"),
        ("10.0.0.1", ["_hidden"], "10.0.0.1"),
        ("10.0.0.1", ["localhost"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.256"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100"], "10.0.0.1"),
        ("10.0.0.1", ["0198.51.100.1"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.1\x1b[31m"], "10.0.0.1"),
        ("10.0.0.1", ["\udcff"], "10.0.0.1"),
        ("10.0.0.1", ["<script>"], "10.0.0.1"),
        ("10.0.0.1", ["1" * 8000], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::7%" + "z" * 8000], "10.0.0.1"),
        # What a Unix socket's connection has.
        ("", ["198.51.100.1"], ""),
        ("/run/" + "x" * 100, ["198.51.100.1"], ("/run/" + "x" * 100)[:45]),
    ],
)
def test_the_address_is_the_one_that_a_trusted_proxy_saw(peer: str, forwarded: list[str], address: str) -> None:
    assert address_behind(peer, forwarded, PRIVATE) == address


@pytest.mark.parametrize("peer", ["203.0.113.9", "127.0.0.1", "10.0.0.1", "::1"])
def test_without_trusted_proxies_nobody_is_believed(peer: str) -> None:
    assert address_behind(peer, ["198.51.100.1"], NONE) == peer


def test_of_a_huge_list_only_the_end_is_read() -> None:
    assert address_behind("10.0.0.1", [",".join(["6.6.6.6"] * 4000 + ["10.0.0.2"] * 30)], PRIVATE) == "10.0.0.2"
    assert address_behind("10.0.0.1", [",".join(["6.6.6.6"] * 4000 + ["198.51.100.1"])], PRIVATE) == "198.51.100.1"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("99.61.165.29, 104.22.17.40", "99.61.165.29"),
        ("6.6.6.6, 99.61.165.29, 172.70.1.2, 10.21.1.1", "99.61.165.29"),
        ("2001:db8::7, 2a06:98c0:3600::103", "2001:db8::7"),
    ],
)
def test_on_the_platform_its_own_proxies_and_those_before_them_are_trusted(forwarded: str, address: str) -> None:
    assert address_behind("10.21.157.68", [forwarded], PLATFORM) == address
    assert address_behind("203.0.113.9", [forwarded], PLATFORM) == "203.0.113.9"


def test_a_list_of_networks_is_read() -> None:
    assert parse_networks(" 10.0.0.0/8 ,192.0.2.1,fd00::/8") == (
        ip_network("10.0.0.0/8"),
        ip_network("192.0.2.1/32"),
        ip_network("fd00::/8"),
    )


@pytest.mark.parametrize(
    "text", ["nonsense", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,", ",", "10.0.0.0/8 10.1.0.0/16"]
)
def test_a_list_that_is_not_one_of_networks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=WANTED):
        parse_networks(text)
