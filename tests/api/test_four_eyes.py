"""A run may ask that somebody else than its creator decides its reviews; people are told apart by their keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.client import Api, written
from tests.api.conftest import TOKEN
from tests.api.test_keys import bearer
from tests.api.test_reviews import digest, write_draft
from tests.support.actors import OPERATOR
from vm_webapp.access.keys import create_key, revoke_key

DRAFT = "# A draft"
DECISIONS = {
    "approve": {"artifact_sha256": digest(DRAFT)},
    "request-changes": {"artifact_sha256": digest(DRAFT), "feedback": "shorter"},
}

every_decision = pytest.mark.parametrize("decision", DECISIONS)


async def drafted_run(api: Api, secret: str) -> str:
    """Create a run that asks for four eyes, and whose first draft waits."""
    body = {"workflow": "landing_page", "request": "a page", "four_eyes": True}
    created = await api.post("/runs", body, headers=bearer(secret))
    assert created.json()["four_eyes"] is True
    run_id: str = created.json()["id"]
    await asyncio.to_thread(write_draft, run_id, DRAFT)
    return run_id


async def decide(api: Api, run_id: str, decision: str, secret: str) -> Any:
    """Decide about the draft."""
    return await api.post(f"/runs/{run_id}/stages/message/{decision}", DECISIONS[decision], headers=bearer(secret))


@every_decision
async def test_the_creator_may_not_decide_and_another_may(managed: Api, decision: str) -> None:
    ann, ben = (create_key(name, role="editor", actor=OPERATOR).secret for name in ("ann", "ben"))
    run_id = await drafted_run(managed, ann)
    before = written()
    assert "another key" in (await decide(managed, run_id, decision, ann)).problem(403, "four_eyes")["detail"]
    assert written() == before
    run = (await managed.get(f"/runs/{run_id}", headers=bearer(ben))).json()
    assert (run["status"], run["four_eyes"]) == ("waiting_approval", True)
    assert (await decide(managed, run_id, decision, ben)).status == 200


async def test_a_name_that_is_used_again_is_another_person(managed: Api) -> None:
    first = create_key("ann", role="editor", actor=OPERATOR).secret
    run_id = await drafted_run(managed, first)
    revoke_key("ann", actor=OPERATOR)
    second = create_key("ann", role="editor", actor=OPERATOR).secret
    assert (await decide(managed, run_id, "approve", second)).status == 200


async def test_the_token_counts_as_one_person(managed: Api) -> None:
    run_id = await drafted_run(managed, TOKEN)
    (await decide(managed, run_id, "approve", TOKEN)).problem(403, "four_eyes")
    ann = create_key("ann", actor=OPERATOR).secret
    assert (await decide(managed, run_id, "approve", ann)).status == 200


async def test_a_fork_asks_for_four_eyes_too_and_its_creator_is_who_forked_it(managed: Api) -> None:
    ann, ben = (create_key(name, role="editor", actor=OPERATOR).secret for name in ("ann", "ben"))
    parent = await drafted_run(managed, ann)
    forked = await managed.post(f"/runs/{parent}/fork", {"from_stage": "message"}, headers=bearer(ben))
    fork = forked.json()
    assert fork["four_eyes"] is True
    await asyncio.to_thread(write_draft, fork["id"], DRAFT)
    (await decide(managed, fork["id"], "approve", ben)).problem(403, "four_eyes")
    assert (await decide(managed, fork["id"], "approve", ann)).status == 200


async def test_four_eyes_without_reviews_are_refused(refusing_managed: Api) -> None:
    body = {"workflow": "landing_page", "request": "a page", "four_eyes": True, "auto_approve": True}
    response = await refusing_managed.post("/runs", body, headers=bearer(TOKEN))
    assert response.wrong(422, "invalid_input") == {"/four_eyes"}


async def test_four_eyes_are_refused_where_callers_are_not_known(refusing: Api) -> None:
    response = await refusing.post("/runs", {"workflow": "landing_page", "request": "a page", "four_eyes": True})
    assert response.wrong(422, "invalid_input") == {"/four_eyes"}


async def test_nobody_unknown_decides_when_the_door_was_opened_later(managed: Api, api: Api) -> None:
    run_id = await drafted_run(managed, create_key("ann", actor=OPERATOR).secret)
    response = await api.post(f"/runs/{run_id}/stages/message/approve", DECISIONS["approve"])
    response.problem(403, "four_eyes")
    response = await api.post(f"/runs/{run_id}/fork", {"from_stage": "message"})
    response.problem(422, "invalid_input")
