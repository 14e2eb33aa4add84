"""The statements of the queue that are SQL text: each is one step that must be atomic, and Peewee cannot express it.

All others are built from the models, beside the function that runs them. Those here contain the rules of ``admission``,
which are SQL text, or an UPDATE inside a WITH. They are run by ``vm_webapp.db.pool``; values are psycopg2's named
parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps

from vm_webapp.access.run_quota import COUNT_RUN
from vm_webapp.audit import COLUMNS_OF_WHO
from vm_webapp.db.prepared import Prepared
from vm_webapp.runs import admission
from vm_webapp.runs.fair_order import next_start_tag, order_of

PROVIDER_HAS_FAILED = """
    EXISTS (SELECT 1 FROM providers
             WHERE name = %(called)s AND (consecutive_failures > 0 OR pauses > 0 OR paused_at IS NOT NULL))
"""

# The seconds that the workflow gives the stage; 0 where another build's snapshot has them elsewhere, which this build
# then cannot read. In jsonpath's lax mode nothing that is missing is an error.
TIMEOUT_IN_SNAPSHOT = """
    coalesce(jsonb_path_query_first(
        r.snapshot, '$.workflow.stages[*] ? (@.key == $key).timeout_seconds ? (@.type() == "number")',
        jsonb_build_object('key', stages.key))::float8, 0)
"""


def _made_of_rules(build: Callable[[], str]) -> Callable[[], Prepared]:
    """Build a statement once for each set of rules: its text is several kilobytes, and a worker polls often."""
    # The rules are the key of the cache although ``build`` reads them itself: tests replace RULES.

    @lru_cache(maxsize=4)
    def built(rules: tuple[admission.Rule, ...]) -> Prepared:
        return Prepared(build())

    @wraps(build)
    def statement() -> Prepared:
        return built(admission.RULES)

    return statement


_TAG = next_start_tag("%(brand_id)s::uuid", "%(actor)s::text", "%(priority)s::smallint")

NEXT_START_TAG = Prepared(f"SELECT {_TAG} AS start_tag")
"""The ``start_tag`` of a new run with a ``brand_id``, an ``actor`` who creates it and a ``priority``."""

MOST_COUNTED = 100
"""Up to how many stages are counted that come before a stage: a person needs no more."""

_FLEET = """
    (SELECT coalesce(sum(working), 0)::int AS working, coalesce(sum(alive), 0)::int AS alive,
            coalesce(array_agg(DISTINCT provider) FILTER (WHERE working > 0), '{}') AS providers
       FROM workers) fleet
"""
# The head of the queue by its index, and no further than MOST_COUNTED: the same cost however long the queue is.
_HEAD = f"""
    SELECT {order_of("s")} FROM stages s
     WHERE {admission.due("s")} ORDER BY {order_of("s")} LIMIT {MOST_COUNTED + 1}
