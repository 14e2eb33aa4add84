"""The file in which a worker of ``serve`` leaves the error that kept it from starting."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.ops.doctor_checks import checks
from tests.ops.readiness import check, reason
from tests.support.fleet import beat
from vm_webapp.cli import main
from vm_webapp.errors import ConfigurationError, VMError
from vm_webapp.ops.worker_start import clear_start_error, noting_start, read_start_error, start_error_file

AGAIN = "correct that and start serve again"
ITSELF = "correct that, and serve starts it by itself"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a workspace that does not exist yet."""
    return start_error_file(tmp_path / "workspace")


def stop(error: BaseException, path: Path | None, *, started: bool = False) -> None:
    """End a worker with an error."""

    def run() -> None:
        with noting_start(path) as note_started:
            if started:
                note_started()
            raise error

    with pytest.raises(type(error)):
        run()


def exiting(code: int, cause: Exception) -> SystemExit:
    """Return what ends a worker that has printed a line."""
    error = SystemExit(code)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said", "todo"),
    [
        (ConfigurationError("PORT must be\na number"), "PORT must be", AGAIN),
        (exiting(2, VMError("no such folder")), "no such folder", AGAIN),
        (exiting(2, RuntimeError("can't start new thread")), "RuntimeError: can't start new thread", AGAIN),
        (RuntimeError("can't start new thread"), "RuntimeError: can't start new thread", ITSELF),
        (exiting(1, OSError(28, "No space left")), "OSError: [Errno 28] No space left", ITSELF),
    ],
)
def test_the_error_and_what_to_do_are_one_line(path: Path, error: BaseException, said: str, todo: str) -> None:
    stop(error, path)
    assert read_start_error(path) == f"the worker that serve keeps cannot start: {said}: {todo}"


def test_only_errors_before_the_start_are_noted(path: Path) -> None:
    stop(RuntimeError("later"), path, started=True)
    assert read_start_error(path) is None
    stop(ConfigurationError("wrong"), None)
    stop(ConfigurationError("wrong"), path)
    stop(RuntimeError("later"), path, started=True)
    assert read_start_error(path) is None


def test_a_file_of_another_parent_or_of_no_worker_says_nothing(path: Path) -> None:
    assert read_start_error(path) is None
    clear_start_error(path)
    stop(ConfigurationError("wrong"), path)
    noted = json.loads(path.read_text())
    assert noted["parent"] == os.getppid()
    ended = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(ended, 0)
    path.write_text(json.dumps(noted | {"parent": ended}))
    assert read_start_error(path) is None
    for text in ("", "[]", "{}", '{"error": "x", "parent": "y", "is_restarted": true}'):
        path.write_text(text)
        assert read_start_error(path) is None


def test_a_folder_that_cannot_be_written_changes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = start_error_file(tmp_path / "file")
    stop(ConfigurationError("wrong"), path)
    assert read_start_error(path) is None
    clear_start_error(path)


def test_the_command_notes_a_wrong_variable(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VM_WORKER_THREADS", "many")
    assert main(["worker", "--start-error-to", str(path)]) == 2
    line = capsys.readouterr().err.removeprefix("vm_webapp: ").strip()
    assert read_start_error(path) == f"the worker that serve keeps cannot start: {line}: {AGAIN}"


@pytest.mark.usefixtures("database")
def test_it_is_the_reason_where_nobody_works_and_a_warning_where_another_worker_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # the settings of these checks have the default workspace
    stop(ConfigurationError("VM_WORKER_THREADS must be a whole number"), start_error_file(Path("runtime/vm")))
    assert reason(check()).startswith("the worker that serve keeps cannot start: VM_WORKER_THREADS must be")
    assert "cannot start" not in reason(check(managed=True))
    found = checks()["workers"]
    assert (found.verdict, found.next) == ("fail", AGAIN)
    beat()
    assert check().ready
    found = checks()["workers"]
    assert (found.verdict, found.next) == ("warn", AGAIN)
    assert "1 alive and taking work, but the worker that serve keeps cannot start" in found.detail
