"""``smoke`` as an operator types it, against a deployment of real processes."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.behaviours import delayed, refusal
from tests.fakes.model_server import ModelServer
from tests.support.commands import CommandResult, command
from tests.support.databases import Databases
from tests.support.deployment import Deployment, address_of, clean, deployment, managed_environment
from tests.support.forms import only_in_full
from tests.support.processes import program
from tests.support.runs import create, read
from tests.support.waiting import eventually
from vm_webapp import __version__
from vm_webapp.db.pool import close_pool, execute, jsonb, open_pool, transaction
from vm_webapp.local import LocalServers
from vm_webapp.ops import smoke as steps

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "f" * 40
TOKEN = "a-token-of-the-tests"
NOWHERE = "redis://127.0.0.1:1/0"

Smoke = Callable[..., CommandResult]


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    """A fake Kimi."""
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def lasting(
    servers: LocalServers, databases: Databases, model: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment of this commit, for all tests of this file."""
    if servers.redis_url is None:
        pytest.skip("there is no Redis server for this platform")
    folder, name = tmp_path_factory.mktemp("deployment"), databases.take()
    env = managed_environment(databases.url(name), servers.redis_url, folder, **key_of(model))
    with deployment(env | {"RENDER_GIT_COMMIT": COMMIT, "VM_API_TOKEN": TOKEN}, folder) as running:
        eventually(lambda: readiness(running.url)["status"] == "ready", "ready", seconds=30)
        yield running
    databases.release(name)


@pytest.fixture
def deployed(lasting: Deployment) -> Iterator[Deployment]:
    """The deployment in a clean state, with this process's pool open on its database."""
    clean(lasting.env["VM_DB_URL"])
    open_pool(lasting.env["VM_DB_URL"], max_connections=4, application_name="tests")
    yield lasting
    close_pool()


@pytest.fixture
def smoke(deployed: Deployment, capsys: pytest.CaptureFixture[str]) -> Smoke:
    """Runs the smoke test against the deployment, with its database and further variables in the environment."""

    def run(*options: str, **further: str) -> CommandResult:
        env = {"VM_DB_URL": deployed.env["VM_DB_URL"], **further}
        return command(capsys, env, "smoke", "--base-url", deployed.url, *options)

    return run


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def key_of(model: ModelServer) -> dict[str, str]:
    """Return the variables that name a model."""
    return {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}


def build_of(commit: str) -> str:
    """Return the build name of a commit."""
    return f"{__version__}+{commit[:12]}"


def readiness(url: str) -> Any:
    """Return the body of the readiness probe."""
    return httpx.get(f"{url}/api/v2/health/ready", trust_env=False).json()


def test_a_deployment_that_works_passes_and_nothing_is_left(
    smoke: Smoke, deployed: Deployment, model: ModelServer
) -> None:
    before = len(model.requests)
    code, said, errors = smoke("--with-model", "--json")
    assert (code, errors) == (0, ""), said
    report: dict[str, Any] = json.loads(said)
    assert (report["ok"], report["failed"], report["base_url"]) == (True, None, deployed.url)
    assert report["seconds"] < 30
    assert [step["name"] for step in report["steps"]] == [
        "live",
        "ready",
        "credentials",
        "provider",
        "create",
        "worker",
        "stream",
        "timeline",
        "artifact",
        "queue",
        "model",
    ]
    assert len(model.requests) > before
    assert {each["status"] for each in read("SELECT status FROM runs")} <= {"completed", "canceled"}
    (key,) = read("SELECT name, revoked_at, expires_at - created_at <= interval '10 minutes' AS short FROM api_keys")
    assert key["name"].startswith("smoke-")
    assert key["short"]
    assert key["revoked_at"] is not None


def test_a_paused_queue_fails_at_the_worker_at_once_and_is_cleaned_up(smoke: Smoke) -> None:
    began = time.monotonic()
    with transaction():
        execute("UPDATE queues SET paused_at = now(), paused_by = 'tests'")
    code, said, errors = smoke()
    assert (code, errors) == (1, "")
    *_, failed, last = said.splitlines()
    assert failed.startswith("FAILED  worker")
    assert "an operator has paused the queue; the queue is paused: python -m vm_webapp queue resume" in failed
    assert time.monotonic() - began < steps.RUN_SECONDS - 5
    assert last == "smoke failed at worker"
    assert read("SELECT status FROM runs") == [{"status": "canceled"}]


