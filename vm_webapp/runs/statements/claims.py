"""Finds and claims due stages."""

from __future__ import annotations

from vm_webapp.runs import admission
from vm_webapp.runs.fair_order import order_of
from vm_webapp.runs.statements.made_of_rules import made_of_rules

# The seconds that the workflow gives the stage; 0 where another build's snapshot has them elsewhere, which this build
# then cannot read. In jsonpath's lax mode nothing that is missing is an error.
TIMEOUT_IN_SNAPSHOT = """
    coalesce(jsonb_path_query_first(
        coalesce((SELECT content FROM snapshots WHERE digest = r.workflow_digest), r.snapshot -> 'workflow'),
        '$.stages[*] ? (@.key == $key).timeout_seconds ? (@.type() == "number")',
        jsonb_build_object('key', stages.key))::float8, 0)
"""


# Digests in place of the documents, which a worker mostly has; the document itself of a run that refers to none.
SNAPSHOT_OF_RUN = """
    {run}.workflow_digest, {run}.brand_digest, {run}.project_digest,
    CASE WHEN {run}.workflow_digest IS NULL THEN {run}.snapshot::text END AS snapshot
"""


@made_of_rules
def find_due_stages() -> str:
    """Return the query for the stages that a worker should claim next: in the order of ``fair_order``.

    Parameters: ``provider``, ``cap``, ``limit``, ``waited`` (seconds that a stage has been due at least), ``without``
    (ids to leave out).

    The rules are the same as the claim's, so that no stage is found only for its claim to be refused. What a shared
    capacity leaves becomes a LIMIT, and each branch has an index of its own: a queue that is held back costs no more
    than an empty one, and stages that need no model are not hidden behind thousands that wait for a paused provider.
    """
    # The capacity is joined from the left, so that its two numbers are returned even where no stage is found. Every
    # LIMIT is one more than asked for, which shows that others are due. FROM candidates AS stages: the rules name the
    # stage so.
    candidates = f"""
        available_at <= clock_timestamp() - %(waited)s * interval '1 second'
        AND id <> ALL(%(without)s::uuid[])
        ORDER BY {order_of()}
    """
    calls = f"needs_model AND {admission.admitted_by_its_owner(calls=True)} AND {candidates}"
    others = f"NOT needs_model AND {admission.admitted_by_its_owner(calls=False)} AND {candidates}"
    return f"""
        WITH {admission.capacities_of_owners()}, capacity AS (
            SELECT {admission.shared_capacity("%(limit)s + 1", calls=True)} AS calls,
                   {admission.shared_capacity("%(limit)s + 1", calls=False)} AS others
        ), candidates AS (
            (SELECT * FROM stages WHERE {calls} LIMIT (SELECT calls FROM capacity))
            UNION ALL
            (SELECT * FROM stages WHERE {others} LIMIT (SELECT others FROM capacity))
        ), fitting AS (
            SELECT stages.*, {admission.within_owners_capacity(order_of())} AS fits
              FROM candidates AS stages
        )
        SELECT capacity.calls, capacity.others, found.id
          FROM capacity LEFT JOIN (
               SELECT * FROM fitting WHERE fits ORDER BY {order_of()} LIMIT %(limit)s + 1) found ON true
         ORDER BY {order_of("found")}
    """


@made_of_rules
def claim_due_stages() -> str:
    """Return ``_claim`` for as many due stages as ``limit``, but none of those with the ids ``without``."""
    return _claim("id <> ALL(%(without)s::uuid[])")


@made_of_rules
def claim_one_stage() -> str:
    """Return ``_claim`` for the stage with the id ``stage_id``, if it is due; ``limit`` is 1."""
    return _claim("id = %(stage_id)s")


