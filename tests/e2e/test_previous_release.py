"""The code of the release before works on this one's schema: the newest migrations come under its runs in flight."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from tests.db.schemas import applied, empty, run_sql
from tests.fakes.model_server import ModelServer, random_script
from tests.support.actors import OPERATOR
from tests.support.deployment import address_of, managed_environment
from tests.support.forms import only_in_full
from tests.support.processes import ROOT, Program, program
from tests.support.waiting import eventually
from vm_webapp.access.keys import create_key
from vm_webapp.access.roles import ROLES
from vm_webapp.db import migrate
from vm_webapp.db.bundle import Bundle, MigrationFiles, own_bundle, read_bundle
from vm_webapp.fleet.alive import ALIVE

TOKEN = "a-token-of-the-tests"
SNAPSHOTS, CONTRACTION = "0022_snapshots", "0023_snapshots_only"
RUN = {"workflow": "content_calendar", "request": "a calendar"}


def code_before(migration: str, folder: Path) -> Path:
    """Return a folder with the code as it was before a migration came."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout

    try:
        added = git("log", "-1", "--diff-filter=A", "--format=%H", "--", f"migrations/{migration}.sql").decode().strip()
        archive = git("archive", f"{added}^" if added else "HEAD", "vm_webapp", "api", "actors", "migrations")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the history is not here: an archive, or a shallow clone")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


