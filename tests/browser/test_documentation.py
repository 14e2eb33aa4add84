"""The documentation in Chromium: a person who is signed in reads it, and the policy blocks nothing of it."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from api.docs.pages import PAGES
from tests.browser.conftest import TOKEN


def test_a_person_who_is_signed_in_reads_every_page(page: Page, service: str) -> None:
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    # Whoever is not signed in gets to sign in, and then to what was asked for.
    page.goto(f"{service}/api/v2/docs")
    expect(page).to_have_title("Sign in · VM Webapp")
    page.get_by_label("Key").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{service}/api/v2/docs")
    complaints.clear()
    for each in PAGES:
        page.get_by_role("navigation").get_by_role("link", name=each.title, exact=True).click()
        expect(page).to_have_url(f"{service}{each.path}")
        expect(page.get_by_role("link", name=each.title, exact=True).first).to_have_attribute("aria-current", "page")
        assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") == "960px"
    page.goto(f"{service}/problems/draft_changed")
    expect(page.get_by_role("heading", level=1)).to_have_text("draft_changed")
    assert complaints == []
    assert all(url.startswith(service) for url in asked)


def test_what_a_problem_means_needs_no_signing_in(page: Page, service: str) -> None:
    page.goto(f"{service}/problems/unauthorized")
    expect(page.get_by_role("heading", level=1)).to_have_text("unauthorized")
