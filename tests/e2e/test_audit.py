"""``audit verify`` and ``audit export`` as an operator types them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.audit import add, seal_all, tamper
from tests.support.commands import CommandResult, command
from tests.support.processes import ROOT, clean_environment

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
