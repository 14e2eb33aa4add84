"""Up, down and up again: each migration leaves the same schema, and every row from before and in between."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.db.schemas import FURTHER, dump, empty, further, later_build, run_sql
from tests.support.forms import only_in_full
from tests.support.runs import create
from vm_webapp.db import migrate
from vm_webapp.db.bundle import Bundle, own_bundle
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant

BACK = "ALTER TABLE brands ADD COLUMN voice text NOT NULL DEFAULT '{}';"
Rows = dict[str, list[Any]]
Columns = dict[str, list[str]]

# What a build writes into what each migration brings, beside what the core writes anyway. A new migration with a table
# adds its row here: the test fails when a table stays empty.
WRITES = {
    "0001_runs_and_stages": """
        WITH run AS (
            INSERT INTO runs (id, workflow, status, request, snapshot, finished_at)
            VALUES (gen_random_uuid(), 'smoke', 'completed', 'a request', '{}', now()) RETURNING id),
        stage AS (
            INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                                finished_at)
            SELECT gen_random_uuid(), id, 1, 'check', 'Check', 'completed', 0, false, false, now() FROM run
            RETURNING id, run_id),
        event AS (INSERT INTO events (run_id, type, actor) SELECT id, 'run.completed', 'worker' FROM run)
        INSERT INTO artifacts (id, run_id, stage_id, version, name, media_type, sha256, size, content, provider)
        SELECT gen_random_uuid(), run_id, id, 1, 'c.md', 'text/markdown', repeat('0', 64), 1, '#', 'kimi' FROM stage;
        INSERT INTO brands (id, name) VALUES (gen_random_uuid(), 'Pedal Bakery');
        INSERT INTO projects (id, name) VALUES (gen_random_uuid(), 'Spring');
        INSERT INTO providers (name) VALUES (gen_random_uuid()::text)
    """,
    "0002_idempotency_keys": """
        INSERT INTO idempotency_keys (scope_sha256, request_sha256, status, headers, body)
        VALUES (uuid_send(gen_random_uuid()), 'x', 201, '{}', 'x')
    """,
    "0003_api_keys": """
        INSERT INTO api_keys (id, name, secret_sha256)
        VALUES (gen_random_uuid(), gen_random_uuid()::text, uuid_send(gen_random_uuid()))
    """,
    "0004_partial_calls": """
        UPDATE stages SET failed_prompt_tokens = 7, failed_completion_tokens = 8;
        UPDATE artifacts SET note = 'the prompt was cut'
    """,
    "0005_worker_workspace": "UPDATE worker_heartbeats SET workspace = '{}'",
    "0006_fair_queue": """
        UPDATE brands SET max_running = 3;
        UPDATE runs SET created_by = 'ann', start_tag = 5;
        UPDATE stages SET start_tag = 5, brand_id = (SELECT id FROM brands LIMIT 1)
    """,
    "0012_roles_and_sessions": """
        UPDATE runs SET creator_id = 'token', four_eyes = true, request_id = 'x';
        UPDATE idempotency_keys SET caller_id = 'token';
        INSERT INTO sessions (id, secret_sha256, key_id)
        SELECT gen_random_uuid(), uuid_send(gen_random_uuid()), id FROM api_keys LIMIT 1
    """,
    "0013_audit": """
        WITH entry AS (
            INSERT INTO audit_entries (at, actor, action) VALUES (now() - interval '99 days', 'ann', 'run.cancel')
            RETURNING id)
        INSERT INTO audit_seals (position, entry_id, hash)
        SELECT (SELECT coalesce(max(position), 0) + 1 FROM audit_seals), id, sha256('') FROM entry;
        INSERT INTO audit_pruned (position, hash) SELECT position, hash FROM audit_seals ORDER BY position DESC LIMIT 1;
        INSERT INTO audit_head DEFAULT VALUES ON CONFLICT DO NOTHING
    """,
    "0014_rate_limits": """
        INSERT INTO rate_windows (counted, began_at, taken) VALUES (gen_random_uuid()::text, now(), 1);
        INSERT INTO runs_of_day (key_id, day, runs) SELECT id, current_date, 1 FROM api_keys ON CONFLICT DO NOTHING
    """,
    "0015_usage": """
        UPDATE brands SET time_zone = 'America/Sao_Paulo', day_budget_tokens = 9, day_budget_money = 0.5;
        UPDATE runs SET budget_tokens = 9, budget_money = 0.5;
        UPDATE stages SET budgeted = true, spent_tokens = 5, spent_money = 0.25, spent_estimated = true;
        INSERT INTO unsummed_calls (day, brand_id, workflow, model, prompt_tokens, completion_tokens, money, estimated)
        SELECT current_date, id, 'smoke', 'kimi', 2, 3, 0.25, true FROM brands LIMIT 1;
        INSERT INTO usage_days (day, brand_id, workflow, model, calls, estimated_calls, unpriced_calls, prompt_tokens,
                                completion_tokens, money)
        SELECT current_date, id, gen_random_uuid()::text, 'kimi', 1, 1, 0, 2, 3, 0.25 FROM brands LIMIT 1
    """,
    "0017_trace_context": """
        UPDATE stages SET trace_context = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    """,
    "0018_process_metrics": """
        INSERT INTO process_metrics (process_id, kind, instance, samples)
        VALUES (gen_random_uuid(), 'api', 'host:1', '{}')
    """,
    "0019_autoscale": """
        INSERT INTO duty_leases (name, token, holder, expires_at)
        VALUES (gen_random_uuid()::text, gen_random_uuid(), 'host:1', now());
        INSERT INTO autoscale_decision (decided_at, desired_workers, reason, arrivals_per_minute,
                                        completions_per_minute, mean_stage_seconds, min_workers, max_workers,
                                        target_wait_seconds, figures, past)
        VALUES (now(), 2, 'work', 3, 4, 5, 1, 10, 30, '{}', '[]') ON CONFLICT DO NOTHING;
        INSERT INTO queue_history (queued, due, running, oldest_due_seconds, workers, slots, in_flight,
                                   desired_workers, reason)
        VALUES (9, 8, 7, 6.5, 2, 8, 7, 3, 'work');
        INSERT INTO scale_calls (service, was, wanted, outcome, detail) VALUES ('srv-1', 1, 2, 'scaled', '')
    """,
    "0021_run_lists": """
        UPDATE runs SET archived_at = '2026-11-01' WHERE finished_at IS NOT NULL;
        INSERT INTO saved_views (id, owner, name, query) VALUES (gen_random_uuid(), 'ann', gen_random_uuid()::text, '')
    """,
    # The trigger writes the document of the run, until 0023.
    "0022_snapshots": """
        WITH stored AS (
            INSERT INTO snapshots (digest, content) SELECT sha256(uuid_send(gen_random_uuid())), '{"title": "Smoke"}'
              FROM generate_series(1, 3) RETURNING digest),
        stored_ones AS (SELECT array_agg(digest) AS of FROM stored)
        INSERT INTO runs (id, workflow, status, request, finished_at, archived_at, created_by, start_tag, creator_id,
                          four_eyes, request_id, budget_tokens, budget_money, workflow_digest, brand_digest,
                          project_digest)
        SELECT gen_random_uuid(), 'smoke', 'completed', 'a request', now(), '2026-11-01', 'ann', 5, 'token', true, 'x',
               9, 0.5, of[1], of[2], of[3]
          FROM stored_ones
    """,
}
# Columns that a rollback fills for the build before.
FILLED = {"0023_snapshots_only": {"runs": "snapshot"}}


def write_rows(url: str, newest: str) -> None:
    """Write into every table, as the build does whose newest migration this is."""
    claimant = Claimant(uuid4(), "kimi", None)
    if newest >= own_bundle().ids[-1]:  # this build's core cannot write into the columns of an older schema
        claim = lifecycle.claim_stage(create().stage_id, claimant, token=uuid4())
        assert claim is not None
        lifecycle.finish_stage_if_held(claim, Completion("# A document", "kimi"), claimant, next_token=None)
    write_heartbeat(WorkerIdentity(claimant.worker_id, "kimi", 4, newest_migration=newest), Heartbeat("stopped", 0))
    for id, statements in WRITES.items():
        if id <= newest:
            run_sql(url, statements)


def columns(url: str) -> Columns:
    """Return every column of every table but yoyo's and the archive."""
    found = run_sql(
        url,
        """
        SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables
               USING (table_schema, table_name)
         WHERE table_type = 'BASE TABLE' AND table_schema = 'public' AND table_name !~ '^_?(yoyo|migration_archive)'
         ORDER BY 1, 2
        """,
    )
    return {table: [name for other, name in found if other == table] for table, _ in found}


