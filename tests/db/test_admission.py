"""The poll, the claim, ``waiting_on`` and ``desired_workers`` agree, whichever rule holds a stage back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from uuid import UUID, uuid4

import pytest

from tests.db.attempts import claim
from tests.db.stages import create_stages, pause_provider
from tests.db.workers import SLOTS, let_work
from tests.support.runs import create, read
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, transaction
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.due import find_due
from vm_webapp.runs.lifecycle import Claimant

pytestmark = pytest.mark.usefixtures("database")


def pause_queue() -> None:
    queue_control.pause_queue(reason="a bad prompt", actor=Actor("ops"))


def pause_until_resumed() -> None:
    pause_provider("kimi", until=None)


def pause_for_a_while() -> None:
    pause_provider("kimi", until="1 h")


def let_a_pause_end() -> None:
    pause_provider("kimi", until="-1 s")


def probe() -> None:
    """Let a pause end, and its probe run for ever."""
    let_a_pause_end()
    (stage,) = create_stages(1)
    assert claim(stage)


def call() -> None:
    """Have one call in flight."""
    (stage,) = create_stages(1)
    assert claim(stage)


def call_before_a_pause_that_is_over() -> None:
    """Have one call in flight that began before a pause whose time is over."""
    call()
    let_a_pause_end()


def call_another() -> None:
    """Have one call of another provider in flight."""
    (stage,) = create_stages(1)
    assert claim(stage, Claimant(uuid4(), "offline"))


def nothing() -> None:
    """Leave everything as it is."""


SITUATIONS: dict[Callable[[], None], str | None] = {
    nothing: None,
    pause_queue: "queue_paused",
    pause_until_resumed: "provider_paused",
    pause_for_a_while: "provider_paused",
    let_a_pause_end: None,
    probe: "provider_paused",
    call: None,
    call_another: None,
    call_before_a_pause_that_is_over: None,  # the probe is admitted, however full the cap is
}
CAPPED = {call: "model_limit"}


@pytest.mark.parametrize("cap", [None, 1])
@pytest.mark.parametrize(("situation", "workflow"), [*product(SITUATIONS, ["content_calendar", "smoke"])])
def test_a_stage_that_is_shown_as_held_back_is_neither_found_nor_claimed(
    situation: Callable[[], None], workflow: str, cap: int | None
) -> None:
    situation()
    let_work(cap=cap)
    held_by = CAPPED.get(situation) if cap and situation in CAPPED else SITUATIONS[situation]
    if workflow == "smoke" and held_by != "queue_paused":
        held_by = None  # no model is called, so no provider matters
    created = create(workflow)
    stage = created.stage_id
    waiting = queries.get_run(created.run.id).waiting_on
    assert waiting is not None
    assert waiting.kind == (held_by or "queue")
    assert created.run.waiting_on == waiting
    found = find_due("kimi", 9, cap=cap)
    assert found.ids == (() if held_by else (stage,))
    # The worker should poll again when a call ends: it may be the probe, or one that counts toward the cap.
    limited = situation in (
        pause_until_resumed,
        pause_for_a_while,
        let_a_pause_end,
        probe,
        call_before_a_pause_that_is_over,
    )
    assert found.more == (held_by != "queue_paused" and (limited or cap is not None))
    assert (claim(stage, Claimant(uuid4(), "kimi", cap)) is not None) == (held_by is None)


def test_a_stage_that_any_of_the_workers_may_claim_is_not_held_back() -> None:
    pause_until_resumed()
    let_work()
    let_work(provider="offline")
    created = create()
    waiting = queries.get_run(created.run.id).waiting_on
    assert waiting is not None
    assert waiting.kind == "queue"
    assert created.run.waiting_on == waiting
    assert find_due("offline", 1, cap=None).ids == (created.stage_id,)


# Nine calls are due and five smoke stages; three stages are in flight. A worker has four slots.
ALL, NO_CALLS, IN_FLIGHT = 5, 2, 1


@pytest.mark.parametrize(
    ("situation", "wanted"),
    [
        (nothing, ALL),
        (pause_for_a_while, ALL),  # five to sixty seconds: a fleet would shrink and grow with each of them
        (let_a_pause_end, ALL),
        (pause_until_resumed, NO_CALLS),
        (pause_queue, IN_FLIGHT),
    ],
)
def test_only_a_pause_that_a_person_must_end_lowers_the_desired_workers(
    situation: Callable[[], None], wanted: int
) -> None:
    for stage in create_stages(3):
        assert claim(stage)
    create_stages(9)
    create_stages(5, "smoke")
    let_work(in_flight=3)
    situation()
    assert queue_control.read_queue().desired_workers == wanted


def test_a_paused_queue_wants_as_many_workers_as_finish_what_is_in_flight() -> None:
    create_stages(40)
    for _ in range(3):
        let_work(in_flight=3)
    pause_queue()
    assert queue_control.read_queue().desired_workers == 3


def test_stages_of_a_dead_worker_are_no_demand_while_the_queue_is_paused() -> None:
    for stage in create_stages(8):
        assert claim(stage)
    let_work()
    pause_queue()
    assert queue_control.read_queue().desired_workers == 1


def test_without_workers_calls_of_a_provider_that_waits_for_a_person_are_no_demand() -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", SLOTS), Heartbeat("stopped", 0))
    create_stages(80)
    pause_until_resumed()
    assert queue_control.read_queue().desired_workers == 1
    create_stages(5, "smoke")
    assert queue_control.read_queue().desired_workers == 2


def test_a_cap_bounds_calls_and_nothing_else() -> None:
    create_stages(80)
    create_stages(8, "smoke")
    let_work(cap=8)
    assert queue_control.read_queue().desired_workers == 4


def test_without_workers_the_last_heartbeat_names_the_provider_and_the_cap() -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", SLOTS, 40), Heartbeat("stopped", 0))
    pause_provider("another", until=None)
    create_stages(80)
    assert queue_control.read_queue().desired_workers == 10  # forty calls, and the next worker likely has four slots
    pause_until_resumed()
    assert queue_control.read_queue().desired_workers == 1


def test_a_probe_is_recorded_only_if_it_was_claimed() -> None:
    let_a_pause_end()
    first, second = create_stages(2)
    with transaction():
        execute("UPDATE queues SET paused_at = now()")
    assert claim(first) is None
    assert read("SELECT probe_token FROM providers") == [{"probe_token": None}]
    with transaction():
        execute("UPDATE queues SET paused_at = NULL")
    held = claim(first)
    assert held is not None
    assert read("SELECT probe_token FROM providers") == [{"probe_token": held.token}]
    assert claim(second) is None
    assert lifecycle.release_stage_if_held(held)
    assert claim(second) is not None


def test_a_claim_of_an_unknown_stage_touches_no_provider() -> None:
    assert claim(UUID(int=7)) is None
    assert read("SELECT name FROM providers") == []
