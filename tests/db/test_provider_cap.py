"""The cap on a provider's calls in flight: it holds at every moment, and every end of an attempt frees its place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from tests.db.attempts import TEXT, be_refused, cancel, claim, claimed, fail, release, succeed
from tests.db.stages import create_stages, expire_leases
from tests.db.timeline import KEEP_SNAPSHOTS
from tests.support.runs import read
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant

pytestmark = pytest.mark.usefixtures("database")


def test_the_calls_of_a_dead_worker_do_not_count_toward_the_cap_for_ever() -> None:
    capped = Claimant(uuid4(), "kimi", cap=3)
    stages = create_stages(4)
    for _ in range(4):
        assert [bool(claim(stage_id, capped)) for stage_id in stages] == [True, True, True, False]
        expire_leases()
        assert len(lifecycle.rescue_expired_leases().queued) == 3


@pytest.mark.parametrize("end", [succeed, fail, release, cancel, be_refused])
def test_an_attempt_that_ends_frees_its_place_under_the_cap(end: Callable[[Claim], object]) -> None:
    capped = Claimant(uuid4(), "kimi", cap=1)
    first, second = create_stages(2)
    held = claimed(first, capped)
    assert claim(second, capped) is None
    end(held)
    claimed(second, capped)


def test_a_finish_that_claims_the_next_stage_stays_within_the_cap() -> None:
    capped = Claimant(uuid4(), "kimi", cap=1)
    first, second = create_stages(2)
    finished = lifecycle.finish_stage_if_held(claimed(first, capped), TEXT, capped, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None
    assert claim(second, capped) is None


# Claims of a capped provider run one after the other, so each sees every call that began before it; an end that it does
# not see yet only lowers the true count. A count within the cap at every start is therefore within it at every moment.
CALLS_AT_EACH_START = """
SELECT (SELECT 2 * count(*) FILTER (WHERE o.type = 'stage.started') - count(*)
          FROM events o WHERE o.type IN ('stage.started', 'stage.completed')
           AND (o.writer = e.writer OR pg_visible_in_snapshot(o.writer, e.saw))) AS calls,
       coalesce(pg_visible_in_snapshot(lag(writer) OVER claims, saw), true) AS serial
  FROM events e WHERE type = 'stage.started' WINDOW claims AS (ORDER BY id)
"""


def test_a_cap_of_thirty_holds_at_every_moment_with_sixty_four_claimers() -> None:
    capped = Claimant(uuid4(), "kimi", cap=30)
    with transaction():
        execute(KEEP_SNAPSHOTS)
    stages = create_stages(64)
    together = threading.Barrier(64)

    def run(stage_id: UUID) -> None:
        together.wait(30)
        held = claim(stage_id, capped)
        while held is not None:
            finished = lifecycle.finish_stage_if_held(held, TEXT, capped, next_token=uuid4())
            held = finished.next if finished else None

    def hold(stage_id: UUID) -> None:
        together.wait(30)
        claim(stage_id, capped)

    with ThreadPoolExecutor(64) as threads:
        ends = [threads.submit(hold if number % 2 else run, stage_id) for number, stage_id in enumerate(stages)]
        for end in ends:
            end.result(60)
    for stage_id in stages:
        claim(stage_id, capped)
    starts = read(CALLS_AT_EACH_START)
    assert all(start["serial"] for start in starts)
    assert max(start["calls"] for start in starts) == 30
    assert read("SELECT count(*) AS n FROM stages WHERE status = 'running'") == [{"n": 30}]
