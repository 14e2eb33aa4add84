"""Renews the leases of attempts, and ends those that succeed."""

from __future__ import annotations

import re

from vm_webapp.runs import admission
from vm_webapp.runs.statements.made_of_rules import made_of_rules
from vm_webapp.runs.statements.spending import SPENT, insert_call

PROVIDER_HAS_FAILED = """
    EXISTS (SELECT 1 FROM providers
             WHERE name = %(called)s AND (consecutive_failures > 0 OR pauses > 0 OR paused_at IS NOT NULL))
"""


# The last SELECT reads the snapshot from before the UPDATE, and therefore the skipped rows as well: a token is missing
# only if its attempt had ended before the statement began. ``least``: no lease outlives its deadline by more than the
# grace.
RENEW_LEASES = """
    WITH held AS (
        SELECT token, seconds FROM unnest(%(tokens)s::uuid[], %(seconds_left)s::float8[]) AS held(token, seconds)),
    free AS (
        SELECT s.id, greatest(s.deadline_at, clock_timestamp() + held.seconds * interval '1 second') AS deadline_at
          FROM held JOIN stages s ON s.lease_token = held.token
         WHERE s.status = 'running'
           FOR NO KEY UPDATE OF s SKIP LOCKED),
    renewed AS (
        UPDATE stages
           SET deadline_at = free.deadline_at,
               lease_expires_at = least(clock_timestamp() + %(lease)s * interval '1 second',
                                        free.deadline_at + %(grace)s * interval '1 second')
          FROM free WHERE stages.id = free.id)
    SELECT lease_token FROM stages WHERE status = 'running' AND lease_token = ANY(%(tokens)s::uuid[])
"""
"""Renew the leases with these tokens, and return the tokens that are still valid.

A model that goes on sending moves its attempt's deadline, and with it the bound of the lease: the deadline and a grace.
A locked stage is skipped and its token returned all the same: waiting for the transaction that has locked this one
stage would cost all other stages their leases. Parameters: ``tokens`` and, in the same order, ``seconds_left`` until
the deadline of each; ``lease`` and ``grace`` (seconds).
"""


@made_of_rules
def find_limited_stage() -> str:
    """Return the query for any stage of the run ``run_id``, if a rule limits the run's owner."""
    return f"SELECT id FROM stages WHERE run_id = %(run_id)s AND ({admission.owner_is_limited()}) LIMIT 1"


# Each attempt of ``finish_stages``: what it is, its artifact, what follows it, and what its call has used.
_ATTEMPT = """
    stage_id uuid, token uuid, requires_approval boolean, called text, ended jsonb,
    id uuid, name text, media_type text, sha256 text, size integer, content text, written_by text, model text,
    prompt_tokens integer, completion_tokens integer, truncated boolean, note text, next_token uuid, timeout float8,
    used_model text, used_prompt bigint, used_completion bigint, used_money numeric, used_estimated boolean
"""


