"""Pauses of a provider: what causes them, what ends them, and which calls are admitted meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.db.attempts import (
    OVERLOADED,
    REFUSED,
    be_refused,
    cancel,
    claim,
    claimed,
    fail,
    release,
    succeed,
)
from tests.db.stages import CATALOG, create_stages, end_pauses, expire_leases, make_due, pause_provider
from tests.support.runs import read
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import lifecycle, providers, queries
from vm_webapp.runs.due import find_due
from vm_webapp.runs.lifecycle import Claim, Claimant
from vm_webapp.runs.providers import (
    BEHIND_OTHERS_SECONDS,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    OVERLOADS_BEFORE_PAUSE,
)
from vm_webapp.runs.states import Failure

pytestmark = pytest.mark.usefixtures("database")

REVOKED = Failure("llm_unauthorized", "HTTP 401", permanent=True, pauses_provider=True)
EMPTY = Failure("llm_empty_answer", "no text", permanent=False)
BUDGET = CATALOG.get("content_calendar").retry.max_failures


def provider() -> dict[str, Any]:
    (found,) = read(
        """
        SELECT paused_at IS NOT NULL AS paused, extract(epoch FROM paused_until - clock_timestamp())::float AS seconds,
               consecutive_failures, pauses, probe_token, reason->>'code' AS code
          FROM providers WHERE name = 'kimi'
        """
    )
    return found


def stage(stage_id: UUID) -> dict[str, Any]:
    (found,) = read(
        """
        SELECT status, failures, extract(epoch FROM available_at - clock_timestamp())::float AS due_in
          FROM stages WHERE id = %(id)s
        """,
        id=stage_id,
    )
    return found


def pause_by_overload(stages: list[UUID]) -> None:
    # All are claimed before the first fails: once the provider is paused, no more could be.
    for held in [claimed(stage_id) for stage_id in stages[:OVERLOADS_BEFORE_PAUSE]]:
        assert fail(held) == "retrying"


def resume() -> bool:
    with transaction():
        return providers.resume("kimi")


def test_overloads_in_a_row_pause_the_provider_and_the_last_one_is_not_counted() -> None:
    stages = create_stages(OVERLOADS_BEFORE_PAUSE + 1)
    pause_by_overload(stages)
    assert [stage(stage_id)["failures"] for stage_id in stages] == [1] * (OVERLOADS_BEFORE_PAUSE - 1) + [0, 0]
    assert provider()["code"] == "llm_overloaded"
    assert provider()["seconds"] == pytest.approx(FIRST_PAUSE_SECONDS, abs=2)
    assert claim(stages[-1]) is None


def test_a_success_in_between_resets_the_count() -> None:
    stages = create_stages(2 * OVERLOADS_BEFORE_PAUSE)
    for stage_id in stages[: OVERLOADS_BEFORE_PAUSE - 1]:
        fail(claimed(stage_id))
    succeed(claimed(stages[OVERLOADS_BEFORE_PAUSE - 1]))
    for stage_id in stages[OVERLOADS_BEFORE_PAUSE : 2 * OVERLOADS_BEFORE_PAUSE - 1]:
        fail(claimed(stage_id))
    assert not provider()["paused"]


@pytest.mark.parametrize("failure", [REFUSED, EMPTY])
def test_a_failure_that_is_not_the_providers_does_not_count_against_it(failure: Failure) -> None:
    for stage_id in create_stages(OVERLOADS_BEFORE_PAUSE + 1):
        fail(claimed(stage_id), failure)
    assert read("SELECT name FROM providers WHERE paused_at IS NOT NULL OR consecutive_failures > 0") == []


def test_each_pause_is_longer_than_the_one_before_up_to_a_minute() -> None:
    stages = create_stages(OVERLOADS_BEFORE_PAUSE)
    pause_by_overload(stages)
    lasted = [provider()["seconds"]]
    for _ in range(6):
        end_pauses()
        make_due()
        fail(claimed(stages[0]))
        lasted.append(provider()["seconds"])
    expected = [min(FIRST_PAUSE_SECONDS * 2**n, LONGEST_PAUSE_SECONDS) for n in range(7)]
    assert lasted == pytest.approx(expected, abs=2)


@pytest.mark.parametrize(("asked", "lasts"), [(1.0, FIRST_PAUSE_SECONDS), (40.0, 40.0), (900.0, LONGEST_PAUSE_SECONDS)])
def test_a_server_may_lengthen_the_pause_within_limits(asked: float, lasts: float) -> None:
    stages = create_stages(OVERLOADS_BEFORE_PAUSE)
    held = [claimed(stage_id) for stage_id in stages]
    for each in held:
        fail(each, Failure("llm_overloaded", "HTTP 429", permanent=False, overload=True, retry_after=asked))
    assert provider()["seconds"] == pytest.approx(lasts, abs=2)


def test_a_long_outage_never_fails_a_lone_stage() -> None:
    """Ten minutes are about twelve probes; no other stage waits, and the retry policy is the default one."""
    (stage_id,) = create_stages(1)
    outage = 0.0
    while outage < 600:
        make_due()
        end_pauses()
        assert fail(claimed(stage_id)) == "retrying"
        outage += max(stage(stage_id)["due_in"], 1.0)
    assert stage(stage_id)["failures"] < BUDGET
    make_due()
    end_pauses()
    succeed(claimed(stage_id))
    assert (provider()["paused"], provider()["pauses"]) == (False, 0)


def test_a_long_outage_fails_nothing_of_a_queue() -> None:
    stages = create_stages(6)
    # Thirty probes are many times the retry budget: a probe that was counted would fail its stage.
    for _ in range(30):
        make_due()
        end_pauses()
        for stage_id in find_due("kimi", 4, cap=None).ids:
            held = claim(stage_id)
            assert held is None or fail(held) == "retrying"
    assert {stage(stage_id)["status"] for stage_id in stages} == {"queued"}


def test_a_poison_stage_does_not_keep_a_healthy_provider_paused() -> None:
    """It is the oldest of all, and its call always fails with 5xx; only the due times that the lifecycle sets help."""
    poison, *others = create_stages(12)
    with transaction():
        execute(
            "INSERT INTO providers (name, consecutive_failures) VALUES ('kimi', %(n)s)", n=OVERLOADS_BEFORE_PAUSE - 1
        )
    fail(claimed(poison))
    assert provider()["paused"]
    seconds = provider()["seconds"]
    # It becomes due after the pause, so that another stage is the probe.
    assert stage(poison)["due_in"] > seconds + BEHIND_OTHERS_SECONDS / 2
    _pass(seconds)
    (probe,) = find_due("kimi", 8, cap=None).ids
    assert probe == others[0]
    succeed(claimed(probe))
    assert not provider()["paused"]
    for _ in range(BUDGET):
        make_due()
        fail(claimed(poison))
        if stage(poison)["status"] == "failed":
            break
        succeed(claimed(others.pop()))
    assert stage(poison)["status"] == "failed"
    assert not provider()["paused"]


def _pass(seconds: float) -> None:
    """Let this many seconds pass: every time in the tables is that much earlier."""
    with transaction():
        execute(
            "UPDATE stages SET available_at = available_at - %(s)s * interval '1 s' WHERE status = 'queued'", s=seconds
        )
        execute("UPDATE providers SET paused_until = paused_until - %(s)s * interval '1 s'", s=seconds)


def test_stragglers_of_an_outage_are_excused_and_do_not_lengthen_the_pause() -> None:
    stages = create_stages(OVERLOADS_BEFORE_PAUSE + 3)
    held = [claimed(stage_id) for stage_id in stages]
    for each in held:
        assert fail(each) == "retrying"
    assert [stage(each.stage_id)["failures"] for each in held[OVERLOADS_BEFORE_PAUSE:]] == [0, 0, 0]
    assert provider()["pauses"] == 1


def test_one_probe_is_admitted_at_a_time_however_many_claim() -> None:
    stages = create_stages(16)
    pause_provider("kimi", until="1 h")
    assert [stage_id for stage_id in stages if claim(stage_id)] == []
    end_pauses()
    # No cap, so only the paused provider's row makes these claims wait for each other.
    with ThreadPoolExecutor(16) as threads:
        won = [held for held in threads.map(claim, stages) if held]
    assert len(won) == 1
    assert provider()["probe_token"] == won[0].token


def test_a_probe_that_succeeds_resumes_the_provider() -> None:
    first, second, third = create_stages(3)
    pause_provider("kimi", until="1 h")
    end_pauses()
    succeed(claimed(first))
    assert provider() | {"seconds": None} == {
        "paused": False,
        "seconds": None,
        "consecutive_failures": 0,
        "pauses": 0,
        "probe_token": None,
        "code": None,
    }
    claimed(second)
    claimed(third)


def test_a_straggler_that_succeeds_resumes_the_provider_too() -> None:
    stages = create_stages(OVERLOADS_BEFORE_PAUSE + 2)
    straggler = claimed(stages[-1])
    pause_by_overload(stages)
    succeed(straggler)
    claimed(stages[-2])


def _die(probe: Claim) -> None:
    expire_leases()
    assert lifecycle.rescue_expired_leases().queued == (probe.stage_id,)


@pytest.mark.parametrize("end", [_die, cancel, release, be_refused])
def test_a_probe_that_ends_without_a_response_lets_the_next_stage_probe(end: Callable[[Claim], None]) -> None:
    first, second, third = create_stages(3)
    pause_provider("kimi", until="1 h")
    end_pauses()
    probe = claimed(first)
    assert claim(second) is None
    end(probe)
    claimed(second)
    assert claim(third) is None


def test_a_probe_whose_worker_died_remains_the_probe_until_it_is_rescued() -> None:
    first, second = create_stages(2)
    pause_provider("kimi", until="1 h")
    end_pauses()
    claimed(first)
    expire_leases()
    assert claim(second) is None
    lifecycle.rescue_expired_leases()
    claimed(second)


def test_a_revoked_key_fails_one_stage_and_pauses_the_provider_until_it_is_resumed() -> None:
    stages = create_stages(4)
    held = [claimed(stage_id) for stage_id in stages[:3]]
    assert [fail(each, REVOKED) for each in held] == ["failed", "retrying", "retrying"]
    assert (provider()["paused"], provider()["seconds"], provider()["code"]) == (True, None, "llm_unauthorized")
    end_pauses()
    assert [stage_id for stage_id in stages if claim(stage_id)] == []
    assert resume()
    claimed(stages[3])
    assert not resume()


def test_a_key_that_is_revoked_during_an_outage_fails_a_stage_with_its_reason() -> None:
    stages = create_stages(OVERLOADS_BEFORE_PAUSE + 2)
    stragglers = [claimed(stage_id) for stage_id in stages[OVERLOADS_BEFORE_PAUSE:]]
    pause_by_overload(stages)
    assert fail(stragglers[0], REVOKED) == "failed"
    run = queries.get_run(stragglers[0].run_id)
    assert run.error is not None
    assert run.error.code == "llm_unauthorized"
    assert fail(stragglers[1], REVOKED) == "retrying"
    assert provider()["seconds"] is None


def test_a_success_does_not_end_a_pause_that_a_person_must_end() -> None:
    first, second, third = create_stages(3)
    straggler = claimed(second)
    fail(claimed(first), REVOKED)
    succeed(straggler)
    assert provider()["paused"]
    assert claim(third) is None


def test_resuming_resets_the_failures() -> None:
    stages = create_stages(OVERLOADS_BEFORE_PAUSE + 1)
    pause_by_overload(stages)
    assert resume()
    assert (provider()["paused"], provider()["consecutive_failures"], provider()["pauses"]) == (False, 0, 0)
    fail(claimed(stages[-1]))
    assert not provider()["paused"]


def test_a_stage_without_a_model_is_held_back_by_no_pause_and_no_cap() -> None:
    (smoke,) = create_stages(1, "smoke")
    pause_provider("kimi", until=None)
    held = claimed(smoke, Claimant(uuid4(), "kimi", cap=1))
    assert held.provider is None
    # Its failure cannot be the provider's, which was never called.
    assert fail(held, OVERLOADED) == "retrying"
    assert provider()["consecutive_failures"] == 0