"""


@_made_of_rules
def read_queue_facts() -> str:
    """Return the query for what decides whether the due stages of runs will be claimed.

    Parameter: ``run_ids``. Returns a row for each run that has a due stage, or one row where ``run_id`` is NULL. Of
    the fleet: ``working`` and ``alive``, numbers of workers, and the ``providers`` that the working ones call. Of the
    stage: ``held_by``, the kind of the rule that holds it back, or NULL, and ``ahead``, how many due stages come before
    it, NULL for more than ``MOST_COUNTED``.
    """
    # The window function numbers all rows at once: to count for each run would read the head again for each of a page.
    return f"""
        WITH {admission.claimants()}, numbered AS (
            SELECT run_id, (row_number() OVER (ORDER BY {order_of()}) - 1)::int AS place FROM ({_HEAD}) head
        )
        SELECT fleet.*, asked.*
          FROM {_FLEET} LEFT JOIN (
               SELECT stages.run_id, {admission.held_by()} AS held_by, numbered.place AS ahead
                 FROM stages LEFT JOIN numbered ON numbered.run_id = stages.run_id
                WHERE stages.run_id = ANY(%(run_ids)s::uuid[]) AND {admission.due()}) asked ON true
    """


@_made_of_rules
def create_run() -> str:
    """Return the statement that inserts a run, its stages, the first queued, its first events and its audit entry.

    Nobody else can see or lock any of it yet.

    Parameters: the columns of ``runs``; ``stage_ids``, ``keys``, ``titles``, ``requires_approval`` and ``needs_model``
    of the stages, in their order; who creates it, as ``vm_webapp.audit.values_of_who`` has it; and the ``data`` of the
    first event and of the entry.

    Returns ``created_at``, ``queued_at`` of the first stage, and what ``read_queue_facts`` returns of it.
    """
    return _create_run(
        tag="",
        told="""
        VALUES (%(id)s, NULL, 'run.created', %(actor)s, %(data)s),
               (%(id)s, (%(keys)s)[1], 'stage.queued', %(actor)s, '{}')""",
        audited="""
        VALUES (%(actor)s, %(actor_id)s, %(role)s, %(address)s, %(request_id)s,
                'run.create', 'run:' || (%(id)s)::text, %(data)s)""",
    )


@_made_of_rules
def create_run_within_quota() -> str:
    """Return ``create_run`` for a key that may create so many runs on a day; it does nothing if that was the last one.

    Parameters: also those of ``vm_webapp.access.run_quota``. Returns no row if nothing was created.
    """
    # Without a row of ``quota`` there is no tag, and without a tag no run.
    return _create_run(
        quota=f"quota AS ({COUNT_RUN}), ",
        tag="FROM quota",
        told="""
        SELECT %(id)s::uuid, first.stage, first.type, %(actor)s, first.data
          FROM tag, (VALUES (NULL, 'run.created', %(data)s::jsonb), ((%(keys)s::text[])[1], 'stage.queued', '{}'))
                    AS first (stage, type, data)""",
        audited="""
        SELECT %(actor)s, %(actor_id)s, %(role)s, %(address)s, %(request_id)s,
               'run.create', 'run:' || (%(id)s)::text, %(data)s::jsonb
          FROM tag""",
    )


def _create_run(*, quota: str = "", tag: str, told: str, audited: str) -> str:
    # The last SELECT reads the first stage from RETURNING, for the tables are still without it, and counts what comes
    # before it.
    return f"""
    WITH {admission.claimants()}, {quota}tag AS MATERIALIZED (
        SELECT {_TAG} AS start_tag {tag}
    ), run AS (
        INSERT INTO runs (id, workflow, status, priority, request, auto_approve, brand_id, project_id, snapshot,
                          created_by, start_tag, four_eyes, creator_id, request_id)
        SELECT %(id)s::uuid, %(workflow)s, 'queued', %(priority)s, %(request)s, %(auto_approve)s, %(brand_id)s,
               %(project_id)s::uuid, %(snapshot)s::jsonb, %(actor)s, start_tag, %(four_eyes)s, %(actor_id)s,
               %(request_id)s
          FROM tag
        RETURNING created_at
    ), made AS (
        INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                            queued_at, available_at, brand_id, start_tag)
        SELECT given.id, %(id)s, position, key, title, CASE position WHEN 1 THEN 'queued' ELSE 'pending' END,
               %(priority)s, requires_approval, needs_model,
               CASE position WHEN 1 THEN statement_timestamp() END, CASE position WHEN 1 THEN statement_timestamp() END,
               %(brand_id)s, start_tag
          FROM tag, unnest(%(stage_ids)s::uuid[], %(keys)s::text[], %(titles)s::text[],
                           %(requires_approval)s::boolean[], %(needs_model)s::boolean[])
                    WITH ORDINALITY AS given(id, key, title, requires_approval, needs_model, position)
        RETURNING *
    ), told AS (
        INSERT INTO events (run_id, stage, type, actor, data) {told}
    ), audited AS (
        INSERT INTO audit_entries ({COLUMNS_OF_WHO}, action, target, data) {audited}
    )
    SELECT run.created_at, stages.queued_at, fleet.*, stages.run_id, {admission.held_by()} AS held_by,
           (SELECT nullif(count(*), {MOST_COUNTED + 1})::int FROM ({_HEAD}) head
             WHERE ({order_of("head")}) < ({order_of("stages")})) AS ahead
      FROM {_FLEET}, run, made stages WHERE stages.position = 1
    """


@_made_of_rules
def find_limited_stage() -> str:
    """Return the query for any stage of the run ``run_id``, if a rule limits the run's owner."""
    return f"SELECT id FROM stages WHERE run_id = %(run_id)s AND ({admission.owner_is_limited()}) LIMIT 1"