def test_a_backlog_behind_a_paused_provider_does_not_fail_a_deployment_that_works(
    smoke: Smoke, deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "QUEUE_SECONDS", 0.0)
    with transaction():
        execute("INSERT INTO providers (name, paused_at) VALUES ('kimi', now())")
    for _ in range(3):
        create()
    with transaction():
        execute("UPDATE stages SET available_at = now() - interval '1 hour' WHERE status = 'queued'")
    eventually(lambda: readiness(deployed.url)["dependencies"]["llm"]["status"] == "paused", "it is seen")
    code, said, _ = smoke()
    assert code == 0, said
    (queue,) = [line for line in said.splitlines() if " queue " in line]
    assert "3 stages are due" in queue
    paused = "while kimi is paused until an operator resumes it (no reason is known)"
    assert f"{paused}: python -m vm_webapp queue resume-provider kimi" in queue


def test_a_model_that_refuses_fails_at_the_model_with_its_reason(smoke: Smoke, model: ModelServer) -> None:
    model.enqueue(refusal(401, "invalid_authentication_error", "Invalid Authentication"))
    code, said, _ = smoke("--with-model")
    assert code == 1
    *_, failed, last = said.splitlines()
    assert "Invalid Authentication" in failed
    assert last == "smoke failed at model"
    assert read("SELECT DISTINCT status FROM runs WHERE finished_at IS NULL") == []


REFUSED = {"code": "llm_unauthorized", "message": "Invalid Authentication"}


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ("NULL", "kimi is paused until an operator resumes it (llm_unauthorized, Invalid Authentication)"),
        only_in_full(
            "now() + interval '1 min'",
            "kimi is paused and tried again by itself (llm_unauthorized, Invalid Authentication)",
        ),
    ],
)
def test_a_paused_provider_fails_at_once_with_its_reason_and_the_command(
    smoke: Smoke, deployed: Deployment, until: str, said: str
) -> None:
    columns = "name, paused_at, paused_until, reason"
    with transaction():
        execute(f"INSERT INTO providers ({columns}) VALUES ('kimi', now(), {until}, %(r)s)", r=jsonb(REFUSED))
    eventually(lambda: readiness(deployed.url)["dependencies"]["llm"].get("reason") == REFUSED["code"], "it is seen")
    code, shown, _ = smoke("--with-model", VM_API_TOKEN=TOKEN)
    assert code == 1
    *_, failed, last = shown.splitlines()
    assert failed.startswith("FAILED  provider")
    assert failed.endswith(f"{said}: python -m vm_webapp queue resume-provider kimi")
    assert last == "smoke failed at provider"
    assert read("SELECT FROM runs") == [], "nothing was started"
    # Without the token readiness shows the code alone.
    shown = smoke("--with-model").out
    assert "(llm_unauthorized): python -m vm_webapp queue resume-provider kimi" in shown


def test_a_provider_that_is_paused_while_smoke_runs_is_named_before_the_time_is_over(
    deployed: Deployment, model: ModelServer, tmp_path: Path
) -> None:
    model.enqueue(delayed(steps.FIRST_WORDS_SECONDS))  # if a worker asks it before the pause
    with program("smoke", "--base-url", deployed.url, "--with-model", env=deployed.env, folder=tmp_path) as running:
        running.says("ok      provider")
        with transaction():
            execute(
                "INSERT INTO providers (name, paused_at, reason) VALUES ('kimi', now(), %(reason)s)"
                " ON CONFLICT (name) DO UPDATE SET paused_at = now(), reason = excluded.reason",
                reason=jsonb(REFUSED),
            )
        assert running.wait(seconds=steps.FIRST_WORDS_SECONDS / 2) == 1, running.output()
    model.reset()
    assert "python -m vm_webapp queue resume-provider kimi" in running.output()
    assert running.output().splitlines()[-1] == "smoke failed at model"


def test_worksheets_are_not_taken_for_a_model(
    database: str, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"VM_DB_URL": database, "VM_REDIS_URL": redis_url, "VM_WORKSPACE_ROOT": str(tmp_path / "workspace")}
    with program("serve", "--port", "0", env=env, folder=tmp_path) as api:
        code, said, _ = command(capsys, env, "smoke", "--base-url", address_of(api), "--with-model")
    assert code == 1
    *_, failed, last = said.splitlines()
    assert "no model is called" in failed
    assert "set KIMI_API_KEY" in failed
    assert last == "smoke failed at model"


