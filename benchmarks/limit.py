"""The loop that a person would write by hand to carry runs through their stages: what the queue could cost at least.

Each thread has a connection of its own in autocommit mode and statements that the server has prepared. A run takes
seven commits: one claims it together with its first stage, one finishes each stage and stores its text, one starts
each further stage, and the last one completes the run. There is no lease, no retry, no cancel, no pause and no review.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, connection, cursor

STAGES = 3


class Loop(NamedTuple):
    """The statements of the loop over one set of tables, to be prepared under these names.

    Attributes:
        prepare: text with a PREPARE of each of the following.
        claim: takes nothing; returns (run, stage) of the oldest queued run and starts its first stage.
        start: takes (run, position); returns (stage,).
        finish: takes (run, stage, text).
        complete: takes (run,).
    """

    prepare: str
    claim: str = "EXECUTE claim"
    start: str = "EXECUTE start (%s, %s)"
    finish: str = "EXECUTE finish (%s, %s, %s, %s)"
    complete: str = "EXECUTE complete (%s)"


# Tables with what the loop needs and nothing else.
MINIMAL_TABLES = """
DROP SCHEMA IF EXISTS minimal CASCADE;
CREATE SCHEMA minimal;
CREATE TABLE minimal.runs (
    id uuid PRIMARY KEY, status text NOT NULL, request text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, finished_at timestamptz);
CREATE INDEX ON minimal.runs (id) WHERE status = 'queued';
CREATE TABLE minimal.stages (
    id uuid PRIMARY KEY, run_id uuid NOT NULL REFERENCES minimal.runs, position smallint NOT NULL,
    status text NOT NULL, UNIQUE (run_id, position));
CREATE TABLE minimal.artifacts (
    id uuid PRIMARY KEY, stage_id uuid NOT NULL REFERENCES minimal.stages, content text NOT NULL);
CREATE TABLE minimal.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run_id uuid NOT NULL, type text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp());
"""
FILL_MINIMAL = """
WITH made AS (
    INSERT INTO minimal.runs (id, status, request) SELECT uuidv7(), 'queued', 'a request' FROM generate_series(1, %s)
    RETURNING id)
INSERT INTO minimal.stages (id, run_id, position, status)
SELECT uuidv7(), made.id, position, 'pending' FROM made, generate_series(1, 3) AS position
"""
MINIMAL = Loop("""
PREPARE claim AS
WITH next AS (SELECT id FROM minimal.runs WHERE status = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),
     run AS (UPDATE minimal.runs r SET status = 'running', started_at = clock_timestamp() FROM next WHERE r.id = next.id
             RETURNING r.id),
     said AS (INSERT INTO minimal.events (run_id, type) SELECT id, 'stage.started' FROM run)
UPDATE minimal.stages s SET status = 'running' FROM run WHERE s.run_id = run.id AND s.position = 1
RETURNING s.run_id, s.id;
PREPARE start (uuid, int) AS
WITH said AS (INSERT INTO minimal.events (run_id, type) VALUES ($1, 'stage.started'))
UPDATE minimal.stages SET status = 'running' WHERE run_id = $1 AND position = $2 RETURNING id;
PREPARE finish (uuid, uuid, uuid, text) AS
WITH stored AS (INSERT INTO minimal.artifacts (id, stage_id, content) VALUES ($3, $2, $4)),
     said AS (INSERT INTO minimal.events (run_id, type) VALUES ($1, 'stage.completed'))
UPDATE minimal.stages SET status = 'completed' WHERE id = $2;
PREPARE complete (uuid) AS
WITH said AS (INSERT INTO minimal.events (run_id, type) VALUES ($1, 'run.completed'))
UPDATE minimal.runs SET status = 'completed', finished_at = clock_timestamp() WHERE id = $1;
""")

# The same over the product's tables, with the columns, events and bytes that a worker writes.
OWN = Loop("""
PREPARE claim AS
WITH next AS (SELECT id, run_id FROM stages WHERE status = 'queued' ORDER BY priority, start_tag, run_id
              LIMIT 1 FOR UPDATE SKIP LOCKED),
     run AS (UPDATE runs r SET status = 'running', started_at = clock_timestamp() FROM next WHERE r.id = next.run_id
             RETURNING r.id),
     said AS (INSERT INTO events (run_id, type, stage, actor, data)
              SELECT run_id, kind, 'stage', 'worker', '{"attempt": 1, "provider": "offline"}'
                FROM next, unnest(ARRAY['run.started', 'stage.started']) AS kind)
