"""Signing in and out in Chromium, and what pages of other sites can do to somebody who is signed in."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import TOKEN
from tests.support.actors import OPERATOR
from vm_webapp.access.keys import create_key

ATTACK = """
<form method="post" action="{service}/sign-out-everywhere"><button>Win a prize</button></form>
<form method="post" action="{service}/sign-in"><input name="key" value="{key}"><button>Win another</button></form>
<script>
const send = () => fetch("{service}/sign-out-everywhere", {{method: "POST", credentials: "include", mode: "no-cors"}})
  .then(() => document.title = "sent", () => document.title = "failed");
</script>
"""


def sign_in(page: Page, service: str, key: str) -> None:
    """Go to the site and sign in there as a person would."""
    page.goto(f"{service}/")
    expect(page).to_have_title("Sign in · VM Webapp")
    expect(page.get_by_label("Key")).to_be_focused()
    page.get_by_label("Key").fill(key)
    page.keyboard.press("Enter")


def test_a_person_signs_in_looks_and_signs_out(page: Page, service: str) -> None:
    key = create_key("ann", actor=OPERATOR, role="editor").secret
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto(f"{service}/")
    page.get_by_label("Key").fill("vmk_nonsense")
    complaints.clear()
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This key does not open anything here.")
    expect(page.get_by_label("Key")).to_be_empty()
    assert [each for each in complaints if "401" not in each] == []

    complaints.clear()
    sign_in(page, service, f" {key} ")
    expect(page).to_have_url(f"{service}/")
    page.get_by_role("link", name="Account").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("ann")
    expect(page.get_by_text("this browser")).to_have_count(1)
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["secure"], cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (
        *("__Host-vm", True, True, "Lax"),
        "/",
    )
    assert page.evaluate("document.cookie") == ""
    # The style sheet is in force: the policy blocks nothing of the page.
    assert page.evaluate("getComputedStyle(document.body).fontFamily").startswith("system-ui")
    assert complaints == []

    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page).to_have_title("Sign in · VM Webapp")
    assert page.context.cookies() == []
    page.go_back()
    expect(page).to_have_title("Sign in · VM Webapp")
    assert complaints == []


@pytest.mark.parametrize(
    ("elsewhere", "statuses"),
    [
        # The cookie stays behind, so the first form comes from somebody who is not signed in.
        ("https://evil.example/", [303, 403]),
        # Another port is the same site: SameSite=Lax lets the cookie go along.
        ("http://localhost:1/", [403, 403]),
    ],
)
def test_a_page_of_another_site_or_port_neither_signs_out_nor_in(
    page: Page, service: str, elsewhere: str, statuses: list[int]
) -> None:
    key = create_key("mallory", actor=OPERATOR).secret

    def attack(route: Route) -> None:
        route.fulfill(body=ATTACK.format(service=service, key=key), content_type="text/html")

    page.context.route(f"{elsewhere}**", attack)
    sign_in(page, service, TOKEN)
    expect(page).to_have_title("Home · VM Webapp")
    for prize, status in zip(("Win a prize", "Win another"), statuses, strict=True):
        page.goto(elsewhere)
        with page.expect_response(lambda response: response.request.method == "POST") as answer:
            page.get_by_role("button", name=prize).click()
        assert answer.value.status == status
    page.goto(elsewhere)
    page.evaluate("send()")
    page.wait_for_function("document.title !== ''")
    page.goto(f"{service}/account")
    expect(page.get_by_role("heading", level=1)).to_have_text("An admin")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_a_phone_and_can_be_read(page: Page, service: str, scheme: str) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    sign_in(page, service, TOKEN)
    expect(page).to_have_title("Home · VM Webapp")  # another navigation would abort this one
    for path in ("/", "/account", "/sign-in", "/sign-in?next=/runs/01a210a9-d3d9-7077-a15d-600fd463d098/artifacts"):
        page.goto(f"{service}{path}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(246, 246, 244)", "dark": "rgb(22, 24, 27)"}[scheme]
