"""The cap of a brand: how many stages of it run at the same time, whoever claims them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from tests.db.attempts import TEXT, WORKER, be_refused, cancel, claim, claimed, complete, fail, release
from tests.db.stages import create_stages
from tests.db.workers import SLOTS, let_work
from tests.support.actors import OPERATOR
from tests.support.runs import CreatedRun, create, read
from vm_webapp.context import brands
from vm_webapp.db.pool import execute, transaction
from vm_webapp.ops import queue_control
from vm_webapp.runs import admission, lifecycle, queries
from vm_webapp.runs.due import find_due
from vm_webapp.runs.lifecycle import Claim, Claimant, Finished
from vm_webapp.runs.signals import stage_due

pytestmark = pytest.mark.usefixtures("database")


@dataclass(frozen=True)
class Capped:
    """A brand with a cap of two, five runs of it, and then one of another brand and one of none."""

    brand: UUID
    runs: list[CreatedRun]
    others: list[CreatedRun]

    def in_flight(self) -> int:
        """Return how many stages of the brand are running."""
        return len(read("SELECT FROM stages WHERE status = 'running' AND brand_id = %(id)s", id=self.brand))


def make_brand(max_running: int | None = None) -> UUID:
    """Create a brand."""
    return brands.create({"name": "One", "max_running": max_running}, actor=OPERATOR).id


@pytest.fixture
def capped() -> Capped:
    """Create the runs."""
    one, another = make_brand(2), make_brand()
    runs = [create(brand_id=one) for _ in range(5)]
    return Capped(one, runs, [create(brand_id=another), create()])


def claim_for(claimant: Claimant, slots: int = SLOTS) -> list[UUID]:
    """Claim as a worker with so many free slots would once; return the stages."""
    return [each.stage_id for each in lifecycle.claim_due_stages(claimant, [uuid4() for _ in range(slots)]).claims]


def new_worker(cap: int | None = None) -> Claimant:
    """Return a worker of its own."""
    return Claimant(uuid4(), "kimi", cap)


def stages_of(created: Iterable[CreatedRun]) -> list[UUID]:
    """Return the first stage of each run."""
    return [each.stage_id for each in created]


def change_cap(brand: UUID, max_running: int | None) -> None:
    """Change the cap of a brand."""
    brands.change(brand, {"max_running": max_running}, version=brands.read(brand).version, actor=OPERATOR)


def test_the_cap_of_a_brand_applies_everywhere(capped: Capped) -> None:
    let_work()
    own, others = stages_of(capped.runs), stages_of(capped.others)
    assert set(find_due("kimi", 9, cap=None).ids) == {*own[:2], *others}
    assert queue_control.read_queue().desired_workers == 1
    assert [claim(stage) is not None for stage in [*own, *others]] == [True, True, False, False, False, True, True]
    assert find_due("kimi", 9, cap=None).ids == ()
    waiting = queries.get_run(capped.runs[2].run.id).waiting_on
    assert waiting is not None
    assert (waiting.kind, waiting.detail) == ("brand_limit", admission.explanation_of("brand_limit"))


def test_stages_that_the_cap_of_a_brand_holds_back_are_no_demand() -> None:
    let_work()
    brand = make_brand(SLOTS)
    for _ in range(10):
        create(brand_id=brand)
    assert queue_control.read_queue().desired_workers == 1
    create_stages(2 * SLOTS)
    assert queue_control.read_queue().desired_workers == 3
    change_cap(brand, None)
    assert queue_control.read_queue().desired_workers == 5


@pytest.mark.parametrize("cap", [None, 30])
def test_one_worker_never_passes_the_cap_of_a_brand_and_fills_its_other_slots(capped: Capped, cap: int | None) -> None:
    worker = new_worker(cap)
    own, others = stages_of(capped.runs), stages_of(capped.others)
    assert set(claim_for(worker)) == {*own[:2], *others}
    assert claim_for(worker) == []


def test_many_stages_of_a_brand_at_its_cap_hide_no_other_brand() -> None:
    """A claim locks as many stages as there are slots, and all of these may be of one brand."""
    brand = make_brand(1)
    for _ in range(3 * SLOTS):
        create(brand_id=brand)
    with transaction():  # before the others in the order of the queue
        execute("UPDATE stages SET start_tag = 1")
    other = create_stages(1)
    assert set(claim_for(new_worker())) > set(other)


@pytest.mark.parametrize("cap", [None, 30])
def test_threads_of_one_worker_that_claim_at_the_same_moment_do_not_pass_the_cap(cap: int | None) -> None:
    """Its consumer claims, and so do threads that have ended a stage whose next one they could not claim with it."""
    worker, brand, together = new_worker(cap), make_brand(1), threading.Barrier(3)
    for _ in range(4):
        create(brand_id=brand)
        create("smoke", brand_id=brand)

    def claim_with_the_others(_: int) -> list[Claim]:
        together.wait(30)
        return list(lifecycle.claim_due_stages(worker, [uuid4()]).claims)

    with ThreadPoolExecutor(3) as threads:
        for _ in range(20):
            (held,) = [each for claims in threads.map(claim_with_the_others, range(3)) for each in claims]
            release(held)


@pytest.mark.parametrize("cap", [None, 30])
def test_a_worker_that_claims_while_its_threads_end_stages_does_not_pass_the_cap(cap: int | None) -> None:
    worker, brand = new_worker(cap), make_brand(3)
    for workflow in ["content_calendar"] * 12 + ["smoke"] * 6:
        create(workflow, brand_id=brand)
    ended = threading.Event()

    def watch() -> int:
        most = 0
        while not ended.is_set():
            most = max(most, len(read("SELECT FROM stages WHERE status = 'running'")))
        return most

    with ThreadPoolExecutor(5) as threads:
        watching, carried = threads.submit(watch), []
        try:
            deadline = time.monotonic() + 60
            while read("SELECT FROM stages WHERE status <> 'completed' LIMIT 1"):
                assert time.monotonic() < deadline
                claims = lifecycle.claim_due_stages(worker, [uuid4() for _ in range(SLOTS)]).claims
                carried += [threads.submit(complete, held, worker) for held in claims]
        finally:
            ended.set()
        assert 1 <= watching.result() <= 3
        for each in carried:
            each.result()


def test_workers_that_claim_at_the_same_moment_pass_the_cap_of_a_brand_by_one_each(capped: Capped) -> None:
    workers, together = [new_worker() for _ in range(3)], threading.Barrier(3)
    assert claim(capped.runs[0].stage_id)

    def claim_with_the_others(worker: Claimant) -> list[UUID]:
        together.wait(30)
        return claim_for(worker)

    with ThreadPoolExecutor(3) as threads:
        claims = list(threads.map(claim_with_the_others, workers))
    # One is left: each of the three may take it, and none takes more.
    own = set(stages_of(capped.runs))
    assert all(len(own & set(claimed)) <= 1 for claimed in claims)
    assert 2 <= capped.in_flight() <= 4


def test_a_cap_that_was_passed_is_kept_again_before_anything_else_begins(capped: Capped) -> None:
    worker = new_worker()
    held = [claimed(created.stage_id, worker) for created in capped.runs[:2]]
    change_cap(capped.brand, 1)
    finished = lifecycle.finish_stage_if_held(held[0], TEXT, worker, next_token=uuid4())
    assert finished == Finished(next=None, version=1)
    assert capped.in_flight() == 1


def test_the_next_stage_of_a_run_takes_the_place_of_the_one_before(capped: Capped) -> None:
    held = [claimed(created.stage_id) for created in capped.runs[:2]]
    finished = lifecycle.finish_stage_if_held(held[0], TEXT, WORKER, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None


@pytest.mark.parametrize("end", [complete, cancel, be_refused, fail, release])
def test_a_stage_that_was_held_back_is_claimed_when_a_slot_of_its_brand_is_free(
    end: Callable[[Claim], object], capped: Capped
) -> None:
    worker = new_worker()
    held = [claimed(created.stage_id, worker) for created in capped.runs[:2]]
    assert not set(claim_for(worker)) & set(stages_of(capped.runs))
    hints: list[UUID] = []
    with stage_due.connected(hints.append):
        end(held[0])
    assert hints
    assert len(claim_for(worker)) == 1
    assert capped.in_flight() == 2


def test_a_run_from_before_the_tags_counts_for_its_brand(capped: Capped) -> None:
    """Its stages do not know the brand."""
    with transaction():
        execute("UPDATE stages SET start_tag = 0, brand_id = NULL")
        execute("UPDATE runs SET start_tag = 0")
    own, others = stages_of(capped.runs), stages_of(capped.others)
    assert claim_for(new_worker()) == [*own[:2], *others]


def test_without_a_cap_a_brand_takes_every_slot() -> None:
    brand = make_brand()
    stages = stages_of(create(brand_id=brand) for _ in range(SLOTS))
    assert claim_for(new_worker()) == stages
