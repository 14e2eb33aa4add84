"""``run`` for a brand and a project, and ``run --retry``: on the API of a ``serve`` that is already running."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.behaviours import Behaviour, completion, refusal
from tests.fakes.model_server import ModelServer
from tests.support.folders import open_folder
from tests.support.gates import Gate
from tests.support.processes import program
from tests.support.serving import Served, served
from tests.support.terminals import AS_STARTED, NOT_BY_UV
from tests.support.waiting import eventually

NOBODY = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    errors: str


class Terminal:
    """Runs ``run`` on the API of a ``serve``, without a terminal to ask anybody."""

    def __init__(self, serving: Served, model: ModelServer, folder: Path) -> None:
        self.client = serving.client
        self.model = model
        self._folder = folder
        self.address = str(serving.client.base_url).removesuffix("/api/v2/")

    def run(self, *arguments: str) -> Ended:
        """Run ``run`` to its end."""
        command = ("run", *arguments, "--base-url", self.address)
        with program(*command, env=NOT_BY_UV, folder=self._folder / "run") as running:
            code = running.wait(seconds=60)
            return Ended(code, running.stdout.read_text(), running.stderr.read_text())

    def create(self, noun: str, **fields: Any) -> str:
        """Create a brand or a project; return its id."""
        created = self.client.post(f"/{noun}s", json=fields)
        assert created.status_code == 201, created.text
        return str(created.json()["id"])

    def newest_run(self) -> dict[str, Any]:
        """Return the run that was created last."""
        run: dict[str, Any] = self.client.get("/runs", params={"limit": 1}).json()["items"][0]
        return run


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    """A ``serve`` with a model, and a terminal for ``run``, for all tests of this file."""
    with open_folder() as folder, ModelServer() as model:
        env = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
        with served(folder / "workspace", **env) as serving:
            yield Terminal(serving, model, folder)


def test_a_brand_and_a_project_are_given_by_name_or_id(terminal: Terminal, folder: Path) -> None:
    brand = terminal.create("brand", name="Molar & Söhne", voice="calm as a Sunday")
    project = terminal.create("project", name="Spring", brand_id=brand, objective="50 trials")
    before = len(terminal.model.requests)
    for given in (("Molar & Söhne", "Spring"), (brand, project.upper())):
        options = ("--brand", given[0], "--project", given[1], "--workflow", "content_calendar")
        ended = terminal.run("a calendar", *options, "--output", str(folder / "out"))
        assert ended.code == 0, ended
        run = terminal.newest_run()
        assert (run["brand_id"], run["project_id"]) == (brand, project)
    received = terminal.model.requests[before:]
    assert len(received) == 4
    assert all("calm as a Sunday" in str(request.body["messages"]) for request in received)


def test_a_name_of_none_or_of_several_ends_with_one_line_and_creates_nothing(terminal: Terminal) -> None:
    first, second = (terminal.create("brand", name="Twice") for _ in range(2))
    archived = terminal.create("project", name="Old")
    before = terminal.client.get("/runs").json()
    assert terminal.client.post(f"/projects/{archived}/archive", json={}).status_code == 200
    for arguments, said in (
        (("--brand", "Nobody"), "vm_webapp: there is no brand with the name 'Nobody'"),
        (("--brand", "twice"), "vm_webapp: there is no brand with the name 'twice'"),
        (("--brand", ""), "vm_webapp: there is no brand with the name ''"),
        (("--brand", NOBODY), f"vm_webapp: there is no brand {NOBODY}"),
        (("--project", "Old"), "vm_webapp: there is no project with the name 'Old' that is not archived"),
        (("--brand", "Twice"), "vm_webapp: 2 brands have the name 'Twice': give --brand the id of one: "),
    ):
        ended = terminal.run("a plan", *arguments)
        (line,) = ended.errors.splitlines()
        assert (ended.code, ended.out, line.startswith(said)) == (2, "", True), ended
    assert first in line
    assert second in line
    assert terminal.client.get("/runs").json() == before


def test_a_failed_run_is_retried_and_followed_like_a_new_one(terminal: Terminal, folder: Path) -> None:
    terminal.model.enqueue(completion("# Topics"), refusal(400, "invalid_request_error", "no"))
    ended = terminal.run("a calendar", "--workflow", "content_calendar")
    run_id = terminal.newest_run()["id"]
    assert ended.code == 1
    assert ended.errors.startswith("vm_webapp: the run failed: HTTP 400: no")
    assert f"Try again with: {AS_STARTED} run --retry {run_id} --base-url http://" in ended.out

    terminal.model.enqueue(refusal(400, "invalid_request_error", "still no"))
    again = terminal.run("--retry", run_id)
    assert (again.code, again.errors.splitlines()[0]) == (1, "vm_webapp: the run failed: HTTP 400: still no")

    terminal.model.enqueue(completion("# Calendar"))
    output = folder / "out"
    done = terminal.run("--retry", run_id, "--output", str(output))
    assert done.code == 0, done
    assert "completed: 2 artifacts" in done.out
    assert {path.name: path.read_text() for path in output.iterdir()} == {
        "01-topic_map.md": "# Topics",
        "02-calendar.md": "# Calendar",
    }

    for asked, said in ((run_id, "the run is completed"), (NOBODY, "there is no run")):
        refused = terminal.run("--retry", asked)
        (line,) = refused.errors.splitlines()
        assert (refused.code, refused.out) == (1, "")
        assert line.startswith("vm_webapp: ")
        assert said in line, line


def test_artifacts_that_cannot_be_written_are_fetched_without_another_run(terminal: Terminal, folder: Path) -> None:
    taken = folder / "taken"
    taken.write_text("a file, and no folder")
    lost = terminal.run("a calendar", "--workflow", "content_calendar", "--output", str(taken))
    run_id = terminal.newest_run()["id"]
    assert lost.code == 2
    assert lost.errors == f"vm_webapp: {taken} cannot be written: File exists; choose another --output\n"
    assert f"Come back with: {AS_STARTED} run --resume {run_id} --base-url {terminal.address}\n" in lost.out
    again = terminal.run("--resume", run_id, "--output", str(folder / "out"))
    assert (again.code, terminal.newest_run()["id"]) == (0, run_id)


def test_when_the_api_is_lost_the_run_that_goes_on_is_named(terminal: Terminal, folder: Path) -> None:
    port, goes_on = terminal.client.base_url.port, threading.Event()
    assert port is not None
    terminal.model.enqueue(Behaviour(held_until=goes_on))
    with Gate(port) as gate:
        command = ("run", "a calendar", "--workflow", "content_calendar", "--base-url", gate.url)
        with program(*command, env=NOT_BY_UV, folder=folder / "log") as running:
            running.says("Run ")
            eventually(lambda: terminal.newest_run()["status"] == "running", "the first stage begins")
            gate.shut()
            code, said, errors = running.wait(seconds=60), running.stdout.read_text(), running.stderr.read_text()
    goes_on.set()
    run_id = terminal.newest_run()["id"]
    assert code == 1
    assert errors.startswith(f"vm_webapp: the API at {gate.url} does not respond: ")
    assert f"Come back with: {AS_STARTED} run --resume {run_id} --base-url {gate.url}\n" in said


def test_a_value_that_the_api_refuses_is_wrong_usage(terminal: Terminal) -> None:
    for arguments, said in (
        (("a plan", "--workflow", "nothing"), "there is no workflow 'nothing'"),
        (("x" * 20_001,), "/request"),
    ):
        ended = terminal.run(*arguments)
        (line,) = ended.errors.splitlines()
        assert (ended.code, ended.out) == (2, ""), ended
        assert said in line, line


def test_a_retry_begins_with_the_stage_that_is_named(terminal: Terminal, folder: Path) -> None:
    terminal.model.enqueue(completion("# Topics"), refusal(400, "invalid_request_error", "no"))
    assert terminal.run("a calendar", "--workflow", "content_calendar").code == 1
    terminal.model.enqueue(completion("# Other topics"), completion("# Calendar"))
    output = folder / "out"
    run_id = terminal.newest_run()["id"]
    assert terminal.run("--retry", run_id, "--from-stage", "topic_map", "--output", str(output)).code == 0
    assert (output / "01-topic_map.md").read_text() == "# Other topics"


def test_a_retried_run_that_waits_for_a_review_is_passed_only_with_yes(terminal: Terminal, folder: Path) -> None:
    terminal.model.enqueue(refusal(400, "invalid_request_error", "no"))
    created = terminal.client.post("/runs", json={"workflow": "landing_page", "request": "a page"})
    run_id = created.json()["id"]
    while not (terminal.client.get(f"/runs/{run_id}", params={"wait": 10}).json())["finished_at"]:
        pass
    waits = terminal.run("--retry", run_id)
    assert waits.code == 1
    assert waits.errors == (
        "vm_webapp: the run waits for a review, and there is no terminal to ask on (--yes approves without asking);"
        f" come back with: {AS_STARTED} run --resume {run_id} --base-url {terminal.address}\n"
    )
    assert "without asking" not in waits.out
    passed = terminal.run("--resume", run_id, "--yes", "--output", str(folder / "out"))
    assert passed.code == 0, passed
    assert "Reviews are passed without asking." in passed.out
    assert "completed: 3 artifacts" in passed.out
