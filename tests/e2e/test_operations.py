"""``queue``, ``keys``, ``doctor`` and ``purge`` as an operator types them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.processes import program
from tests.support.runs import create, read, types
from vm_webapp.access.keys import create_key
from vm_webapp.db.pool import execute, transaction


@pytest.fixture
def env(database: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a managed service."""
    return {
        "APP_ENV": "production",
        "VM_ENABLE_MANAGED_MODE": "true",
        "VM_DB_URL": database,
        "VM_REDIS_URL": redis_url,
        "VM_WORKSPACE_ROOT": str(tmp_path),
    }


def command(env: dict[str, str], folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command; return its exit code and what it said on each stream."""
    with program(*arguments, env=env, folder=folder / "-".join(arguments[:2])) as running:
        code = running.wait(seconds=60)
        return code, running.stdout.read_text(), running.stderr.read_text()


def test_a_key_is_shown_once_and_alone_on_standard_output(env: dict[str, str], tmp_path: Path) -> None:
    code, said, note = command(env, tmp_path, "keys", "create", "ci", "--lasts", "90d")
    assert code == 0
    assert re.fullmatch(r"vmk_\S{43}\n", said)
    assert "shown this once" in note
    _, listed, _ = command(env, tmp_path, "keys", "list")
    assert listed.startswith("active   ci ")
    assert said.strip() not in listed
    assert command(env, tmp_path, "keys", "revoke", "ci") == (0, "revoked ci\n", "")
    code, _, error = command(env, tmp_path, "keys", "revoke", "ci")
    assert (code, error.count("\n")) == (1, 1)


def test_many_runs_are_canceled_after_a_dry_run(env: dict[str, str], tmp_path: Path) -> None:
    runs = [create().run.id for _ in range(3)]
    code, said, _ = command(env, tmp_path, "queue", "cancel", "--workflow", "content_calendar", "--dry-run")
    assert (code, said.splitlines()[0]) == (0, "would cancel 3 runs:")
    assert all(str(run_id) in said for run_id in runs)
    assert command(env, tmp_path, "queue", "cancel", "--status", "queued") == (0, "canceled 3 runs\n", "")
    assert {types(run_id)[-1] for run_id in runs} == {"run.canceled"}


def test_the_queue_is_paused_and_resumed_over_an_api_as_well(env: dict[str, str], tmp_path: Path) -> None:
    code, said, _ = command(env, tmp_path, "queue", "pause", "--reason", "a bad prompt")
    assert code == 0
    assert ": a bad prompt; python -m vm_webapp queue resume" in said
    key = create_key("ops")
    with program("serve", "--port", "0", env=env, folder=tmp_path / "api") as api:
        api.says("http://")
        url = re.findall(r"http://\S+", api.output())[0]
        remote = env | {"VM_API_TOKEN": key.secret}
        code, said, _ = command(remote, tmp_path, "queue", "--base-url", url, "resume")
        assert (code, "paused" in said) == (0, False)
        create()
        assert command(remote, tmp_path, "queue", "cancel", "--status", "queued", "--base-url", url)[1] == (
            "canceled 1 runs\n"
        )
        code, _, error = command(remote, tmp_path, "queue", "resume-provider", "nobody", "--base-url", url)
        assert (code, error) == (1, "vm_webapp: there is no provider nobody; there are: none yet\n")
    assert read("SELECT paused_at FROM queues") == [{"paused_at": None}]


def test_a_bulk_change_without_a_filter_is_refused(env: dict[str, str], tmp_path: Path) -> None:
    create()
    code, said, error = command(env, tmp_path, "queue", "cancel")
    assert (code, said, error) == (2, "", "vm_webapp: say which runs: --status, --workflow or --older-than\n")


def test_the_doctor_exits_1_where_something_fails(env: dict[str, str], tmp_path: Path) -> None:
    code, said, error = command(env, tmp_path, "doctor")
    assert (code, error) == (1, "")
    assert "fail  workers" in said
    code, said, _ = command(env, tmp_path, "doctor", "--json")
    assert code == 1
    assert {check["name"] for check in json.loads(said) if check["verdict"] == "fail"} == {"workers"}


def test_the_doctor_works_with_the_database_down(env: dict[str, str], tmp_path: Path) -> None:
    given = env | {"VM_DB_URL": "postgresql://vm:hidden@127.0.0.1:1/nothing"}
    code, said, error = command(given, tmp_path, "doctor")
    assert (code, error) == (1, "")
    assert "fail  database" in said
    assert "ok    redis" in said
    assert "hidden" not in said


def test_purge_says_how_many_and_then_deletes_them(env: dict[str, str], tmp_path: Path) -> None:
    create()
    with transaction():
        execute("UPDATE runs SET status = 'canceled', finished_at = now() - interval '100 days'")
    flying = create().run.id
    assert command(env, tmp_path, "purge", "--older-than", "90d", "--dry-run")[1] == "would delete 1 runs\n"
    assert command(env, tmp_path, "purge", "--older-than", "90d")[1] == "deleted 1 runs\n"
    assert read("SELECT id FROM runs") == [{"id": flying}]


def test_a_database_without_the_schema_is_one_line(env: dict[str, str], tmp_path: Path) -> None:
    with transaction():
        execute("DROP TABLE api_keys")
    code, _, error = command(env, tmp_path, "keys", "list")
    assert (code, error) == (1, "vm_webapp: the database lacks a migration: run python -m vm_webapp migrate\n")