@_made_of_rules
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
        {admission.admitted_by_its_owner()}
        AND available_at <= clock_timestamp() - %(waited)s * interval '1 second'
        AND id <> ALL(%(without)s::uuid[])
        ORDER BY {order_of()}
    """
    return f"""
        WITH capacity AS (
            SELECT {admission.shared_capacity("%(limit)s + 1", calls=True)} AS calls,
                   {admission.shared_capacity("%(limit)s + 1", calls=False)} AS others
        ), candidates AS (
            (SELECT * FROM stages WHERE needs_model AND {candidates} LIMIT (SELECT calls FROM capacity))
            UNION ALL
            (SELECT * FROM stages WHERE NOT needs_model AND {candidates} LIMIT (SELECT others FROM capacity))
        ), fitting AS (
            SELECT stages.*, {admission.within_owners_capacity(order_of())} AS fits
              FROM candidates AS stages
        )
        SELECT capacity.calls, capacity.others, found.id
          FROM capacity LEFT JOIN (
               SELECT * FROM fitting WHERE fits ORDER BY {order_of()} LIMIT %(limit)s + 1) found ON true
         ORDER BY {order_of("found")}
    """


@_made_of_rules
def claim_due_stages() -> str:
    """Return ``_claim`` for as many due stages as ``limit``, but none of those with the ids ``without``."""
    return _claim("id <> ALL(%(without)s::uuid[])")


@_made_of_rules
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
               stages.needs_model, r.status AS run_status, r.request, r.request_id, r.snapshot,
               {TIMEOUT_IN_SNAPSHOT} AS timeout
          FROM stages JOIN runs r ON r.id = stages.run_id
         WHERE {admission.admitted_by_its_owner()} AND stages.{which}
    """
    # FOR UPDATE may not stand in a UNION, hence two lists. Not EXISTS for the last column: PostgreSQL would drop the
    # ORDER BY, and with it the index of the queue.
    return f"""
        WITH capacity AS MATERIALIZED (
            SELECT {admission.shared_capacity("%(limit)s + 1", calls=True)} AS calls,
                   {admission.shared_capacity("%(limit)s + 1", calls=False)} AS others,
                   %(provider_locked)s OR NOT ({admission.CALLS_ARE_COUNTED}) AS calls_may_be_claimed
        ), calls AS MATERIALIZED (
            {due_stages} AND stages.needs_model ORDER BY {order_of("stages")}
             LIMIT (SELECT CASE WHEN calls_may_be_claimed THEN least(calls, %(limit)s) ELSE 0 END FROM capacity)
               FOR NO KEY UPDATE OF r, stages SKIP LOCKED
        ), others AS MATERIALIZED (
            {due_stages} AND NOT stages.needs_model ORDER BY {order_of("stages")}
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
                      stages.lease_token, clock_timestamp() AS claimed_at,
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
                   AND (SELECT true FROM stages
                         WHERE {admission.admitted_by_its_owner()} AND stages.{which} AND stages.needs_model
                         ORDER BY {order_of()} LIMIT 1) IS NOT NULL AS calls_wait,
               claimed.*, taken.request, taken.request_id, taken.snapshot::text
          FROM capacity LEFT JOIN (claimed JOIN taken USING (number)) ON true
    """


CLAIMED_UNDER = f"""
    SELECT r.id AS run_id, r.request, r.request_id, r.snapshot::text, s.id, s.key, s.attempt, s.feedback, s.provider,
           s.lease_token, clock_timestamp() AS claimed_at,
           extract(epoch FROM s.deadline_at - clock_timestamp())::float8 AS seconds_left
      FROM stages s JOIN runs r ON r.id = s.run_id
     WHERE s.lease_token = ANY(%(tokens)s::uuid[]) ORDER BY {order_of("s")}
"""
"""The claims that still hold their stages under these ``tokens``: of a statement whose outcome never arrived."""


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


