"""``audit verify`` and ``audit export`` as an operator types them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.db.schemas import FURTHER, further, later_build
from tests.support.actors import OPERATOR
from tests.support.audit import add, entries, seal_all, tamper
from tests.support.commands import CommandResult, command
from tests.support.fleet import change
from tests.support.processes import ROOT, clean_environment
from tests.support.runs import create, read
from tests.support.work import claim_next
from vm_webapp.access.keys import create_key
from vm_webapp.db import migrate
from vm_webapp.db.bundle import own_bundle
from vm_webapp.db.pool import jsonb
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle
from vm_webapp.runs.states import Failure

Cli = Callable[..., CommandResult]

# What somebody needs to check an export without this program.
CHECK = """
import hashlib, json, sys
for line in sys.stdin:
    found = json.loads(line)
    entry = json.dumps(found["entry"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert hashlib.sha256(bytes.fromhex(found["previous"]) + entry).hexdigest() == found["hash"]
    print(found["position"])
"""


@pytest.fixture
def cli(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in the environment of the services."""
    return lambda *arguments: command(capsys, env, *arguments)


def test_a_chain_in_order_is_reported_with_its_end(cli: Cli) -> None:
    assert cli("audit", "verify") == (0, "nothing is sealed\n", "")
    add("run:1", "run:2")
    seal_all()
    add("run:3")
    code, said, errors = cli("audit", "verify")
    assert (code, errors) == (0, "")
    sealed, known, unsealed = said.splitlines()
    assert sealed.startswith("sealed and in order up to position 2: entry ")
    assert unsealed == "not sealed yet: 1; a worker seals what is new within seconds"
    assert cli("audit", "verify", "--known", known.removeprefix("known as ")).code == 0


def test_a_broken_chain_is_one_line_and_exit_code_1(cli: Cli, database: str) -> None:
    add("run:1", "run:2")
    seal_all()
    tamper(database, "UPDATE audit_entries SET actor = 'key:bob' WHERE target = 'run:2'")
    code, said, errors = cli("audit", "verify")
    assert (code, said, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("vm_webapp: entry ")
    assert " at position 2 is not as it was sealed (run.cancel by key:bob, " in errors


def test_an_export_is_checked_by_another_program_and_continued(cli: Cli) -> None:
    add("run:1", "run:2")
    seal_all()
    add("run:unsealed")
    code, said, errors = cli("audit", "export", "--since", "7d")
    assert (code, errors) == (0, "")
    checked = subprocess.run([sys.executable, "-c", CHECK], input=said, capture_output=True, text=True, check=True)
    assert checked.stdout.split() == ["1", "2"]
    seal_all()
    code, more, _ = cli("audit", "export", "--after", "2")
    (line,) = more.splitlines()
    assert json.loads(line)["previous"] == json.loads(said.splitlines()[-1])["hash"]
    assert cli("audit", "export", "--since", "2001-01-01").out == said + more == cli("audit", "export").out
    assert cli("audit", "export", "--after", "3").out == ""


def test_nobody_need_read_all_of_an_export(env: dict[str, str]) -> None:
    add(*(f"run:{number}" for number in range(20)))
    seal_all()
    environment = clean_environment() | env | {"PYTHONUNBUFFERED": "1"}
    line = f"{sys.executable} -m vm_webapp audit export | head -1"
    done = subprocess.run(line, shell=True, cwd=ROOT, env=environment, capture_output=True, timeout=60, check=False)
    assert (done.stdout.count(b"\n"), done.stderr) == (1, b"")


def test_a_line_holds_no_more_than_its_entry(cli: Cli) -> None:
    add("run:1")
    seal_all()
    (line,) = cli("audit", "export").out.splitlines()
    found = json.loads(line)
    assert sorted(found) == ["entry", "hash", "position", "previous"]
    assert found["entry"]["at"].endswith("Z")
    assert found["entry"]["data"] == {"number": 1, "names": ["ä", 'q"\\\n']}
    assert found["hash"] != hashlib.sha256(b"").hexdigest()


def failed_run() -> str:
    """Return the id of a run that has failed."""
    run_id = create().run.id
    lifecycle.fail_attempt_if_held(claim_next(run_id), Failure("x", "x", permanent=True), jitter=1.0)
    return f"run:{run_id}"


def finished_run() -> None:
    """Leave a run that finished a hundred days ago."""
    run = create().run
    lifecycle.cancel_run_if_open(run.id, actor=OPERATOR)
    change("UPDATE runs SET finished_at = now() - interval '100 days'")


def paused_provider() -> None:
    """Leave a provider that is paused."""
    change("INSERT INTO providers (name, paused_at, reason) VALUES ('kimi', now(), %(reason)s)", reason=jsonb({}))


# Each command that changes something: what there is before, and its entry's action and target.
COMMANDS: dict[tuple[str, ...], tuple[Callable[[], object], str, str | None]] = {
    ("keys", "create", "bob"): (bool, "key.create", "key:bob"),
    ("keys", "revoke", "bob"): (lambda: create_key("bob", actor=OPERATOR), "key.revoke", "key:bob"),
    ("queue", "pause", "--reason", "a-secret-reason"): (bool, "queue.pause", "queue:stages"),
    ("queue", "resume"): (
        lambda: queue_control.pause_queue(reason=None, actor=OPERATOR),
        "queue.resume",
        "queue:stages",
    ),
    ("queue", "resume-provider", "kimi"): (paused_provider, "provider.resume", "provider:kimi"),
    ("queue", "cancel", "--status", "queued"): (lambda: f"run:{create().run.id}", "run.cancel", None),
    ("queue", "retry", "--status", "failed"): (failed_run, "run.retry", None),
    ("purge", "--older-than", "90d"): (finished_run, "runs.purge", None),
}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_that_changes_something_leaves_one_entry_of_the_user(
    cli: Cli, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "alice")
    prepare, action, target = COMMANDS[arguments]
    prepared = prepare()
    done = cli(*arguments)
    assert done.code == 0, done.errors
    (entry,) = entries(actor="cli:alice")
    assert (entry["action"], entry["result"], entry["role"]) == (action, "done", "admin")
    assert entry["target"] == (target or prepared)
    assert (entry["address"], entry["request_id"]) == (None, None)
    assert "a-secret-reason" not in str(entry)
    assert done.out.strip() not in str(entry)


def test_dry_runs_leave_no_entry(cli: Cli) -> None:
    create()
    assert cli("queue", "cancel", "--status", "queued", "--dry-run").code == 0
    assert cli("purge", "--older-than", "90d", "--dry-run").code == 0
    assert entries(action="run.cancel") == entries(action="runs.purge") == []


def test_a_purge_names_the_runs_that_it_deleted(cli: Cli) -> None:
    finished_run()
    (run,) = read("SELECT id::text FROM runs")
    assert cli("purge", "--older-than", "90d").code == 0
    (entry,) = entries(action="runs.purge")
    assert entry["data"] == {"older_than_seconds": 90 * 86_400, "runs": [run["id"]]}


def test_migrations_are_recorded_where_there_is_a_trail(cli: Cli, database: str) -> None:
    later = [id for id in own_bundle().ids if id >= "0013_audit"]
    assert cli("migrate", "down", "--to", "0012_roles_and_sessions", "--yes").code == 0  # takes the trail along
    assert cli("migrate", "up").code == 0
    assert [entry["target"] for entry in entries(action="schema.up")] == [f"migration:{id}" for id in later]
    assert cli("migrate", "up").code == 0
    assert len(entries(action="schema.up")) == len(later)


def test_a_rollback_is_recorded(cli: Cli, database: str) -> None:
    migrate.apply_pending(
        database, bundle=later_build(further(up="CREATE TABLE later (id int);", down="DROP TABLE later;"))
    )
    assert cli("migrate", "down", "--steps", "1", "--yes").code == 0
    assert [entry["target"] for entry in entries(action="schema.down")] == [f"migration:{FURTHER}"]


def test_a_migration_that_cannot_be_recorded_says_so_and_is_done(cli: Cli, database: str) -> None:
    migrate.apply_pending(
        database, bundle=later_build(further(up="CREATE TABLE later (id int);", down="DROP TABLE later;"))
    )
    change("ALTER TABLE audit_entries ADD CHECK (action <> 'schema.down')")
    code, said, errors = cli("migrate", "down", "--steps", "1", "--yes")
    assert (code, said.splitlines()[-1]) == (0, f"rolled back {FURTHER}")
    assert errors.startswith("the audit trail has no entry of this: ")
