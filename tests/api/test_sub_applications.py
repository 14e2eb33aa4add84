"""Sub-applications: each handles every path below its prefix, and the API's rules apply to paths below no prefix."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from html import escape

import pytest
from aiohttp import web

from api.app import MAX_BODY_BYTES
from api.http.problems import Handler, problem_middleware
from api.http.request_ids import request_id
from tests.api.client import Api, Response
from tests.api.conftest import MANAGED, TOKEN, Serving

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
CLIENT = {"Accept": "application/json"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
VISITED = "visited"


@web.middleware
async def remember(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set a cookie, as a session would."""
    response = await handler(request)
    response.set_cookie(VISITED, "1")
    return response


@web.middleware
async def tell_in_html(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render errors as HTML pages, or as problems for clients that do not accept HTML."""
    if "text/html" not in request.headers.get("Accept", ""):
        return await problem_middleware(request, handler)
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except web.HTTPException as error:
        status, allow = error.status, error.headers.get("Allow")
    except Exception:
        status, allow = 500, None
    text = f"<h1>{status}</h1><p>{escape(request.path)}, {request_id(request)}</p>"
    headers = {"Allow": allow} if allow else {}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def pages() -> web.Application:
    """Return a sub-application of pages: one that works, one that fails, and one that takes a form."""

    async def good(request: web.Request) -> web.Response:
        return web.Response(text="<h1>Good</h1>", content_type="text/html")

    async def fails(request: web.Request) -> web.Response:
        raise RuntimeError("a secret of ours")

    async def takes_form(request: web.Request) -> web.Response:
        await request.post()
        raise web.HTTPSeeOther("/pages/good")

    app = web.Application(middlewares=[remember, tell_in_html])
    app.add_routes([web.get("/good", good), web.get("/fails", fails), web.post("/form", takes_form)])
    return app


@pytest.fixture
async def with_pages(serving: Serving, untouched: None) -> AsyncIterator[Api]:
    """The API of a deployment, with a sub-application of pages."""
    async with serving(MANAGED, require_token=True, sub_apps={"/pages": pages()}) as running:
        yield running


async def ask(api: Api, method: str, path: str, headers: dict[str, str], body: io.BytesIO | None = None) -> Response:
    """Send a request to a path of the root application."""
    url = f"{api.base_url}{path}"
    async with api.session.request(method, url, headers=headers, data=body, allow_redirects=False) as response:
        return Response(response.status, response.headers, await response.read())


WRONG = [("GET", "nothing", 404), ("GET", "", 404), ("POST", "good", 405), ("GET", "fails", 500)]


@pytest.mark.parametrize(("method", "path", "status"), WRONG)
async def test_a_browser_gets_errors_of_pages_in_html(with_pages: Api, method: str, path: str, status: int) -> None:
    response = await ask(with_pages, method, f"/pages/{path}", BROWSER)
    assert (response.status, response.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert f"<h1>{status}</h1>" in response.body.decode()
    assert response.headers["X-Request-ID"] in response.body.decode()
    assert "secret" not in response.body.decode()
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(("method", "path", "status"), WRONG)
async def test_a_client_of_the_api_gets_problems_from_pages(
    with_pages: Api, method: str, path: str, status: int
) -> None:
    codes = {404: "not_found", 405: "method_not_allowed", 500: "internal_error"}
    (await ask(with_pages, method, f"/pages/{path}", CLIENT)).problem(status, codes[status])


@pytest.mark.parametrize("accept", [BROWSER, CLIENT])
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v2/nothing", 404, "not_found"),
        ("GET", "/api/v2", 404, "not_found"),
        ("DELETE", "/api/v2/runs", 405, "method_not_allowed"),
        ("GET", "/api/v2/runs?limit=0", 422, "invalid_parameter"),
        ("GET", "/sign-in/", 404, "not_found"),
        ("DELETE", "/sign-in", 405, "method_not_allowed"),
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/pagesx", 404, "not_found"),
        ("GET", "/api", 404, "not_found"),
        ("GET", "/api/v2x", 404, "not_found"),
    ],
)
async def test_errors_come_from_the_api_and_from_paths_below_no_prefix(
    with_pages: Api, accept: dict[str, str], method: str, path: str, status: int, code: str
) -> None:
    response = await ask(with_pages, method, path, accept | BEARER)
    if accept == BROWSER and not path.startswith("/api/v2/") and path != "/api/v2":
        assert (response.status, response.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
        assert response.headers["X-Request-ID"] in response.body.decode()
    else:
        response.problem(status, code)
    assert ("Allow" in response.headers) == (status == 405)
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("path", ["/api/v2/runs", "/api/v2/nothing", "/api/v2", "/", "/nothing"])
async def test_without_credentials_the_api_and_paths_below_no_prefix_refuse(with_pages: Api, path: str) -> None:
    (await ask(with_pages, "GET", path, CLIENT)).problem(401, "unauthorized")


@pytest.mark.parametrize("path", ["/api/v2/runs", "/api/v2/nothing", "/api/v2"])
async def test_the_api_sends_no_browser_to_the_sign_in_page(with_pages: Api, path: str) -> None:
    (await ask(with_pages, "GET", path, BROWSER)).problem(401, "unauthorized")


async def test_an_open_api_refuses_a_foreign_host_outside_every_prefix(refusing: Api) -> None:
    (await ask(refusing, "GET", "/nothing", {"Host": "evil.example"})).problem(403, "forbidden_host")


async def test_the_apis_guard_does_not_apply_to_pages(with_pages: Api) -> None:
    response = await ask(with_pages, "GET", "/pages/good", BROWSER)
    assert (response.status, response.body) == (200, b"<h1>Good</h1>")
    assert response.headers["Set-Cookie"].startswith(f"{VISITED}=1")
    assert response.headers["X-Request-ID"]


async def test_the_roots_size_limit_applies_to_every_sub_application(with_pages: Api) -> None:
    large = b"x" * (MAX_BODY_BYTES + 1)
    form = BROWSER | {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await ask(with_pages, "POST", "/pages/form", form, io.BytesIO(large))).status == 413
    assert (await ask(with_pages, "POST", "/pages/form", form, io.BytesIO(b"a=1"))).headers["Location"] == "/pages/good"
    json = BEARER | {"Content-Type": "application/json"}
    (await ask(with_pages, "POST", "/api/v2/runs", json, io.BytesIO(large))).problem(413, "body_too_large")
