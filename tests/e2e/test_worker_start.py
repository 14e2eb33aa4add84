"""A worker of ``serve`` that cannot start: readiness and the doctor say why, with the worker's own line."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.support.forms import only_in_full
from tests.support.processes import program
from tests.support.serving import Served, served
from tests.support.waiting import eventually

WRONG = {"KIMI_API_KEY": "sk-test-key", "SSL_CERT_FILE": "/nonexistent/authorities.pem"}
SAID = "the worker that serve keeps cannot start: SSL_CERT_FILE or SSL_CERT_DIR cannot be used (No such file"
TODO = "correct that and start serve again"


def start_error(serving: Served) -> str | None:
    """Return the reason of readiness that names the worker's error, if it does."""
    # Over a connection of its own, which any of the API processes may accept.
    ready = httpx.get(f"{serving.client.base_url}health/ready", trust_env=False)
    reasons = ready.json().get("reasons", [])
    return next((reason for reason in reasons if reason.startswith(SAID)), None)


@pytest.mark.parametrize("processes", [only_in_full("1"), "2"])
def test_readiness_and_the_doctor_say_it_with_the_workers_line(folder: Path, processes: str) -> None:
    root = folder / "workspace"
    env = {**WRONG, "WEB_CONCURRENCY": processes}
    with served(root, **env) as serving:
        reason = eventually(lambda: start_error(serving), "the worker's line in the reasons", seconds=30)
        assert reason.endswith(f": {TODO}")
        for _ in range(10):  # whichever API process responds
            eventually(lambda: start_error(serving), "the same from every process")
        given = {"VM_WORKSPACE_ROOT": str(root), **env}
        with program("doctor", "--json", env=given, folder=folder / "doctor") as doctor:
            assert doctor.wait(seconds=40) == 1, doctor.output()
            checks = {check["name"]: check for check in json.loads(doctor.stdout.read_text())}
        assert checks["workers"]["verdict"] == "fail"
        assert checks["workers"]["detail"].startswith(SAID)
        assert checks["workers"]["next"] == TODO
    with served(root) as serving:
        eventually(serving.ready, "ready without the variable", seconds=30)
        assert "not_started" not in serving.client.get("/health/ready").json()["dependencies"]["worker"]