def in_both(one: Columns, other: Columns) -> Columns:
    """Return the columns that two schemas share: a contraction takes some away."""
    return {table: [name for name in one[table] if name in other[table]] for table in one if table in other}


def read_rows(url: str, of: Columns) -> Rows:
    """Return every row of these columns, sorted."""
    return {
        table: run_sql(url, f"SELECT row_to_json(t)::text FROM (SELECT {', '.join(names)} FROM {table}) t ORDER BY 1")
        for table, names in of.items()
    }


def lines_of(schema: str) -> list[str]:
    """Return the lines of a schema, sorted: a column that was dropped comes back as the last."""
    return sorted(line.rstrip(",") for line in schema.splitlines())


def go_down(url: str) -> None:
    """Roll back one migration."""
    migrate.roll_back(url, migrate.plan_down(url, steps=1), alive=None)


def assert_round_trip(url: str, bundle: Bundle, id: str) -> None:
    """Go up, down and up again, writing in between; the database ends as of this migration's build.

    Args:
        url: a database with this build's migrations and no row.
    """
    build = Bundle(files for files in bundle.migrations.values() if files.id <= id)
    older = Bundle(files for files in build.migrations.values() if files.id != id)
    if older.ids:
        if older.ids != own_bundle().ids:
            migrate.apply_pending(empty(url), bundle=older)
        write_rows(url, older.ids[-1])
    else:
        migrate.apply_pending(empty(url), bundle=build)
        go_down(url)
    schema_before, old = dump(url), columns(url)
    rows_before = read_rows(url, old)

    migrate.apply_pending(url, bundle=build)
    schema, new = dump(url), columns(url)
    shared = {
        table: [name for name in names if FILLED.get(id, {}).get(table) != name]
        for table, names in in_both(old, new).items()
    }
    write_rows(url, id)
    assert [table for table, found in read_rows(url, new).items() if not found] == []
    kept = read_rows(url, shared)

    go_down(url)
    assert lines_of(dump(url)) == lines_of(schema_before)
    assert read_rows(url, shared) == kept
    after = read_rows(url, old)
    assert [table for table, found in rows_before.items() if not set(found) <= set(after[table])] == []

    migrate.apply_pending(url, bundle=build)
    assert dump(url) == schema
    assert read_rows(url, shared) == kept


