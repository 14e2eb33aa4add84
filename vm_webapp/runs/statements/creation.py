"""Creates a run."""

from __future__ import annotations

from vm_webapp.access.audit import ACTOR_COLUMNS
from vm_webapp.access.run_quota import count_run
from vm_webapp.db.prepared import Prepared
from vm_webapp.runs import admission
from vm_webapp.runs.fair_order import next_start_tag, order_of
from vm_webapp.runs.statements.made_of_rules import made_of_rules
from vm_webapp.runs.statements.queue_facts import FLEET, HEAD, MOST_COUNTED
from vm_webapp.runs.statements.snapshots import FIND_SNAPSHOTS, STORE_FURTHER_SNAPSHOTS

_TAG = next_start_tag("%(brand_id)s::uuid", "%(actor)s::text", "%(priority)s::smallint")

NEXT_START_TAG = Prepared(f"SELECT {_TAG} AS start_tag")
"""The ``start_tag`` of a new run with a ``brand_id``, an ``actor`` who creates it and a ``priority``."""


@made_of_rules
def create_run() -> str:
    """Return the statement that inserts a run, its stages, the first queued, its first events and its audit entry.

    Nobody else can see or lock any of it yet. It does nothing if one of the snapshots to which the run refers is not
    stored, and not among those that are sent with it.

    Parameters: the columns of ``runs``; ``stage_ids``, ``keys``, ``titles``, ``requires_approval`` and ``needs_model``
    of the stages, in their order, and the ``trace_context`` of all; those of
    ``vm_webapp.access.audit.values_of_actor`` for who creates it; and the ``data`` of the first event and of the entry;
    those of ``STORE_SNAPSHOTS``, with all ``digests`` to which the run refers.

    Returns ``created_at``, ``queued_at`` of the first stage, and what ``read_queue_facts`` returns of it; no row if
    nothing was created.
    """
    return _create_run()


@made_of_rules
def create_run_within_quota() -> str:
    """Return ``create_run`` for a key that may create so many runs on a day; it does nothing if that was the last one.

    Parameters: also those of ``vm_webapp.access.run_quota``.
    """
    return _create_run(quota=f"quota AS ({count_run(within='FROM referred')}), ", within="quota")


def _create_run(*, quota: str = "", within: str = "referred") -> str:
    # Without all snapshots there is no row of ``referred``, without it or a row of ``quota`` no tag, and without a tag
    # nothing is inserted. Both ways of finding a snapshot lock it, so that no purge deletes it before the commit.
    # The last SELECT reads the first stage from RETURNING, for the tables are still without it, and counts what comes
    # before it.
    return f"""
    WITH {admission.claimants()}, found AS MATERIALIZED ({FIND_SNAPSHOTS}), sent AS (
        {STORE_FURTHER_SNAPSHOTS}
    ), referred AS MATERIALIZED (
        SELECT WHERE NOT EXISTS (SELECT unnest(%(digests)s::bytea[])
                                 EXCEPT (SELECT digest FROM sent UNION ALL SELECT digest FROM found))
    ), {quota}tag AS MATERIALIZED (
        SELECT {_TAG} AS start_tag FROM {within}
    ), run AS (
        INSERT INTO runs (id, workflow, status, priority, request, auto_approve, brand_id, project_id,
                          workflow_digest, brand_digest, project_digest,
                          created_by, start_tag, four_eyes, creator_id, request_id, budget_tokens, budget_money)
        SELECT %(id)s::uuid, %(workflow)s, 'queued', %(priority)s, %(request)s, %(auto_approve)s, %(brand_id)s,
               %(project_id)s::uuid, %(workflow_digest)s::bytea, %(brand_digest)s::bytea, %(project_digest)s::bytea,
               %(actor)s, start_tag, %(four_eyes)s, %(actor_id)s, %(request_id)s, %(budget_tokens)s::bigint,
               %(budget_money)s::numeric
          FROM tag
        RETURNING created_at
    ), made AS (
        INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                            queued_at, available_at, brand_id, start_tag, trace_context, budgeted)
        SELECT given.id, %(id)s, position, key, title, CASE position WHEN 1 THEN 'queued' ELSE 'pending' END,
               %(priority)s, requires_approval, needs_model,
               CASE position WHEN 1 THEN statement_timestamp() END, CASE position WHEN 1 THEN statement_timestamp() END,
               %(brand_id)s, start_tag, %(trace_context)s,
               %(budget_tokens)s::bigint IS NOT NULL OR %(budget_money)s::numeric IS NOT NULL
          FROM tag, unnest(%(stage_ids)s::uuid[], %(keys)s::text[], %(titles)s::text[],
                           %(requires_approval)s::boolean[], %(needs_model)s::boolean[])
                    WITH ORDINALITY AS given(id, key, title, requires_approval, needs_model, position)
        RETURNING *
    ), told AS (
        INSERT INTO events (run_id, stage, type, actor, data)
        SELECT %(id)s::uuid, first.stage, first.type, %(actor)s, first.data
          FROM tag, (VALUES (NULL, 'run.created', %(data)s::jsonb),
                            ((%(keys)s::text[])[1], 'stage.queued', '{{}}')) AS first (stage, type, data)
    ), audited AS (
        INSERT INTO audit_entries ({ACTOR_COLUMNS}, action, target, data)
        SELECT %(actor)s, %(actor_id)s, %(role)s, %(address)s, %(request_id)s,
               'run.create', 'run:' || (%(id)s)::text, %(data)s::jsonb
          FROM tag
    )
    SELECT run.created_at, stages.queued_at, fleet.*, stages.run_id, {admission.held_by()} AS held_by,
           (SELECT nullif(count(*), {MOST_COUNTED + 1})::int FROM ({HEAD}) head
             WHERE ({order_of("head")}) < ({order_of("stages")})) AS ahead
      FROM {FLEET}, run, made stages WHERE stages.position = 1
    """
