"""What a poll returns: the stages that a worker may claim, in order, at a cost that does not grow with history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.db.attempts import claim
from tests.db.stages import create_stages, end_pauses, make_due, pause_provider
from tests.support.actors import OPERATOR
from tests.support.databases import Databases
from tests.support.runs import read
from vm_webapp.context import brands
from vm_webapp.db.pool import close_pool, execute, open_pool, rows, transaction
from vm_webapp.db.prepared import Prepared
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.due import DueStages, find_due
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.runs.signals import stage_due
from vm_webapp.runs.statements import NEXT_START_TAG, claim_due_stages, find_due_stages

pytestmark = pytest.mark.usefixtures("database")

WORKER = Claimant(uuid4(), "kimi")
INDEXES_OF_THE_QUEUE = {"stages_queue", "stages_queue_without_model", "stages_leased", "stages_lease_token_key"}


def due(limit: int = 10, **options: Any) -> DueStages:
    return find_due("kimi", limit, **{"cap": None, **options})


def test_the_oldest_run_comes_first_whatever_its_stage_waited_for() -> None:
    # A run's age counts and not that of its stage, so that a run which has begun is completed before younger ones
    # begin.
    stages = create_stages(4)
    with transaction():
        execute("UPDATE stages SET available_at = now(), queued_at = now() WHERE id = %(id)s", id=stages[0])
    assert due() == DueStages(tuple(stages), more=False)


def test_low_priority_comes_after_every_normal_run() -> None:
    low = create_stages(2, priority="low")
    normal = create_stages(2)
    assert due().ids == (*normal, *low)


def test_no_more_than_asked_for_and_whether_others_are_due() -> None:
    stages = create_stages(3)
    assert due(2) == DueStages(tuple(stages[:2]), more=True)
    assert due(3) == DueStages(tuple(stages), more=False)


def test_stages_that_the_worker_has_already_are_left_out_and_do_not_count() -> None:
    stages = create_stages(3)
    assert due(2, without=stages[:1]) == DueStages(tuple(stages[1:]), more=False)
    assert due(without=stages) == DueStages((), more=False)


def test_a_stage_that_backs_off_is_not_due() -> None:
    later, now = create_stages(2)
    with transaction():
        execute("UPDATE stages SET available_at = now() + interval '1 h' WHERE id = %(id)s", id=later)
    assert due().ids == (now,)
    make_due()
    assert due().ids == (later, now)


def test_only_stages_that_have_waited_long_enough() -> None:
    old, _ = create_stages(2)
    with transaction():
        execute("UPDATE stages SET available_at = now() - interval '1 min' WHERE id = %(id)s", id=old)
    assert due(waited_seconds=30).ids == (old,)


def test_a_running_stage_is_not_due() -> None:
    first, second = create_stages(2)
    assert claim(first)
    assert due().ids == (second,)


@pytest.mark.parametrize("workflow", ["content_calendar", "smoke"])
def test_a_paused_queue_returns_nothing(workflow: str) -> None:
    create_stages(2, workflow)
    with transaction():
        execute("UPDATE queues SET paused_at = now()")
    assert due().ids == ()


@pytest.mark.parametrize("cap", [None, 30])
@pytest.mark.parametrize("until", [None, "1 h"])
def test_a_paused_provider_returns_nothing(until: str | None, cap: int | None) -> None:
    create_stages(2)
    pause_provider("kimi", until=until)
    assert due(cap=cap).ids == ()


@pytest.mark.parametrize("cap", [None, 30])
def test_a_pause_that_is_over_admits_exactly_one_probe(cap: int | None) -> None:
    first, second, *_ = create_stages(3)
    pause_provider("kimi", until="1 h")
    end_pauses()
    assert due(cap=cap) == DueStages((first,), more=True)
    probe = claim(first)
    assert probe is not None
    assert due(cap=cap).ids == ()
    assert lifecycle.release_stage_if_held(probe)
    assert due(cap=cap, without=[first]).ids == (second,)


def test_a_pause_of_another_provider_has_no_effect() -> None:
    stages = create_stages(2)
    pause_provider("offline", until=None)
    assert due().ids == tuple(stages)


@pytest.mark.parametrize(("cap", "found", "more"), [(2, 0, True), (3, 1, True), (6, 4, True), (13, 4, False)])
def test_a_cap_admits_what_is_left_of_it(cap: int, found: int, more: bool) -> None:
    stages = create_stages(6)
    assert claim(stages[0])
    assert claim(stages[1])
    assert due(cap=cap) == DueStages(tuple(stages[2 : 2 + found]), more=more)


def test_calls_of_another_provider_and_stages_without_a_model_do_not_count_toward_the_cap() -> None:
    (smoke,) = create_stages(1, "smoke")
    other, mine = create_stages(2)
    assert claim(smoke)
    assert claim(other, Claimant(uuid4(), "offline"))
    assert due(cap=1).ids == (mine,)


@pytest.mark.parametrize("cap", [None, 1])
def test_stages_without_a_model_are_not_hidden_behind_a_pause_or_a_cap(cap: int | None) -> None:
    stages = create_stages(30)
    smokes = create_stages(2, "smoke")
    if cap is None:
        pause_provider("kimi", until=None)
    else:
        assert claim(stages[0])
    assert due(2, cap=cap) == DueStages(tuple(smokes), more=True)


def test_stages_with_and_without_a_model_are_in_one_order() -> None:
    stages = [create_stages(1, workflow)[0] for workflow in ("smoke", "content_calendar", "smoke", "content_calendar")]
    assert due() == DueStages(tuple(stages), more=False)
    assert due(3) == DueStages(tuple(stages[:3]), more=True)


def test_what_a_poll_returns_can_be_claimed_and_the_rest_cannot() -> None:
    """The same rules decide in both places."""
    capped = Claimant(uuid4(), "kimi", cap=3)
    stages = create_stages(6)
    found = due(cap=3).ids
    assert [stage_id for stage_id in stages if claim(stage_id, capped)] == list(found)


def test_a_provider_that_was_never_called_is_not_paused() -> None:
    stages = create_stages(1)
    assert read("SELECT name FROM providers") == []
    assert due(cap=1).ids == tuple(stages)


@pytest.fixture(scope="module")
def filled(databases: Databases) -> Iterator[str]:
    """The name of a database of 20,000 stages that are queued, 30 that run, 30,000 that are finished, 2,000 brands."""
    name = databases.take()
    open_pool(databases.url(name), max_connections=1, application_name="tests")
    _fill()
    close_pool()
    yield name
    databases.drop(name)


@pytest.fixture
def history(database: str, filled: str, databases: Databases) -> Iterator[None]:
    """A copy of that database, for this test alone, with this process's pool open on it instead."""
    name = databases.copy(filled)
    close_pool()
    open_pool(databases.url(name), max_connections=4, application_name="tests")
    yield
    close_pool()
    databases.drop(name)


