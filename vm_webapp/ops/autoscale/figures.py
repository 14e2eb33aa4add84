"""Reads from the database what a decision on the number of workers is made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vm_webapp.db.connections import CLIENTS, MOST_CLIENTS
from vm_webapp.db.pool import OPERATOR_CONNECTIONS, Row, is_proxied, row
from vm_webapp.db.prepared import Prepared
from vm_webapp.db.sessions import name_session
from vm_webapp.fleet.alive import IS_ALIVE, WorkerGroup, read_last_group, read_worker_groups
from vm_webapp.ops.autoscale.rates import Counted, Measured, from_json, measure
from vm_webapp.ops.autoscale.shapes import Figures
from vm_webapp.runs.admission import read_demand

# Of workers that have told nothing for longer, what they have counted is known.
TOLD = "last_tick_at > clock_timestamp() - interval '5 minutes'"

# A statement over partial indexes, so that finished runs cost nothing. Sessions of other databases, and those whose
# name this role may not see, are not those of workers.
_READ = Prepared(
    f"""
    SELECT extract(epoch FROM clock_timestamp())::float8 AS at,
           (SELECT count(*) FROM stages WHERE status = 'queued') AS queued,
           (SELECT count(*) FROM stages WHERE status = 'running') AS running,
           (SELECT count(*) FROM worker_heartbeats WHERE state = 'starting' AND {IS_ALIVE}) AS starting,
           (SELECT count(*) FROM worker_heartbeats WHERE state = 'draining' AND {IS_ALIVE}) AS draining,
           (SELECT slots FROM worker_heartbeats ORDER BY last_tick_at DESC, worker_id LIMIT 1) AS last_slots,
           (SELECT jsonb_agg(jsonb_build_array(worker_id, extract(epoch FROM started_at),
                             coalesce((counters ->> 'attempts')::bigint, 0),
                             coalesce((counters ->> 'attempt_ms')::bigint, 0)))
              FROM worker_heartbeats WHERE {TOLD}) AS counted,
           {MOST_CLIENTS} - (SELECT count(*) FROM pg_stat_activity
                              WHERE ({CLIENTS})
                                AND NOT coalesce(datname = current_database()
                                                 AND (starts_with(application_name, %(worker)s)
                                                      OR starts_with(application_name, %(pulse)s)), false))
               AS connections,
           figures -> 'measured' AS measured, past,
           (SELECT details FROM duty_leases WHERE name = 'scale' AND expires_at > clock_timestamp()) AS scaler
      FROM (SELECT) once LEFT JOIN autoscale_decision ON true
    """
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database says at one moment.

    Attributes:
        at: when, in seconds since the epoch by the database's clock.
        figures: what to decide from.
        measured: what the next reading needs of this one.
        past: the decisions before, as they were stored; None if there are none.
        scaler: what the process says of itself that scales now; None if nobody does.
    """

    at: float
    figures: Figures
    measured: Measured
    past: Any
    scaler: Any


def read_figures(*, slots_each: int, connections_each: int) -> Reading:
    """Read the figures, inside the current transaction.

    Args:
        slots_each: how many stages a worker runs at a time, if none has ever told.
        connections_each: most connections to the database that a worker takes.
    """
    groups = read_worker_groups()
    likely = groups or (read_last_group(),)
    demand = read_demand(likely)
    found = row(_READ, worker=name_session("worker", ""), pulse=name_session("pulse", ""))
    assert found is not None
    measured = measure(from_json(found["measured"]), found["at"], demand.due + found["running"], _counted(found))
    figures = Figures(
        queued=found["queued"],
        due=demand.due,
        running=found["running"],
        oldest_due_seconds=demand.oldest_due_seconds,
        claimable=demand.claimable,
        stopped=demand.stopped,
        arrivals_per_minute=measured.arrivals_per_minute,
        completions_per_minute=measured.completions_per_minute,
        mean_stage_seconds=measured.mean_seconds,
        workers=sum(group.workers for group in groups),
        starting=found["starting"],
        draining=found["draining"],
        slots=sum(group.slots for group in groups),
        in_flight=sum(group.in_flight for group in groups),
        slots_each=_slots_each(groups) or found["last_slots"] or slots_each,
        most_calls=_most_calls(likely),
        # Through a pooler its own limits count, which nobody here knows.
        most_workers=None if is_proxied() else max(0, found["connections"] - OPERATOR_CONNECTIONS) // connections_each,
    )
    return Reading(found["at"], figures, measured, found["past"], found["scaler"])


def _counted(found: Row) -> dict[str, Counted]:
    return {name: Counted(*counted) for name, *counted in found["counted"] or []}


def _slots_each(groups: Sequence[WorkerGroup]) -> int:
    workers = sum(group.workers for group in groups)
    return math.ceil(sum(group.slots for group in groups) / workers) if workers else 0


def _most_calls(groups: Sequence[WorkerGroup]) -> int | None:
    caps = [group.cap for group in groups if group.cap is not None]
    return max(caps) if len(caps) == len(groups) else None
