"""Locks on a running deployment: readiness, the doctor and the API's problems name each within ten seconds.

``pytest tests/ops/test_lock_matrix.py --full -s`` takes every table in every mode, and prints what was said when.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.deployment import deployment, managed_environment
from tests.support.locks import HOLDER, MODES, holding, lock_of
from tests.support.processes import ROOT, clean_environment
from tests.support.waiting import eventually
from vm_webapp.ops.locks.found import OLD_SECONDS
from vm_webapp.ops.locks.uses import USES

IN_TIME_SECONDS = 10.0
HARMLESS_SECONDS = 4.0
TOKEN = "a-token-of-the-tests"
STRONG = MODES[4:]
# Of each kind one: what every step needs, what is only read, what hinders something else.
CELLS = (
    ("runs", "ACCESS EXCLUSIVE"),
    ("installation", "ACCESS EXCLUSIVE"),
    ("idempotency_keys", "SHARE ROW EXCLUSIVE"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a deployment said while a lock was held.

    Attributes:
        readiness: whether it stayed ready, the sentence that names the lock, and the seconds until then.
        doctor: the verdict of its check of locks, the detail, and the seconds until then.
        post: the status of a POST /runs, and the detail of its problem.
    """

    readiness: tuple[bool, str, float]
    doctor: tuple[str, str, float]
    post: tuple[int, str]