@pytest.mark.parametrize(("redis_is_up", "code"), [(True, 1), (False, 0)])
def test_without_redis_the_model_gets_the_time_for_a_whole_artifact(
    deployed: Deployment,
    model: ModelServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_is_up: bool,
    code: int,
) -> None:
    monkeypatch.setattr(steps, "FIRST_WORDS_SECONDS", 0.5)
    model.enqueue(delayed(1.0))
    if redis_is_up:
        done = command(capsys, deployed.env, "smoke", "--base-url", deployed.url, "--with-model")
    else:
        env = {**deployed.env, "VM_REDIS_URL": NOWHERE}
        with program("serve", "--port", "0", env=env, folder=tmp_path) as api:
            done = command(capsys, env, "smoke", "--base-url", address_of(api), "--with-model")
    assert done.code == code, done.out


def test_a_wrong_token_is_reported(smoke: Smoke) -> None:
    code, said, errors = smoke(VM_API_TOKEN="wrong")
    assert (code, errors) == (1, "")
    assert said.splitlines()[-1] == "smoke failed at credentials"
    assert "401" in said


def test_only_the_token_shows_the_build(smoke: Smoke) -> None:
    code, said, errors = smoke("--expect-build", COMMIT)
    assert (code, said) == (2, "")
    assert errors == "vm_webapp: --expect-build requires VM_API_TOKEN: the API shows its build to nobody else\n"
    code, said, _ = smoke("--expect-build", COMMIT, VM_API_TOKEN=TOKEN)
    assert code == 0, said
    (build,) = [line for line in said.splitlines() if " build " in line]
    assert build.endswith(f"API and workers are build {build_of(COMMIT)}")


def test_another_build_is_waited_for_and_then_named(smoke: Smoke) -> None:
    code, said, _ = smoke("--wait", "1", "--expect-build", OTHER_COMMIT, VM_API_TOKEN=TOKEN)
    assert code == 1
    *_, failed, last = said.splitlines()
    assert last == "smoke failed at build"
    assert failed.endswith(f"not build {OTHER_COMMIT} within 1 s: the API that responds is build {build_of(COMMIT)}")


def test_the_gate_waits_for_a_first_deploy_and_for_the_old_build_to_leave(
    deployed: Deployment, port: int, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{port}"
    gate = ("smoke", "--base-url", url, "--wait", "60", "--expect-build", OTHER_COMMIT)
    with program(*gate, env=deployed.env, folder=tmp_path / "gate") as smoke:
        # The worker of the file's deployment, which is the old build, still takes work.
        with program("serve", "--port", str(port), env=deployed.env, folder=tmp_path / "old") as old:
            smoke.says("ok      credentials")
            assert old.stop() == 0
        new = {**deployed.env, "RENDER_GIT_COMMIT": OTHER_COMMIT}
        with deployment(new, tmp_path / "new", port=port) as running:
            eventually(lambda: readiness(running.url)["status"] == "ready", "ready")
            assert " build " not in smoke.output()
            deployed.worker.signal(signal.SIGSTOP)
            try:
                assert smoke.wait(seconds=60) == 0, smoke.output()
            finally:
                deployed.worker.signal(signal.SIGCONT)
    assert f"API and workers are build {build_of(OTHER_COMMIT)}" in smoke.output()


def test_sigterm_cleans_up_like_ctrl_c(deployed: Deployment, tmp_path: Path) -> None:
    with transaction():
        execute("UPDATE queues SET paused_at = now(), paused_by = 'tests'")
    env = {"VM_DB_URL": deployed.env["VM_DB_URL"]}
    with program("smoke", "--base-url", deployed.url, env=env, folder=tmp_path) as running:
        running.says("ok      create")
        assert running.stop() == 143
        assert "Traceback" not in running.output()
    assert read("SELECT status FROM runs") == [{"status": "canceled"}]
    assert read("SELECT revoked_at IS NOT NULL AS revoked FROM api_keys") == [{"revoked": True}]


def test_a_wrong_url_is_exit_code_1_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, said, errors = command(capsys, {}, "smoke", "--base-url", "http://127.0.0.1:1")
    assert (code, errors) == (1, "")
    assert said.splitlines()[-1] == "smoke failed at live"
