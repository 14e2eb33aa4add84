"""The rows in which processes publish their metrics, so that any API responds to a scrape for all of them.

Nothing can reach a worker from outside, and a balancer sends each scrape to another API process. What a process has
counted outlives it: when its row is purged, it is added to a row of all that are gone, in one statement.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from uuid_utils.compat import uuid7

from vm_webapp.db.pool import autocommit, execute, jsonb, rows
from vm_webapp.fleet.samples import ProcessSamples, Samples, collect_samples
from vm_webapp.loop_lag import LOOP_LAG
from vm_webapp.loops import Loop, noting_outages

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 5.0
# A process that has nothing new to tell says at least so often that it is alive.
REPEAT_SECONDS = 10.0
# Of a process that has not written for so long, gauges are not shown any more.
GAUGES_SECONDS = 15
# A scrape returns about a thousand lines for each row: those of processes that are gone must not pile up.
KEEP_HOURS = 1
PURGE_BATCH = 100  # rows; about a tenth of a second
STOP_SECONDS = 1.0

# Durable, unlike heartbeats: a counter that a scrape has seen must not fall because a crash of PostgreSQL undid it.
_INSERT = """
    INSERT INTO process_metrics (process_id, kind, instance, samples, written_at)
    VALUES (%(process_id)s, %(kind)s, %(instance)s, %(samples)s, clock_timestamp())
    ON CONFLICT (process_id) DO UPDATE SET samples = EXCLUDED.samples, written_at = EXCLUDED.written_at
"""
_UPDATE = """
    UPDATE process_metrics SET samples = %(samples)s, written_at = clock_timestamp() WHERE process_id = %(process_id)s
"""
_READ = f"""
    SELECT kind, CASE WHEN gone THEN 'gone' ELSE instance END AS instance, samples,
           written_at BETWEEN clock_timestamp() - interval '{GAUGES_SECONDS} s'
                          AND clock_timestamp() + interval '{GAUGES_SECONDS} s' AS fresh
      FROM process_metrics ORDER BY kind, gone, instance
"""
# 1. ``purged``: delete old rows. One that its process has just written is not old any more, and one that another purge
#    has locked is left to it.
# 2. ``added``: the sum of what they have counted, sample by sample.
# 3. Add it to the row of the kind. That row is read after it was locked, so that two purges at once lose nothing.
_PURGE = f"""
    WITH old AS MATERIALIZED (
        SELECT process_id FROM process_metrics
         WHERE NOT gone AND written_at < clock_timestamp() - interval '{KEEP_HOURS} hours'
         LIMIT {PURGE_BATCH} FOR UPDATE SKIP LOCKED
    ), purged AS (
        DELETE FROM process_metrics USING old WHERE process_metrics.process_id = old.process_id
        RETURNING kind, samples
    ), added AS (
        SELECT kind, jsonb_object_agg(key, total) FILTER (WHERE key IS NOT NULL) AS counters
          FROM (SELECT kind, key, sum(value::numeric) AS total
                  FROM purged LEFT JOIN LATERAL jsonb_each_text(samples -> 'counters') ON true GROUP BY kind, key) each
         GROUP BY kind
    ), kept AS (
        INSERT INTO process_metrics (process_id, kind, instance, gone, samples, written_at)
        SELECT gen_random_uuid(), kind, 'gone', true, jsonb_build_object('counters', coalesce(counters, '{{}}')),
               clock_timestamp()
          FROM added ORDER BY kind
        ON CONFLICT (kind) WHERE gone DO UPDATE
           SET written_at = EXCLUDED.written_at,
               samples = jsonb_build_object('counters', (
                   SELECT coalesce(jsonb_object_agg(key, total), '{{}}')
                     FROM (SELECT key, sum(value::numeric) AS total
                             FROM (SELECT * FROM jsonb_each_text(process_metrics.samples -> 'counters')
                                   UNION ALL SELECT * FROM jsonb_each_text(EXCLUDED.samples -> 'counters')) counted
                            GROUP BY key) summed))
    )
    SELECT count(*) AS purged FROM purged
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that publishes metrics.

    Attributes:
        kind: the label ``process``.
        id: the key of its row; a worker's is the worker's id.
    """

    kind: Literal["api", "worker"]
    id: UUID = field(default_factory=uuid7)

    @property
    def instance(self) -> str:
        """The label ``instance``: host and process, and a part of the id, because both may come again."""
        return f"{socket.gethostname()}:{os.getpid()}:{self.id.hex[-6:]}"


class Publisher:
    """Publishes the metrics of one process.

    Args:
        process: the process.
        collect: returns what it has counted.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        process: Process,
        *,
        collect: Callable[[], Samples] = collect_samples,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._collect = collect
        self._clock = clock
        self._written: Samples | None = None
        self._written_at = 0.0
        self._purged: dict[str, float] = {}

    def publish_once(self) -> bool:
        """Write the process's row, unless nothing has changed for less than ten seconds; return whether it wrote.

        Raises:
            DatabaseUnavailable: the row was not written; the next call writes it.
        """
        collected, now = self._collect(), self._clock()
        samples = self._without_purged(collected)
        # A little less than the period, or one more call would pass before it is due.
        if samples == self._written and now - self._written_at < REPEAT_SECONDS - 1:
            return False
        if self._written is not None and not update_samples(self._process, samples):
            # It slept for an hour, say with its machine, and was taken for gone: what it published is counted there.
            for key, value in self._written["counters"].items():
                self._purged[key] = self._purged.get(key, 0) + value
            # Before the insert, which may fail: the next call must not take the same off again.
            self._written = None
            samples = self._without_purged(collected)
        if self._written is None:
            insert_samples(self._process, samples)
        self._written, self._written_at = samples, now
        LOOP_LAG.published()
        return True

    def _without_purged(self, samples: Samples) -> Samples:
        if not self._purged:
            return samples
        counters = {key: value - self._purged.get(key, 0) for key, value in samples["counters"].items()}
        return samples | {"counters": counters}


@contextmanager
def published(process: Process) -> Iterator[None]:
    """Publish the metrics of this process on a thread of its own while the block lasts, and once more at its end."""
    publisher = Publisher(process)
    publish = noting_outages(publisher.publish_once, log, "metrics.unpublished")
    loop = Loop("metrics", publish, every_seconds=PUBLISH_SECONDS)
    loop.start()
    try:
        yield
    finally:
        loop.stop(STOP_SECONDS, once_more=True)


def insert_samples(process: Process, samples: Samples) -> None:
    """Write what a process has counted into a row that it has not written yet."""
    with autocommit():
        execute(_INSERT, process_id=process.id, kind=process.kind, instance=process.instance, samples=jsonb(samples))


def update_samples(process: Process, samples: Samples) -> bool:
    """Write what a process has counted into its row; return False if it has none any more."""
    with autocommit():
        return execute(_UPDATE, process_id=process.id, samples=jsonb(samples)) == 1


def read_samples() -> list[ProcessSamples]:
    """Return the samples of every process, and of those that are gone, inside the current transaction."""
    return [
        ProcessSamples(
            found["kind"],
            found["instance"],
            found["samples"] if found["fresh"] else {"counters": found["samples"].get("counters", {})},
        )
        for found in rows(_READ)
    ]


def purge_old_samples() -> bool:
    """Add what processes have counted that last wrote over an hour ago to the row of those that are gone.

    Returns:
        Whether more may be left: at most 100 rows are purged at a time.
    """
    with autocommit():
        return bool(rows(_PURGE)[0]["purged"] == PURGE_BATCH)
