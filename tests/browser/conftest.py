"""Chromium, and a service whose pages it shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.attacks import WORKFLOW
from tests.browser.chromium import PATIENCE_MS, WITHOUT_IT, find_chromium, started_chromium
from tests.browser.watched import Watched
from tests.fakes.behaviours import GOOD
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.databases import Databases
from tests.support.deployment import Deployment, address_of, clean, deployment, managed_environment
from tests.support.processes import program
from vm_webapp.access.keys import create_key
from vm_webapp.access.roles import Role
from vm_webapp.db.pool import close_pool, execute, open_pool, transaction
from vm_webapp.local import LocalServers

TOKEN = "a-token-of-the-tests"


# Not for the session: while Playwright runs, its event loop runs in this thread, and no asynchronous test can.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """A running Chromium; without one the test is skipped, but fails in CI."""
    found = find_chromium()
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(WITHOUT_IT)
        pytest.skip(WITHOUT_IT)
    with started_chromium(found) as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A tab of a browser without cookies, through a proxy that ends TLS, as far as the service can tell."""
    with chromium.new_context(extra_http_headers={"X-Forwarded-Proto": "https"}) as context:
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE_MS)
        yield tab


@pytest.fixture(scope="package")
def public_api(
    servers: LocalServers, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The URLs of a managed service that is bound to all addresses of this machine, and of its database."""
    folder = tmp_path_factory.mktemp("public")
    further = {"VM_API_TOKEN": TOKEN, "VM_TRUSTED_PROXIES": "127.0.0.0/8"}
    assert servers.redis_url is not None
    database_url = databases.url(databases.take())
    env = managed_environment(database_url, servers.redis_url, folder, **further)
    with program("serve", "--host", "0.0.0.0", "--port", "0", env=env, folder=folder / "api") as running:
        port = address_of(running).rpartition(":")[2]
        # Chromium takes what http://localhost sends for secure, and so accepts its __Host- cookies without TLS.
        yield f"http://localhost:{port}", database_url


@pytest.fixture
def service(public_api: tuple[str, str]) -> Iterator[str]:
    """The URL of the public service, without runs, keys and sessions, with this process's pool on its database."""
    url, database_url = public_api
    open_pool(database_url, max_connections=4, application_name="tests")
    yield url
    clean(database_url)
    with transaction():
        execute("DELETE FROM sessions")
    close_pool()


@pytest.fixture(scope="package")
def writer() -> Iterator[ModelServer]:
    """The fake model of the workspace's workers."""
    with ModelServer() as running:
        yield running


@pytest.fixture(scope="package")
def running(
    servers: LocalServers, databases: Databases, writer: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """An API and a worker that all tests of the workspace share."""
    folder = tmp_path_factory.mktemp("workspace")
    model = {"KIMI_API_KEY": "sk-of-the-tests", "KIMI_BASE_URL": writer.base_url}
    assert servers.redis_url is not None
    hostile = folder / "workflows" / "hostile"
    hostile.mkdir(parents=True)
    (hostile / "workflow.yaml").write_text(WORKFLOW)
    (hostile / "check.md").write_text("Nothing.")
    further = {"VM_API_TOKEN": TOKEN, "VM_WORKER_THREADS": "8", "VM_WORKFLOWS_PATH": str(hostile.parent)}
    env = managed_environment(databases.url(databases.take()), servers.redis_url, folder, **further, **model)
    with deployment(env, folder) as started:
        yield started


@pytest.fixture
def workspace(running: Deployment, writer: ModelServer) -> Iterator[str]:
    """The URL of the workspace, without runs and keys, with this process's pool open on its database."""
    url = running.env["VM_DB_URL"]
    open_pool(url, max_connections=4, application_name="tests")
    yield running.url
    writer.script = lambda _: GOOD
    clean(url)
    with transaction():
        execute("DELETE FROM projects")
        execute("DELETE FROM brands")
    close_pool()


@pytest.fixture
def tab(chromium: Browser, workspace: str) -> Iterator[Watched]:
    """A watched tab in which an editor, ann, is signed in."""
    with watched(chromium, workspace) as opened:
        opened.sign_in(key_of("ann"))
        yield opened


def key_of(name: str, role: Role = "editor") -> str:
    """Return the secret of a new key."""
    return create_key(name, actor=OPERATOR, role=role).secret


@contextmanager
def watched(chromium: Browser, base_url: str, **options: Any) -> Iterator[Watched]:
    """Open a watched tab of a browser without cookies; fail in the end if a page has complained."""
    with chromium.new_context(**options) as context:
        opened = Watched(context, base_url)
        opened.page.set_default_timeout(PATIENCE_MS)
        yield opened
        opened.verify()
