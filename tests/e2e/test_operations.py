"""``queue``, ``keys``, ``doctor`` and ``purge`` as an operator types them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from tests.fakes.stranger import hanging, responding
from tests.ops.faults import apply_future_migration
from tests.support.actors import OPERATOR
from tests.support.commands import CommandResult, command
from tests.support.deployment import address_of
from tests.support.fleet import beat, change
from tests.support.forms import only_in_full
from tests.support.locks import holding, lock_of
from tests.support.processes import program
from tests.support.runs import create, read, types
from vm_webapp.access.actor import Actor
from vm_webapp.access.keys import create_key
from vm_webapp.cli import queue
from vm_webapp.db.bundle import own_bundle
from vm_webapp.db.pool import execute, jsonb, transaction
from vm_webapp.fleet.presence import Presence
from vm_webapp.ops import queue_control
from vm_webapp.ops.locks.found import OLD_SECONDS
from vm_webapp.redis_client import quick_client

Cli = Callable[..., CommandResult]


@pytest.fixture
def cli(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in the environment of the services, with further variables."""

    def run(*arguments: str, **further: str) -> CommandResult:
        return command(capsys, env | further, *arguments)

    return run


def test_a_key_is_shown_once_and_alone_on_standard_output(cli: Cli) -> None:
    code, said, note = cli("keys", "create", "ci", "--lasts", "90d")
    assert code == 0
    assert re.fullmatch(r"vmk_\S{43}\n", said)
    assert "shown this once" in note
    _, listed, _ = cli("keys", "list")
    assert listed.startswith("active   ci ")
    assert said.strip() not in listed
    assert cli("keys", "revoke", "ci") == (0, "revoked ci\n", "")
    code, _, error = cli("keys", "revoke", "ci")
    assert (code, error.count("\n")) == (1, 1)


def test_many_runs_are_canceled_after_a_dry_run(cli: Cli) -> None:
    runs = [create().run.id for _ in range(3)]
    code, said, _ = cli("queue", "cancel", "--workflow", "content_calendar", "--dry-run")
    assert (code, said.splitlines()[0]) == (0, "would cancel 3 runs:")
    assert all(str(run_id) in said for run_id in runs)
    assert cli("queue", "cancel", "--status", "queued") == (0, "canceled 3 runs\n", "")
    assert {types(run_id)[-1] for run_id in runs} == {"run.canceled"}


def test_an_unknown_workflow_is_an_error_and_one_without_runs_is_not(cli: Cli) -> None:
    code, said, error = cli("queue", "cancel", "--workflow", "nonesuch")
    assert (code, said) == (2, "")
    assert error.startswith("vm_webapp: there is no workflow 'nonesuch', nor a run of one; known: content_calendar, ")
    assert cli("queue", "cancel", "--workflow", "content_calendar") == (0, "canceled 0 runs\n", "")


def test_the_queue_is_paused_and_resumed_over_an_api_as_well(cli: Cli, env: dict[str, str], tmp_path: Path) -> None:
    code, said, _ = cli("queue", "pause", "--reason", "a bad prompt")
    assert code == 0
    assert ": a bad prompt; python -m vm_webapp queue resume" in said
    key = create_key("ops", actor=OPERATOR).secret
    with program("serve", "--port", "0", env=env, folder=tmp_path / "api") as api:
        url = address_of(api)

        def remote(*arguments: str) -> CommandResult:
            return cli("queue", *arguments, "--base-url", url, VM_API_TOKEN=key)

        code, said, _ = cli("queue", "--base-url", url, "resume", VM_API_TOKEN=key)
        assert (code, "paused" in said) == (0, False)
        for wrong in (" ", "x" * 501):
            code, said, error = cli("queue", "pause", "--reason", wrong)
            assert (code, said, error) == (2, "", "vm_webapp: a reason has 1 to 500 characters\n")
            assert remote("pause", "--reason", wrong)[0] == 2
        runs = [create().run.id for _ in range(102)]
        assert remote("cancel", "--status", "queued", "--dry-run").out.startswith("would cancel 102 runs:\n")
        assert remote("cancel", "--status", "queued") == (0, "canceled 102 runs\n", "")
        assert {types(run_id).count("run.canceled") for run_id in runs} == {1}
        code, _, error = remote("resume-provider", "nobody")
        assert (code, error) == (1, "vm_webapp: there is no provider nobody; there are: none yet\n")
        # A name must not lead to another route.
        cli("queue", "pause")
        code, _, error = remote("resume-provider", "../queue")
        assert (code, error) == (1, "vm_webapp: there is no provider ../queue; there are: none yet\n")
        assert remote("status").out.startswith("paused by")
        code, _, error = cli("queue", "--base-url", url, VM_API_TOKEN="wrong")
        assert (code, "Authorization: Bearer" in error) == (2, True)


def pause_kimi() -> None:
    """Pause the provider as its refusal of the key would."""
    change(
        "INSERT INTO providers (name, paused_at, reason) VALUES ('kimi', now(), %(reason)s)",
        reason=jsonb({"code": "llm_unauthorized", "message": "Invalid Authentication"}),
    )


