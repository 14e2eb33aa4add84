"""Where a request came from: the client's address, and whether it used HTTPS, behind trusted proxies.

Only ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are read. A proxy that writes these passes on a ``Forwarded`` header
(RFC 7239) as the client sent it, so reading both would believe a stranger.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web

from vm_webapp.trusted_proxies import Network

FORWARDED_FOR = "X-Forwarded-For"
FORWARDED_PROTO = "X-Forwarded-Proto"
ADDRESS = web.RequestKey("address", str)
MOST_HOPS = 20
LONGEST_ADDRESS = 60  # an IPv6 address in brackets, with a port
LONGEST_PEER = 45
MOST_REMEMBERED = 1024

Address = IPv4Address | IPv6Address


class TrustedProxies:
    """The proxies whose forwarded headers are believed.

    Args:
        networks: their networks, none to believe nobody.
    """

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = networks
        # A platform has dozens of networks, and each request asks about the same few proxies.
        self.include = lru_cache(maxsize=MOST_REMEMBERED)(self._include)

    def _include(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


TRUSTED_PROXIES = web.AppKey("trusted_proxies", TrustedProxies)
NOBODY = TrustedProxies()


def client_address(request: web.BaseRequest) -> str:
    """Return the address of the client, as ``address_behind`` finds it; it is found once for each request."""
    if ADDRESS not in request:
        # First whether there is such a header at all: most requests have none.
        given = request.headers.getall(FORWARDED_FOR) if FORWARDED_FOR in request.headers else ()
        request[ADDRESS] = address_behind(request.remote or "", given, _trusted_proxies(request) if given else NOBODY)
    return request[ADDRESS]


def is_https(request: web.BaseRequest) -> bool:
    """Return whether the client's connection used HTTPS, as the trusted proxy in front of this process says."""
    if FORWARDED_PROTO not in request.headers:
        return False
    peer = _parse(request.remote or "")
    # The last one: it is the proxy's own, whatever others have sent to it.
    last = request.headers.getall(FORWARDED_PROTO)[-1].rpartition(",")[2]
    return last.strip().lower() == "https" and _trusted_proxies(request).include(peer)


def address_behind(peer: str, forwarded: Sequence[str], trusted: TrustedProxies) -> str:
    """Return the address of a client, without a port.

    It is that of the connection. If that is a trusted proxy, it is the entry that the first trusted proxy on the way
    has added: from the right, the first one that is not a trusted proxy itself. Behind an entry that is no address
    nothing can be believed; the result is then the proxy that sent it.

    Args:
        peer: the address of the connection.
        forwarded: the values of ``X-Forwarded-For``.
        trusted: the proxies that are believed.

    Returns:
        An address of at most 45 characters; empty if the connection has none, as a Unix socket's.
    """
    known = _parse(peer)
    if known is None or not forwarded:
        return _written(peer)
    if trusted.include(known):
        for entry in _last_entries(forwarded):
            address = _parse(_without_port(entry))
            if address is None:
                break
            known = address
            if not trusted.include(address):
                break
    return str(known)


def _trusted_proxies(request: web.BaseRequest) -> TrustedProxies:
    # Only a request that has been routed has an application; what is answered before that is refused anyway.
    if not isinstance(request, web.Request) or request._match_info is None:
        return NOBODY
    return request.config_dict.get(TRUSTED_PROXIES, NOBODY)


def _last_entries(values: Sequence[str]) -> list[str]:
    """Return the last entries of the header, the last one first. A header may be kilobytes of them."""
    return [entry.strip() for entry in ",".join(values).rsplit(",", MOST_HOPS)[-MOST_HOPS:]][::-1] if values else []


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


@lru_cache(maxsize=MOST_REMEMBERED)
def _written(peer: str) -> str:
    return str(_parse(peer) or peer[:LONGEST_PEER])


@lru_cache(maxsize=MOST_REMEMBERED)
def _parse(text: str) -> Address | None:
    """Return the address, as IPv4 if it is such a one written as IPv6, without the zone of a link-local one."""
    if len(text) > LONGEST_ADDRESS:
        return None
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
