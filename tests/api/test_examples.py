"""The examples of the OpenAPI document: requests that were sent and responses that came, each operation once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.docs.examples import RECORDED, examples
from api.routes.table import ROOT_ROUTES, ROUTES
from api.schemas.events import EVENT_TYPES
from api.services import Services
from tests.api.client import Api
from tests.support.actors import OPERATOR
from tests.support.fleet import beat, change
from tests.support.runs import read
from tests.support.work import claim_next, finish_next
from vm_webapp.access.keys import create_key
from vm_webapp.access.sessions import open_session
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim
from vm_webapp.runs.states import Failure

BRAND = {
    "name": "Bread by Bike",
    "voice": "Warm and brief. We say you.",
    "audience": "People who work from home",
    "products": ["Sourdough, delivered before eight"],
    "facts": ["Founded in 2019"],
    "forbidden_words": ["artisanal"],
}
PROJECT = {"name": "Spring", "objective": "200 new subscribers", "channels": ["Newsletter"], "starts_on": "2027-03-01"}
LANDING_PAGE = {"workflow": "landing_page", "request": "A page for a bakery that delivers by bicycle"}
CALENDAR = {"workflow": "content_calendar", "request": "A calendar for a bakery that delivers by bicycle"}


class Recorder:
    """Sends requests, and keeps of each operation the first request and its response."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._operations = {each.name: each for each in (*ROUTES, *ROOT_ROUTES)}
        self.found: dict[str, dict[str, Any]] = {}

    async def __call__(
        self,
        name: str,
        body: dict[str, Any] | None = None,
        /,
        *,
        headers: dict[str, str] | None = None,
        query: str = "",
        **path: str,
    ) -> Any:
        """Send a request to an operation; return the JSON of its response."""
        operation = self._operations[name]
        filled = operation.path.format_map(path) + query
        response = await self._api.request(
            operation.method, filled, prefix=operation.prefix, json=body, headers=headers or {}
        )
        assert response.status == operation.status, response.body
        entry = {} if body is None else {"request": body}
        answer: Any = response.body.decode(errors="replace")
        if operation.media_type == "application/json":
            answer = response.json()
        if operation.media_type != "application/zip" and name != "read_description":
            entry["response"] = answer
        self.found.setdefault(name, entry)
        return answer


async def record_all(api: Api) -> dict[str, dict[str, Any]]:
    """Send a request to every operation."""
    ask = Recorder(api)
    await ask("live")
    await ask("list_workflows")
    await ask("read_workflow", name="landing_page")
    await _keep_brands_and_projects(ask)
    await _run(ask)
    await _operate(ask, api.services)
    await ask("read_description")
    await ask("read_problem_type", name="draft_changed")
    return ask.found


async def _keep_brands_and_projects(ask: Recorder) -> None:
    for noun, body in (("brand", BRAND), ("project", PROJECT)):
        id = (await ask(f"create_{noun}", body))["id"]
        await ask(f"list_{noun}s")
        await ask(f"read_{noun}", **{f"{noun}_id": id})
        name = {"name": f"{body['name']}, again"}
        await ask(f"change_{noun}", name, headers={"If-Match": '"1"'}, **{f"{noun}_id": id})
        await ask(f"archive_{noun}", **{f"{noun}_id": id})


async def _run(ask: Recorder) -> None:
    id = (await ask("create_run", LANDING_PAGE))["id"]
    finish_next(id, "# Message\n\nBread before eight.\n")
    await ask("list_runs")
    run = await ask("read_run", run_id=id)
    await ask("list_approvals")
    digest = {"artifact_sha256": run["stages"][0]["artifact"]["sha256"]}
    await ask("request_changes", digest | {"feedback": "Say that it comes by bicycle."}, run_id=id, key="message")
    finish_next(id, "# Message\n\nBread by bicycle, before eight.\n")
    run = await ask("read_run", run_id=id)
    digest = {"artifact_sha256": run["stages"][0]["artifact"]["sha256"]}
    await ask("approve_stage", digest | {"note": "Much better."}, run_id=id, key="message")
    await ask("list_events", run_id=id)
    await ask("list_artifacts", run_id=id)
    await ask("read_artifact", run_id=id, stage="message")
    await ask("read_archive", run_id=id)
    await ask("fork_run", {"from_stage": "copy", "request": "The same for cakes"}, run_id=id)
    await ask("cancel_run", run_id=id)
    failed = (await ask("create_run", CALENDAR))["id"]
    wrong = Failure("llm_content_filtered", "the model's provider refused the request", permanent=True)
    assert lifecycle.fail_attempt_if_held(claim_next(failed), wrong, jitter=0.5) == "failed"
    await ask("retry_run", {"from_stage": "topic_map"}, run_id=failed)


