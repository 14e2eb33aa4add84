"""Without a terminal to ask on, ``run`` approves nothing: it stops at the review, and only ``--yes`` passes it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.support.forms import only_in_full
from tests.support.processes import ROOT, UNSET
from tests.support.terminals import AS_STARTED, NOT_BY_UV, Desk, ended

RUN = f"{AS_STARTED} run"
FORCED = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"}


def stopped_at(desk: Desk, run_id: str) -> str:
    """Return the error line of a command that stopped at a review."""
    return (
        "vm_webapp: the run waits for a review, and there is no terminal to ask on (--yes approves without asking);"
        f" come back with: {AS_STARTED} run --resume {run_id} --base-url {desk.address}"
    )


def newest_run(desk: Desk) -> dict[str, Any]:
    """Return the run that was created last."""
    run: dict[str, Any] = desk.client.get("/runs", params={"limit": 1}).json()["items"][0]
    return run


@pytest.mark.parametrize("env", [pytest.param(FORCED, id="forced"), only_in_full({}, id="plain")])
def test_a_new_run_stops_at_its_review_with_an_exit_code(desk: Desk, env: dict[str, str], tmp_path: Path) -> None:
    ended = subprocess.run(
        [*RUN.split(), "a text", "--workflow", "two_reviews", "--base-url", desk.address],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**{name: value for name, value in os.environ.items() if name not in UNSET}, **NOT_BY_UV, **env},
        check=False,
        timeout=60,
    )
    run = newest_run(desk)
    assert (ended.returncode, ended.stderr) == (1, stopped_at(desk, run["id"]) + "\n")
    assert "without asking" not in ended.stdout
    assert run["status"] == "waiting_approval"
    assert desk.approved(run["id"]) == []


@pytest.mark.parametrize(
    ("command", "env"),
    [
        only_in_full("{run} | cat", {}),
        ("{run} | cat", FORCED),
        ("{run} < /dev/null", FORCED),
        ("{run} <&-", {}),
    ],
)
def test_half_a_terminal_asks_nobody(desk: Desk, command: str, env: dict[str, str]) -> None:
    run_id = desk.waiting_run("# Draft")
    run = f"{RUN} --resume {run_id} --base-url {desk.address}"
    clean = {name: value for name, value in os.environ.items() if name not in UNSET}
    script = f"set -o pipefail; {command.format(run=run)}"
    running = pexpect.spawn(
        "bash",
        ["-c", script],
        env={**clean, "TERM": "xterm", **NOT_BY_UV, **env},
        cwd=str(ROOT),
        timeout=30,
        encoding="utf-8",
        dimensions=(50, 500),
    )
    running.expect_exact(stopped_at(desk, run_id))
    code, _ = ended(running)
    assert code == 1
    assert desk.approved(run_id) == []


def test_yes_passes_the_reviews_of_a_new_run_and_of_one_that_waits(desk: Desk, tmp_path: Path) -> None:
    run_id = desk.waiting_run("# Draft", "# Legal")
    for what in (["--resume", run_id], ["a text", "--workflow", "two_reviews"]):
        command = [*RUN.split(), *what, "--yes", "--base-url", desk.address, "--output", str(tmp_path / what[0])]
        clean = {name: value for name, value in os.environ.items() if name not in UNSET}
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT, env=clean, check=False
        )
        assert done.returncode == 0, done
        assert "Reviews are passed without asking." in done.stdout
        assert "completed: 2 artifacts" in done.stdout
