"""What a person sees who asks too often, while something is broken, and while the database is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg2
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import key_of, watched
from tests.browser.watched import SAME_ORIGIN, Watched
from vm_webapp.db.pool import execute, transaction
from vm_webapp.local import LocalServers

HTTPS = {"X-Forwarded-Proto": "https"}
END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


@pytest.fixture
def guest(chromium: Browser, service: str) -> Iterator[Watched]:
    """A watched tab of the public service."""
    with watched(chromium, service, extra_http_headers=HTTPS) as opened:
        yield opened
    with transaction():
        execute("DELETE FROM brands")


@contextmanager
def broken() -> Iterator[None]:
    """Break the pages of brands during the block."""
    with transaction():
        execute("ALTER TABLE brands RENAME TO brands_elsewhere")
    try:
        yield
    finally:
        with transaction():
            execute("ALTER TABLE brands_elsewhere RENAME TO brands")


@contextmanager
def away(database_url: str, server_url: str) -> Iterator[None]:
    """End all connections to a database, and accept none during the block."""
    name = urlsplit(database_url).path[1:]
    with closing(psycopg2.connect(server_url)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            try:
                cursor.execute(END, (name,))
                yield
            finally:
                cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def test_whoever_signs_in_too_often_reads_when_to_try_again(guest: Watched) -> None:
    guest.expect_status(429)
    page = guest.goto("/sign-in")
    for _ in range(10):
        guest.context.request.post(f"{guest.base_url}/sign-in", form={"key": "x"}, headers=SAME_ORIGIN | HTTPS)
    page.get_by_label("Key").fill(key_of("ann"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Too many requests")
    expect(page.get_by_text("too many attempts to sign in; try again in")).to_be_visible()
    guest.show("too-many")


def test_a_page_that_is_broken_says_that_it_is_not_the_persons_fault(guest: Watched) -> None:
    guest.expect_status(500)
    guest.sign_in(key_of("ann"))
    with broken():
        page = guest.goto("/ui/brands")
        expect(page.get_by_text("something went wrong on our side")).to_be_visible()
        guest.show("broken")
    page.reload()
    expect(page).to_have_title("Brands · VM Webapp")


def test_a_form_outlasts_an_outage_of_the_database(
    guest: Watched, public_api: tuple[str, str], servers: LocalServers
) -> None:
    guest.expect_status(503)
    guest.sign_in(key_of("ann"))
    page = guest.goto("/ui/brands/new")
    page.get_by_label("Name").fill("Velo Bakery")
    with away(public_api[1], servers.database_url):
        page.get_by_role("button", name="Create the brand").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("This cannot be done just now")
        page.get_by_text("What you sent").click()
        expect(page.get_by_role("definition").first).to_have_text("Velo Bakery")
        guest.show("database-away")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Velo Bakery")