def _fill() -> None:
    snapshot = "jsonb_build_object('workflow', repeat('x', 200))"
    with transaction():
        execute("SET LOCAL statement_timeout = '60s'")
        execute("SET LOCAL session_replication_role = replica")  # foreign keys hold by construction
        execute(
            f"""
            INSERT INTO runs (id, workflow, status, request, snapshot, started_at, finished_at, created_by, start_tag)
            SELECT uuidv7(), 'w', 'completed', 'x', {snapshot}, now(), now(), 'tests', n FROM generate_series(1, 300) n
            """
        )
        execute("INSERT INTO brands (id, name) SELECT uuidv7(), 'Brand ' || n FROM generate_series(1, 2000) n")
        execute(
            """
            INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                                start_tag, available_at, finished_at)
            SELECT uuidv7(), r.id, n, 'k' || n, 'T', 'completed', 0, false, true, start_tag, now(), now()
              FROM runs r, generate_series(1, 100) n
            """
        )
        execute(
            f"""
            WITH made AS (
                INSERT INTO runs (id, workflow, status, request, snapshot, created_by, start_tag)
                SELECT uuidv7(), 'w', 'queued', 'x', {snapshot}, 'tests', 1000 + n FROM generate_series(1, 2003) n
                RETURNING id, start_tag
            ), numbered AS (
                SELECT id, start_tag, p, row_number() OVER (ORDER BY id, p) AS n FROM made, generate_series(1, 10) p)
            INSERT INTO stages (id, run_id, position, key, title, start_tag, status, priority, requires_approval,
                                needs_model, available_at, lease_token, lease_expires_at, deadline_at, provider)
            SELECT uuidv7(), id, p, 'k' || p, 'T', start_tag, CASE WHEN n <= 30 THEN 'running' ELSE 'queued' END,
                   mod(n, 5) / 4, false, mod(n, 20) > 0, now(), CASE WHEN n <= 30 THEN gen_random_uuid() END,
                   CASE WHEN n <= 30 THEN now() END, CASE WHEN n <= 30 THEN now() END, 'kimi'
              FROM numbered
            """
        )


@pytest.mark.usefixtures("history")
def test_a_deep_backlog_and_a_long_history_do_not_raise_the_cost_of_a_poll() -> None:
    """A plan is judged by the rows and pages that it reads, not by the clock."""
    with transaction():
        execute("ANALYZE runs, stages, brands, providers, queues")
    # Thirty calls run: no cap, one that leaves no capacity, and one that leaves more than a worker has slots.
    for cap in (None, 20, 300):
        _check_plan(cap)
    pause_provider("kimi", until="1 h")
    _check_plan(None)


