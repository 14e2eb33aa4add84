"""The pages around signing in: what they hold, and what they say without the database."""

from __future__ import annotations

import gzip
import re

from tests.api.browsers import Browser
from tests.api.client import Api
from tests.api.conftest import TOKEN
from tests.fakes.tcp_proxy import Proxy


async def test_pages_are_kept_by_no_cache_and_name_no_secret(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    for path in ("/sign-in", "/account"):
        response = await browser.get(path)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert browser.cookie.partition("=")[2] not in response.body.decode()
        # Nothing that the policy default-src 'self' would block.
        assert not re.search(
            r"<script(?! src=\"/static/)|<style|style=|\son\w+=|data:|https?://", response.body.decode()
        )


async def test_what_pages_refer_to_needs_no_credentials_and_is_sent_once(browser: Browser) -> None:
    paths = re.findall(r'href="(/static/[^"]+)"', (await browser.get("/sign-in")).body.decode())
    css = "text/css; charset=utf-8"
    types = {"style.css": css, "site.css": css, "icon.svg": "image/svg+xml; charset=utf-8"}
    assert sorted(path.partition("?")[0] for path in paths) == sorted(f"/static/{name}" for name in types)
    for path in paths:
        response = await browser.get(path)
        name = path.partition("?")[0].rpartition("/")[2]
        assert (response.status, response.headers["Content-Type"]) == (200, types[name])
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        packed = await browser.get(path, {"Accept-Encoding": "gzip"})
        assert gzip.decompress(packed.body) == (await browser.get(path, {"Accept-Encoding": "identity"})).body
        older = await browser.get(f"/static/{name}?v=0")
        assert older.headers["Cache-Control"] == "no-cache"
        again = await browser.get(path, {"If-None-Match": response.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
    assert (await browser.get("/static/../sign_in.py")).status == 303
    assert (await browser.get("/static/%2e%2e/table.py")).status == 303


async def test_without_the_database_the_page_says_so(behind_proxy: Api, proxy: Proxy) -> None:
    del behind_proxy.session.headers["Authorization"]
    browser = Browser(behind_proxy)
    assert (await browser.sign_in(TOKEN)).status == 303
    proxy.cut()
    for response in (await browser.get("/account"), await browser.sign_in(TOKEN)):
        assert response.status == 503
        assert "try again in a moment" in response.body.decode()
        assert response.headers["X-Request-ID"] in response.body.decode()
    (await behind_proxy.get("/runs", headers={"Cookie": browser.cookie})).problem(503, "database_unavailable")
    assert (await behind_proxy.get("/health/live", headers={"Cookie": browser.cookie})).status == 200
