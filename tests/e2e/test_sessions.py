"""Sessions with real processes: two APIs that share a socket, a restart, and an end that all of them notice."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.api_processes import TOKEN, Service, service
from tests.support.waiting import eventually

OURS = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
CONNECTIONS = 12  # enough to reach both processes


def statuses(url: str, cookie: str) -> set[int]:
    """Return what several new connections get for a request with this cookie."""
    return {
        httpx.get(f"{url}/runs", headers={"Cookie": cookie}, timeout=30, trust_env=False).status_code
        for _ in range(CONNECTIONS)
    }


def signed_in(running: Service) -> str:
    """Sign in; return the cookie."""
    site = running.url.removesuffix("/api/v2")
    response = httpx.post(f"{site}/sign-in", data={"key": TOKEN}, headers=OURS, timeout=30, trust_env=False)
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    cookie, *attributes = response.headers["Set-Cookie"].split("; ")
    # Loopback: the address that is bound decides, and both processes know the port.
    assert cookie.startswith(f"vm-{running.port}=vms_")
    assert "Secure" not in attributes
    assert TOKEN not in running.program.output()
    assert cookie not in running.program.output()
    return str(cookie)


def test_a_session_holds_and_ends_in_every_process(env: dict[str, str], tmp_path: Path) -> None:
    env |= {"VM_API_TOKEN": TOKEN, "WEB_CONCURRENCY": "2"}
    with service(env, tmp_path) as running:
        cookie = signed_in(running)
        assert statuses(running.url, cookie) == {200}
        running.kill_one()
        assert statuses(running.url, cookie) == {200}
        site = running.url.removesuffix("/api/v2")
        out = httpx.post(f"{site}/sign-out", headers=OURS | {"Cookie": cookie}, timeout=30, trust_env=False)
        assert out.status_code == 303
        # Each process remembers for four seconds at most what it has looked up before.
        eventually(lambda: statuses(running.url, cookie) == {401}, "every process refuses")