@made_of_rules
def finish_stages(*, called: bool, branded: bool, waits: bool) -> str:
    """Return the statement that ends attempts with their artifacts, moves their runs on and claims the next stages.

    What it does not need is left out, since it is executed for each stage: the usage where no model was ``called``;
    the time zone, and the rules of owners, where no run is ``branded``. Where it ``waits``, it waits for the lock of a
    run; otherwise it leaves such an attempt alone, so that none waits for another one's run and two such statements
    cannot deadlock.

    1. ``held``: lock the runs and the stages that the attempts still hold. Everything else reads these rows, so that
       nothing happens to an attempt that has none.
    2. The stage becomes completed, or waits for approval; the artifact is stored as its next version, and what its call
       has used as a row of its own.
    3. The run's next stage becomes running under ``next_token`` if every rule admits it, else queued; the run waits,
       or is complete where no stage is left.
    4. The events, run after run and in this order: one INSERT numbers them.

    It has one snapshot, from before it waited for the run's lock. What it reads beside the locked rows (the next
    stage, the newest version) changes only in transitions that end the attempt as well, so ``held`` finds no row then.

    Parameters: ``attempts``, a JSON list of objects, and ``count``, its length; ``lease`` (seconds), ``worker``,
    ``actor``, and the rules' ``provider`` and ``cap``. Of an attempt: ``stage_id``, ``token``, ``requires_approval``;
    ``called``, the provider that it called, or null; the data of its event (``ended``); the columns of ``artifacts``;
    for the next stage ``next_token`` (null: queue it) and ``timeout`` (seconds); what the call has used
    (``usage.calls.values_of``).

    Returns a row for each attempt that held its stage: its ``token``, the ``version``, whether it ``waits`` for a
    person, and of the next stage, NULL where there is none, ``id``, ``key``, ``status``, ``attempt``, ``provider``,
    ``feedback``, ``budgeted``, ``trace_context``, ``claimed_at`` and ``seconds_left``; ``provider_has_failed`` before
    this success, and whether the stage's ``owner_is_limited``.
    """
    spent = f", {_of_columns('held', SPENT)}" if called else ""
    used = f"), used AS ({_of_columns('held', insert_call('held', branded=branded))}" if called else ""
    owners = f"{admission.capacities_of_owners()}, " if branded else ""
    limited = f"(SELECT {admission.owner_is_limited()} FROM stages WHERE id = held.stage_id)" if branded else "false"
    # LATERAL, because a list of unknown length would be joined with the whole tables while these are small; and LIMIT,
    # because PostgreSQL takes it for a tenth of the hundred rows that it expects of a function.
    return f"""
        WITH {owners}held AS MATERIALIZED (
            SELECT given.*, locked.*, requires_approval AND NOT auto_approve AS waits,
                   requires_approval AND auto_approve AS auto_approved
              FROM (SELECT * FROM json_to_recordset(%(attempts)s::json) AS attempts({_ATTEMPT})
                     LIMIT %(count)s::bigint) given
             CROSS JOIN LATERAL (
                   SELECT r.id AS run_id, r.workflow, r.brand_id, r.auto_approve, s.key
                     FROM runs r JOIN stages s ON s.run_id = r.id
                    WHERE s.id = given.stage_id AND s.status = 'running' AND s.lease_token = given.token
                      FOR NO KEY UPDATE OF r, s {"" if waits else "SKIP LOCKED"}) locked
        ), ended AS (
            UPDATE stages
               SET status = CASE WHEN held.waits THEN 'waiting_approval' ELSE 'completed' END,
                   finished_at = CASE WHEN held.waits THEN NULL ELSE clock_timestamp() END,
                   feedback = NULL, error = NULL, lease_token = NULL, lease_expires_at = NULL, deadline_at = NULL{spent}
              FROM held WHERE stages.id = held.stage_id
        {used}
        ), stored AS (
            INSERT INTO artifacts (id, run_id, stage_id, version, attempt_token, name, media_type, sha256, size,
                                   content, provider, model, prompt_tokens, completion_tokens, truncated, note)
            SELECT id, run_id, stage_id,
                   (SELECT coalesce(max(version), 0) + 1 FROM artifacts WHERE stage_id = held.stage_id),
                   token, name, media_type, sha256, size, content, written_by, model, prompt_tokens, completion_tokens,
                   truncated, note
              FROM held
            RETURNING stage_id, version
        ), next AS MATERIALIZED (
            SELECT held.run_id, held.next_token, held.timeout, pending.*
              FROM held CROSS JOIN LATERAL (
                   SELECT stages.id, held.next_token IS NOT NULL AND {admission.may_follow(owned=branded)}
                                     AND NOT (stages.needs_model AND {admission.PROVIDER_IS_PAUSED}) AS claimable
                     FROM stages WHERE stages.run_id = held.run_id AND stages.status = 'pending'
                    ORDER BY stages.position LIMIT 1) pending
             WHERE NOT held.waits
        ), following AS (
            UPDATE stages
               SET status = CASE WHEN claimable THEN 'running' ELSE 'queued' END,
                   queued_at = statement_timestamp(), available_at = statement_timestamp(),
                   attempt = attempt + claimable::int,
                   lease_token = CASE WHEN claimable THEN next_token END,
                   lease_expires_at = CASE WHEN claimable
                                           THEN clock_timestamp() + %(lease)s * interval '1 second' END,
                   deadline_at = CASE WHEN claimable
                                      THEN clock_timestamp() + timeout * interval '1 second' END,
                   started_at = CASE WHEN claimable THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,
                   worker_id = CASE WHEN claimable THEN %(worker)s::uuid ELSE worker_id END,
                   provider = CASE WHEN claimable AND needs_model THEN %(provider)s
                                   WHEN claimable THEN NULL ELSE provider END,
                   error = CASE WHEN claimable THEN NULL ELSE error END
              FROM next WHERE stages.id = next.id AND stages.status = 'pending'
            RETURNING stages.run_id, stages.id, key, status, attempt, provider, feedback, budgeted, trace_context,
                      clock_timestamp() AS claimed_at,
                      extract(epoch FROM deadline_at - clock_timestamp())::float8 AS seconds_left
        ), run AS (
            UPDATE runs
               SET status = CASE WHEN held.waits THEN 'waiting_approval' ELSE 'completed' END,
                   finished_at = CASE WHEN held.waits THEN NULL ELSE clock_timestamp() END
              FROM held WHERE runs.id = held.run_id
                          AND (held.waits OR NOT EXISTS (SELECT 1 FROM next WHERE next.run_id = held.run_id))
        ), happened AS (
            SELECT run_id, 1 AS number, CASE WHEN waits THEN 'approval.requested' ELSE 'stage.completed' END AS type,
                   key AS stage,
                   ended || jsonb_build_object('version', stored.version)
                   || CASE WHEN auto_approved THEN '{{"auto_approved": true}}'::jsonb ELSE '{{}}' END AS data
              FROM held JOIN stored USING (stage_id)
            UNION ALL SELECT run_id, 2, 'stage.queued', key, '{{}}' FROM following
            UNION ALL SELECT run_id, 3, 'stage.started', key,
                             jsonb_build_object('attempt', attempt, 'provider', provider)
                        FROM following WHERE status = 'running'
            UNION ALL SELECT run_id, 4, 'run.completed', NULL, '{{}}' FROM held
                       WHERE NOT waits AND NOT EXISTS (SELECT 1 FROM next WHERE next.run_id = held.run_id)
        ), told AS (
            INSERT INTO events (run_id, stage, type, actor, data)
            SELECT run_id, stage, type, %(actor)s, data FROM happened ORDER BY run_id, number
        )
        SELECT held.token, held.waits, stored.version, following.*,
               held.called IS NOT NULL AND {_of_columns("held", PROVIDER_HAS_FAILED)} AS provider_has_failed,
               {limited} AS owner_is_limited
          FROM held JOIN stored USING (stage_id) LEFT JOIN following USING (run_id)
    """


def _of_columns(table: str, sql: str) -> str:
    # In place of parameters, which are the same for all rows.
    return re.sub(r"%\((\w+)\)s", rf"{table}.\1", sql)
