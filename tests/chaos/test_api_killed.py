"""The API dies between the commit of a run and its hint: polling finds the run, and it completes."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import httpx
import pytest

from tests.chaos.harness import NEW_RUN, Fleet, own_redis
from tests.chaos.ledger import assert_nothing_lost, wait_for_all
from tests.fakes.model_server import ModelServer
from tests.support.runs import read
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)


def post_until_it_dies(base_url: str, accepted: list[str]) -> None:
    """Create runs one after another until the API dies; append the acknowledged ones to ``accepted``."""
    with httpx.Client(base_url=base_url, trust_env=False, timeout=10) as client:
        while True:
            try:
                response = client.post("/runs", json=NEW_RUN)
            except httpx.HTTPError:
                return
            assert response.status_code == 201
            accepted.append(response.json()["id"])


def test_runs_whose_hint_died_with_the_api_are_found(database: str, tmp_path: Path, full: bool) -> None:
    accepted: list[str] = []
    with own_redis() as redis, ModelServer() as model, Fleet(tmp_path, database, redis.url, model) as fleet:
        for _ in range(20 if full else 1):
            api = fleet.start_api()
            # While Redis hangs, runs are committed but their hints stay in the API.
            redis_pid = redis.pid()
            os.kill(redis_pid, signal.SIGSTOP)
            base_url = str(api.client.base_url)
            clients = [threading.Thread(target=post_until_it_dies, args=(base_url, accepted)) for _ in range(4)]
            for client in clients:
                client.start()
            before = len(accepted)
            eventually(lambda before=before: len(accepted) >= before + 10, "runs are accepted")  # type: ignore[misc]
            api.program.kill()
            for client in clients:
                client.join(20)
            # The hints that its socket had buffered are lost, too, so none of these runs has a hint.
            redis.kill(redis_pid)
            redis.start()
        fleet.start_and_wait(1, threads=8)
        wait_for_all(seconds=120)

    ids = {str(row["id"]) for row in read("SELECT id FROM runs")}
    assert set(accepted) <= ids
    assert_nothing_lost(len(ids))
    print(f"{len(ids)} runs, {len(accepted)} of them acknowledged; all completed without a hint")
