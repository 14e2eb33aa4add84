"""One process at a time decides how many workers there should be, and the next one goes on where it stopped."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from tests.db.attempts import claimed
from tests.db.stages import create_stages
from tests.support.fleet import SLOTS, beat, change
from tests.support.links import link_to_postgres
from tests.support.runs import read
from tests.support.waiting import eventually
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.fleet.duty_leases import DutyLease
from vm_webapp.ops.autoscale import decider as module
from vm_webapp.ops.autoscale.decider import Decider, deciding
from vm_webapp.ops.autoscale.shapes import Decision, Figures, Limits
from vm_webapp.ops.autoscale.stored import from_json, to_json
from vm_webapp.ops.queue_history import purge_old_history
from vm_webapp.settings import Settings

SETTINGS = Settings(autoscale_min=2, autoscale_max=7, autoscale_target_wait_seconds=45.0)
HELD = "SELECT holder FROM duty_leases WHERE name = 'decide' AND expires_at > now()"


class Policy:
    """Decides as many workers as it is told to, and remembers what it was asked."""

    def __init__(self, desired: int = 3) -> None:
        self.desired = desired
        self.asked: list[tuple[Figures, Limits, Sequence[Decision]]] = []

    def __call__(self, figures: Figures, limits: Limits, past: Sequence[Decision], now: float) -> Decision:
        self.asked.append((figures, limits, past))
        return Decision(now, self.desired, self.desired - 1, f"{self.desired} are enough")


def expire(name: str = "decide") -> None:
    """Let a lease end, as if its holder had been gone for long."""
    change("UPDATE duty_leases SET expires_at = clock_timestamp() - interval '1 ms' WHERE name = %(name)s", name=name)


def stored() -> dict[str, Any]:
    """Return the decision that is stored."""
    (found,) = read("SELECT * FROM autoscale_decision")
    return found


@pytest.fixture
def policy() -> Policy:
    """A policy."""
    return Policy()


@pytest.mark.usefixtures("database")
def test_a_decision_is_stored_with_reason_limits_and_figures(policy: Policy) -> None:
    for stage in create_stages(5)[:2]:
        claimed(stage)
    beat(in_flight=2, cap=9)
    beat("starting")
    beat("draining", in_flight=1)
    decision = Decider(SETTINGS, decide=policy).run_once()
    assert decision is not None
    row = stored()
    assert (row["desired_workers"], row["reason"]) == (3, "3 are enough")
    assert (row["min_workers"], row["max_workers"], row["target_wait_seconds"]) == (2, 7, 45)
    (figures, limits, past) = policy.asked[0]
    assert (limits, past) == (Limits(2, 7, 45.0), [])
    assert (figures.queued, figures.due, figures.running, figures.claimable) == (3, 3, 2, 3)
    assert (figures.workers, figures.starting, figures.draining, figures.slots, figures.in_flight) == (1, 1, 1, 4, 2)
    assert (figures.slots_each, figures.most_calls, figures.stopped) == (SLOTS, 9, False)
    assert row["figures"]["claimable"] == 3
    assert figures.most_workers is not None
    assert 0 < figures.most_workers < 100


@pytest.mark.usefixtures("database")
def test_without_workers_the_next_one_likely_is_as_the_last_one(policy: Policy) -> None:
    decider = Decider(SETTINGS, decide=policy)
    decider.run_once()
    beat("stopped", cap=5)
    decider.run_once()
    assert [(figures.slots_each, figures.most_calls) for figures, _, _ in policy.asked] == [(32, None), (SLOTS, 5)]


@pytest.mark.usefixtures("database")
def test_one_decides_and_the_next_one_goes_on_when_it_is_gone(policy: Policy) -> None:
    one, two = Decider(SETTINGS, holder="one", decide=policy), Decider(SETTINGS, holder="two", decide=policy)
    assert one.run_once() is not None
    assert two.run_once() is None
    assert one.run_once() is not None
    expire()
    policy.desired = 6
    assert two.run_once() is not None
    assert [past.desired for past in policy.asked[-1][2]] == [3, 3]
    # It has not noticed that it lost the lease, as after a pause of the whole process.
    policy.desired = 1
    assert one.run_once() is None
    assert (stored()["desired_workers"], read(HELD)) == (6, [{"holder": "two"}])
    two.release()
    assert one.run_once() is not None


@pytest.mark.usefixtures("database")
def test_a_decision_is_not_stored_once_another_has_the_lease(policy: Policy) -> None:
    """The statement that stores compares the token, whatever the process believes."""
    other = DutyLease("decide", "other")

    def slow(figures: Figures, limits: Limits, past: Sequence[Decision], now: float) -> Decision:
        expire()
        return policy(figures, limits, past, now)

    assert Decider(SETTINGS, holder="slow", decide=slow).run_once() is None
    assert read("SELECT FROM autoscale_decision") == []
    assert other.hold()


@pytest.mark.usefixtures("database")
def test_the_limits_of_the_process_that_scales_hold_while_it_lives(policy: Policy) -> None:
    decider, scaler = Decider(SETTINGS, decide=policy), DutyLease("scale", "host:1")
    limits = []
    for details in (
        {"min": 4, "max": 9, "target_wait_seconds": 10.5, "service": "srv-1"},
        {"min": 9, "max": 4, "target_wait_seconds": 10},
        {"min": "many"},
        {},
    ):
        assert scaler.hold(details)
        decider.run_once()
        limits.append(policy.asked[-1][1])
    assert limits == [Limits(4, 9, 10.5), *[Limits(2, 7, 45.0)] * 3]
    assert scaler.hold({"min": 4, "max": 9, "target_wait_seconds": 10})
    expire("scale")
    decider.run_once()
    assert policy.asked[-1][1] == Limits(2, 7, 45.0)


@pytest.mark.usefixtures("database")
def test_what_workers_count_becomes_rates(policy: Policy) -> None:
    worker = beat(counters={"attempts": 7, "attempt_ms": 9000})
    decider = Decider(SETTINGS, decide=policy)
    decider.run_once()
    change(
        "UPDATE worker_heartbeats SET counters = %(now)s::jsonb WHERE worker_id = %(id)s",
        now='{"attempts": 17, "attempt_ms": 29000}',
        id=worker.worker_id,
    )
    create_stages(5)
    decider.run_once()
    figures = policy.asked[-1][0]
    assert (figures.completions_per_minute, figures.arrivals_per_minute) == (40, 60)  # ten, and fifteen, within 15 s
    assert figures.mean_stage_seconds == 2.0
    row = stored()
    assert (row["completions_per_minute"], row["arrivals_per_minute"], row["mean_stage_seconds"]) == (40, 60, 2)


@pytest.mark.usefixtures("database")
def test_the_figures_are_kept_every_thirty_seconds_for_a_day(policy: Policy) -> None:
    decider = Decider(SETTINGS, decide=policy)
    create_stages(2)
    for _ in range(3):
        decider.run_once()
    assert read("SELECT queued, due, desired_workers, reason FROM queue_history") == [
        {"queued": 2, "due": 2, "desired_workers": 3, "reason": "3 are enough"}
    ]
    change("UPDATE queue_history SET at = at - interval '29 s'")
    decider.run_once()
    assert len(read("SELECT FROM queue_history")) == 2
    change("UPDATE queue_history SET at = at - interval '23 h 59 min 40 s'")
    assert (purge_old_history(), len(read("SELECT FROM queue_history"))) == (1, 1)


def test_the_past_is_kept_without_what_adds_nothing() -> None:
    steady = [Decision(5.0 * number, 2, 1, "so") for number in range(120)]
    kept = from_json(to_json([*steady, Decision(600, 5, 5, "more")]), since=0)
    assert len(kept) < 27
    assert (kept[0].at, kept[-2].at, kept[-1].at) == (0, 595, 600)
    assert all(later.at - earlier.at <= 30 for earlier, later in itertools.pairwise(kept))
    assert from_json(to_json(kept), since=595) == [Decision(595, 2, 1, ""), Decision(600, 5, 5, "")]
    assert from_json("nonsense", since=0) == from_json([[1]], since=0) == from_json(None, since=0) == []


def test_changes_of_the_past_are_kept_one_by_one() -> None:
    changing = [Decision(5.0 * number, 2 + number % 2, 1, "") for number in range(120)]
    assert from_json(to_json(changing), since=0) == changing


def test_an_outage_of_the_database_is_said_once_and_then_it_goes_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "DECIDE_SECONDS", 0.05)
    tried: list[None] = []

    class Counting(Decider):
        def run_once(self) -> Decision | None:
            tried.append(None)
            return super().run_once()

    monkeypatch.setattr(module, "Decider", Counting)
    with link_to_postgres(database_url) as (proxy, far_url):
        open_pool(far_url, max_connections=4, application_name="tests")
        with caplog.at_level(logging.WARNING), deciding(SETTINGS):
            before = eventually(lambda: read("SELECT decided_at FROM autoscale_decision"), "a decision")
            proxy.cut()
            eventually(lambda: "autoscale.undecided" in caplog.messages, "the outage is noticed")
            at_first = len(tried)
            eventually(lambda: len(tried) > at_first + 3, "it goes on trying")
            proxy.restore()
            eventually(lambda: read("SELECT decided_at FROM autoscale_decision") != before, "it decides again")
        assert read(HELD) == []  # another process can decide at once
        close_pool()
    assert caplog.messages.count("autoscale.undecided") == 1