class Running:
    """A running deployment, with its token's holder, a stranger and an operator.

    Args:
        env: the environment of its services.
        url: the API's URL.

    Attributes:
        database_url: the database of both services.
    """

    def __init__(self, env: dict[str, str], url: str) -> None:
        self._env = env
        self.database_url = env["VM_DB_URL"]
        base = f"{url}/api/v2"
        self.stranger = httpx.Client(base_url=base, timeout=20, trust_env=False)
        self.holder = httpx.Client(
            base_url=base, timeout=20, trust_env=False, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        eventually(self.is_well, "ready", seconds=40)
        brand = self.holder.post("/brands", json={"name": "a bakery"})
        self._run = {"workflow": "smoke", "request": "x", "brand_id": brand.json()["id"]}

    def is_well(self) -> bool:
        """Whether it is ready and nothing is degraded."""
        body = self.readiness()
        return (body["status"], body["dependencies"]["database"]) == ("ready", {"status": "ok"})

    def readiness(self, client: httpx.Client | None = None) -> dict[str, Any]:
        """Return the body of the probe; without a client, what the token's holder gets."""
        body: dict[str, Any] = (client or self.holder).get("/health/ready").json()
        return body

    def post(self) -> tuple[int, str]:
        """Create a run that touches every table that creation can; return the status and a problem's detail."""
        headers = {"Idempotency-Key": f"key-{time.monotonic()}"}
        response = self.holder.post("/runs", json=self._run, headers=headers)
        if response.status_code == 503:
            assert int(response.headers["Retry-After"]) > 0
        return response.status_code, response.json().get("detail", "")

    def doctor(self) -> dict[str, dict[str, str]]:
        """Return the doctor's checks by name."""
        return {check["name"]: check for check in json.loads(self.command("doctor", "--json"))}

    def command(self, *arguments: str) -> str:
        """Run a command as an operator does; return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "vm_webapp", *arguments],
            cwd=ROOT,
            env=clean_environment() | self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr if "--json" not in arguments else done.stdout

    def hold(self, *statements: str, names: str) -> Said:
        """Hold locks until readiness, the doctor and a POST have said something of them."""
        with holding(self.database_url, *statements) as pid, ThreadPoolExecutor(3) as threads:
            began = time.monotonic()
            posted = threads.submit(self.post)
            diagnosed = threads.submit(self._until_the_doctor_names, names, pid, began)
            readiness = self._until_readiness_names(names, pid, began)
            said = Said(readiness, diagnosed.result(), posted.result())
        eventually(self.is_well, "well again", seconds=20)
        return said

    def _until_readiness_names(self, names: str, pid: int, began: float) -> tuple[bool, str, float]:
        def sentence() -> str:
            body = self.readiness()
            sentences = [*body.get("reasons", []), body["dependencies"]["database"].get("note", "")]
            return next((each for each in sentences if names in each), "")

        said = eventually(sentence, names, seconds=IN_TIME_SECONDS, every=0.1)
        took = time.monotonic() - began
        private, public = self.readiness(), self.readiness(self.stranger)
        assert f"SELECT pg_terminate_backend({pid})" in json.dumps(private)
        assert HOLDER in json.dumps(private)
        assert str(pid) not in json.dumps(public)
        assert HOLDER not in json.dumps(public)
        return private["status"] == "ready", said, took

    def _until_the_doctor_names(self, names: str, pid: int, began: float) -> tuple[str, str, float]:
        def named() -> dict[str, dict[str, str]] | None:
            checks = self.doctor()
            return checks if names.removesuffix(" holds") in checks["locks"]["detail"] else None

        # A transaction that has lasted less long is one like any other. Starting Python twice would only take longer.
        time.sleep(max(0.0, began + OLD_SECONDS - time.monotonic()))

        checks = eventually(named, f"the doctor: {names}", seconds=IN_TIME_SECONDS)
        took = time.monotonic() - began
        check = checks["locks"]
        assert f"pid {pid} (user postgres, {HOLDER}, idle in transaction) since " in check["detail"]
        assert f"SELECT pg_terminate_backend({pid})" in check["next"]
        assert "restart" not in checks["workers"]["next"], "the cause is said, and not its consequence"
        return check["verdict"], check["detail"], took


@pytest.fixture
def running(database: str, redis_url: str, tmp_path: Path) -> Iterator[Running]:
    """A deployment with an API and a worker."""
    env = managed_environment(database, redis_url, tmp_path, VM_API_TOKEN=TOKEN)
    with deployment(env, tmp_path) as processes:
        yield Running(env, processes.url)


def judge(table: str, mode: str, said: Said) -> None:
    """Check that what was said is right for a lock of this mode on this table."""
    use, name = USES[table], f"a lock on the table {table} holds"
    pg_mode = f"{''.join(word.capitalize() for word in mode.split())}Lock"
    stops = pg_mode in use.stop_work
    ready, sentence, took = said.readiness
    assert (ready, sentence.startswith(name)) == (not stops, True), said
    assert said.doctor[0] == ("fail" if stops else "warn"), said
    # The doctor, which starts a Python of its own each time, has begun in time; a busy machine may end it later.
    assert took < IN_TIME_SECONDS, said
    status, detail = said.post
    assert status in (201, 503), said
    if status == 503:
        assert detail == f"{name} this up; try again in a moment", said


@pytest.mark.timeout(300)
def test_a_locked_table_is_named_by_all_three(running: Running) -> None:
    for table, mode in CELLS:
        said = running.hold(lock_of(table, mode), names=f"a lock on the table {table} holds")
        _show(table, mode, said)
        judge(table, mode, said)
        if (table, mode) == CELLS[0]:
            assert said.post[0] == 503


@pytest.mark.timeout(3600)
@pytest.mark.only_in_full
def test_every_table_in_every_mode(running: Running) -> None:
    wrong = []
    for table, use in USES.items():
        for mode in MODES:
            pg_mode = f"{''.join(word.capitalize() for word in mode.split())}Lock"
            if pg_mode not in use.stop_work | use.hinder:
                wrong += running_stays_well(running, table, mode)
                continue
            said = running.hold(lock_of(table, mode), names=f"a lock on the table {table} holds")
            _show(table, mode, said)
            try:
                judge(table, mode, said)
            except AssertionError as error:
                wrong.append((table, mode, str(error)))
    assert not wrong


def running_stays_well(running: Running, table: str, mode: str) -> list[tuple[str, str, str]]:
    """Hold a lock that conflicts with nothing; return what was said or refused all the same."""
    with holding(running.database_url, lock_of(table, mode)):
        posted = running.post()
        time.sleep(HARMLESS_SECONDS - 1)
        health = running.readiness()
    named = health["status"] != "ready" or health["dependencies"]["database"] != {"status": "ok"}
    print(f"{table:18} {mode:24} nothing is said, POST {posted[0]}" if not named else f"{table} {mode}: {health}")
    return [(table, mode, f"{posted}: {health}")] if named or posted[0] != 201 else []


def _show(table: str, mode: str, said: Said) -> None:
    ready, sentence, seconds = said.readiness
    print(
        f"{table:18} {mode:24} readiness {'ready    ' if ready else 'not ready'} after {seconds:4.1f} s,"
        f" doctor {said.doctor[0]} after {said.doctor[2]:4.1f} s, POST {said.post[0]}: {sentence.partition(':')[0]}"
    )
