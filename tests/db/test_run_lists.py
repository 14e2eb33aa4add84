"""Lists of runs: every filter and both orders, on all runs, a page at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from tests.support.runs import create
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, rows, transaction
from vm_webapp.errors import InvalidInput
from vm_webapp.ops import bulk
from vm_webapp.ops.bulk import BulkFilter
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.queries import Order, RunFilter, listing

pytestmark = pytest.mark.usefixtures("database")
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def run(request: str = "a plan", *, day: int = 0, ended: int | None = None, workflow: str = "smoke") -> UUID:
    """Return a run that was created on a day, and has ended on one if that is given, canceled."""
    run_id = create(workflow, request).run.id
    if ended is not None:
        lifecycle.cancel_run_if_open(run_id, actor=Actor("tests"))
    with transaction():
        execute(
            "UPDATE runs SET created_at = %(created)s, finished_at = %(ended)s WHERE id = %(id)s",
            id=run_id,
            created=START + day * DAY,
            ended=None if ended is None else START + ended * DAY,
        )
    return run_id


def listed(where: RunFilter, order: Order = "created", limit: int = 50) -> list[UUID]:
    """Return the runs of all pages."""
    found: list[UUID] = []
    after: tuple[datetime, UUID] | None = None
    while True:
        page = queries.list_runs(where, limit=limit, after=after, order=order)
        found += [each.id for each in page.items]
        if page.next_position is None:
            return found
        assert isinstance(page.next_position, tuple)
        assert len(page.items) == limit
        after = page.next_position


def test_runs_are_found_by_the_words_of_the_request_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fewer than there are, so that old ones are found by the index and not by looking at the newest.
    monkeypatch.setattr(listing, "_LOOKED_AT_FOR_TEXT", 2)
    bakery = run("A plan for a Bakery in Łódź", day=1)
    others = [run("A plan for a clinic", day=2 + n) for n in range(4)]
    assert listed(RunFilter(text="bakery")) == [bakery]
    assert listed(RunFilter(text="łódź PLAN")) == [bakery]
    assert listed(RunFilter(text="bakery clinic")) == []
    assert listed(RunFilter(text="plan"), limit=2) == [*reversed(others), bakery]
    assert listed(RunFilter("queued", "smoke", text="clinic", created_before=START + 4 * DAY)) == others[1::-1]


def test_an_order_by_the_end_lists_what_has_ended_and_keeps_its_pages() -> None:
    late, active, early, same = run(ended=9), run(day=5), run(day=3, ended=4), run(day=2, ended=9)
    by_end = [*sorted((late, same), reverse=True), early]
    for limit in (1, 2, 3):
        assert listed(RunFilter(), "finished", limit) == by_end
        assert listed(RunFilter("canceled", "smoke"), "finished", limit) == by_end
    assert listed(RunFilter(finished_before=START + 9 * DAY), "finished") == [early]
    assert listed(RunFilter("canceled", finished_after=START + 5 * DAY)) == [same, late]
    assert listed(RunFilter("active")) == [active]


def test_active_runs_of_every_status_are_one_list() -> None:
    queued = [run(day=day) for day in (1, 3, 5)]
    running = run(day=2)
    with transaction():
        execute("UPDATE runs SET status = 'running' WHERE id = %(id)s", id=running)
    run(day=4, ended=4)
    for limit in (1, 2, 4):
        assert listed(RunFilter("active"), limit=limit) == [queued[2], queued[1], running, queued[0]]
    assert queries.count_by_status() == {
        "queued": 3,
        "running": 1,
        "waiting_approval": 0,
        "completed": 0,
        "failed": 0,
        "canceled": 1,
    }


def test_filters_that_share_no_index_find_what_lies_beyond_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_LOOKED_AT", 2)
    brand = uuid4()
    wanted = [run(day=day, ended=day) for day in (1, 2, 3)]
    others = [run(day=day) for day in (4, 5, 6, 7)]
    with transaction():
        execute("INSERT INTO brands (id, name) VALUES (%(id)s, 'Crumb')", id=brand)
        execute("UPDATE runs SET brand_id = %(id)s", id=brand)
    for limit in (1, 2, 3):
        assert listed(RunFilter("canceled", brand_id=brand), limit=limit) == wanted[::-1]
    assert listed(RunFilter("queued", brand_id=brand), limit=3) == others[::-1]
    assert listed(RunFilter("canceled", "plan_90d", brand)) == []


def test_lists_leave_out_archived_runs_unless_asked_for_them() -> None:
    old, new, active = run(day=1, ended=1), run(day=2, ended=2), run(day=3)
    where = BulkFilter(run_ids=(old, active))
    assert bulk.archive_matching(where, archived=True, actor=Actor("ops"), dry_run=True).run_ids == (old,)
    assert listed(RunFilter()) == [active, new, old]
    done = bulk.archive_matching(where, archived=True, actor=Actor("ops"))
    assert (done.matched, done.changed, done.run_ids) == (1, 1, (old,))
    assert listed(RunFilter()) == [active, new]
    assert listed(RunFilter("canceled")) == [new]
    assert listed(RunFilter(), "finished") == [new]
    assert listed(RunFilter(archived=True)) == [active, new, old]
    assert queries.get_run(old).archived_at is not None
    assert bulk.archive_matching(where, archived=True, actor=Actor("ops")).matched == 0
    assert bulk.archive_matching(where, archived=False, actor=Actor("ops")).run_ids == (old,)
    assert listed(RunFilter()) == [active, new, old]
    with transaction():
        audit = rows("SELECT action FROM audit_entries WHERE target = %(run)s ORDER BY id", run=f"run:{old}")
    assert [each["action"] for each in audit][-2:] == ["run.archive", "run.unarchive"]


def test_only_final_runs_are_archived() -> None:
    with pytest.raises(InvalidInput, match="a run that is running cannot be archived"):
        bulk.archive_matching(BulkFilter("running"), archived=True, actor=Actor("ops"))
    with pytest.raises(InvalidInput, match="say which runs"):
        bulk.archive_matching(BulkFilter(), archived=True, actor=Actor("ops"))