@_made_of_rules
def finish_stage() -> str:
    """Return the statement that ends an attempt with its artifact, moves its run on and claims the next stage.

    1. ``held``: lock the run and the stage, if the attempt still holds it. Everything else reads this row, so that
       nothing happens where there is none.
    2. The stage becomes completed, or waits for approval; the artifact is stored as its next version.
    3. The run's next stage becomes running under ``next_token`` if every rule admits it, else queued; the run waits,
       or is complete where no stage is left.
    4. The events, in this order: one INSERT numbers them.

    It has one snapshot, from before it waited for the run's lock. What it reads beside the locked rows (the next
    stage, the newest version) changes only in transitions that end the attempt as well, so ``held`` finds no row then.

    Parameters: ``stage_id``, ``token``, ``requires_approval``; of the artifact, the columns of ``artifacts``; the
    ``events``' data (``ended``, ``started``); for the next stage ``next_token`` (NULL: queue it), ``lease`` and
    ``timeout`` (seconds), ``worker``, and the rules' ``provider`` and ``cap``; ``called``, the provider that this
    attempt called, or NULL.

    Returns ``version``, whether it ``waits`` for a person, and of the next stage, NULL where there is none, ``id``,
    ``key``, ``status``, ``attempt``, ``provider``, ``feedback``, ``claimed_at`` and ``seconds_left``;
    ``provider_has_failed`` before this success, and whether the stage's ``owner_is_limited``.
    """
    return f"""
        WITH held AS MATERIALIZED (
            SELECT r.id AS run_id, s.id, s.key, %(requires_approval)s AND NOT r.auto_approve AS waits,
                   %(requires_approval)s AND r.auto_approve AS auto_approved
              FROM runs r JOIN stages s ON s.run_id = r.id
             WHERE s.id = %(stage_id)s AND s.status = 'running' AND s.lease_token = %(token)s
               FOR NO KEY UPDATE OF r, s
        ), ended AS (
            UPDATE stages
               SET status = CASE WHEN held.waits THEN 'waiting_approval' ELSE 'completed' END,
                   finished_at = CASE WHEN held.waits THEN NULL ELSE clock_timestamp() END,
                   feedback = NULL, error = NULL, lease_token = NULL, lease_expires_at = NULL, deadline_at = NULL
              FROM held WHERE stages.id = held.id
        ), stored AS (
            INSERT INTO artifacts (id, run_id, stage_id, version, attempt_token, name, media_type, sha256, size,
                                   content, provider, model, prompt_tokens, completion_tokens, truncated, note)
            SELECT %(id)s::uuid, run_id, held.id,
                   (SELECT coalesce(max(version), 0) + 1 FROM artifacts WHERE stage_id = held.id),
                   %(token)s, %(name)s, %(media_type)s, %(sha256)s, %(size)s::integer, %(content)s, %(written_by)s,
                   %(model)s, %(prompt_tokens)s::integer, %(completion_tokens)s::integer, %(truncated)s::boolean,
                   %(note)s
              FROM held
            RETURNING version
        ), next AS MATERIALIZED (
            SELECT stages.id, %(next_token)s::uuid IS NOT NULL AND {admission.may_follow()}
                              AND NOT (stages.needs_model AND {admission.PROVIDER_IS_PAUSED}) AS claimable
              FROM held JOIN stages ON stages.run_id = held.run_id AND stages.status = 'pending'
             WHERE NOT held.waits ORDER BY stages.position LIMIT 1
        ), following AS (
            UPDATE stages
               SET status = CASE WHEN claimable THEN 'running' ELSE 'queued' END,
                   queued_at = statement_timestamp(), available_at = statement_timestamp(),
                   attempt = attempt + claimable::int,
                   lease_token = CASE WHEN claimable THEN %(next_token)s::uuid END,
                   lease_expires_at = CASE WHEN claimable
                                           THEN clock_timestamp() + %(lease)s * interval '1 second' END,
                   deadline_at = CASE WHEN claimable
                                      THEN clock_timestamp() + %(timeout)s * interval '1 second' END,
                   started_at = CASE WHEN claimable THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,
                   worker_id = CASE WHEN claimable THEN %(worker)s::uuid ELSE worker_id END,
                   provider = CASE WHEN claimable AND needs_model THEN %(provider)s
                                   WHEN claimable THEN NULL ELSE provider END,
                   error = CASE WHEN claimable THEN NULL ELSE error END
              FROM next WHERE stages.id = next.id AND stages.status = 'pending'
            RETURNING stages.id, key, status, attempt, provider, feedback, clock_timestamp() AS claimed_at,
                      extract(epoch FROM deadline_at - clock_timestamp())::float8 AS seconds_left
        ), run AS (
            UPDATE runs
               SET status = CASE WHEN held.waits THEN 'waiting_approval' ELSE 'completed' END,
                   finished_at = CASE WHEN held.waits THEN NULL ELSE clock_timestamp() END
              FROM held WHERE runs.id = held.run_id AND (held.waits OR NOT EXISTS (SELECT 1 FROM next))
        ), happened AS (
            SELECT 1 AS number, CASE WHEN waits THEN 'approval.requested' ELSE 'stage.completed' END AS type,
                   key AS stage,
                   %(ended)s::jsonb || jsonb_build_object('version', stored.version)
                   || CASE WHEN auto_approved THEN '{{"auto_approved": true}}'::jsonb ELSE '{{}}' END AS data
              FROM held, stored
            UNION ALL SELECT 2, 'stage.queued', key, '{{}}' FROM following
            UNION ALL SELECT 3, 'stage.started', key, jsonb_build_object('attempt', attempt, 'provider', provider)
                        FROM following WHERE status = 'running'
            UNION ALL SELECT 4, 'run.completed', NULL, '{{}}' FROM held
                       WHERE NOT waits AND NOT EXISTS (SELECT 1 FROM next)
        ), told AS (
            INSERT INTO events (run_id, stage, type, actor, data)
            SELECT held.run_id, happened.stage, type, %(actor)s, data FROM held, happened ORDER BY number
        )
        SELECT held.waits, stored.version, following.*, {PROVIDER_HAS_FAILED} AS provider_has_failed,
               (SELECT {admission.owner_is_limited()} FROM stages WHERE id = held.id) AS owner_is_limited
          FROM held CROSS JOIN stored LEFT JOIN following ON true
    """
