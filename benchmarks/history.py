"""Fills a database with finished runs, as the product leaves them behind: copies of one that it has carried to its end.

The copies are made of whatever columns the tables have, so a migration that adds one needs no change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from uuid import UUID, uuid4

import psycopg2
from psycopg2.extensions import cursor

from benchmarks.instant_model import TEXT
from tests.support.runs import create, lost_hints
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant

BATCH = 20_000
SECONDS_APART = 30  # a million runs are those of almost a year
PROVIDER = "kimi"
# Runs, and the ids of their stages, in the order in which they are inserted. The copy keeps the model's pace.
COPIES = """
CREATE TEMP TABLE copies (n int, run_id uuid, earlier interval);
CREATE TEMP TABLE stage_copies (run_id uuid, model_id uuid, id uuid);
"""
NEXT_COPIES = """
TRUNCATE copies, stage_copies;
INSERT INTO copies
SELECT n, uuidv7(earlier), earlier
  FROM generate_series(%(first)s, %(last)s) AS n, LATERAL (SELECT (n - %(total)s) * interval '1 second' * %(apart)s AS
       earlier) AS shifted;
INSERT INTO stage_copies
SELECT copies.run_id, model.id, uuidv7(copies.earlier) FROM copies, stages AS model WHERE model.run_id = %(model)s
 ORDER BY n, position;
ANALYZE copies, stage_copies
"""
OF_RUN = "copies, {table} AS model WHERE model.{key} = %(model)s ORDER BY n, model.id"
OF_STAGE = (
    "copies JOIN stage_copies USING (run_id), {table} AS model"
    " WHERE model.run_id = %(model)s AND stage_copies.model_id = model.{key} ORDER BY n, model.id"
)


def carry(claim: Claim, claimant: Claimant) -> None:
    """Carry a run from this stage to its end, with the instant model's text, as a worker does."""
    following: Claim | None = claim
    while following is not None:
        completion = Completion(TEXT, PROVIDER, "instant", prompt_tokens=900, completion_tokens=600)
        finished = lifecycle.finish_stage_if_held(following, completion, claimant, next_token=uuid4())
        assert finished is not None
        following = finished.next


def add_finished_runs(url: str, count: int, varied: Mapping[str, str] | None = None) -> None:
    """Add so many finished runs of three stages, all older than any other run. The queue must be empty.

    Args:
        url: of the database.
        count: how many.
        varied: SQL of columns of ``runs`` that differ from run to run, by name; ``copies.n`` is 1 in the oldest copy,
            and ``{total}`` the number of runs.
    """
    claimant = Claimant(uuid4(), PROVIDER)
    with lost_hints():
        model = create("plan_90d", "A plan for a bakery that delivers by bicycle", auto_approve=True).run.id
        (claim,) = lifecycle.claim_due_stages(claimant, [uuid4()]).claims
        carry(claim, claimant)
    with closing(psycopg2.connect(url)) as session:
        session.autocommit = True
        with session.cursor() as sql:
            # Foreign keys hold by construction.
            sql.execute(f"SET session_replication_role = replica; SET synchronous_commit = off; {COPIES}")
            for first in range(1, count, BATCH):
                _copy(sql, model, first, min(first + BATCH, count) - 1, count, varied or {})
            # For one table after another: VACUUM runs in no transaction.
            for table in ("runs", "stages", "artifacts", "events"):
                sql.execute(f"VACUUM (ANALYZE) {table}")


def _copy(sql: cursor, model: UUID, first: int, last: int, total: int, varied: Mapping[str, str]) -> None:
    values = {"model": str(model), "first": first, "last": last, "total": total, "apart": SECONDS_APART}
    sql.execute(NEXT_COPIES, values)
    run = {"run_id": "copies.run_id"}
    tag = {"start_tag": "copies.n"}  # each had a turn of its own
    for table, rows, replaced in (
        ("runs", OF_RUN.format(table="runs", key="id"), {**tag, "id": "copies.run_id", **_escaped(varied, total)}),
        ("stages", OF_STAGE.format(table="stages", key="id"), {**run, **tag, "id": "stage_copies.id"}),
        (
            "artifacts",
            OF_STAGE.format(table="artifacts", key="stage_id"),
            {
                **run,
                "id": "uuidv7(copies.earlier)",
                "stage_id": "stage_copies.id",
                "attempt_token": "gen_random_uuid()",
            },
        ),
        ("events", OF_RUN.format(table="events", key="run_id"), run),
    ):
        columns = _columns(sql, table, replaced)
        sql.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM {rows}", values
        )


def _columns(sql: cursor, table: str, replaced: Mapping[str, str]) -> dict[str, str]:
    """Return the value of each column of a copy: what replaces the model's, its time shifted, or what the model has."""
    sql.execute(
        """
        SELECT column_name, data_type FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name = %s AND is_identity = 'NO' AND is_generated = 'NEVER'
        """,
        (table,),
    )
    values = {}
    for name, kind in sql.fetchall():
        shift = " + copies.earlier" if kind == "timestamp with time zone" else ""
        values[name] = replaced.get(name, f"model.{name}{shift}")
    return values


def _escaped(varied: Mapping[str, str], total: int) -> dict[str, str]:
    return {name: sql.replace("{total}", str(total)).replace("%", "%%") for name, sql in varied.items()}
