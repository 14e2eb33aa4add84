"""Which proxy of the environment a request goes through.

By ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, which holds names, with everything below them,
addresses and networks such as ``10.0.0.0/8``. HTTP clients read the same variables when they are made, and raise there
for an entry that they cannot use: a worker would not start for a proxy that none of its requests needs.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import urllib.request
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
BASIC = "Basic "
HOST = re.compile(r"[\w.~-]+|[0-9a-f:.]+(?:%\w+)?")


class UnusableProxy(Exception):
    """The proxy that a variable names for an address cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    Attributes:
        url: its address, without name and password.
        credentials: name and password, None where the address has none.
    """

    url: str
    credentials: tuple[str, str] | None


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """Return the proxy for the requests to a server, None where it is called directly.

    Args:
        scheme: of the server's address, ``http`` or ``https``.
        host: the server's name or address.

    Raises:
        UnusableProxy: the message names the variable, and not the address, which may hold a password.
    """
    # urllib reads every variable of the environment, which takes a tenth of a call's CPU.
    if not any(os.environ.get(name) for name in VARIABLES):
        return None
    proxies = urllib.request.getproxies_environment()
    kind = scheme if scheme in proxies else "all"
    address = proxies.get(kind)
    if not address or _is_exempt(host, proxies.get("no", "")):
        return None
    try:
        return _parsed(address)
    except ValueError:
        name = f"{kind}_proxy"
        raise UnusableProxy(
            f"{name if os.environ.get(name) else name.upper()} is not a proxy that can be used: set it to an http://"
            f" or https:// URL, or add {host} to NO_PROXY"
        ) from None


def proxy_secrets() -> tuple[str, ...]:
    """Return the passwords of the environment's proxies, and each as Basic authentication sends it."""
    secrets: list[str] = []
    for variable in VARIABLES:
        try:
            proxy = _parsed(os.environ.get(variable, ""))
        except ValueError:
            continue  # nothing is ever sent to it
        if proxy.credentials is not None and proxy.credentials[1]:
            secrets += [proxy.credentials[1], basic_authorization(*proxy.credentials).removeprefix(BASIC)]
    return tuple(secrets)


def basic_authorization(name: str, password: str) -> str:
    """Return the header's value for Basic authentication (RFC 7617)."""
    return BASIC + base64.b64encode(f"{name}:{password}".encode()).decode()


def _parsed(address: str) -> Proxy:
    """Return the proxy at an address.

    Raises:
        ValueError: it cannot be used.
    """
    parts = urlsplit(address if "://" in address else f"http://{address}")
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not HOST.fullmatch(host) or parts.port == 0:
        raise ValueError
    host.encode("idna")  # raises a ValueError for a name that no resolver takes
    place = parts.netloc.rpartition("@")[2]
    credentials = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    return Proxy(f"{parts.scheme}://{place}", credentials)


def _is_exempt(host: str, no_proxy: str) -> bool:
    entries = [entry.strip() for entry in no_proxy.split(",")]
    if "*" in entries or any(_names(entry, host) for entry in entries if entry):
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return any(address in network for network in map(_network, entries) if network is not None)


def _names(entry: str, host: str) -> bool:
    name = entry.partition(":")[0].lstrip(".").lower() if entry.count(":") <= 1 else entry.lower()
    return bool(name) and (host.lower() == name or host.lower().endswith(f".{name}"))


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return None