async def _operate(ask: Recorder, services: Services) -> None:
    beat()
    await ask("list_workers")
    await ask("read_queue")
    await ask("pause_queue", {"reason": "The provider's maintenance"})
    await ask("resume_queue")
    await ask("cancel_runs", {"status": "queued", "older_than_seconds": 3600, "dry_run": True})
    await ask("retry_runs", {"workflow": "content_calendar", "dry_run": True})
    await ask("archive_runs", {"status": "completed", "older_than_seconds": 2_592_000, "dry_run": True})
    await ask("unarchive_runs", {"workflow": "content_calendar", "dry_run": True})
    await ask("resume_provider", name="kimi")
    await ask("read_usage_report", query="?by=day,model")
    await ask("list_audit", query="?limit=2")
    await _sign_in_and_out(ask, services)


async def _sign_in_and_out(ask: Recorder, services: Services) -> None:
    key = create_key("ann", actor=OPERATOR, role="editor").secret
    browser = "Mozilla/5.0 (X11; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0"
    new = open_session(key, services.sessions.rules, address="192.0.2.7", user_agent=browser)
    assert new is not None
    await ask("list_sessions", query="?all=true")
    await ask("end_session", session_id=str(new.id))
    await ask("end_own_sessions")


async def test_every_operation_has_an_example_that_came_from_it(api: Api, record: bool) -> None:
    found = await record_all(api)
    if record:
        RECORDED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        pytest.skip("recorded anew: look at the diff")
    # What is down decides the first; two are pages, and the last is as long as there are processes and routes.
    without = {"ready", "read_first_page", "read_page", "read_metrics"}
    assert examples().keys() == found.keys() == {each.name for each in (*ROUTES, *ROOT_ROUTES)} - without
    assert {name: _shape(each) for name, each in examples().items()} == {
        name: _shape(each) for name, each in found.items()
    }


async def test_every_event_is_of_a_described_type_and_has_the_described_data(api: Api) -> None:
    await record_all(api)
    ask = Recorder(api)
    id = (await ask("create_run", CALENDAR | {"auto_approve": True}))["id"]
    lost = Failure("llm_overloaded", "the provider is overloaded", permanent=False, partial_text="# Half a tex")
    assert lifecycle.fail_attempt_if_held(claim_next(id), lost, jitter=0.5) == "retrying"
    for leave in (release, lose):
        change("UPDATE stages SET available_at = now() WHERE run_id = %(id)s AND status = 'queued'", id=id)
        leave(claim_next(id))
    for _ in range(2):
        finish_next(id)
    seen = read("SELECT type, data FROM events")
    assert {each["type"] for each in seen} == EVENT_TYPES.keys()
    for each in seen:
        described = EVENT_TYPES[each["type"]].data
        assert each["data"].keys() <= {name.rstrip("?") for name in described}, each
        assert each["data"].keys() >= {name for name in described if not name.endswith("?")}, each


def release(claim: Claim) -> None:
    """Put a stage back as a worker does that shuts down."""
    assert lifecycle.release_stage_if_held(claim)


def lose(claim: Claim) -> None:
    """Let a claim's lease expire, and rescue the stage."""
    change("UPDATE stages SET lease_expires_at = now() - interval '1 s' WHERE id = %(id)s", id=claim.stage_id)
    assert lifecycle.rescue_expired_leases().queued == (claim.stage_id,)


def _shape(value: Any) -> Any:
    """Return what a recording and a new response have in common: the fields, and the types of their values."""
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    return [_shape(each) for each in value] if isinstance(value, list) else type(value).__name__
