"""The state machine: its tables, what the database and the documentation say of them, and its decisions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_webapp.runs.records import RunStatus, StageStatus
from vm_webapp.runs.states import (
    FINAL_RUN_STATUSES,
    MAX_RESCUES,
    MAX_RETRY_AFTER_SECONDS,
    RUN_TRANSITIONS,
    STAGE_TRANSITIONS,
    Failure,
    GiveUp,
    RetryAt,
    backoff_seconds,
    decide_failure,
    decide_rescue,
)
from vm_webapp.workflows.model import RetryPolicy

ROOT = Path(__file__).parents[2]
RUN_EDGES = """
    queued>running queued>failed queued>canceled running>waiting_approval running>completed running>failed
    running>canceled
    waiting_approval>running waiting_approval>completed waiting_approval>canceled failed>queued failed>canceled
"""
STAGE_EDGES = """
    pending>queued pending>canceled queued>running queued>failed queued>canceled running>completed
    running>waiting_approval running>queued running>failed running>canceled waiting_approval>completed
    waiting_approval>queued waiting_approval>canceled failed>pending failed>queued failed>canceled completed>pending
    completed>queued canceled>pending canceled>queued
"""
MACHINES = [
    pytest.param(RUN_TRANSITIONS, get_args(RunStatus), RUN_EDGES, id="run"),
    pytest.param(STAGE_TRANSITIONS, get_args(StageStatus), STAGE_EDGES, id="stage"),
]
OVERLOADED = Failure("llm_overloaded", "try later", permanent=False)
POLICIES = st.builds(
    RetryPolicy,
    max_failures=st.integers(1, 50),
    base_seconds=st.floats(0.001, 3600),
    max_seconds=st.floats(0.001, 3600),
)
JITTER = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(("table", "statuses", "edges"), MACHINES)
def test_exactly_the_specified_transitions_exist(
    table: Mapping[str, frozenset[str]], statuses: tuple[str, ...], edges: str
) -> None:
    assert set(table) == set(statuses)
    found = {f"{old}>{new}" for old, new in product(statuses, repeat=2) if new in table[old]}
    assert found == set(edges.split())
    assert sum(map(len, table.values())) == len(found)


@pytest.mark.parametrize(("table", "start"), [(RUN_TRANSITIONS, "queued"), (STAGE_TRANSITIONS, "pending")])
def test_every_status_can_be_reached(table: Mapping[str, frozenset[str]], start: str) -> None:
    reached, frontier = {start}, [start]
    while frontier:
        news = table[frontier.pop()] - reached
        reached |= news
        frontier.extend(news)
    assert reached == set(table)


def test_completed_and_canceled_runs_are_final_and_a_failed_one_may_be_retried() -> None:
    assert {status for status, after in RUN_TRANSITIONS.items() if not after} == {"completed", "canceled"}
    assert sorted(FINAL_RUN_STATUSES) == ["canceled", "completed", "failed"]
    assert RUN_TRANSITIONS["failed"] == {"queued", "canceled"}


@pytest.mark.parametrize(("name", "table"), [("runs", RUN_TRANSITIONS), ("stages", STAGE_TRANSITIONS)])
def test_the_database_admits_exactly_these_statuses(name: str, table: Mapping[str, frozenset[str]]) -> None:
    (migration,) = [path for path in (ROOT / "migrations").glob("0001*.sql") if ".rollback" not in path.name]
    definition = re.search(
        rf"CREATE TABLE {name} \(.*?\bstatus +text [^(]*\(status IN\s*\((.*?)\)", _text(migration), re.S
    )
    assert definition is not None
    assert set(re.findall(r"'(\w+)'", definition.group(1))) == set(table)


@pytest.mark.parametrize(("heading", "table"), [("Run", RUN_TRANSITIONS), ("Stage", STAGE_TRANSITIONS)])
def test_the_documentation_draws_every_status(heading: str, table: Mapping[str, frozenset[str]]) -> None:
    section = _section(heading)
    assert [status for status in table if status not in section] == []


def test_the_documented_ways_out_of_running_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (\w+)[^|]*\|", _section("Stage"), re.M)
    listed = set(rows) - {"From"}
    drawn = {"completed", "waiting_approval"}
    assert listed | drawn == STAGE_TRANSITIONS["running"]


@pytest.mark.parametrize("failures_before", range(7))
def test_a_retryable_failure_is_repeated_until_the_budget_is_used_up(failures_before: int) -> None:
    decision = decide_failure(OVERLOADED, failures_before=failures_before, policy=RetryPolicy(), jitter=0.5)
    assert isinstance(decision, RetryAt if failures_before < 4 else GiveUp)


@given(policy=POLICIES, jitter=JITTER, failures_before=st.integers(0, 60))
def test_a_permanent_failure_is_never_repeated(policy: RetryPolicy, jitter: float, failures_before: int) -> None:
    failure = Failure("llm_unauthorized", "no", permanent=True, retry_after=1.0)
    assert decide_failure(failure, failures_before=failures_before, policy=policy, jitter=jitter) == GiveUp()


def test_the_backoff_doubles_up_to_its_ceiling() -> None:
    policy = RetryPolicy(max_failures=50, base_seconds=2.0, max_seconds=120.0)
    longest = [backoff_seconds(count, policy, retry_after=None, jitter=1.0) for count in range(9)]
    assert longest == [2, 4, 8, 16, 32, 64, 120, 120, 120]


@given(policy=POLICIES, jitter=JITTER, failures_before=st.integers(0, 10_000))
def test_a_backoff_lies_in_the_upper_half_of_its_ceiling(
    policy: RetryPolicy, jitter: float, failures_before: int
) -> None:
    ceiling = min(policy.max_seconds, policy.base_seconds * 2.0 ** min(failures_before, 32))
    delay = backoff_seconds(failures_before, policy, retry_after=None, jitter=jitter)
    assert ceiling / 2 <= delay <= ceiling


@given(
    policy=POLICIES,
    jitter=JITTER,
    failures_before=st.integers(0, 60),
    retry_after=st.floats(allow_nan=True, allow_infinity=True),
)
def test_a_server_may_lengthen_the_wait_up_to_a_cap_and_never_shorten_it(
    policy: RetryPolicy, jitter: float, failures_before: int, retry_after: float
) -> None:
    plain = backoff_seconds(failures_before, policy, retry_after=None, jitter=jitter)
    asked = backoff_seconds(failures_before, policy, retry_after=retry_after, jitter=jitter)
    assert plain <= asked <= max(plain, MAX_RETRY_AFTER_SECONDS)
    if 0 < retry_after <= MAX_RETRY_AFTER_SECONDS:
        assert asked >= retry_after


def test_a_retry_is_due_when_the_server_said() -> None:
    failure = Failure("llm_rate_limited", "slow down", permanent=False, retry_after=42.0)
    assert decide_failure(failure, failures_before=0, policy=RetryPolicy(), jitter=0.9) == RetryAt(42.0)


@pytest.mark.parametrize("rescues_before", range(8))
def test_the_sixth_lost_lease_fails_the_stage(rescues_before: int) -> None:
    expected = RetryAt(0.0) if rescues_before < 5 else GiveUp()
    assert decide_rescue(rescues_before=rescues_before) == expected
    assert MAX_RESCUES == 5


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _section(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", _text(ROOT / "docs" / "state_machine.md"), re.M | re.S)
    assert found is not None
    return found.group(1)