NEEDED = [id for id, files in own_bundle().migrations.items() if not files.deferrable][-1]


def behind() -> None:
    """Forget the newest migration that this build needs."""
    change("DELETE FROM _yoyo_migration WHERE migration_id = %(id)s", id=NEEDED)


def pause_queue() -> None:
    """Pause the queue as an operator does."""
    queue_control.pause_queue(reason="a bad prompt", actor=Actor("ops"))


def fill_every_slot() -> None:
    """Let the only worker have as many stages as it can run, while another is due."""
    change("UPDATE worker_heartbeats SET in_flight = slots")
    create()


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (pause_queue, "paused by ops: a bad prompt; python -m vm_webapp queue resume claims again"),
        (
            pause_kimi,
            "kimi is paused until an operator resumes it (llm_unauthorized, Invalid Authentication):"
            " python -m vm_webapp queue resume-provider kimi",
        ),
        (behind, f"lacks {NEEDED}: run python -m vm_webapp migrate"),
        (apply_future_migration, "9999_from_the_future, too new for this build: deploy a"),
        (fill_every_slot, "every slot of the 1 worker is in use"),
        (lambda: change("DELETE FROM worker_heartbeats"), "no worker has ever used this database: start one"),
    ],
)
def test_queue_status_names_why_nothing_moves(cli: Cli, cause: Callable[[], object], said: str) -> None:
    beat()
    cause()
    code, shown, errors = cli("queue", "status")
    assert (code, errors) == (0, "")
    assert said in shown.splitlines()[0], shown
    assert "queued    " in shown


@pytest.mark.parametrize(
    ("table", "code", "said"),
    [
        only_in_full(
            "runs",
            0,
            "a lock on the table runs holds work up: python -m vm_webapp doctor names the session that holds it",
        ),
        ("stages", 1, "a lock on the table stages holds work up: python -m vm_webapp doctor names the session"),
        only_in_full(
            "brands", 0, "a lock on the table brands holds up requests about brands, and new runs with one: python"
        ),
    ],
)
def test_queue_status_names_a_lock_also_where_the_figures_cannot_be_read(
    cli: Cli, env: dict[str, str], table: str, code: int, said: str
) -> None:
    beat()
    with holding(env["VM_DB_URL"], lock_of(table, "ACCESS EXCLUSIVE")):
        time.sleep(OLD_SECONDS)
        beat() if table == "brands" else None
        done = cli("queue", "status")
    assert (done.code, done.errors) == (code, "")
    assert said in done.out.splitlines()[0], done.out
    assert ("queued    " in done.out, "the figures cannot be read" in done.out) == (code == 0, code == 1)


def test_queue_status_names_workers_on_another_database(cli: Cli, env: dict[str, str]) -> None:
    Presence(quick_client(env["VM_REDIS_URL"], 1.0)).announce(uuid4(), {"fingerprint": "elsewhere"})
    said = "workers are alive, but on another database: give API and workers the same VM_DB_URL"
    assert cli("queue", "status").out.startswith(said)


def test_queue_status_of_a_queue_that_moves_names_nothing(cli: Cli) -> None:
    beat()
    assert cli("queue", "status").out.startswith("queued    0")


def test_queue_status_over_an_api_names_the_cause_that_its_readiness_knows(
    cli: Cli, env: dict[str, str], tmp_path: Path
) -> None:
    key = create_key("ops", actor=OPERATOR).secret
    with program("serve", "--no-worker", "--port", "0", env=env, folder=tmp_path / "api") as api:
        url = address_of(api)
        code, said, _ = cli("queue", "--base-url", url, "status", VM_API_TOKEN=key)
        assert (code, said.splitlines()[0][:32]) == (0, "no worker has ever used this dat")
        with holding(env["VM_DB_URL"], lock_of("stages", "ACCESS EXCLUSIVE")):
            time.sleep(OLD_SECONDS + 2)
            code, said, _ = cli("queue", "--base-url", url, "status", VM_API_TOKEN=key)
        assert (code, said.splitlines()[-1]) == (1, "the figures cannot be read")
        assert said.startswith("a lock on the table stages holds work up: ")


