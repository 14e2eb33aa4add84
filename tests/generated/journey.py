"""What people do with the generated Python client, which is the package ``vm_client`` beside this file.

python journey.py ADDRESS KEY
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import Any

from vm_client import AuthenticatedClient
from vm_client.api.brands import change_brand, create_brand
from vm_client.api.reviews import approve_stage, list_approvals, request_changes
from vm_client.api.runs import create_run, list_artifacts, list_events, list_runs, read_archive, read_artifact, read_run
from vm_client.models import ApproveIn, BrandChangeIn, BrandIn, NewRunIn, Problem, RequestChangesIn, RunOut


def expect(status: int, response: Any) -> Any:
    """Return what a response was read into."""
    assert response.status_code == status, response
    assert response.parsed is not None, response
    return response.parsed


def change_a_brand(client: AuthenticatedClient) -> Any:
    """Create a brand and change it, once with the right version and once with an old one."""
    created = create_brand.sync_detailed(client=client, body=BrandIn(name="Bread by Bike", max_running=2))
    brand, tag = expect(201, created), created.headers["ETag"]
    changed = change_brand.sync_detailed(brand.id, client=client, if_match=tag, body=BrandChangeIn(voice="Warm."))
    brand = expect(200, changed)
    assert (brand.voice, brand.version, brand.max_running) == ("Warm.", 2, 2)
    late = change_brand.sync_detailed(brand.id, client=client, if_match=tag, body=BrandChangeIn(voice="Cold."))
    problem = expect(412, late)
    assert isinstance(problem, Problem)
    assert (problem.type_, problem["version"]) == ("/problems/changed_meanwhile", 2)
    return brand


def create(client: AuthenticatedClient, brand: Any) -> Any:
    """Create a run, twice under one key: there is one."""
    new = NewRunIn(workflow="landing_page", request="A page for a bakery", brand_id=brand.id)
    first, again = (create_run.sync_detailed(client=client, body=new, idempotency_key="page-1") for _ in range(2))
    run = expect(201, first)
    assert expect(201, again).id == run.id
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Location"].endswith(str(run.id))
    return run


def follow(client: AuthenticatedClient, run: Any, *statuses: str) -> Any:
    """Wait until the run has one of these statuses."""
    while run.status not in statuses:
        run = read_run.sync(run.id, client=client, wait=20)
        assert isinstance(run, RunOut), run
    return run


def review(client: AuthenticatedClient, run: Any) -> None:
    """Send a draft back, and accept the next one."""
    stage = run.stages[0]
    drafts = list_approvals.sync(client=client).items
    assert [(draft.run_id, draft.stage) for draft in drafts] == [(run.id, stage.key)]
    text = read_artifact.sync_detailed(run.id, stage.key, client=client)
    assert text.headers["ETag"] == f'"{stage.artifact.sha256}"'
    digest = stage.artifact.sha256
    back = RequestChangesIn(artifact_sha256=digest, feedback="Say that it comes by bicycle.")
    run = expect(200, request_changes.sync_detailed(run.id, stage.key, client=client, body=back))
    run = follow(client, run, "waiting_approval")
    old = approve_stage.sync_detailed(run.id, stage.key, client=client, body=ApproveIn(artifact_sha256=digest))
    problem = expect(409, old)
    accepted = ApproveIn(artifact_sha256=problem["current_sha256"], note="Much better.")
    expect(200, approve_stage.sync_detailed(run.id, stage.key, client=client, body=accepted))


def page(client: AuthenticatedClient, run: Any) -> None:
    """Read a timeline and the list of runs page by page, and all that the run has written."""
    seen: list[str] = []
    position: Any = 0
    while position is not None:
        events = list_events.sync(run.id, client=client, after=int(position), limit=3)
        seen += [event.type_ for event in events.items]
        position = events.next_cursor
    assert seen[0] == "run.created"
    assert seen[-1] == "run.completed"
    assert "changes.requested" in seen
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        runs = list_runs.sync(client=client, limit=1, **cursor)
        found += [each.id for each in runs.items]
        if runs.next_cursor is None:
            break
        cursor = {"cursor": runs.next_cursor}
    assert run.id in found
    assert len(set(found)) == len(found)
    assert {each.stage for each in list_artifacts.sync(run.id, client=client).items} == {"message", "copy", "variants"}
    archive = read_archive.sync_detailed(run.id, client=client)
    assert (archive.status_code, archive.content[:2]) == (HTTPStatus.OK, b"PK")


def main() -> None:
    """Do all of it."""
    address, key = sys.argv[1:]
    with AuthenticatedClient(base_url=address, token=key, raise_on_unexpected_status=True) as client:
        client = client.with_timeout(60)
        run = create(client, change_a_brand(client))
        review(client, follow(client, run, "waiting_approval"))
        run = follow(client, run, "completed", "failed", "canceled")
        assert run.status == "completed", run
        page(client, run)
    print("done")


main()
