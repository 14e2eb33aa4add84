"""Creates runs."""

from __future__ import annotations

from vm_webapp.access.audit import ACTOR_COLUMNS
from vm_webapp.access.run_quota import count_run
from vm_webapp.db.prepared import Prepared
from vm_webapp.runs import admission
from vm_webapp.runs.fair_order import next_start_tag, order_of
from vm_webapp.runs.statements.made_of_rules import made_of_rules
from vm_webapp.runs.statements.queue_facts import FLEET, HEAD, MOST_COUNTED
from vm_webapp.runs.statements.snapshots import FIND_SNAPSHOTS, STORE_FURTHER_SNAPSHOTS

NEXT_START_TAG = Prepared(
    f"SELECT {next_start_tag('%(brand_id)s::uuid', '%(actor)s::text', '%(priority)s::smallint')} AS start_tag"
)
"""The ``start_tag`` of a new run with a ``brand_id``, an ``actor`` who creates it and a ``priority``."""

# The runs that are asked for, in the order of their ids; of each the ``owner``, and how many of its runs come before.
_ASKED = f"""
    SELECT given.*, owner, row_number() OVER (PARTITION BY owner, priority ORDER BY id) - 1 AS before
      FROM json_to_recordset(%(runs)s::json) AS given (
               id uuid, workflow text, priority smallint, request text, auto_approve boolean, four_eyes boolean,
               brand_id uuid, project_id uuid, workflow_digest bytea, brand_digest bytea, project_digest bytea,
               {", ".join(f"{column} text" for column in ACTOR_COLUMNS.split(", "))},
               budget_tokens bigint, budget_money numeric, trace_context text, stages json, data jsonb),
           coalesce(brand_id::text, actor) AS owner
"""


@made_of_rules
def create_runs() -> str:
    """Return the statement that inserts runs, their stages, the first queued, their first events and audit entries.

    Nobody else can see or lock any of them yet. It does nothing if one of the snapshots to which the runs refer is not
    stored, and not among those that are sent with it. Of one owner they are tagged as if they came one after the other.

    Parameters: ``runs``, JSON: of each the columns of ``runs``, those of
    ``vm_webapp.access.audit.values_of_actor`` for who creates it, the ``trace_context`` and the ``stages`` (``id``,
    ``key``, ``title``, ``requires_approval``, ``needs_model``), and the ``data`` of the first event and of the entry;
    and those of ``STORE_SNAPSHOTS``, with all ``digests`` to which the runs refer.

    Returns a row for each: ``id``, ``created_at``, ``queued_at`` of the first stage, and what ``read_queue_facts``
    returns of it; no row if nothing was created.
    """
    return _create_runs()


@made_of_rules
def create_run_within_quota() -> str:
    """Return ``create_runs`` for one run of a key that may create so many on a day; nothing if that was the last one.

    Parameters: also those of ``vm_webapp.access.run_quota``.
    """
    return _create_runs(quota=f"quota AS ({count_run(within='FROM referred')}), ", within="quota")


def _create_runs(*, quota: str = "", within: str = "referred") -> str:
    # Without all snapshots there is no row of ``referred``, without it or a row of ``quota`` no tag, and without a tag
    # nothing is inserted. Both ways of finding a snapshot lock it, so that no purge deletes it before the commit.
    # The last SELECT reads the first stages from RETURNING, for the tables are still without them, and counts what
    # comes before them.
    tag = next_start_tag("owners.brand_id", "owners.actor", "owners.priority")
    return f"""
    WITH {admission.claimants()}, found AS MATERIALIZED ({FIND_SNAPSHOTS}), sent AS (
        {STORE_FURTHER_SNAPSHOTS}
    ), referred AS MATERIALIZED (
        SELECT WHERE NOT EXISTS (SELECT unnest(%(digests)s::bytea[])
                                 EXCEPT (SELECT digest FROM sent UNION ALL SELECT digest FROM found))
    ), {quota}asked AS MATERIALIZED ({_ASKED}), tags AS MATERIALIZED (
        SELECT owner, priority, {tag} AS first
          FROM {within}, (SELECT owner, priority, brand_id, actor FROM asked WHERE before = 0) AS owners
    ), new AS MATERIALIZED (
        SELECT asked.*, first + before AS start_tag FROM asked JOIN tags USING (owner, priority)
    ), run AS (
        INSERT INTO runs (id, workflow, status, priority, request, auto_approve, brand_id, project_id,
                          workflow_digest, brand_digest, project_digest,
                          created_by, start_tag, four_eyes, creator_id, request_id, budget_tokens, budget_money)
        SELECT id, workflow, 'queued', priority, request, auto_approve, brand_id, project_id,
               workflow_digest, brand_digest, project_digest,
               actor, start_tag, four_eyes, actor_id, request_id, budget_tokens, budget_money
          FROM new
        RETURNING id, created_at
    ), made AS (
        INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                            queued_at, available_at, brand_id, start_tag, trace_context, budgeted)
        SELECT given.id, new.id, position, key, title, CASE position WHEN 1 THEN 'queued' ELSE 'pending' END,
               priority, requires_approval, needs_model,
               CASE position WHEN 1 THEN statement_timestamp() END, CASE position WHEN 1 THEN statement_timestamp() END,
               brand_id, start_tag, trace_context, budget_tokens IS NOT NULL OR budget_money IS NOT NULL
          FROM new, ROWS FROM (json_to_recordset(stages)
                                   AS (id uuid, key text, title text, requires_approval boolean, needs_model boolean))
                    WITH ORDINALITY AS given(id, key, title, requires_approval, needs_model, position)
        RETURNING *
    ), told AS (
        INSERT INTO events (run_id, stage, type, actor, data)
        SELECT id, first.stage, first.type, actor, first.data
          FROM new, LATERAL (VALUES (NULL, 'run.created', new.data),
                                    (stages -> 0 ->> 'key', 'stage.queued', '{{}}')) AS first (stage, type, data)
         ORDER BY id, first.stage NULLS FIRST
    ), audited AS (
        INSERT INTO audit_entries ({ACTOR_COLUMNS}, action, target, data)
        SELECT {ACTOR_COLUMNS}, 'run.create', 'run:' || id, data FROM new ORDER BY id
    ), ahead AS MATERIALIZED (
        {HEAD}
    ), queued AS MATERIALIZED (
        SELECT {order_of()} FROM made WHERE position = 1
    )
    SELECT run.id, run.created_at, stages.queued_at, fleet.*, stages.run_id, {admission.held_by()} AS held_by,
           (SELECT CASE WHEN count(*) <= {MOST_COUNTED} THEN count(*)::int END
              FROM (TABLE ahead UNION ALL TABLE queued) AS due
             WHERE ({order_of("due")}) < ({order_of("stages")})) AS ahead
      FROM {FLEET}, run JOIN made stages ON stages.run_id = run.id WHERE stages.position = 1
    """