@pytest.mark.parametrize(
    ("status", "content_type", "text", "code", "said"),
    [
        (200, "application/json", "{}", 2, "is not this API, or another version of it: queued: field required"),
        (200, "application/json", "[]", 2, "is not this API: it responded 200 OK; check --base-url"),
        (200, "text/html", "<html>Welcome to nginx</html>", 2, "is not this API: it responded 200 OK"),
        (302, "text/html", "", 2, "is not this API: it responded 302 Found"),
        (404, "application/json", '{"detail":"Not Found"}', 2, "is not this API: it responded 404 Not Found"),
        (
            502,
            "text/html",
            "<html>nginx</html>",
            1,
            "a proxy in front of it responded 502 Bad Gateway",
        ),
        (
            503,
            "application/json",
            '{"message":"asleep"}',
            1,
            "a proxy in front of it responded 503 Service Unavailable",
        ),
        (409, "application/problem+json", '{"type":"/problems/conflict","detail":"not now"}', 1, "vm_webapp: not now"),
        (422, "application/problem+json", '{"type":"/problems/x","detail":"not so"}', 2, "vm_webapp: not so"),
    ],
)
@pytest.mark.parametrize(
    "arguments", [("status",), ("pause",), ("cancel", "--status", "queued"), ("resume-provider", "kimi")]
)
async def test_a_response_of_another_server_is_one_clear_line(
    capsys: pytest.CaptureFixture[str],
    status: int,
    content_type: str,
    text: str,
    code: int,
    said: str,
    arguments: tuple[str, ...],
) -> None:
    def respond(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text, content_type=content_type)

    async with responding(respond) as url:
        done = await remotely(capsys, url, *arguments)
    assert (done.code, done.out, done.errors.count("\n")) == (code, "", 1)
    first = {"cancel": "matched", "resume-provider": "resumed"}.get(arguments[0], "queued")
    assert said.replace("queued:", f"{first}:") in done.errors


@pytest.mark.parametrize("change", [{"oldest_due_seconds": "old"}, {"due": None}, {"paused": "perhaps"}])
async def test_figures_of_another_version_are_one_clear_line(
    capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    names = ("queued", "running", "due", "workers", "slots", "in_flight", "draining", "desired_workers")
    complete = dict.fromkeys(names, 1) | {
        "oldest_due_seconds": 1.5,
        "paused": False,
        "paused_at": None,
        "paused_by": None,
        "reason": None,
        "arrivals_per_minute": 2.5,
        "completions_per_minute": None,
        "mean_stage_seconds": None,
        "autoscale": {
            "reason": "a lull",
            "decided_at": "2026-11-27T00:00:00Z",
            "stale": False,
            "min_workers": 1,
            "max_workers": 10,
            "target_wait_seconds": 30,
            "scaler": {"holder": "host:1", "service": None},
            "calls": [],
        },
    }
    for body, code in ((complete, 0), (complete | change, 2)):
        async with responding(lambda request, body=body: web.json_response(body)) as url:  # type: ignore[misc]
            done = await remotely(capsys, url)
        assert done.code == code, done.errors
    assert f"another version of it: {next(iter(change))}: " in done.errors


@pytest.mark.parametrize("drip", [b"", b" "])
async def test_an_api_that_hangs_is_reported_with_the_time_limit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, drip: bytes
) -> None:
    monkeypatch.setattr(queue, "REMOTE_SECONDS", 0.5)
    async with hanging(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" if drip else b"", drip) as url:
        done = await remotely(capsys, url)
    assert done == (1, "", f"vm_webapp: the API at {url} does not respond within 0.5 s\n")


async def test_an_api_that_is_down_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, said, error = await remotely(capsys, "http://127.0.0.1:1")
    assert (code, said) == (1, "")
    assert error.startswith("vm_webapp: the API at http://127.0.0.1:1 does not respond: ")


async def remotely(capsys: pytest.CaptureFixture[str], url: str, *arguments: str) -> CommandResult:
    """Run ``queue`` over an API that this test's loop serves."""
    return await asyncio.to_thread(command, capsys, {}, "queue", *arguments, "--base-url", url)


def test_a_bulk_change_without_a_filter_is_refused(cli: Cli) -> None:
    create()
    assert cli("queue", "cancel") == (2, "", "vm_webapp: say which runs: --status, --workflow or --older-than\n")


def test_the_doctor_exits_1_where_something_fails(cli: Cli) -> None:
    code, said, error = cli("doctor")
    assert (code, error) == (1, "")
    assert "fail  workers" in said
    code, said, _ = cli("doctor", "--json")
    assert code == 1
    assert {check["name"] for check in json.loads(said) if check["verdict"] == "fail"} == {"workers"}


def test_the_doctor_works_with_the_database_down(cli: Cli) -> None:
    code, said, error = cli("doctor", VM_DB_URL="postgresql://vm:hidden@127.0.0.1:1/nothing")
    assert (code, error) == (1, "")
    assert "fail  database" in said
    assert "ok    redis" in said
    assert "hidden" not in said


def test_purge_says_how_many_and_then_deletes_them(cli: Cli) -> None:
    create()
    with transaction():
        execute("UPDATE runs SET status = 'canceled', finished_at = now() - interval '100 days'")
    flying = create().run.id
    assert cli("purge", "--older-than", "90d", "--dry-run").out == "would delete 1 run\n"
    assert cli("purge", "--older-than", "90d").out == "deleted 1 run\n"
    assert read("SELECT id FROM runs") == [{"id": flying}]


def test_a_database_without_the_schema_is_one_line(cli: Cli) -> None:
    with transaction():
        execute("DROP TABLE sessions, runs_of_day, api_keys")
    code, _, error = cli("keys", "list")
    assert code == 1
    assert error.startswith('vm_webapp: the schema is not what its migrations say (relation "api_keys" does not exist)')
    assert error.count("\n") == 1
