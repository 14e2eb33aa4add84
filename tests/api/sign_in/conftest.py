"""Browsers that sign in, on the machine of the API and elsewhere; each request looks its session up."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator

import pytest

from tests.api.browsers import Browser
from tests.api.client import Api
from tests.api.conftest import TOKEN, Serving
from tests.support.actors import OPERATOR
from vm_webapp.access.keys import create_key
from vm_webapp.access.roles import Role
from vm_webapp.settings import Settings

NEIGHBOUR = (ipaddress.ip_network("127.0.0.0/8"),)
BEHIND_TLS = Settings(managed=True, api_token=TOKEN, trusted_proxies=NEIGHBOUR)
STRANGER = "vms_" + "A" * 43


@pytest.fixture
def browser(managed: Api) -> Browser:
    """A browser on the machine that the API runs on."""
    return Browser(managed)


@pytest.fixture
async def public(serving: Serving, database: str) -> AsyncIterator[Api]:
    """An API that is bound to an address of the network, behind a proxy that ends TLS."""
    async with serving(BEHIND_TLS, require_token=True, loopback=False) as running:
        yield running


@pytest.fixture(autouse=True)
def looked_up_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.auth.credential_cache.CACHE_SECONDS", 0.0)


def key_of(name: str, role: Role = "editor") -> str:
    """Return a new key."""
    return create_key(name, actor=OPERATOR, role=role).secret


def port_of(api: Api) -> str:
    """Return the port of an API."""
    return api.base_url.rpartition(":")[2]
