"""PostgreSQL crashes under load, again and again: nothing is lost, nothing is done twice, no completion is undone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID

import psycopg2
import pytest

from tests.chaos.clients import RetryingClient
from tests.chaos.faults import meanwhile
from tests.chaos.harness import OwnServer
from tests.chaos.ledger import assert_nothing_lost, completed_stages, counted, create_many, wait_for_all
from tests.chaos.stack import running_stack
from tests.fakes.model_server import random_script
from tests.support.forms import only_in_full
from tests.support.runs import read
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

Crash = Callable[[OwnServer], None]
SEEN = """
    SELECT e.id, e.run_id, e.stage, a.sha256 FROM events e
      JOIN stages s ON s.run_id = e.run_id AND s.key = e.stage
      JOIN artifacts a ON a.stage_id = s.id
     WHERE e.type = 'stage.completed'
"""
Completion = tuple[int, UUID, str, str]


def killed(server: OwnServer) -> None:
    """Every process of the server is killed at the same moment."""
    server.crash()


def immediate(server: OwnServer) -> None:
    """The server is stopped as by ``pg_ctl stop -m immediate``."""
    server.stop_immediately()


class Watcher:
    """Reads the completions over and over, until the server is gone.

    Attributes:
        seen: every completion that was read, with its artifact.
    """

    def __init__(self, url: str) -> None:
        self.seen: set[Completion] = set()
        self._url = url

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during the block."""
        with meanwhile(self._read, every=0.01):
            yield

    def undone(self) -> set[Completion]:
        """Return the completions that were seen, and are not there now."""
        now = {(row["id"], row["run_id"], row["stage"], row["sha256"]) for row in read(SEEN)}
        return self.seen - now

    def _read(self) -> None:
        try:
            with (
                closing(psycopg2.connect(self._url, application_name="watcher")) as session,
                session.cursor() as cursor,
            ):
                cursor.execute(SEEN)
                self.seen.update(cursor.fetchall())
        except psycopg2.Error:
            pass  # it is down


@pytest.mark.parametrize("crash", [killed, only_in_full(immediate)])
def test_a_database_that_crashes_again_and_again(tmp_path: Path, full: bool, crash: Crash) -> None:
    times, runs_each = (10, 100) if full else (2, 8)
    dice = random.Random(7)
    script = random_script(0.1, 0.4, 0.0, seed=7)
    with running_stack(tmp_path, script, threads=16 if full else 4, durable=True) as stack:
        pids, runs = stack.fleet.pids(), 0
        watcher = Watcher(stack.postgres.url)
        with RetryingClient(lambda: stack.api, every=0.05) as client:
            for _ in range(times):
                before = completed_stages()
                runs += len(create_many(runs_each, send_hints=False))
                eventually(lambda before=before: completed_stages() > before, "work is under way")  # type: ignore[misc]
                with watcher.watching():
                    time.sleep(dice.uniform(0.2, 1.0))
                    crash(stack.postgres)
                stack.postgres.start()
                assert watcher.undone() == set()
                client.wait_for_another(seconds=30)
        wait_for_all(seconds=300 if full else 60)
        runs += len(client.accepted)
        print(
            f"{crash.__name__} {times} times: {runs} runs, {client.refused} requests refused and repeated,"
            f" {len(watcher.seen)} completions seen before the crashes, 0 undone; {counted()}"
        )
        assert watcher.seen
        assert counted()["failures"] == 0
        assert stack.fleet.pids() == pids
        assert_nothing_lost(runs)
