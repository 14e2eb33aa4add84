"""GET /runs/{id}/artifacts: metadata, content and versions."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.client import Api
from tests.support.runs import create
from vm_webapp.access.actor import Actor
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import Claimant

CLAIMANT = Claimant(uuid4(), "kimi")
DRAFT = "# Erster Entwurf – “draft” 🥐\n"
EDITED = "# Edited\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def run_id(database: str) -> UUID:
    """A run whose first stage has a draft and an edit of it; its second is under way."""
    created = create("landing_page", "a page")
    claim = lifecycle.claim_stage(created.stage_id, CLAIMANT, token=uuid4())
    assert claim is not None
    draft = Completion(DRAFT, "kimi", "k2", 10, 20, note="the prompt was cut")
    lifecycle.finish_stage_if_held(claim, draft, CLAIMANT, next_token=None)
    lifecycle.approve_stage_if_waiting(
        created.run.id, "message", artifact_sha256=sha256(DRAFT), content=EDITED, note=None, actor=Actor("tests")
    )
    return created.run.id


async def test_a_run_without_artifacts_has_an_empty_list(api: Api) -> None:
    run = await api.create_run()
    response = await api.get(f"/runs/{run['id']}/artifacts")
    assert response.json() == {"items": [], "next_cursor": None}


async def test_every_version_is_listed_without_its_content(api: Api, run_id: UUID) -> None:
    body = (await api.get(f"/runs/{run_id}/artifacts")).json()
    draft, edited = body["items"]
    assert body["next_cursor"] is None
    assert draft.pop("created_at") <= edited.pop("created_at")
    assert draft == {
        "stage": "message",
        "version": 1,
        "name": draft["name"],
        "media_type": "text/markdown",
        "sha256": sha256(DRAFT),
        "size": len(DRAFT.encode()),
        "provider": "kimi",
        "model": "k2",
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "uncounted": False},
        "truncated": False,
        "note": "the prompt was cut",
    }
    assert edited["note"] is None
    assert (edited["version"], edited["sha256"], edited["name"]) == (2, sha256(EDITED), draft["name"])


async def test_the_newest_content_is_returned_with_its_media_type_and_etag(api: Api, run_id: UUID) -> None:
    response = await api.get(f"/runs/{run_id}/artifacts/message")
    assert (response.status, response.body.decode()) == (200, EDITED)
    assert response.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert response.headers["ETag"] == f'"{sha256(EDITED)}"'
    assert response.headers["X-Artifact-Version"] == "2"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(("version", "content"), [(1, DRAFT), (2, EDITED)])
async def test_a_version_can_be_asked_for(api: Api, run_id: UUID, version: int, content: str) -> None:
    response = await api.get(f"/runs/{run_id}/artifacts/message?version={version}")
    assert (response.body.decode(), response.headers["X-Artifact-Version"]) == (content, str(version))


@pytest.mark.parametrize("given", ['"{tag}"', 'W/"{tag}"', '"other", "{tag}"', "*"])
async def test_a_reader_who_has_it_already_gets_304(api: Api, run_id: UUID, given: str) -> None:
    headers = {"If-None-Match": given.format(tag=sha256(EDITED))}
    response = await api.get(f"/runs/{run_id}/artifacts/message", headers=headers)
    assert (response.status, response.body, response.headers["ETag"]) == (304, b"", f'"{sha256(EDITED)}"')


@pytest.mark.parametrize("given", ['"other"', "", "nonsense"])
async def test_a_reader_who_has_another_version_gets_this_one(api: Api, run_id: UUID, given: str) -> None:
    response = await api.get(f"/runs/{run_id}/artifacts/message", headers={"If-None-Match": given})
    assert (response.status, response.body.decode()) == (200, EDITED)


@pytest.mark.parametrize("below", ["copy", "no_such", "message?version=3", "%00", "x%2Fy", "%ED%A0%80"])
async def test_an_artifact_that_does_not_exist_is_not_found(api: Api, run_id: UUID, below: str) -> None:
    (await api.get(f"/runs/{run_id}/artifacts/{below}")).problem(404, "not_found")


@pytest.mark.parametrize("version", ["0", "-1", "x", "", "1.0", str(2**31), str(2**63)])
async def test_a_wrong_version_is_refused(refusing: Api, version: str) -> None:
    response = await refusing.get(f"/runs/{uuid4()}/artifacts/message?version={version}")
    assert response.wrong(422, "invalid_parameter") == {"version"}


async def test_the_run_shows_the_newest_version(api: Api, run_id: UUID) -> None:
    run: dict[str, Any] = (await api.get(f"/runs/{run_id}")).json()
    summary = run["stages"][0]["artifact"]
    newest = queries.list_artifacts(run_id)[-1]
    assert summary == {
        "version": 2,
        "name": newest.name,
        "sha256": newest.sha256,
        "size": newest.size,
        "truncated": False,
        "note": None,
    }
    assert run["usage"] == {"prompt_tokens": 10, "completion_tokens": 20, "uncounted": False}
