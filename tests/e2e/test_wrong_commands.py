"""Wrong commands: exit code and output, as recorded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.recorded.record import check
from tests.support.commands import CommandResult, command
from tests.support.deployment import managed_environment

SECONDS = re.compile(r"\d+\.\d\d s")
CHOICES = re.compile(r" \(choose from [^)]*\)")  # quoted or not, by the version of Python
NOWHERE = "http://127.0.0.1:1"
ID = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"

# These fail before they start anything, whatever the environment is.
USAGE: tuple[tuple[str, ...], ...] = (
    (),
    ("nonsense",),
    ("serve", "--port", "70000"),
    ("serve", "--nonsense"),
    ("worker", "--poll-interval-ms", "0"),
    ("worker", "--threads", "x"),
    ("run",),
    ("run", "x", "--resume", ID),
    ("run", "x", "--retry", ID),
    ("run", "x", "--from-stage", "plan"),
    ("run", "--retry", ID, "--brand", "Molar"),
    ("run", "x", "--base-url", "nonsense"),
    ("run", " "),
    ("run", "x", "--workflow", ""),
    ("run", "--resume", "nonsense"),
    ("run", "--retry", ""),
    ("run", "--retry", ID, "--from-stage", ""),
    ("migrate", "sideways"),
    ("migrate", "down"),
    ("migrate", "down", "--steps", "0"),
    ("migrate", "down", "--to", ""),
    ("migrate", "export"),
    ("smoke",),
    ("smoke", "--base-url", "http://["),
    ("smoke", "--base-url", NOWHERE, "--wait", "-1"),
    ("smoke", "--base-url", NOWHERE, "--expect-build", ""),
    ("queue", "sideways"),
    ("queue", "cancel", "--status", "completed"),
    ("queue", "retry", "--status", "queued"),
    ("queue", "resume-provider"),
    ("queue", "resume-provider", ""),
    ("queue", "cancel", "--older-than", "7"),
    ("queue", "cancel", "--workflow", ""),
    ("autoscale", "--min", "-1"),
    ("autoscale", "--max", "many"),
    ("autoscale", "--target-wait-seconds", "0"),
    ("autoscale", "--target-wait-seconds", "nan"),
    ("autoscale", "--service", "srv/1"),
    ("keys",),
    ("keys", "create"),
    ("keys", "create", ""),
    ("keys", "create", "x", "--lasts", "0d"),
    ("keys", "create", "x", "--role", "boss"),
    ("audit",),
    ("audit", "sideways"),
    ("audit", "verify", "--known", "12"),
    ("audit", "verify", "--known", "x:" + "0" * 64),
    ("audit", "export", "--since", "yesterday"),
    ("audit", "export", "--since", "2026-13-01"),
    ("audit", "export", "--since", "0001-01-01T00:00+23:00"),
    ("audit", "export", "--since", "7d", "--after", "3"),
    ("audit", "export", "--after", "-1"),
    ("purge",),
    ("purge", "--older-than", "90"),
)
# These are refused with the environment of a managed service, on a database that responds.
MANAGED: tuple[tuple[str, ...], ...] = (
    ("queue", "cancel"),
    ("queue", "retry"),
    ("queue", "cancel", "--workflow", "nothing"),
    ("queue", "resume-provider", "nothing"),
    ("autoscale",),
    ("keys", "create", "two words"),
    ("keys", "create", "x" * 65),
    ("keys", "revoke", "nothing"),
    ("keys", "revoke", f"vmk_{'A' * 43}"),
    ("audit", "export", "--after", "99"),
    ("audit", "verify", "--known", "99:" + "0" * 64),
    ("migrate", "down", "--to", "nothing", "--yes"),
    ("migrate", "down", "--steps", "99", "--yes"),
    ("migrate", "export", "/dev/null"),
    ("run", "x", "--workflow", "nothing"),
    ("run", "--resume", ID, "--base-url", NOWHERE),
    ("run", "x", "--base-url", NOWHERE),
    ("queue", "--base-url", NOWHERE),
    ("smoke", "--base-url", NOWHERE, "--wait", "0"),
)
ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {"VM_ENABLE_MANAGED_MODE": "true"},
    {"VM_ENABLE_MANAGED_MODE": "perhaps"},
    {"APP_ENV": "production"},
    {"APP_ENV": "nowhere"},
    {"PORT": "eight"},
    {"VM_WORKER_THREADS": "0"},
    {"VM_DRAIN_SECONDS": "-1"},
    {"VM_LLM_MAX_CONCURRENCY": "x"},
    {"VM_AUTOSCALE_MIN": "3", "VM_AUTOSCALE_MAX": "2"},
    {"VM_AUTOSCALE_TARGET_WAIT_SECONDS": "soon"},
    {"VM_AUTOSCALE_SERVICE_ID": "srv/1"},
    {"RENDER_API_URL": "nonsense"},
    {"RENDER_API_KEY": "two words"},
    {"VM_DB_URL": "mysql://user:hidden@host/x"},
    {"VM_DB_URL": "postgresql://user:hid/den@host/x"},
    {"VM_DB_URL": "host=host password=hidden nonsense=1"},
    {"VM_DB_URL": "service=nothere"},
    {"VM_DB_URL": "postgresql://host/x?sslmode=hidden"},
    {"VM_DB_DIRECT_URL": "postgresql://user:hidden@host/x"},
    {"VM_REDIS_URL": "http://user:hidden@host"},
    {"VM_REDIS_URL": "redis://:hidden@host..x"},
    {"KIMI_BASE_URL": "nonsense"},
    {"KIMI_API_KEY": "two words"},
    {"KIMI_MAX_TOKENS": "0"},
    {"KIMI_CONTEXT_TOKENS": "262k"},
    {"VM_API_TOKEN": "two words"},
    {"VM_TRUSTED_PROXIES": "10.0.0.0/8, the proxy"},
    {"VM_MODEL_PRICES": '{"currency": "USD"}'},
    {"VM_PURGE_OLDER_THAN": "90"},
    {"VM_AUDIT_KEEP": "forever"},
    {"VM_AUDIT_KEEP": "29d"},
    {"VM_SESSION_IDLE": "30"},
    {"VM_SESSION_IDLE": "45s"},
    {"VM_SESSION_LASTS": "90d"},
    {"LOG_LEVEL": "LOUD"},
)


def outcome_of(said: CommandResult) -> dict[str, int | str]:
    """Return the exit code and output of a command, as JSON, without its duration."""
    return {"code": said.code, "out": SECONDS.sub("… s", said.out), "errors": said.errors}


def test_wrong_usage_ends_as_recorded(capsys: pytest.CaptureFixture[str], record: bool) -> None:
    said = {" ".join(arguments): outcome_of(command(capsys, {}, *arguments)) for arguments in USAGE}
    for ended in said.values():
        ended["errors"] = CHOICES.sub("", str(ended["errors"]))
    check("wrong_usage", said, anew=record)


def test_wrong_commands_end_as_recorded(
    capsys: pytest.CaptureFixture[str], database: str, redis_url: str, tmp_path: Path, record: bool
) -> None:
    env = managed_environment(database, redis_url, tmp_path)
    said = {" ".join(arguments): outcome_of(command(capsys, env, *arguments)) for arguments in MANAGED}
    check("wrong_commands", said, anew=record)


def test_wrong_environments_end_as_recorded(capsys: pytest.CaptureFixture[str], tmp_path: Path, record: bool) -> None:
    said = {
        " ".join((command_name, *(f"{name}={value}" for name, value in env.items()))): outcome_of(
            command(capsys, {"VM_WORKSPACE_ROOT": str(tmp_path / "workspace")} | env, command_name)
        )
        for command_name in ("serve", "worker", "migrate")
        for env in ENVIRONMENTS
    }
    assert not (tmp_path / "workspace").exists()
    check("wrong_environments", said, anew=record)
