"""Schema and code in a window: which builds work on which schemas, and what they report about the others."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.db.schemas import FURTHER, compatible, further, later_build, run_sql
from tests.support.runs import CreatedRun, create
from vm_webapp.db import migrate
from vm_webapp.db.bundle import Bundle, MigrationFiles, own_bundle
from vm_webapp.db.migrate.status import Applied
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.llm.base import Completion
from vm_webapp.ops.health import HealthChecker
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import Claim, Claimant
from vm_webapp.settings import Settings

NEWEST = own_bundle().ids[-1]


def build(*ids: str, deferrable: str = "") -> Bundle:
    """Return a build that contains these migrations."""
    return Bundle(MigrationFiles(id, "-- deferrable: yes\n" if id == deferrable else "", "") for id in ids)


@pytest.mark.parametrize(
    ("bundle", "found", "obstacle"),
    [
        (build("1"), {"1": "1"}, ""),
        (build("1", "2"), {"1": "1"}, "the database lacks 2: run python -m vm_webapp migrate"),
        (build("1", "2", deferrable="2"), {"1": "1"}, ""),
        (build("1", "2"), {"1": "1", "2": "1", "3": "1"}, ""),
        (build("1", "2"), {"1": "1", "2": "1", "3": "2"}, ""),
        (build("1"), {"1": "1", "2": "1", "3": "2"}, "the database has 3, too new for this build"),
        (build("1"), {"1": "1", "2": None}, "the database has 2, too new for this build"),
        (build("1", "3"), {"1": "1", "2": "3", "3": "1"}, ""),
        (build("1", "3"), {"1": "1", "2": "2", "3": "1"}, "the database has 2, too new for this build"),
    ],
    ids=[
        "the same",
        "the schema is older",
        "older, without what can wait",
        "newer by expansion",
        "newer by a contraction that this build was made for",
        "newer by a contraction",
        "newer, and nothing is written down",
        "another branch that this build was made for",
        "another branch",
    ],
)
def test_a_build_works_on_the_schemas_of_its_window(
    bundle: Bundle, found: dict[str, str | None], obstacle: str
) -> None:
    status = migrate.compare(bundle, {id: Applied("digest", oldest) for id, oldest in found.items()})
    assert status.obstacle.startswith(obstacle)
    assert bool(status.obstacle) is bool(obstacle)


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        ({"1": "1", "2": "1", "3": "3"}, "migrate down --to 2"),
        ({"1": "1", "1z": "1z", "2": "1"}, "migrate down --to 1 (which also takes back 2), then migrate up"),
        ({"1": "1", "2": "1", "2a": "1", "3": "3"}, "migrate down --to 2a"),
        ({"0": "9", "1": "1", "2": "1"}, "roll it back"),
    ],
    ids=["the newest", "between known ones", "after one that does no harm", "before everything"],
)
def test_the_advice_for_a_schema_that_is_too_new_leads_back(found: dict[str, str], advice: str) -> None:
    status = migrate.compare(build("1", "2"), {id: Applied("digest", oldest) for id, oldest in found.items()})
    assert status.obstacle.split(", or ")[1].removeprefix("python -m vm_webapp ") == advice


def test_a_newer_compatible_schema_is_ready_and_up_changes_nothing(database: str) -> None:
    migrate.apply_pending(database, bundle=later_build(compatible()))
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat("working", 0))
    before = run_sql(database, "SELECT count(*) FROM _yoyo_log")
    assert migrate.apply_pending(database) == ()
    assert run_sql(database, "SELECT count(*) FROM _yoyo_log") == before
    health = HealthChecker(Settings(), None).check()
    assert health.ready
    assert health.dependencies["migrations"]["status"] == "ok"
    assert FURTHER in health.dependencies["migrations"]["note"]


def test_a_newer_incompatible_schema_is_not_ready_and_says_what_to_do(database: str) -> None:
    migrate.apply_pending(database, bundle=later_build(further()))
    health = HealthChecker(Settings(), None).check()
    assert health.dependencies["migrations"] == {"status": "incompatible", "newer": [FURTHER]}
    (reason,) = health.reasons
    assert reason.endswith(f"deploy a newer one, or python -m vm_webapp migrate down --to {NEWEST}")


def test_this_build_completes_runs_on_a_schema_of_the_next(database: str) -> None:
    claimant, text = Claimant(uuid4(), "kimi", None), Completion("# A document", "kimi")

    def begin() -> tuple[CreatedRun, Claim | None]:
        created = create()
        return created, lifecycle.claim_stage(created.stage_id, claimant, token=uuid4())

    in_flight = begin()
    migrate.apply_pending(database, bundle=later_build(compatible()))
    for created, first in (in_flight, begin()):
        claim = first
        assert claim is not None
        while claim is not None:
            finished = lifecycle.finish_stage_if_held(claim, text, claimant, next_token=uuid4())
            assert finished is not None
            claim = finished.next
        assert queries.get_run(created.run.id).status == "completed"
