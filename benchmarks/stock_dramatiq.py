"""What a person would write with Dramatiq as it comes: an actor per stage, which sends the next one.

BENCH_DB_URL=… BENCH_REDIS_URL=… uv run dramatiq benchmarks.stock_dramatiq --processes 1 --threads 8

Each message commits twice: the stage is started, then finished with its text. A worker that dies keeps its messages
until Dramatiq's maintenance finds them; there is no lease, no cancel, no pause and no review.
"""

from __future__ import annotations

import os
import threading
import uuid

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from psycopg2.extensions import connection

from benchmarks.instant_model import write
from benchmarks.limit import OWN, STAGES, prepared

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS_URL"]))
START_RUN = """
WITH run AS (UPDATE runs SET status = 'running', started_at = clock_timestamp() WHERE id = %s RETURNING id)
INSERT INTO events (run_id, type, actor, data) SELECT id, 'run.started', 'worker', '{}' FROM run
"""
_of_thread = threading.local()


@dramatiq.actor(max_retries=0)
def run_stage(run: str, position: int) -> None:
    """Start a stage, write its text, finish it and send the next one.

    Args:
        run: the run's id.
        position: the stage's position, from 1.
    """
    with _session().cursor() as sql:
        if position == 1:
            sql.execute(START_RUN, (run,))
        sql.execute(OWN.start, (run, position))
        (stage,) = sql.fetchone() or (None,)
        sql.execute(OWN.finish, (run, stage, str(uuid.uuid4()), write()))
        if position == STAGES:
            sql.execute(OWN.complete, (run,))
    if position < STAGES:
        run_stage.send(run, position + 1)


def _session() -> connection:
    if not hasattr(_of_thread, "session"):
        _of_thread.session = prepared(os.environ["BENCH_DB_URL"], OWN)
    session: connection = _of_thread.session
    return session
