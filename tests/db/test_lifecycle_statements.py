"""How many statements the hot path takes: they are what a stage costs the database, and how long it holds locks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.db.stages import create_stages, expire_leases
from tests.support.runs import CATALOG, create
from vm_webapp.access.actor import Actor
from vm_webapp.db import pool
from vm_webapp.execution.leases import HeldLeases
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.execution.mirror_writer import MirrorWriter
from vm_webapp.execution.stage_runner import StageRunner
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.llm.base import Completion
from vm_webapp.llm.calls import CallLoop
from vm_webapp.llm.offline import OfflineProvider, TemplateProvider
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant, NewRun

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that were sent, without BEGIN and COMMIT."""
    sent: list[str] = []
    send: Callable[..., Any] = pool.database.execute_sql

    def listen(sql: str, *arguments: Any, **options: Any) -> Any:
        sent.append(sql)
        return send(sql, *arguments, **options)

    monkeypatch.setattr(pool.database, "execute_sql", listen)
    return sent


@pytest.mark.parametrize(("cap", "claiming", "finishing"), [(None, 1, 1), (30, 3, 4)])
def test_a_stage_takes_few_statements(statements: list[str], cap: int | None, claiming: int, finishing: int) -> None:
    worker = Claimant(uuid4(), "kimi", cap)
    # The first claim adds the provider's row and compiles the statements, so it is not counted.
    warm, stage_id = create_stages(2)
    held = lifecycle.claim_stage(warm, worker, token=uuid4())
    assert held is not None
    assert lifecycle.release_stage_if_held(held)
    statements.clear()
    assert lifecycle.claim_stage(warm, worker, token=uuid4())
    assert len(statements) <= claiming
    held = lifecycle.claim_stage(stage_id, worker, token=uuid4())
    assert held is not None
    statements.clear()
    finished = lifecycle.finish_stage_if_held(held, Completion("# T", "kimi"), worker, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None
    assert len(statements) <= finishing


def test_a_batch_of_lost_leases_takes_as_many_statements_as_one(statements: list[str]) -> None:
    """The worker that rescues must renew its own leases once a second."""
    worker = Claimant(uuid4(), "kimi")
    for stage_id in create_stages(12):
        assert lifecycle.claim_stage(stage_id, worker, token=uuid4())
    expire_leases()
    statements.clear()
    assert len(lifecycle.rescue_expired_leases().queued) == 12
    assert len(statements) == 4, "the look without a lock, which an idle worker makes alone, and three for the batch"


def test_a_batch_of_claims_is_one_statement(statements: list[str]) -> None:
    create_stages(8)
    statements.clear()
    tokens = [uuid4() for _ in range(8)]
    assert len(lifecycle.claim_due_stages(Claimant(uuid4(), "kimi"), tokens).claims) == 8
    assert len(statements) == 1


def test_a_run_is_created_by_one_statement_and_not_read_back(statements: list[str]) -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat("working", 0))
    create("content_calendar")  # prepares the statements
    statements.clear()
    lifecycle.create_run(NewRun(CATALOG.get("content_calendar"), "a request"), actor=Actor("tests"))
    assert len(statements) == 1


def test_a_thread_takes_one_statement_for_each_stage_of_the_run_that_it_carries(
    statements: list[str], tmp_path: Path
) -> None:
    worker, calls = Claimant(uuid4(), "kimi"), CallLoop()
    runner = StageRunner(
        worker,
        model=OfflineProvider(),
        template=TemplateProvider(),
        calls=calls,
        leases=HeldLeases(),
        mirror=MirrorWriter(ArtifactMirror(tmp_path)),
    )
    try:
        for _ in range(2):  # the first run prepares the statements
            create("plan_90d", auto_approve=True)
            (claim,) = lifecycle.claim_due_stages(worker, [uuid4()]).claims
            statements.clear()
            assert runner.run(claim) == 3
    finally:
        calls.close()
    assert len(statements) == 3
