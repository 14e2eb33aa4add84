"""Addresses that limits are counted for."""

from __future__ import annotations

import ipaddress

UNKNOWN = "unknown"
IPV6_PREFIX = 64  # what a single customer gets at least; whoever has it may use every address in it


def counted_address(address: str) -> str:
    """Return what an address is counted as: itself, an IPv6 address's /64, or ``unknown`` for what is no address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])  # without a zone, such as %eth0
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
