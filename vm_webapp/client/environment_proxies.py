"""Sends requests through the proxies of the environment, and directly where they say so."""

from __future__ import annotations

import httpx

from vm_webapp.certificates import trusted_certificates
from vm_webapp.proxies import Proxy, UnusableProxy, proxy_for


class RefusedProxy(httpx.ProxyError):
    """The proxy that a variable names for this address cannot be used."""


class EnvironmentProxies(httpx.AsyncBaseTransport):
    """A transport that chooses for each request, as ``vm_webapp.proxies`` says.

    Raises:
        ConfigurationError: the certificates that the environment names cannot be used.
    """

    def __init__(self) -> None:
        self._certificates = trusted_certificates()
        self._transports: dict[Proxy | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            RefusedProxy: the message names the variable.
        """
        return await self._transport_for(request.url).handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        for transport in self._transports.values():
            await transport.aclose()

    def _transport_for(self, url: httpx.URL) -> httpx.AsyncHTTPTransport:
        try:
            proxy = proxy_for(url.scheme, url.host)
        except UnusableProxy as error:
            raise RefusedProxy(str(error)) from error
        if proxy not in self._transports:
            used = None if proxy is None else httpx.Proxy(proxy.url, auth=proxy.credentials)
            self._transports[proxy] = httpx.AsyncHTTPTransport(verify=self._certificates, proxy=used)
        return self._transports[proxy]
