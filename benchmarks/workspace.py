"""How soon the server answers the pages of the workspace with a long history: lists, operations, brands and runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from benchmarks.drain import PYTHON, Servers, running
from benchmarks.long_history import History
from tests.support.actors import OPERATOR
from tests.support.deployment import address_of, managed_environment
from vm_webapp.access.keys import create_key

TIMES = 9


def pages(history: History) -> list[str]:
    """Return the paths that are measured: every list, with the filters that people use, and every operations page."""
    large, small = history.large_brand, history.small_brand
    lists = (
        "",
        "?status=failed",
        "?status=active",
        "?status=failed&order=finished",
        "?status=canceled&order=finished",
        f"?brand_id={large}&status=failed",
        f"?brand_id={small}&order=finished",
        f"?brand_id={large}&workflow=plan_90d",
        "?text=alpha+beta",
        "?text=ancient",
        "?text=zebra",
        "?text=seldom",
        "?text=clinics",
        f"?text=alpha&status=failed&brand_id={small}",
    )
    operations = ("", "/audit", "/keys", "/sessions", "/retry?code=provider_unavailable")
    return [
        "/",
        *(f"/ui/runs{each}" for each in lists),
        "/ui/runs/matching?action=archive&query=text%3Dancient",
        f"/ui/runs/{history.failed_run}",
        "/ui/reviews",
        "/ui/brands",
        f"/ui/brands/{large}",
        "/ui/projects",
        *(f"/ui/operations{each}" for each in operations),
    ]


def time_pages(servers: Servers, history: History) -> dict[str, float]:
    """Return the median milliseconds from a request to the last byte of its response, by path.

    An admin asks, one request at a time, over a connection that stays open. Each page was asked for once before.

    Raises:
        RuntimeError: a page was not answered with 200.
    """
    with signed_in(servers) as client:
        return {_named(path, history): _median_ms(client, path) for path in pages(history)}


@contextmanager
def signed_in(servers: Servers) -> Iterator[httpx.Client]:
    """Start an API in managed mode, and yield a client with the session of an admin."""
    env = managed_environment(servers.database_url, servers.redis_url, servers.folder)
    with running(servers, [*PYTHON, "vm_webapp", "serve", "--port", "0"], env) as program:
        base = address_of(program)
        with httpx.Client(base_url=base, headers={"Origin": base}, trust_env=False, timeout=60) as client:
            key = create_key("benchmark", actor=OPERATOR, role="admin").secret
            # The cookie is for HTTPS only, so the client does not send it by itself.
            cookie = client.post("/sign-in", data={"key": key}).headers["Set-Cookie"].partition(";")[0]
            client.headers["Cookie"] = cookie
            yield client


def _median_ms(client: httpx.Client, path: str) -> float:
    taken = []
    for _ in range(1 + TIMES):
        began = time.perf_counter()
        response = client.get(path)
        taken.append(1000 * (time.perf_counter() - began))
        if response.status_code != 200:
            raise RuntimeError(f"{path} was answered with {response.status_code}")
    return statistics.median(taken[1:])


def _named(path: str, history: History) -> str:
    """Return a path with names in place of ids."""
    names = {history.large_brand: "large brand", history.small_brand: "small brand", history.failed_run: "id"}
    for id, name in names.items():
        path = path.replace(str(id), f"{{{name}}}")
    return path
