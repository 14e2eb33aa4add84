"""Sends requests through the proxies of the environment, and directly where they say so or cannot be used.

httpx reads the same variables when a client is made, and raises there for an entry that it cannot use: a worker would
not start for a proxy that none of its requests needs.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import urllib.request
from collections.abc import Callable

import httpx

from vm_webapp.errors import ConfigurationError

VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


class UnusableProxy(httpx.ProxyError):
    """The proxy that a variable names for this address cannot be used."""


class EnvironmentProxies(httpx.AsyncBaseTransport):
    """A transport that chooses for each request, by ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.

    ``NO_PROXY`` holds names, with everything below them, addresses and networks such as ``10.0.0.0/8``.

    Args:
        transport: makes the transport for direct requests and that for each proxy, from the certificates to trust
            (``verify``) and the proxy's URL (``proxy``, None for none).

    Raises:
        ConfigurationError: the certificates that the environment names cannot be used.
    """

    def __init__(self, transport: Callable[..., httpx.AsyncBaseTransport] = httpx.AsyncHTTPTransport) -> None:
        self._transport = transport
        try:
            self._certificates = httpx.create_ssl_context()
        except OSError as error:  # of the certificates, whose errors do not name the variable
            raise ConfigurationError(
                f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used ({error.strerror or error}): set it to certificates of"
                " authorities that this machine can read, or unset it"
            ) from error
        self._direct = transport(verify=self._certificates, proxy=None)
        self._proxies: dict[str, httpx.AsyncBaseTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            UnusableProxy: the message names the variable.
        """
        return await self._transport_for(request.url).handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        for transport in (self._direct, *self._proxies.values()):
            await transport.aclose()

    def _transport_for(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        proxy = proxy_for(url)
        if proxy is None:
            return self._direct
        variable, address = proxy
        if address not in self._proxies:
            try:
                self._proxies[address] = self._transport(verify=self._certificates, proxy=address)
            except (ValueError, ImportError, httpx.InvalidURL) as error:
                # Without the address, which may hold a password. The ImportError comes with a SOCKS proxy, for which
                # httpx needs a package that we do not install.
                raise UnusableProxy(
                    f"{variable} is not a proxy that can be used: set it to an http:// or https:// URL,"
                    f" or add {url.host} to NO_PROXY"
                ) from error
        return self._proxies[address]


def proxy_for(url: httpx.URL) -> tuple[str, str] | None:
    """Return the variable and the address of the proxy for a URL, None where it is called directly."""
    # urllib reads every variable of the environment, which takes a tenth of a call's CPU.
    if not any(os.environ.get(name) for name in VARIABLES):
        return None
    proxies = urllib.request.getproxies_environment()
    scheme = url.scheme if url.scheme in proxies else "all"
    address = proxies.get(scheme)
    if not address or _is_exempt(url.host, proxies.get("no", "")):
        return None
    name = f"{scheme}_proxy"
    variable = name if os.environ.get(name) else name.upper()
    return variable, _as_url(address)


def proxy_secrets() -> tuple[str, ...]:
    """Return the passwords of the environment's proxies, and each as Basic authentication sends it."""
    secrets: list[str] = []
    for variable in VARIABLES:
        try:
            auth = httpx.Proxy(_as_url(os.environ.get(variable, ""))).raw_auth
        except (ValueError, httpx.InvalidURL):
            continue  # nothing is ever sent to it
        if auth is not None and auth[1]:
            secrets += [auth[1].decode(), base64.b64encode(b":".join(auth)).decode()]
    return tuple(secrets)


def _as_url(address: str) -> str:
    return address if "://" in address else f"http://{address}"


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