UPDATE stages s SET status = 'running', attempt = attempt + 1, started_at = clock_timestamp(),
                    lease_token = gen_random_uuid(), lease_expires_at = clock_timestamp() + interval '15 seconds',
                    deadline_at = clock_timestamp() + interval '10 minutes', provider = 'offline'
  FROM next WHERE s.id = next.id RETURNING s.run_id, s.id;
PREPARE start (uuid, int) AS
WITH said AS (INSERT INTO events (run_id, type, stage, actor, data)
              SELECT $1, kind, 'stage', 'worker', '{"attempt": 1, "provider": "offline"}'
                FROM unnest(ARRAY['stage.queued', 'stage.started']) AS kind)
UPDATE stages SET status = 'running', attempt = attempt + 1, queued_at = clock_timestamp(),
                  available_at = clock_timestamp(), started_at = clock_timestamp(), lease_token = gen_random_uuid(),
                  lease_expires_at = clock_timestamp() + interval '15 seconds',
                  deadline_at = clock_timestamp() + interval '10 minutes', provider = 'offline'
 WHERE run_id = $1 AND position = $2 RETURNING id;
PREPARE finish (uuid, uuid, uuid, text) AS
WITH stored AS (
    INSERT INTO artifacts (id, run_id, stage_id, version, attempt_token, name, media_type, sha256, size, content,
                           provider)
    VALUES ($3, $1, $2, 1, $3, 'stage.md', 'text/markdown', encode(sha256($4::bytea), 'hex'), length($4), $4,
            'offline')
    RETURNING sha256),
     said AS (INSERT INTO events (run_id, type, stage, actor, data)
              SELECT $1, 'stage.completed', 'stage', 'worker',
                     jsonb_build_object('version', 1, 'sha256', sha256, 'truncated', false) FROM stored)
UPDATE stages SET status = 'completed', finished_at = clock_timestamp(), lease_token = NULL, lease_expires_at = NULL,
                  deadline_at = NULL
 WHERE id = $2;
PREPARE complete (uuid) AS
WITH said AS (INSERT INTO events (run_id, type, actor) VALUES ($1, 'run.completed', 'worker'))
UPDATE runs SET status = 'completed', finished_at = clock_timestamp() WHERE id = $1;
""")


def drain_by_hand(url: str, loop: Loop, threads: int, write: Callable[[], str]) -> None:
    """Carry every queued run through its stages.

    Args:
        url: the database.
        loop: the statements.
        threads: how many threads, each with a connection.
        write: the instant model: returns the text of a stage.
    """
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with closing(prepared(url, loop)) as session, session.cursor() as sql:
                while carry_one(sql, loop, write):
                    pass
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]


def prepared(url: str, loop: Loop) -> connection:
    """Return a connection in autocommit mode that has the loop's statements prepared."""
    session = psycopg2.connect(url)
    session.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    with session.cursor() as sql:
        sql.execute(loop.prepare)
    return session


def carry_one(sql: cursor, loop: Loop, write: Callable[[], str]) -> bool:
    """Carry the oldest queued run through its stages; return False where none is queued."""
    sql.execute(loop.claim)
    claimed: tuple[Any, ...] | None = sql.fetchone()
    if claimed is None:
        return False
    run, stage = claimed
    for position in range(1, STAGES + 1):
        if position > 1:
            sql.execute(loop.start, (run, position))
            (stage,) = sql.fetchone() or (None,)
        sql.execute(loop.finish, (run, stage, str(uuid.uuid4()), write()))
    sql.execute(loop.complete, (run,))
    return True