# A migration that is released does not change any more: the first and the newest ones stand for the others.
REVERSIBLE = [id for id, files in own_bundle().migrations.items() if files.irreversible is None]
IN_SHORT = {REVERSIBLE[0], *REVERSIBLE[-4:]}


@pytest.mark.parametrize("id", [id if id in IN_SHORT else only_in_full(id) for id in REVERSIBLE])
def test_up_down_up_leaves_the_same_schema_and_loses_no_row(database: str, id: str) -> None:
    assert_round_trip(database, own_bundle(), id)


def test_a_contraction_can_make_the_round_trip_too(database: str) -> None:
    contraction = further(up="ALTER TABLE brands DROP COLUMN voice;", down=BACK.format(""))
    assert_round_trip(database, later_build(contraction), FURTHER)


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("ALTER TABLE brands ADD COLUMN mood text;", "SELECT 1;"),
        ("ALTER TABLE brands ADD COLUMN mood text;", "ALTER TABLE brands DROP mood; DELETE FROM providers;"),
        (
            "ALTER TABLE brands DROP COLUMN voice;",
            f"{BACK.format('loud')} ALTER TABLE brands ALTER voice SET DEFAULT '';",
        ),
        ("CREATE TABLE notes (id int);", "DROP TABLE notes;"),
    ],
    ids=["the schema differs", "rows are gone", "the values of a column are gone", "no test writes into a new table"],
)
def test_a_migration_that_fails_the_round_trip_is_noticed(database: str, up: str, down: str) -> None:
    with pytest.raises(AssertionError):
        assert_round_trip(database, later_build(further(up=up, down=down)), FURTHER)
