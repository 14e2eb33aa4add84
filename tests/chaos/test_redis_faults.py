"""Redis fails in every way it can, under load: runs are accepted as fast as ever and work goes on by polling."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from actors.feed import HINTS_BEFORE_POLL
from tests.chaos.harness import Api, Fleet, OwnServer, Posted, every, own_postgres, own_redis
from tests.chaos.ledger import assert_nothing_lost, quantile, wait_for_all
from tests.fakes.model_server import ModelServer, random_script
from tests.support.runs import read
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

POLL_SECONDS = 1.0
HINTED_SECONDS = 0.25
ACCEPTED_SECONDS = 0.25


def client_of(server: OwnServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=5)


@contextmanager
def stopped(server: OwnServer) -> Iterator[None]:
    """Nobody listens."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def hanging(server: OwnServer) -> Iterator[None]:
    """It accepts connections and never answers."""
    pid = server.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def read_only(server: OwnServer) -> Iterator[None]:
    """It was demoted, and its primary is away."""
    with client_of(server) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def out_of_memory(server: OwnServer) -> Iterator[None]:
    """It answers, and takes nothing more."""
    with client_of(server) as client:
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


class Stack:
    """An API and two workers on servers of their own."""

    def __init__(self, server: OwnServer, fleet: Fleet, api: Api) -> None:
        self.redis = server
        self.fleet = fleet
        self.api = api
        self.posted: list[Posted] = []

    def post(self) -> None:
        self.posted.append(self.api.post_run())

    def pick_ups(self, since: int, until: int | None = None) -> list[float]:
        """Return how long each of these posted runs waited for its first attempt, shortest first."""
        found = read(
            """
            SELECT coalesce(extract(epoch FROM started.created_at - r.created_at)::float8, 'Infinity') AS seconds
              FROM runs r JOIN LATERAL (SELECT min(created_at) AS created_at FROM events e
                                         WHERE e.run_id = r.id AND e.type = 'stage.started') started ON true
             WHERE r.id = ANY(%(runs)s::uuid[])
            """,
            runs=[posted.run_id for posted in self.posted[since:until]],
        )
        return sorted(row["seconds"] for row in found)

    def is_hinted(self) -> bool:
        """Whether a run is picked up much sooner than polling alone would."""
        since = len(self.posted)
        for _ in range(4):
            self.post()
            wait_for_all(seconds=20)
        return self.pick_ups(since)[-1] < HINTED_SECONDS


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("redis-faults")
    with (
        own_postgres() as postgres,
        own_redis() as server,
        ModelServer(random_script(0.02, 0.1, 0.0, seed=7)) as model,
        Fleet(folder, postgres.url, server.url, model) as fleet,
    ):
        fleet.start(2, threads=8, poll_ms=int(POLL_SECONDS * 1000))
        api = fleet.start_api()
        eventually(lambda: api.says_redis_is("ok"), "ready", seconds=40)
        yield Stack(server, fleet, api)


Fault = Callable[[OwnServer], AbstractContextManager[None]]
# Seconds of each, in the short form and in the full one.
FAULTS: dict[Fault, tuple[float, float]] = {
    stopped: (1, 60),
    hanging: (3, 60),
    read_only: (1, 15),
    out_of_memory: (1, 15),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_without_redis_runs_are_accepted_and_found(stack: Stack, full: bool, fault: Fault) -> None:
    since = len(stack.posted)
    pids = stack.fleet.pids()
    seconds = FAULTS[fault][full]
    with fault(stack.redis):
        eventually(lambda: stack.api.says_redis_is("degraded"), "readiness says so and stays green")
        every(0.1, during=seconds, do=stack.post)
        assert stack.api.says_redis_is("degraded")
    until = len(stack.posted)
    back = time.monotonic()
    eventually(lambda: stack.api.says_redis_is("ok"), "readiness says that it is back")
    eventually(stack.is_hinted, "hints work again", seconds=30)
    back = time.monotonic() - back

    wait_for_all(seconds=30)
    accepted = sorted(posted.seconds for posted in stack.posted[since:until])
    waits = stack.pick_ups(since, until)
    print(
        f"{fault.__name__} for {seconds:.0f} s: {len(accepted)} runs accepted in {accepted[-1] * 1000:.0f} ms at most"
        f" (median {quantile(accepted, 0.5) * 1000:.0f}); picked up after {quantile(waits, 0.5):.2f} s (median),"
        f" {waits[-1]:.2f} s (most); hints worked again after {back:.1f} s"
    )
    assert accepted[-1] < ACCEPTED_SECONDS
    assert waits[-1] < 2 * POLL_SECONDS
    assert stack.fleet.pids() == pids
    assert_nothing_lost(len(stack.posted))


def test_a_flushed_redis_loses_hints_and_no_runs(stack: Stack, full: bool) -> None:
    since = len(stack.posted)

    def post_and_flush() -> None:
        stack.post()
        with client_of(stack.redis) as client:
            client.flushall()

    every(0.05, during=15.0 if full else 1.0, do=post_and_flush)
    wait_for_all(seconds=20)

    accepted = sorted(posted.seconds for posted in stack.posted[since:])
    waits = stack.pick_ups(since)
    print(
        f"flushed {len(accepted)} times: runs accepted in {accepted[-1] * 1000:.0f} ms at most, picked up after"
        f" {quantile(waits, 0.5):.2f} s (median), {waits[-1]:.2f} s (most)"
    )
    assert accepted[-1] < ACCEPTED_SECONDS
    # While other hints keep coming, the lost ones wait for a poll that those put off, though not for ever.
    assert waits[-1] < HINTS_BEFORE_POLL * POLL_SECONDS
    assert_nothing_lost(len(stack.posted))
    assert stack.api.says_redis_is("ok")
