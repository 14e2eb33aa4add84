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
from vm_webapp.runs.queries import Order, RunFilter, finding

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


@pytest.fixture(params=["few match", "many may match"])
def _looks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at fewer runs than there are, and take what matches for few or for too many to be found at once."""
    monkeypatch.setattr(finding, "LOOKED_AT", 3)
    monkeypatch.setattr(finding, "MOST_COST", 1e9 if request.param == "few match" else 0)


@pytest.mark.usefixtures("_looks")
def test_runs_are_found_by_the_words_of_the_request_wherever_they_are() -> None:
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
    counts = {"queued": 3, "running": 1, "waiting_approval": 0, "completed": 0, "failed": 0, "canceled": 1}
    assert queries.count_by_status() == {status: (count, False) for status, count in counts.items()}


@pytest.mark.usefixtures("_looks")
def test_filters_that_share_no_index_find_what_lies_beyond_the_newest() -> None:
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


COPIES = """
    INSERT INTO runs (id, workflow, status, request, workflow_digest, created_at, finished_at, start_tag, archived_at)
    SELECT uuidv7(), workflow, 'canceled', request, workflow_digest, created_at - n * interval '1 s', now(), 0,
           CASE WHEN n <= %(archived)s THEN now() END
      FROM runs, generate_series(1, %(count)s) AS n WHERE id = %(id)s
"""


@pytest.mark.parametrize(("count", "archived", "counted"), [(3000, 2900, 100), (3001, 2900, 100), (1001, 0, 1000)])
def test_counts_end_where_there_are_many(count: int, archived: int, counted: int) -> None:
    model = run(day=9)
    with transaction():
        execute(COPIES, id=model, count=count, archived=archived)
    counts = queries.count_by_status()
    assert (counts["queued"], counts["canceled"]) == ((1, False), (counted, count != 3000))


def test_a_bounded_look_says_how_far_back_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "LOOKED_AT", 4)
    brand = uuid4()
    canceled = [run(f"plan {day}", day=day, ended=day) for day in (1, 2, 3)]
    queued = [run(day=day) for day in (4, 5, 6, 7)]
    with transaction():
        execute("INSERT INTO brands (id, name) VALUES (%(id)s, 'Crumb')", id=brand)
        execute("UPDATE runs SET brand_id = %(id)s", id=brand)

    def look(where: RunFilter, order: Order = "created", limit: int = 50) -> tuple[list[UUID], datetime | None]:
        found = queries.look_for_runs(where, limit=limit, after=None, order=order)
        return [each.id for each in found.page.items], found.until

    both = RunFilter("canceled", brand_id=brand)
    assert look(both) == (canceled[::-1], None)  # few, so all are found
    monkeypatch.setattr(finding, "MOST_COST", 0)
    # Two of each index: that of the status reaches farther back.
    assert look(both) == (canceled[:0:-1], START + 2 * DAY)
    assert look(both, limit=1) == ([canceled[2]], None)
    assert look(RunFilter("running", brand_id=brand)) == ([], None)  # the status has no more
    assert look(RunFilter(text="plan 2", created_before=START + 6 * DAY)) == ([canceled[1]], START + 2 * DAY)
    assert look(RunFilter(text="plan 1", created_before=START + 6 * DAY)) == ([], START + 2 * DAY)
    assert look(RunFilter("active", text="plan 1")) == ([], None)
    assert look(RunFilter("queued", "smoke", text="100%")) == ([], START + 6 * DAY)
    monkeypatch.setattr(finding, "LOOKED_AT", 2)
    assert look(RunFilter(brand_id=brand, text="plan 1"), "finished") == ([], START + 2 * DAY)
    where = BulkFilter(run_ids=tuple(canceled[1:]))
    bulk.archive_matching(where, archived=True, actor=Actor("ops"))
    assert look(RunFilter("canceled")) == ([], START + 2 * DAY)
    assert look(RunFilter("queued")) == (queued[:1:-1], START + 6 * DAY)
    assert look(RunFilter("canceled", archived=True)) == (canceled[::-1], None)
    assert listed(RunFilter("canceled")) == canceled[:1]


def test_words_are_looked_for_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MOST_COST", 0)
    texts = ("see https://example.com/a_b?c=50%25", "a well-known \\ brand", "ŁÓDŹ & Ärzte")
    by_text = {text: run(text, day=day) for day, text in enumerate(texts)}
    for text, id in by_text.items():
        found = queries.look_for_runs(RunFilter(text=text), limit=5, after=None)
        assert [each.id for each in found.page.items] == [id]
