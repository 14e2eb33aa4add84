"""Redis fails in several ways: runs are accepted and found by polling, and hints work again without a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.chaos import faults
from tests.chaos.faults import Fault, client_of
from tests.chaos.harness import Posted, every
from tests.chaos.ledger import assert_nothing_lost, quantile, wait_for_all
from tests.chaos.stack import Stack, running_stack
from tests.fakes.model_server import random_script
from tests.support.forms import only_in_full
from tests.support.runs import read
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

POLL_SECONDS = 1.0
HINTED_SECONDS = 0.25
ACCEPTED_SECONDS = 0.25


class RunCreator:
    """Creates runs and measures how soon a worker picks them up."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.posted: list[Posted] = []

    def post(self) -> None:
        self.posted.append(self.stack.api.post_run())

    def pick_ups(self, since: int, until: int | None = None) -> list[float]:
        """Return how long each of these posted runs waited for its first attempt, shortest first."""
        found = read(
            """
            SELECT coalesce(extract(epoch FROM started.created_at - r.created_at)::float8, 'Infinity') AS seconds
              FROM runs r JOIN LATERAL (SELECT min(created_at) AS created_at FROM events e
                                         WHERE e.run_id = r.id AND e.type = 'stage.started') started ON true
             WHERE r.id = ANY(%(runs)s::uuid[])
            """,
            runs=[posted.run_id for posted in self.posted[since:until]],
        )
        return sorted(row["seconds"] for row in found)

    def is_hinted(self) -> bool:
        """Return whether a run is picked up much sooner than by polling."""
        since = len(self.posted)
        for _ in range(4):
            self.post()
            wait_for_all(seconds=20)
        return self.pick_ups(since)[-1] < HINTED_SECONDS


@pytest.fixture(scope="module")
def creator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunCreator]:
    folder = tmp_path_factory.mktemp("redis-faults")
    script = random_script(0.02, 0.1, 0.0, seed=7)
    with running_stack(folder, script, threads=8, poll_ms=int(POLL_SECONDS * 1000)) as stack:
        yield RunCreator(stack)


# How many seconds each fault lasts, in the short form and in the full one.
FAULTS: dict[Fault, tuple[float, float]] = {
    faults.redis_stopped: (1, 60),
    faults.redis_hanging: (3, 60),
    faults.redis_read_only: (1, 15),
    faults.redis_slow: (1, 60),  # like one that hangs
    faults.redis_full: (1, 15),  # like one that is read-only
}
LONG = (faults.redis_slow, faults.redis_full)


@pytest.mark.parametrize("fault", [only_in_full(fault) if fault in LONG else fault for fault in FAULTS])
def test_without_redis_runs_are_accepted_and_found(creator: RunCreator, full: bool, fault: Fault) -> None:
    since = len(creator.posted)
    pids = creator.stack.fleet.pids()
    seconds = FAULTS[fault][full]
    with fault(creator.stack):
        eventually(lambda: creator.stack.api.says_redis_is("degraded"), "readiness says ``degraded`` and stays ready")
        every(0.1, during=seconds, do=creator.post)
        assert creator.stack.api.says_redis_is("degraded")
    until = len(creator.posted)
    back = time.monotonic()
    eventually(lambda: creator.stack.api.says_redis_is("ok"), "readiness says that Redis works")
    eventually(creator.is_hinted, "hints work again", seconds=30)
    back = time.monotonic() - back

    wait_for_all(seconds=30)
    accepted = sorted(posted.seconds for posted in creator.posted[since:until])
    waits = creator.pick_ups(since, until)
    print(
        f"{fault.__name__} for {seconds:.0f} s: {len(accepted)} runs accepted in {accepted[-1] * 1000:.0f} ms at most"
        f" (median {quantile(accepted, 0.5) * 1000:.0f}); picked up after {quantile(waits, 0.5):.2f} s (median),"
        f" {waits[-1]:.2f} s (most); hints worked again after {back:.1f} s"
    )
    assert accepted[-1] < ACCEPTED_SECONDS
    assert waits[-1] < 2 * POLL_SECONDS
    assert creator.stack.fleet.pids() == pids
    assert_nothing_lost(len(creator.posted))


def test_a_flushed_redis_loses_hints_and_no_runs(creator: RunCreator, full: bool) -> None:
    since = len(creator.posted)

    def post_and_flush() -> None:
        creator.post()
        with client_of(creator.stack.redis) as client:
            client.flushall()

    every(0.05, during=15.0 if full else 1.0, do=post_and_flush)
    wait_for_all(seconds=20)

    accepted = sorted(posted.seconds for posted in creator.posted[since:])
    waits = creator.pick_ups(since)
    print(
        f"flushed {len(accepted)} times: runs accepted in {accepted[-1] * 1000:.0f} ms at most, picked up after"
        f" {quantile(waits, 0.5):.2f} s (median), {waits[-1]:.2f} s (most)"
    )
    assert accepted[-1] < ACCEPTED_SECONDS
    # A hint that arrives makes the worker claim what was announced by lost ones, too.
    assert waits[-1] < 2 * POLL_SECONDS
    assert_nothing_lost(len(creator.posted))
    assert creator.stack.api.says_redis_is("ok")
