"""Brands and projects in Chromium: made, changed by two tabs at once, archived."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.browser.conftest import key_of, watched
from tests.browser.watched import PHONE, Watched
from tests.support.actors import OPERATOR
from tests.support.runs import create
from vm_webapp.context import brands, projects

VOICE = "Warm and short.\nSays “you”."


def test_a_person_makes_a_brand_and_a_project_of_it(tab: Watched) -> None:
    page = tab.goto("/")
    page.get_by_role("link", name="Brands").click()
    tab.show("brands-none")
    page.get_by_role("link", name="Create the first brand").click()
    page.get_by_label("Name").fill("Pedal Bakery")
    page.get_by_label("Voice").fill(VOICE)
    page.get_by_label("Facts").fill("Delivers by bicycle\nSince 2019")
    page.get_by_label("Token limit").fill("20,000")
    tab.show("brand-new")
    page.get_by_role("button", name="Create the brand").dblclick()
    expect(page.get_by_role("heading", name="Pedal Bakery")).to_be_visible()
    (brand,) = brands.list(limit=2, after=None, archived=False).items
    assert (brand.voice, brand.day_budget_tokens) == (VOICE, 20_000)
    create("content_calendar", brand_id=brand.id)
    expect(page.get_by_role("region", name="Runs").get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_role("region", name="Used")).to_contain_text("This month: ")
    tab.show("brand")
    page.get_by_role("link", name="Projects").click()
    page.get_by_role("link", name="Create the first project").click()
    page.get_by_label("Name").fill("Spring")
    page.get_by_label("Brand").select_option("Pedal Bakery")
    page.get_by_label("First day").fill("2026-03-01")
    tab.show("project-new")
    page.get_by_role("button", name="Create the project").click()
    expect(page.get_by_role("heading", name="Spring")).to_be_visible()
    tab.show("project")
    assert projects.list(limit=2, after=None, archived=False).items[0].brand_id == brand.id


def test_two_tabs_change_a_brand_at_once_and_neither_is_lost(tab: Watched, chromium: Browser, workspace: str) -> None:
    brand = brands.create({"name": "Pedal Bakery", "voice": "Warm"}, actor=OPERATOR)
    path = f"/ui/brands/{brand.id}/edit"
    tab.expect_status(412)
    page = tab.goto(path)
    with watched(chromium, workspace) as other:
        other.sign_in(key_of("ben"))
        theirs = other.goto(path)
        theirs.get_by_label("Voice").fill("Warmer")
        theirs.get_by_role("button", name="Save").click()
        expect(theirs.get_by_role("heading", name="Pedal Bakery")).to_be_visible()
    page.get_by_label("Voice").fill("Cooler")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".notice.bad")).to_contain_text("Somebody has changed this brand")
    expect(page.get_by_text("Saved meanwhile: Warmer")).to_be_visible()
    expect(page.get_by_label("Voice")).to_have_value("Cooler")
    tab.show("brand-stale")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Cooler")).to_be_visible()
    assert brands.read(brand.id).voice == "Cooler"


def test_an_error_stands_beside_its_field(tab: Watched) -> None:
    tab.expect_status(422)
    page = tab.goto("/ui/brands/new")
    page.get_by_label("Name").fill("Pedal Bakery")
    page.get_by_label("Time zone").fill("Mars/Olympus")
    page.get_by_role("button", name="Create the brand").click()
    zone = page.get_by_label("Time zone")
    expect(zone).to_be_focused()
    expect(zone).to_have_value("Mars/Olympus")
    tab.show("brand-wrong")


def test_a_brand_is_archived_on_a_phone_without_scripts(chromium: Browser, workspace: str) -> None:
    brand = brands.create({"name": "Pedal Bakery"}, actor=OPERATOR)
    with watched(chromium, workspace, java_script_enabled=False, viewport=PHONE) as tab:
        tab.sign_in(key_of("ann"))
        page = tab.goto(f"/ui/brands/{brand.id}")
        page.get_by_text("Archive …").click()
        page.get_by_role("button", name="Archive this brand").click()
        expect(page.get_by_text("it takes no new runs")).to_be_visible()
        expect(page.get_by_role("link", name="Edit")).to_have_count(0)
    assert brands.read(brand.id).archived_at is not None


def test_whoever_leaves_a_form_finds_each_field_as_it_was(tab: Watched) -> None:
    page = tab.goto("/ui/brands/new")
    page.get_by_label("Name").fill("Pedal Bakery")
    page.get_by_label("Voice").fill("Warm and short")
    page.get_by_label("Documents at a time").fill("3")
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page).to_have_title("Runs · VM Webapp")
    page.go_back()
    expect(page.get_by_label("Name")).to_have_value("Pedal Bakery")
    expect(page.get_by_label("Voice")).to_have_value("Warm and short")
    expect(page.get_by_label("Documents at a time")).to_have_value("3")
    page.reload()
    expect(page.get_by_label("Name")).to_have_value("")
