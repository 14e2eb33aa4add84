"""The runbook is correct: its commands run and do what it says, and its variables alone start both services."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psycopg2
import pytest

from tests.deploy import runbook
from tests.deploy.blueprint import ROOT, service
from tests.deploy.runbook import PLATFORM, Block, blocks, start_command, variables
from tests.support.processes import UNSET, Program, program
from tests.support.waiting import eventually
from vm_webapp.db.bundle import bundled_ids

pytestmark = pytest.mark.timeout(300)

API, WORKER = "vm-webapp-api", "vm-webapp-worker"
RUN = "uv run python -m vm_webapp "


@pytest.fixture
def env(empty_database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The variables of the runbook's table, with the servers and folders of this machine."""
    here = {
        "VM_DB_URL": empty_database_url,
        "VM_REDIS_URL": redis_url,
        "VM_WORKSPACE_ROOT": str(tmp_path / "workspace"),
        "KIMI_API_KEY": "sk-test",
    }
    return variables() | here


@contextmanager
def started(name: str, env: Mapping[str, str], folder: Path) -> Iterator[Program]:
    """Run a service by the runbook's start command for the block."""
    command = start_command(name).replace("$PORT", env.get("PORT", ""))
    with program(*command.removeprefix(RUN).split(), env=env, folder=folder / name) as running:
        yield running


def typed(block: Block, env: Mapping[str, str]) -> str:
    """Run commands in an operator's shell and return their output; they must succeed."""
    clean = {name: value for name, value in os.environ.items() if name not in UNSET}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.commands],
        cwd=ROOT,
        env={**clean, "UV_NO_SYNC": "1", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{block.commands}{done.stdout}{done.stderr}"
    return done.stdout


def test_every_command_runs_and_does_what_it_says(env: dict[str, str], port: int, tmp_path: Path, full: bool) -> None:
    shell = env | {"BASE_URL": f"http://127.0.0.1:{port}", "TO": bundled_ids()[-2]}
    output: dict[str, str] = {}
    lines: set[str] = set()
    typed(Block(service(API)["preDeployCommand"], ""), shell)
    with started(API, env | {"PORT": str(port)}, tmp_path) as api, started(WORKER, env, tmp_path) as worker:
        api.says("API ", seconds=30)
        eventually(lambda: _is_ready(shell["BASE_URL"]), "ready", seconds=30)
        for block in blocks():
            # There is nothing to resume before a provider is paused, and the earlier blocks need one that is not.
            if "resume-provider" in block.commands:
                _refuse_the_key(env["VM_DB_URL"])
            # Only with --full: a block whose every line was typed before.
            if not block.remark and (full or not lines.issuperset(block.commands.splitlines())):
                output[block.name] = typed(block, shell)
                lines.update(block.commands.splitlines())
        assert worker.stop() == api.stop() == 0
    assert output['curl -fsS "$BASE_URL/api/v2/health/live"'] == '{"status":"live"}'
    assert '"status":"ready"' in output['curl -fsS "$BASE_URL/api/v2/health/ready"']
    assert "smoke passed" in output['smoke --base-url "$BASE_URL" --wait 300']
    assert "fail " not in output["doctor"]

    (down,) = [block for block in blocks() if block.remark not in ("", PLATFORM)]
    typed(down, shell)
    status = Block(f"{RUN}migrate status", "")
    assert any("pending" in line and bundled_ids()[-1] in line for line in typed(status, shell).splitlines())
    typed(Block(f"{RUN}migrate up", ""), shell)
    assert "pending" not in typed(status, shell)


def _is_ready(base_url: str) -> bool:
    return httpx.get(f"{base_url}/api/v2/health/ready", trust_env=False).status_code == 200


def _refuse_the_key(database_url: str) -> None:
    """Pause the provider as its refusal of the key would."""
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("INSERT INTO providers (name, paused_at) VALUES ('kimi', now())")
        session.commit()


def test_every_block_is_found_and_only_the_rollback_call_needs_the_platform() -> None:
    assert len(blocks()) == runbook.TEXT.count("```sh")
    assert [block.name.split()[0] for block in blocks() if block.remark == PLATFORM] == ["curl"]


@pytest.mark.parametrize("name", [API, WORKER])
def test_the_start_commands_are_those_of_the_blueprint(name: str) -> None:
    assert start_command(name) == service(name)["startCommand"]


@pytest.mark.parametrize("name", [API, WORKER])
@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("VM_DB_URL", "VM_ENABLE_MANAGED_MODE=true requires VM_DB_URL"),
        ("VM_REDIS_URL", "VM_ENABLE_MANAGED_MODE=true requires VM_REDIS_URL"),
        ("VM_ENABLE_MANAGED_MODE", "APP_ENV=production requires VM_ENABLE_MANAGED_MODE=true"),
    ],
)
def test_without_a_required_variable_a_service_exits_with_the_line_in_the_runbook(
    name: str, missing: str, line: str, tmp_path: Path
) -> None:
    assert f"`{line}`" in runbook.TEXT
    nowhere = {"VM_DB_URL": "postgresql://nobody@127.0.0.1:1/db", "VM_REDIS_URL": "redis://127.0.0.1:1/0"}
    env = variables() | nowhere | {"KIMI_API_KEY": "sk-test"}
    del env[missing]
    with started(name, env | {"PORT": "1"}, tmp_path) as service_without:
        assert service_without.wait() == 2
        assert service_without.stderr.read_text() == f"vm_webapp: {line}\n"


@pytest.mark.parametrize("name", [API, WORKER])
def test_the_variables_are_those_of_the_blueprint(name: str) -> None:
    listed = {variable["key"] for variable in service(name)["envVars"] if "key" in variable}
    assert {"VM_DB_URL", "VM_REDIS_URL", "KIMI_API_KEY"} <= listed
    assert list(variables()) == [
        "APP_ENV",
        "VM_ENABLE_MANAGED_MODE",
        "VM_DB_URL",
        "VM_REDIS_URL",
        "VM_WORKSPACE_ROOT",
        "KIMI_MODEL",
        "KIMI_BASE_URL",
        "KIMI_API_KEY",
    ]
