"""A tab that is watched: whatever a page complains about, or fetches from elsewhere, fails its test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
# All rules run; that axe-core then describes each element that passes takes twice as long as they do.
FIND_VIOLATIONS = "axe.run(document, {resultTypes: ['violations']}).then((results) => results.violations)"
SCREENSHOTS = "VM_SCREENSHOTS"
PHONE = {"width": 360, "height": 740}
TEXT_SIZES = {"normal": 16, "at 200 %": 32}  # pixels: what 1rem is
# What is wider than the window, with all that can be opened open; tables and code may scroll within their own box.
FIND_WIDER = """() => {
  const closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((each) => (each.open = true));
  const width = document.documentElement.clientWidth;
  const scrolls = (each) => getComputedStyle(each).overflowX !== "visible";
  const isWithin = (each) => each !== document.body && (scrolls(each) || isWithin(each.parentElement));
  const all = [...document.body.querySelectorAll("*")];
  const sticksOut = (each) => each.getBoundingClientRect().right > width + 1 && !isWithin(each.parentElement);
  const isPushed = (each) =>
    each.scrollWidth > each.clientWidth + 1 && scrolls(each) && !each.matches(".scroll, pre, input, textarea, .unseen");
  const wide = document.documentElement.scrollWidth > width;
  const found = all.filter((each) => (wide && sticksOut(each)) || isPushed(each)).slice(0, 3);
  closed.forEach((each) => (each.open = false));
  return [...(wide ? ["the page"] : []), ...found.map((each) => each.outerHTML.slice(0, 200))];
}"""
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
# In each document before its own scripts; the protocol puts it there, so that the page's policy stays as it is.
WATCH_POLICY = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
"""


class Watched:
    """A tab of the workspace.

    Attributes:
        page: the tab.
        complaints: what pages have complained about; must be empty in the end.

    Args:
        context: the browser's context, with its cookies.
        base_url: the address of the workspace.
    """

    def __init__(self, context: BrowserContext, base_url: str) -> None:
        self.context = context
        self.base_url = base_url
        self.complaints: list[str] = []
        self._expected: list[str] = []
        context.add_init_script(WATCH_POLICY)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.complaints.append(f"error: {error.error}"))
        context.on("request", self._on_request)
        self.page = context.new_page()

    def sign_in(self, key: str) -> None:
        """Sign in, without the page for it."""
        answer = self.context.request.post(
            f"{self.base_url}/sign-in", form={"key": key}, headers=SAME_ORIGIN, max_redirects=0
        )
        assert answer.status == 303, answer.text()

    def goto(self, path: str) -> Page:
        """Go to a page of the workspace, and wait until it follows what happens."""
        self.page.goto(f"{self.base_url}{path}")
        return self.page

    def expect_status(self, *statuses: int) -> None:
        """Let responses with these statuses be, which browsers report on the console."""
        self._expected += [words.format(status) for status in statuses for words in ("status of {}", "status {}")]

    def expect_failures_to_connect(self) -> None:
        """Let requests fail, because the test stops the service."""
        self._expected += ["net::ERR_", "Failed to fetch", "htmx:error", "NetworkError", "network error"]

    def check(self) -> None:
        """Check the page that is shown: accessible by axe-core's rules, no violation of its policy, no overflow."""
        self._check_policy_and_width()
        if self.page.evaluate("window.axe === undefined"):
            self.page.evaluate(AXE.read_text())
        found: list[dict[str, Any]] = self.page.evaluate(FIND_VIOLATIONS)
        barriers = [_described(each) for each in found]
        assert barriers == [], barriers

    def show(self, name: str) -> None:
        """Check the page that is shown in both themes, wide and on a phone, and keep screenshots where asked for.

        axe-core runs wide in the one theme and narrow in the other, as most of its rules concern neither.
        """
        before = self.page.viewport_size
        self.page.emulate_media(color_scheme="light")
        self.check()
        self._keep(f"{name}-light")
        self.page.emulate_media(color_scheme="dark")
        self._keep(f"{name}-dark")
        self.page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
        self.check()
        self._keep(f"{name}-dark-phone")
        self.page.emulate_media(color_scheme="light")
        self._check_policy_and_width()
        self._keep(f"{name}-light-phone")
        if before:
            self.page.set_viewport_size(before)

    def find_wider(self) -> dict[str, list[str]]:
        """Return what of the page is wider than its window, by the size of the text: WCAG 2.2, 1.4.4 and 1.4.10."""
        session = self.context.new_cdp_session(self.page)
        found = {}
        for name, pixels in reversed(TEXT_SIZES.items()):
            session.send("Page.setFontSizes", {"fontSizes": {"standard": pixels, "fixed": pixels * 13 // 16}})
            found[name] = self.page.evaluate(FIND_WIDER)
        session.detach()
        return {name: wider for name, wider in found.items() if wider}

    def verify(self) -> None:
        """Check that nothing has complained."""
        assert self.complaints == [], self.complaints

    def _check_policy_and_width(self) -> None:
        self.page.wait_for_load_state()  # a click waits for the page to begin, and not for its style
        violations = self.page.evaluate("window.violations")
        assert violations == [], violations
        wider = self.find_wider()
        assert not wider, wider

    def _keep(self, name: str) -> None:
        if folder := os.environ.get(SCREENSHOTS):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def _on_console(self, message: ConsoleMessage) -> None:
        expected = any(part in message.text for part in self._expected)
        if message.type in ("error", "warning") and not expected:
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith(self.base_url):
            self.complaints.append(f"a request to {request.url}")


def follows(page: Page) -> None:
    """Wait until the page's stream is open, so that it sees every change from now on."""
    expect(page.locator("body[data-following]")).to_have_count(1)


def _described(violation: dict[str, Any]) -> str:
    nodes = ", ".join(node["html"][:120] for node in violation["nodes"])
    return f"{violation['id']}: {violation['help']}: {nodes}"
