"""What commands print about a database that is down, damaged, forbidden to their role, or embedded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import CommandResult, command
from tests.support.deployment import managed_environment
from tests.support.fleet import change
from tests.support.folders import open_folder
from vm_webapp.db.pool import close_pool

COMMANDS = [("queue",), ("keys", "list"), ("purge", "--older-than", "90d"), ("migrate",)]


@pytest.fixture
def env(database: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a managed service."""
    return managed_environment(database, redis_url, tmp_path)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_with_the_database_down_one_line_says_what_to_do(
    capsys: pytest.CaptureFixture[str], env: dict[str, str], arguments: tuple[str, ...]
) -> None:
    down = env | {"VM_DB_URL": "postgresql://vm:hidden@127.0.0.1:1/nothing"}
    code, out, error = command(capsys, down, *arguments)
    assert (code, out, error.count("\n")) == (1, "", 1)
    assert error.endswith("Connection refused: check VM_DB_URL and that PostgreSQL is up\n")
    assert "hidden" not in error


def test_a_missing_table_is_not_reported_as_a_pending_migration(
    capsys: pytest.CaptureFixture[str], env: dict[str, str]
) -> None:
    change("DROP TABLE sessions, runs_of_day, api_keys")
    assert command(capsys, env, "keys", "list") == CommandResult(
        1,
        "",
        'vm_webapp: the schema is not what its migrations say (relation "api_keys" does not exist): run python -m'
        " vm_webapp migrate; if nothing is pending, the schema was changed by hand\n",
    )
    change("DROP TABLE providers CASCADE")
    code, out, error = command(capsys, env, "doctor", "--json")
    assert (code, error) == (1, "")
    assert {check["name"]: check["verdict"] for check in json.loads(out)}["schema"] == "fail"


@pytest.mark.parametrize(("arguments", "table"), [(("keys", "list"), "api_keys"), (("queue", "pause"), "queues")])
def test_a_role_without_privileges_is_reported_as_that(
    capsys: pytest.CaptureFixture[str],
    env: dict[str, str],
    unprivileged_url: str,
    arguments: tuple[str, ...],
    table: str,
) -> None:
    close_pool()
    code, out, error = command(capsys, env | {"VM_DB_URL": unprivileged_url}, *arguments)
    assert (code, out) == (1, "")
    assert error == f"vm_webapp: permission denied for table {table}: grant the role of VM_DB_URL what it needs\n"


def test_a_command_without_a_url_says_which_database_it_uses(capsys: pytest.CaptureFixture[str]) -> None:
    # Not below pytest's folder: each start of pytest takes away the permissions that PostgreSQL's user needs there.
    with open_folder() as root:
        code, out, error = command(capsys, {"VM_WORKSPACE_ROOT": str(root)}, "doctor")
    assert (code, error) == (1, f"embedded database under {root}: VM_DB_URL is not set\n")
    assert out.startswith(f"ok    database         it responds: the embedded one under {root}\n")
    assert "\nfail  schema " in out
