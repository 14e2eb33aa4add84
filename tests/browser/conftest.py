"""Chromium, and a service whose pages it shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.deployment import address_of, managed_environment
from tests.support.processes import program

WITHOUT_IT = "there is no chromium: apt-get install chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome")
TOKEN = "a-token-of-the-tests"
PATIENCE_MS = 30_000


# Not for the session: while Playwright runs, its event loop runs in this thread, and no asynchronous test can.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """A running Chromium; without one the test is skipped, but fails in CI."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(WITHOUT_IT)
        pytest.skip(WITHOUT_IT)
    # Chromium's sandbox does not work as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=found, args=arguments) as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A tab of a browser without cookies, through a proxy that ends TLS, as far as the service can tell."""
    with chromium.new_context(extra_http_headers={"X-Forwarded-Proto": "https"}) as context:
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE_MS)
        yield tab


@pytest.fixture
def service(database: str, redis_url: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a managed service that is bound to all addresses of this machine."""
    further = {"VM_API_TOKEN": TOKEN, "VM_TRUSTED_PROXIES": "127.0.0.0/8"}
    env = managed_environment(database, redis_url, tmp_path, **further)
    with program("serve", "--host", "0.0.0.0", "--port", "0", env=env, folder=tmp_path / "api") as running:
        port = address_of(running).rpartition(":")[2]
        # Chromium takes what http://localhost sends for secure, and so accepts its __Host- cookies without TLS.
        yield f"http://localhost:{port}"
