"""Authentication by the token, and the protection of an API that requires no credentials."""

from __future__ import annotations

import hmac
from collections.abc import Callable

import pytest

from tests.api.client import NEW_RUN, Api
from tests.api.conftest import TOKEN, Serving
from vm_webapp.settings import Settings

RUN = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"
SHUT = [
    ("GET", "/workflows"),
    ("GET", "/workflows/plan_90d"),
    ("GET", "/runs"),
    ("POST", "/runs"),
    ("GET", f"/runs/{RUN}"),
    ("GET", f"/runs/{RUN}/events"),
    ("GET", f"/runs/{RUN}/artifacts"),
    ("GET", f"/runs/{RUN}/artifacts/plan"),
    ("GET", "/openapi.json"),
    ("HEAD", "/runs"),
    ("OPTIONS", "/runs"),
    ("DELETE", "/runs"),
    ("GET", "/no/such/path"),
    ("GET", "/health/live/"),
    ("GET", "/health/readyx"),
    ("GET", "/health/../runs"),
]


@pytest.mark.parametrize(("method", "path"), SHUT)
async def test_without_the_token_only_probes_are_served(refusing_managed: Api, method: str, path: str) -> None:
    response = await refusing_managed.request(method, path)
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    if method != "HEAD":
        assert "VM_API_TOKEN" in response.problem(401, "unauthorized")["detail"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health/%6Cive"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_probe_needs_no_token(refusing_managed: Api, path: str, method: str) -> None:
    assert (await refusing_managed.request(method, path)).status in (200, 503)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer None",
        "Bearer \u00e9\u20ac",
    ],
)
async def test_a_wrong_token_is_refused(refusing_managed: Api, header: str) -> None:
    response = await refusing_managed.post("/runs", NEW_RUN, headers={"Authorization": header})
    assert TOKEN not in str(response.problem(401, "unauthorized"))


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer   {TOKEN} "])
async def test_the_token_grants_access(managed: Api, header: str) -> None:
    managed.session.headers["Authorization"] = header
    assert (await managed.post("/runs", NEW_RUN)).status == 201
    assert (await managed.get("/runs")).status == 200


async def test_a_refusal_comes_before_the_body_is_read(refusing_managed: Api) -> None:
    (await refusing_managed.post_raw("/runs", b"{", {"Content-Type": "text/plain"})).problem(401, "unauthorized")


async def test_the_token_is_compared_in_constant_time(refusing_managed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    real: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def record(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return real(given, wanted)

    monkeypatch.setattr("hmac.compare_digest", record)
    (await refusing_managed.get("/runs", headers={"Authorization": "Bearer wrong"})).problem(401, "unauthorized")
    assert compared == [(b"wrong", TOKEN.encode())]


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer None"}, {"Authorization": "Bearer "}])
async def test_without_any_token_a_refusal_says_how_to_make_one(
    serving: Serving, untouched: None, header: dict[str, str]
) -> None:
    async with serving(Settings(managed=True), require_token=True) as api:
        problem = (await api.get("/runs", headers=header)).problem(401, "unauthorized")
        assert "set VM_API_TOKEN" in problem["detail"]
        assert (await api.get("/health/live")).status == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8766", "127.0.0.1:1", "[::1]:8766", "vm.localhost"])
async def test_an_open_api_accepts_this_machines_names(refusing: Api, host: str) -> None:
    assert (await refusing.get("/runs", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1:8766", "[", "[::1", ""]
)
async def test_an_open_api_refuses_a_foreign_host(refusing: Api, host: str) -> None:
    (await refusing.post("/runs", NEW_RUN, headers={"Host": host})).problem(403, "forbidden_host")
    (await refusing.get("/runs", headers={"Host": host})).problem(403, "forbidden_host")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_another_sites_page_cannot_change_anything(refusing: Api, headers: dict[str, str]) -> None:
    (await refusing.post("/runs", NEW_RUN, headers=headers)).problem(403, "cross_site")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:8766"},
        {"Origin": "http://127.0.0.1:8766", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_this_machines_own_pages_may_change_things(api: Api, headers: dict[str, str]) -> None:
    assert (await api.post("/runs", NEW_RUN, headers=headers)).status == 201


async def test_with_the_token_any_page_may_change_things(serving: Serving, database: str) -> None:
    async with serving(Settings(api_token=TOKEN)) as api:
        headers = {"Authorization": f"Bearer {TOKEN}", "Host": "vm.example", "Origin": "https://app.example"}
        assert (await api.post("/runs", NEW_RUN, headers=headers)).status == 201
