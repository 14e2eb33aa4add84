"""GET /runs and GET /runs/{id}: pages, filters, and refused requests."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.operations.models import Output
from api.schemas.runs import RunOut
from tests.api.client import Api
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import lifecycle

NOBODYS = "0192f0c8-5a4e-7cc1-9d0e-3f5b8a7c6d21"


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def ids(page: Any) -> list[str]:
    return [run["id"] for run in page["items"]]


def cancel(run: dict[str, Any]) -> None:
    assert lifecycle.cancel_run_if_open(UUID(run["id"]), actor=Actor("tests"))


async def test_no_runs_are_an_empty_page(refusing: Api) -> None:
    assert (await refusing.get("/runs")).json() == {"items": [], "next_cursor": None}


async def test_runs_are_listed_newest_first_and_whole(api: Api) -> None:
    created = [await api.create_run(request=f"number {number}") for number in range(3)]
    assert (await api.get("/runs")).json() == {"items": created[::-1], "next_cursor": None}


async def test_a_run_that_was_written_before_has_the_same_bytes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    own = 'of ,"waiting_on":null, and {} "ünï"\n'
    created = [await api.create_run(request=own), await api.create_run(request="canceled")]
    cancel(created[1])
    paths = ("/runs?limit=1", "/runs", *(f"/runs/{run['id']}" for run in created))
    first, second = [[(await api.get(path)).body for path in paths] for _ in range(2)]
    monkeypatch.setattr(RunOut, "json_of", Output.json_of.__func__.__get__(RunOut))  # type: ignore[attr-defined]
    assert first == second == [(await api.get(path)).body for path in paths]
    assert json.loads(first[2]) == created[0]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_hold_every_run_exactly_once_while_new_ones_come_in(api: Api, limit: int) -> None:
    wanted = [(await api.create_run())["id"] for _ in range(7)][::-1]
    seen, cursor = [], ""
    while True:
        page = (await api.get(f"/runs?limit={limit}{cursor}")).json()
        assert len(page["items"]) <= limit
        seen += ids(page)
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
        await api.create_run()
    assert seen == wanted


async def test_runs_of_the_same_moment_are_paged_by_their_ids(api: Api) -> None:
    wanted = [(await api.create_run())["id"] for _ in range(4)][::-1]
    with transaction():
        execute("UPDATE runs SET created_at = '2026-11-01T12:00:00.123456Z'")
    first = (await api.get("/runs?limit=2")).json()
    second = (await api.get(f"/runs?limit=2&cursor={first['next_cursor']}")).json()
    assert ids(first) + ids(second) == wanted
    assert second["next_cursor"] is None


async def test_a_page_that_is_exactly_full_is_known_to_be_the_last(api: Api) -> None:
    await api.create_run()
    await api.create_run()
    assert (await api.get("/runs?limit=2")).json()["next_cursor"] is None


async def test_filters_narrow_the_listing(api: Api) -> None:
    brand = uuid4()
    with transaction():
        execute("INSERT INTO brands (id, name) VALUES (%(id)s, 'Crumb')", id=brand)
        execute("INSERT INTO projects (id, name) VALUES (%(id)s, 'Spring')", id=brand)
    plan = await api.create_run(workflow="plan_90d")
    branded = await api.create_run(brand_id=str(brand))
    planned = await api.create_run(project_id=str(brand))
    canceled = await api.create_run()
    cancel(canceled)
    finished = (await api.get(f"/runs/{canceled['id']}")).json()["finished_at"]
    for query, runs in {
        "status=canceled": [canceled],
        "status=running": [],
        "status=queued&workflow=content_calendar": [planned, branded],
        "workflow=plan_90d": [plan],
        "workflow=no_such": [],
        f"brand_id={brand}": [branded],
        f"project_id={brand}": [planned],
        f"brand_id={uuid4()}": [],
        f"finished_after={finished}": [canceled],
        f"finished_before={finished}": [],
        "finished_after=2020-01-01T00:00:00%2B01:00&finished_before=2099-01-01T00:00:00Z": [canceled],
        "finished_after=2026-01-01T00:00:00%2B20:00": [canceled],  # PostgreSQL knows no such offset
    }.items():
        assert ids((await api.get(f"/runs?{query}")).json()) == [run["id"] for run in runs], query


async def test_a_cursor_keeps_its_filter(api: Api) -> None:
    older, _, newer = [await api.create_run(workflow=name) for name in ("smoke", "plan_90d", "smoke")]
    first = (await api.get("/runs?workflow=smoke&limit=1")).json()
    second = (await api.get(f"/runs?workflow=smoke&limit=1&cursor={first['next_cursor']}")).json()
    assert ids(first) + ids(second) == [newer["id"], older["id"]]


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("limit=0", {"limit"}),
        ("limit=201", {"limit"}),
        ("limit=-1", {"limit"}),
        ("limit=x", {"limit"}),
        ("limit=", {"limit"}),
        ("limit=5.0", {"limit"}),
        ("limit=1_0", {"limit"}),
        ("limit=%205", {"limit"}),
        (f"limit={'9' * 5_000}", {"limit"}),
        ("limit=5&limit=6", {"limit"}),
        ("limit=5&limit=5", {"limit"}),
        ("status=done", {"status"}),
        ("status=", {"status"}),
        ("brand_id=crumb", {"brand_id"}),
        ("project_id=1", {"project_id"}),
        ("finished_after=yesterday", {"finished_after"}),
        ("finished_after=2026-01-01", {"finished_after"}),
        ("finished_after=2026-01-01T00:00:00", {"finished_after"}),
        ("finished_after=1700000000", {"finished_after"}),
        ("finished_after=2026-01-01T00:00:00%2B24:00", {"finished_after"}),
        ("finished_before=0001-01-01T00:00:00%2B05:00", {"finished_before"}),
        ("finished_before=9999-12-31T23:59:59-05:00", {"finished_before"}),
        ("workflow=a%00b", {"workflow"}),
        ("sort=created_at", {"sort"}),
        ("Limit=5", {"Limit"}),
        ("a%00=1", {"a\x00"}),
        ("cursor=", {"cursor"}),
        ("cursor=abc", {"cursor"}),
        ("cursor=%C3%A4", {"cursor"}),
        (f"cursor={encoded([])}", {"cursor"}),
        (f"cursor={encoded({'at': '2026-01-01T00:00:00Z'})}", {"cursor"}),
        (f"cursor={encoded({'at': '0001-01-01T00:00:00Z', 'id': NOBODYS})}", {"cursor"}),
        (f"cursor={encoded({'at': '2026-01-01T00:00:00+20:00', 'id': NOBODYS})}", {"cursor"}),
        (f"cursor={encoded({'at': '2026-01-01T00:00:00Z', 'id': NOBODYS, 'more': 1})}", {"cursor"}),
        (f"cursor={'W1tb' * 1_500}", {"cursor"}),
        ("limit=0&status=done&sort=x&brand_id=x", {"limit", "status", "sort", "brand_id"}),
    ],
)
async def test_a_wrong_parameter_is_named(refusing: Api, query: str, parameters: set[str]) -> None:
    assert (await refusing.get(f"/runs?{query}")).wrong(422, "invalid_parameter") == parameters


async def test_a_tampered_cursor_is_refused(api: Api) -> None:
    for _ in range(2):
        await api.create_run()
    cursor = (await api.get("/runs?limit=1")).json()["next_cursor"]
    for tampered in (cursor[:-2], cursor[3:], f"{cursor}=", f"{cursor}A", cursor.lower()):
        assert (await api.get(f"/runs?cursor={tampered}")).wrong(422, "invalid_parameter") == {"cursor"}


@pytest.mark.parametrize("run_id", [NOBODYS, "5", "nonsense", "%00", "..%2F..", "%ED%A0%80", "x" * 4_000])
@pytest.mark.parametrize("below", ["", "/events", "/artifacts", "/artifacts/calendar"])
async def test_a_run_that_does_not_exist_is_not_found(refusing: Api, run_id: str, below: str) -> None:
    (await refusing.get(f"/runs/{run_id}{below}")).problem(404, "not_found")


async def test_the_current_state_of_a_run_is_read(api: Api) -> None:
    run = await api.create_run()
    assert (await api.get(f"/runs/{run['id']}")).json() == run
    cancel(run)
    read = (await api.get(f"/runs/{run['id'].upper()}")).json()
    assert (read["status"], [stage["status"] for stage in read["stages"]]) == ("canceled", ["canceled", "canceled"])
    assert read["finished_at"] >= read["created_at"]