# The test of the documents runs the older code each time, beside the new one and after it.
@pytest.fixture(scope="module", params=[own_bundle().ids[-1], only_in_full(SNAPSHOTS)])
def previous(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code as it was before a migration came, the newest among them: a release may bring several."""
    return code_before(request.param, tmp_path_factory.mktemp("previous"))


@pytest.fixture(scope="module")
def before_snapshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code that finds what a run was created with in a document of the run's own."""
    return code_before(SNAPSHOTS, tmp_path_factory.mktemp("before-snapshots"))


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A fake Kimi that takes a moment for each completion."""
    with ModelServer(random_script(0.2, 0.5, 0.0, seed=3)) as server:
        yield server


@pytest.fixture
def env(database_url: str, redis_url: str, model: ModelServer, tmp_path: Path) -> dict[str, str]:
    """The environment of every service of a deployment."""
    model_key = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
    return managed_environment(database_url, redis_url, tmp_path, VM_API_TOKEN=TOKEN, **model_key)


def client_of(api: Program) -> httpx.Client:
    """Return a client of an API, once that listens."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.Client(base_url=f"{address_of(api)}/api/v2", headers=headers, timeout=30, trust_env=False)


def completed(api: httpx.Client, runs: int) -> bool:
    """Return whether this many runs are completed, and no stage was attempted twice."""
    items = api.get("/runs", params={"limit": 200}).raise_for_status().json()["items"]
    assert all(stage["attempt"] <= 1 for run in items for stage in run["stages"])
    return [run["status"] for run in items] == ["completed"] * runs


def test_the_previous_release_keeps_working_when_the_newest_migrations_are_applied(
    previous: Path, env: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    older = read_bundle(previous / "migrations")
    new = own_bundle().ids[len(older.ids) :]
    assert own_bundle().ids[: len(older.ids)] == older.ids
    assert new
    migrate.apply_pending(empty(database_url), bundle=older)
    with (
        program("serve", "--port", "0", env=env, folder=tmp_path / "api", build=previous) as old_api,
        program("worker", env=env, folder=tmp_path / "worker", build=previous) as old_worker,
        client_of(old_api) as client,
    ):

        def is_ready() -> bool:
            return client.get("/health/ready").status_code == 200

        eventually(is_ready, "the release before is ready", seconds=30)
        for _ in range(6):
            client.post("/runs", json=RUN).raise_for_status()
        eventually(lambda: client.get("/runs", params={"status": "running"}).json()["items"], "runs are in flight")

        later = [id for id in new if waits_for_its_build(own_bundle().migrations[id], older)]
        assert migrate.apply_pending(database_url, alive=ALIVE) == tuple(id for id in new if id not in later)
        for _ in range(6):
            client.post("/runs", json=RUN).raise_for_status()
        eventually(lambda: completed(client, 12), "the old code completes the old runs and the new", seconds=60)
        assert is_ready()

        with program("worker", env=env, folder=tmp_path / "new"):
            client.post("/runs", json=RUN).raise_for_status()
            assert old_worker.stop() == 0
            client.post("/runs", json=RUN).raise_for_status()
            eventually(lambda: completed(client, 14), "the old API and the new worker share the work", seconds=60)
        assert old_api.stop() == 0
    migrate.apply_pending(database_url, alive=ALIVE)
    assert applied(database_url) == list(own_bundle().ids)


def waits_for_its_build(files: MigrationFiles, build: Bundle) -> bool:
    """Return whether a migration is postponed while this build is alive."""
    return files.deferrable and files.oldest_build not in build.ids


def test_documents_go_when_the_release_before_has_gone_and_come_back_under_runs_in_flight(
    before_snapshots: Path, env: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    older, posted = read_bundle(before_snapshots / "migrations"), 0
    postponed = tuple(id for id, files in own_bundle().migrations.items() if waits_for_its_build(files, older))
    assert CONTRACTION in postponed

    def post(client: httpx.Client, runs: int) -> None:
        nonlocal posted
        for _ in range(runs):
            client.post("/runs", json=RUN).raise_for_status()
        posted += runs

    def done(client: httpx.Client) -> None:
        eventually(lambda: completed(client, posted), f"{posted} runs are completed", seconds=90)

    def documents() -> list[bool]:
        found = run_sql(database_url, "SELECT snapshot IS NOT NULL FROM runs ORDER BY id")
        return [own for (own,) in found]

    def served(name: str, build: Path) -> AbstractContextManager[Program]:
        return program("serve", "--port", "0", env=env, folder=tmp_path / name, build=build)

    def working(name: str, build: Path) -> AbstractContextManager[Program]:
        return program("worker", env=env, folder=tmp_path / name, build=build)

    def roll_back(to: str) -> None:
        migrate.roll_back(database_url, migrate.plan_down(database_url, to=to), alive=ALIVE)

    migrate.apply_pending(empty(database_url), bundle=older)
    with served("old-api", before_snapshots) as old_api, working("old-worker", before_snapshots) as old_worker:
        with client_of(old_api) as client:
            eventually(lambda: client.get("/health/ready").status_code == 200, "it is ready", seconds=30)
            post(client, 3)
            assert not {*postponed} & {*migrate.apply_pending(database_url, alive=ALIVE)}
            with served("both-api", ROOT) as new_api, client_of(new_api) as new_client:
                post(new_client, 3)
                done(client)
            assert documents() == [True] * 6
        assert old_worker.stop() == 0
        assert old_api.stop() == 0

    with served("new-api", ROOT) as new_api, working("new-worker", ROOT) as new_worker, client_of(new_api) as client:
        assert migrate.apply_pending(database_url, alive=ALIVE) == postponed
        post(client, 4)
        eventually(lambda: client.get("/runs", params={"status": "running"}).json()["items"], "runs are in flight")
        assert documents()[-4:] == [False] * 4
        roll_back(SNAPSHOTS)
        post(client, 2)
        assert documents() == [True] * posted
        done(client)
        with working("old-worker-again", before_snapshots):
            assert new_worker.stop() == 0
            post(client, 2)
            done(client)
        assert new_api.stop() == 0

    roll_back(older.ids[-1])
    with (
        served("old-api-again", before_snapshots) as old_api,
        working("old-worker-last", before_snapshots),
        client_of(old_api) as client,
    ):
        post(client, 1)
        done(client)


def test_a_build_that_knows_no_roles_refuses_every_key_with_a_role(
    env: dict[str, str], database: str, tmp_path: Path
) -> None:
    before_roles = code_before("0012_roles_and_sessions", tmp_path / "build")
    keys = {role: create_key(role or "none", role=role, actor=OPERATOR).secret for role in (None, *ROLES)}
    with (
        program("serve", "--port", "0", env=env, folder=tmp_path / "api", build=before_roles) as old_api,
        client_of(old_api) as client,
    ):

        def status(secret: str) -> int:
            return client.get("/runs", headers={"Authorization": f"Bearer {secret}"}).status_code

        assert {role: status(secret) for role, secret in keys.items()} == {None: 200} | dict.fromkeys(ROLES, 401)


@pytest.mark.parametrize("newer", ["api", "worker"])
def test_hints_reach_the_workers_of_the_other_release(
    previous: Path, env: dict[str, str], database: str, tmp_path: Path, newer: str
) -> None:
    of_api, of_worker = (ROOT, previous) if newer == "api" else (previous, ROOT)
    older = read_bundle(previous / "migrations")
    both = Bundle(files for files in own_bundle().migrations.values() if not waits_for_its_build(files, older))
    migrate.apply_pending(empty(database), bundle=both)
    seldom = ("worker", "--poll-interval-ms", "60000")
    with (
        program("serve", "--port", "0", env=env, folder=tmp_path / "api", build=of_api) as api,
        program(*seldom, env=env, folder=tmp_path / "worker", build=of_worker),
        client_of(api) as client,
    ):
        eventually(lambda: client.get("/health/ready").status_code == 200, "the worker is there", seconds=30)
        for number in range(1, 4):
            client.post("/runs", json={"workflow": "smoke", "request": "soon"}).raise_for_status()
            eventually(lambda: completed(client, number), "it is done without a poll", seconds=10)  # noqa: B023
