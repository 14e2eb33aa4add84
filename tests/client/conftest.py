"""A client of a real API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.client import Api
from tests.api.conftest import api, managed, serving
from vm_webapp.client import ApiClient, open_api

__all__ = ["api", "managed", "serving"]


@pytest.fixture
async def client(api: Api) -> AsyncIterator[ApiClient]:
    """A client of a laptop's API."""
    async with open_api(api.base_url, trust_env=False) as opened:
        yield opened
