"""Log records: one JSON object a line for every logger, and no local variables of a frame in any format."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import structlog

from vm_webapp.logs import configure_logging

NOISY = ("httpx", "httpcore", "dramatiq", "aiohttp.access", "yoyo", "asyncio", "peewee")


@pytest.fixture(autouse=True)
def _unchanged_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", *NOISY)}
    hooks = sys.excepthook, threading.excepthook
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def _records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_extra_fields_are_keys_of_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json=True)
    run_id = UUID(int=7)
    logging.getLogger("actors.pulse").warning("stages.rescued", extra={"queued": 2, "run_id": run_id, "why": "ünï\n"})
    (record,) = _records(capsys)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "stages.rescued",
        "level": "warning",
        "logger": "actors.pulse",
        "queued": 2,
        "run_id": repr(run_id),
        "why": "ünï\n",
    }


@pytest.mark.parametrize("name", ["redis", "dramatiq.worker.WorkerThread", "aiohttp.server", "some.library"])
def test_the_records_of_libraries_share_the_format(capsys: pytest.CaptureFixture[str], name: str) -> None:
    configure_logging("INFO", json=True)
    logging.getLogger(name).warning("lost %s after %d s", "it", 3)
    (record,) = _records(capsys)
    assert (record["event"], record["logger"], record["level"]) == ("lost it after 3 s", name, "warning")


def test_bound_context_and_structlog_share_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json=True)
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger("api").info("request.answered", status=200)
    logging.getLogger("library").info("done")
    first, second = _records(capsys)
    assert (first["event"], first["status"], first["request_id"]) == ("request.answered", 200, "r-1")
    assert second["request_id"] == "r-1"


def test_an_exception_is_one_line_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json=True)
    _fail_and_log("s3cret")
    (record,) = _records(capsys)
    assert record["event"] == "request.failed"
    assert record["exception"].startswith("Traceback (most recent call last):\n")
    assert record["exception"].endswith("ValueError: it broke")
    assert "s3cret" not in json.dumps(record)


def test_a_readable_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json=False)
    _fail_and_log("s3cret")
    text = capsys.readouterr().err
    assert "request.failed" in text
    assert "ValueError: it broke" in text
    assert "s3cret" not in text


def test_records_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("WARNING", json=True)
    logging.getLogger("api").info("quiet")
    logging.getLogger("api").warning("loud")
    assert [record["event"] for record in _records(capsys)] == ["loud"]


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("level", ["DEBUG", "INFO", "ERROR"])
def test_noisy_libraries_log_warnings_only(capsys: pytest.CaptureFixture[str], name: str, level: str) -> None:
    configure_logging(level, json=True)
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("failure")
    logged = [record["event"] for record in _records(capsys)]
    assert logged == ([] if level == "ERROR" else ["failure"])


def test_configuring_twice_does_not_double_the_records(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json=True)
    configure_logging("INFO", json=True)
    logging.getLogger("api").info("once")
    assert len(_records(capsys)) == 1


def test_a_crash_of_a_thread_or_of_the_process_is_one_json_line_each() -> None:
    program = """
import threading
from vm_webapp.logs import configure_logging

def crash(token):
    raise ValueError("it broke")

configure_logging("INFO", json=True)
thread = threading.Thread(target=crash, args=("s3cret",), name="pulse")
thread.start()
thread.join()
crash("s3cret")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    thread, process = (json.loads(line) for line in done.stderr.splitlines())
    assert (thread["event"], thread["thread_name"], thread["level"]) == ("thread.crashed", "pulse", "critical")
    assert process["event"] == "process.crashed"
    for record in (thread, process):
        assert record["exception"].endswith("ValueError: it broke")


def _fail_and_log(token: str) -> None:
    try:
        _fail(token)
    except ValueError:
        logging.getLogger("api").exception("request.failed")


def _fail(token: str) -> None:
    raise ValueError("it broke")