def _claim(which: str) -> str:
    """Return the statement that makes due stages running, in the order of ``find_due_stages``.

    1. ``calls`` and ``others``, the stages that need a model and those that do not: lock due stages with their runs,
       as many as the rules of ``admission`` admit. What another transaction has locked is skipped, so that a claim
       never waits and cannot deadlock.
    2. ``taken``: the first ``limit`` of both. Everything else reads these rows.
    3. The stages become running, each under a token of its own, and their runs, where this is the first stage.
    4. The events, run after run: one INSERT numbers them.

    What a rule counts is counted in the statement's one snapshot, and other claims may have been made since. Where that
    matters, with a cap and for the probe of a paused provider, calls are claimed only if ``provider_locked`` says that
    the caller's transaction has locked the provider's row in a statement before this one.

    Parameters: ``limit``; ``tokens``, at least so many; ``lease`` (seconds); ``worker``; ``actor``;
    ``provider_locked``; the rules' ``provider`` and ``cap``.

    Returns at least one row. Each has ``calls`` and ``others``, how many more than these could be claimed under the
    rules, at most ``limit`` + 1; ``calls_wait``, whether calls could be claimed under the provider's lock;
    ``held_back``, how many stages were locked and not claimed. The columns of the claimed stage are NULL in the row of
    a statement that claimed none.
    """
    due_stages = f"""
        SELECT stages.id, stages.run_id, stages.key, stages.priority, stages.start_tag, stages.brand_id,
               stages.needs_model, r.status AS run_status, r.request, r.request_id, r.workflow_digest,
               r.brand_digest, r.project_digest, r.snapshot,
               {TIMEOUT_IN_SNAPSHOT} AS timeout
          FROM stages JOIN runs r ON r.id = stages.run_id
    """
    calls = f"stages.needs_model AND {admission.admitted_by_its_owner(calls=True)} AND stages.{which}"
    others = f"NOT stages.needs_model AND {admission.admitted_by_its_owner(calls=False)} AND stages.{which}"
    # FOR UPDATE may not stand in a UNION, hence two lists. Not EXISTS for the last column: PostgreSQL would drop the
    # ORDER BY, and with it the index of the queue.
    return f"""
        WITH {admission.capacities_of_owners()}, capacity AS MATERIALIZED (
            SELECT {admission.shared_capacity("%(limit)s + 1", calls=True)} AS calls,
                   {admission.shared_capacity("%(limit)s + 1", calls=False)} AS others,
                   %(provider_locked)s OR NOT ({admission.CALLS_ARE_COUNTED}) AS calls_may_be_claimed
        ), calls AS MATERIALIZED (
            {due_stages} WHERE {calls} ORDER BY {order_of("stages")}
             LIMIT (SELECT CASE WHEN calls_may_be_claimed THEN least(calls, %(limit)s) ELSE 0 END FROM capacity)
               FOR NO KEY UPDATE OF r, stages SKIP LOCKED
        ), others AS MATERIALIZED (
            {due_stages} WHERE {others} ORDER BY {order_of("stages")}
             LIMIT (SELECT least(others, %(limit)s) FROM capacity)
               FOR NO KEY UPDATE OF r, stages SKIP LOCKED
        ), locked AS (
            SELECT stages.*, {admission.first_of_its_owner(order_of())} AS fits
              FROM (SELECT * FROM calls UNION ALL SELECT * FROM others) AS stages
        ), taken AS MATERIALIZED (
            SELECT locked.*, row_number() OVER (ORDER BY {order_of()}) AS number
              FROM locked WHERE fits ORDER BY {order_of()} LIMIT %(limit)s
        ), claimed AS (
            UPDATE stages
               SET status = 'running', attempt = stages.attempt + 1, lease_token = (%(tokens)s::uuid[])[number],
                   lease_expires_at = clock_timestamp() + %(lease)s * interval '1 second',
                   deadline_at = clock_timestamp() + timeout * interval '1 second',
                   started_at = coalesce(stages.started_at, clock_timestamp()), worker_id = %(worker)s::uuid,
                   provider = CASE WHEN stages.needs_model THEN %(provider)s END, error = NULL
              FROM taken WHERE stages.id = taken.id
            RETURNING number, stages.run_id, stages.id, stages.key, stages.attempt, stages.feedback, stages.provider,
                      stages.lease_token, stages.trace_context, clock_timestamp() AS claimed_at,
                      extract(epoch FROM clock_timestamp() - stages.available_at)::float8 AS waited_seconds,
                      extract(epoch FROM stages.deadline_at - clock_timestamp())::float8 AS seconds_left
        ), started AS (
            UPDATE runs SET status = 'running', started_at = coalesce(runs.started_at, clock_timestamp())
              FROM taken WHERE runs.id = taken.run_id AND run_status = 'queued'
        ), told AS (
            INSERT INTO events (run_id, stage, type, actor, data)
            SELECT run_id, stage, type, %(actor)s, data
              FROM (SELECT number, 1 AS place, run_id, NULL AS stage, 'run.started' AS type, '{{}}'::jsonb AS data
                      FROM taken WHERE run_status = 'queued'
                    UNION ALL
                    SELECT number, 2, run_id, key, 'stage.started',
                           jsonb_build_object('attempt', attempt, 'provider', provider) FROM claimed) happened
             ORDER BY number, place
        )
        SELECT capacity.calls, capacity.others,
               (SELECT count(*) FROM locked) - (SELECT count(*) FROM taken) AS held_back,
               NOT calls_may_be_claimed AND capacity.calls > 0
                   AND (SELECT true FROM stages WHERE {calls} ORDER BY {order_of()} LIMIT 1) IS NOT NULL
                   AS calls_wait,
               claimed.*, taken.request, taken.request_id, {SNAPSHOT_OF_RUN.format(run="taken")}
          FROM capacity LEFT JOIN (claimed JOIN taken USING (number)) ON true
    """


CLAIMED_UNDER = f"""
    SELECT r.id AS run_id, r.request, r.request_id, {SNAPSHOT_OF_RUN.format(run="r")},
           s.id, s.key, s.attempt, s.feedback, s.provider, s.lease_token, s.trace_context,
           clock_timestamp() AS claimed_at,
           extract(epoch FROM s.deadline_at - clock_timestamp())::float8 AS seconds_left
      FROM stages s JOIN runs r ON r.id = s.run_id
     WHERE s.lease_token = ANY(%(tokens)s::uuid[]) ORDER BY {order_of("s")}
"""
"""The claims that still hold their stages under these ``tokens``: of a statement whose outcome never arrived."""