@pytest.mark.usefixtures("history")
def test_a_deep_backlog_and_a_long_history_do_not_raise_the_cost_of_a_claim() -> None:
    with transaction():
        execute("ANALYZE runs, stages, brands, providers, queues")
    nodes = list(_plan_of_a_claim())
    scanned = [node for node in nodes if "Index Name" in node or node["Node Type"] == "Seq Scan"]
    assert {node["Relation Name"] for node in scanned if node["Node Type"] == "Seq Scan"} <= {"queues", "providers"}
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in scanned) <= 2 * 33
    # Each claimed stage and its run are read and locked, changed, and entered into the indexes.
    assert nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"] < 32 * 100


@pytest.mark.usefixtures("history")
def test_a_deep_backlog_and_a_long_history_do_not_raise_the_cost_of_a_new_run() -> None:
    """The tag is read from the ends of two indexes, whether its owner is new or has thousands of runs."""
    with transaction():
        execute("ANALYZE runs, stages")
    for owner in ("tests", "somebody new"):
        nodes = list(_plan(NEXT_START_TAG, brand_id=None, actor=owner, priority=0))
        of_runs = [node for node in nodes if node.get("Relation Name") == "runs"]
        assert {node["Index Name"] for node in of_runs} == {"runs_begun", "runs_of_owner"}
        assert max(rows_of(node) for node in of_runs) <= 1
        assert nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"] <= 12


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("caps", [0, 20])
def test_caps_of_other_brands_cost_a_claim_one_pass_over_what_is_running(caps: int) -> None:
    with transaction():
        execute("UPDATE brands SET max_running = 5 WHERE id IN (SELECT id FROM brands LIMIT %(n)s)", n=caps)
        execute("ANALYZE runs, stages, brands, providers, queues")
    nodes = list(_plan_of_a_claim())
    of_brands = [rows_of(node) for node in nodes if node.get("Index Name") == "brands_limited"]
    of_running = [rows_of(node) for node in nodes if node.get("Index Name") == "stages_leased"]
    assert sum(of_brands) == caps
    assert sum(of_running) == (30 if caps else 0)


def rows_of(node: dict[str, Any]) -> int:
    """Return how many rows a node of a plan has returned."""
    return int(node["Actual Rows"] * node["Actual Loops"])


@pytest.mark.usefixtures("history")
def test_a_brand_at_its_cap_costs_a_claim_one_look_at_each_of_its_due_stages() -> None:
    brand = brands.create({"name": "One", "max_running": 1}, actor=OPERATOR).id
    with transaction():
        execute("UPDATE stages SET brand_id = %(id)s WHERE status = 'queued' AND mod(start_tag, 2) = 0", id=brand)
        execute(
            "UPDATE stages SET brand_id = %(id)s WHERE id = (SELECT id FROM stages WHERE status = 'running' LIMIT 1)",
            id=brand,
        )
        execute("UPDATE stages SET start_tag = 1 WHERE status = 'queued' AND brand_id IS NOT NULL")
        execute("ANALYZE runs, stages, brands, providers, queues")
    nodes = list(_plan_of_a_claim())
    # Of both indexes of the queue, and of nothing else: neither the runs of the stages nor the cap are read for each.
    removed = [node for node in nodes if node.get("Rows Removed by Filter", 0) > 1000]
    assert {node["Relation Name"] for node in removed} == {"stages"}
    assert sum(node["Rows Removed by Filter"] for node in removed) <= 10_500
    assert [node for node in nodes if node["Actual Loops"] > 1000] == []
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in nodes) <= 2 * 33


def _plan_of_a_claim() -> Iterator[dict[str, Any]]:
    values = {"tokens": [uuid4() for _ in range(32)], "lease": 15, "worker": uuid4(), "actor": "worker"}
    return _plan(claim_due_stages(), limit=32, cap=None, provider_locked=False, **values)


def _check_plan(cap: int | None) -> None:
    nodes = list(_plan(find_due_stages(), limit=32, cap=cap))
    scanned = [node for node in nodes if node.get("Relation Name") == "stages" or "Index Name" in node]
    used = {node["Index Name"] for node in nodes if "stages" in node.get("Index Name", "") and node["Actual Loops"]}
    assert used <= INDEXES_OF_THE_QUEUE
    assert [node for node in scanned if node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "stages"] == []
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in scanned) <= 2 * 33
    assert nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"] < 150


def _plan(statement: Prepared, **options: Any) -> Iterator[dict[str, Any]]:
    parameters = {"provider": "kimi", "without": [], "waited": 0, **options}
    with transaction():
        (explained,) = rows(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement.text}", **parameters)
    waiting = [explained["QUERY PLAN"][0]["Plan"]]
    while waiting:
        node = waiting.pop(0)
        waiting.extend(node.get("Plans", ()))
        yield node


def test_the_next_stage_of_a_run_comes_before_younger_runs() -> None:
    first, second = create_stages(2)
    held = claim(first)
    assert held is not None
    following: list[UUID] = []
    with stage_due.connected(following.append):
        assert lifecycle.finish_stage_if_held(held, Completion("# T", "kimi"), WORKER, next_token=None)
    assert due().ids == (*following, second)
    assert following
