"""A browser as the API sees it: it keeps cookies, follows no script, and says which page a request comes from."""

from __future__ import annotations

import io
import re
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
from yarl import URL

from tests.api.client import Api, Response
from tests.support.actors import OPERATOR
from vm_webapp.access.keys import create_key
from vm_webapp.access.roles import Role

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
FORM = "application/x-www-form-urlencoded"


class Browser:
    """A browser with one cookie at most.

    Attributes:
        cookie: the ``Cookie`` header that it sends, empty if it has none.
        attributes: what the last ``Set-Cookie`` said, by attribute.
        further: headers of every request.
    """

    def __init__(self, api: Api, **further: str) -> None:
        self.api = api
        self.cookie = ""
        self.attributes: dict[str, Any] = {}
        self.further = {name.replace("_", "-"): value for name, value in further.items()}

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Response:
        """Go to a page."""
        return await self._send("GET", path, None, headers or {})

    async def post(self, path: str, headers: dict[str, str] | None = None, /, **fields: str) -> Response:
        """Submit a form of a page of this site."""
        ours = {"Sec-Fetch-Site": "same-origin", "Origin": self.api.base_url}
        return await self._send("POST", path, fields, ours if headers is None else headers)

    async def post_long(self, path: str, **fields: str) -> Response:
        """Submit a form for long text, which has another encoding."""
        with aiohttp.MultipartWriter("form-data") as form:
            for name, value in fields.items():
                form.append(io.BytesIO(value.encode())).set_content_disposition("form-data", name=name)
        ours = {"Sec-Fetch-Site": "same-origin", "Content-Type": form.content_type}
        return await self._send("POST", path, form, ours)

    async def sign_in(self, key: str, **fields: str) -> Response:
        """Submit the sign-in form."""
        return await self.post("/sign-in", key=key, **fields)

    async def actor(self) -> str | None:
        """Return who the page of the account says is signed in, None if it is the sign-in page that is shown."""
        response = await self.get("/account")
        if response.status == 303:
            assert response.headers["Location"] == "/sign-in?next=/account"
            return None
        assert response.status == 200
        (actor,) = re.findall(r'data-actor="(.*)"', response.body.decode())
        return str(actor)

    async def _send(self, method: str, path: str, form: Any, headers: dict[str, str]) -> Response:
        given = {"Accept": ACCEPT, "User-Agent": "Test/1.0"} | self.further | headers
        if self.cookie and "Cookie" not in given:
            given["Cookie"] = self.cookie
        url = URL(f"{self.api.base_url}{path}", encoded=True)
        session = self.api.session
        async with session.request(method, url, data=form, headers=given, allow_redirects=False) as answer:
            response = Response(answer.status, answer.headers, await answer.read())
        for each in response.headers.getall("Set-Cookie", []):
            self._keep(each)
        return response

    def _keep(self, header: str) -> None:
        ((name, morsel),) = SimpleCookie(header).items()
        self.cookie = f"{name}={morsel.value}" if morsel.value else ""
        self.attributes = {"name": name} | {key: value for key, value in morsel.items() if value}


async def signed_in(api: Api, role: Role = "editor", name: str | None = None) -> Browser:
    """Return a browser in which somebody is signed in with a new key.

    Args:
        api: the API.
        role: of the key.
        name: of the key; that of its role by default.
    """
    browser = Browser(api)
    response = await browser.sign_in(create_key(name or role, actor=OPERATOR, role=role).secret)
    assert response.status == 303
    return browser
