"""Log records: one JSON object a line for every logger, and no local variables of a frame in any format."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from contextvars import copy_context
from typing import Any
from uuid import UUID

import pytest
import structlog

from vm_webapp.logs import _add_process_and_trace, configure_logging, logged_with, process_logs_with
from vm_webapp.tracing.spans import Kind, Tracer, working_on

NOISY = ("httpx", "httpcore", "dramatiq", "aiohttp.access", "yoyo", "asyncio", "peewee")


@pytest.fixture(autouse=True)
def _unchanged_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", *NOISY)}
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(False)
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


HOSTILE = "no\x1b[2Jmodel\r\n2026-11-26T12:00:00Z [info     ] forged\x9b31m\u202e\x00"


def test_text_from_outside_neither_forges_a_line_nor_commands_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (True, False):
        configure_logging("INFO", json=as_json)
        logging.getLogger("library").warning(HOSTILE, extra={"error": HOSTILE})
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        assert shown.rstrip("\n").isprintable()
        assert "forged" in shown


def test_an_error_of_several_lines_forges_no_line_either(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json=False)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("api").exception("request.failed")
    first, *others = capsys.readouterr().err.splitlines()
    assert "request.failed" in first
    assert others
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_a_process_a_request_and_a_trace_are_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json=True)
    span = Tracer(lambda span: None, lambda parent, trace_id: True).begin("a", Kind.INTERNAL, {})
    with process_logs_with(worker="w-1"), logged_with(request_id="r-1"), working_on(span):
        thread = threading.Thread(target=copy_context().run, args=(logging.getLogger("redis").warning, "carried"))
        other = threading.Thread(target=logging.getLogger("redis").warning, args=("apart",))
        for each in (thread, other):
            each.start()
            each.join()
    logging.getLogger("redis").warning("after")
    carried, apart, after = _records(capsys)
    assert (carried["worker"], carried["request_id"], carried["trace_id"]) == ("w-1", "r-1", span.trace_id)
    assert (apart["worker"], "request_id" in apart, "trace_id" in apart) == ("w-1", False, False)
    assert not {"worker", "request_id", "trace_id"} & after.keys()


def test_a_record_is_made_while_another_thread_changes_the_facts_of_the_process() -> None:
    with ExitStack() as stack:

        class Event(dict[str, Any]):
            def setdefault(self, name: str, fact: Any = None) -> Any:
                stack.enter_context(process_logs_with(later=True))
                return super().setdefault(name, fact)

        stack.enter_context(process_logs_with(worker="w-1"))
        assert _add_process_and_trace(None, "info", Event()) == {"worker": "w-1"}


def test_what_python_would_print_itself_is_one_record() -> None:
    program = """
import warnings
from vm_webapp.logs import configure_logging

class Careless:
    def __del__(self):
        raise ValueError("it broke")

configure_logging("INFO", json=True)
Careless()
warnings.warn("old", UserWarning)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    unraisable, warning = (json.loads(line) for line in done.stderr.splitlines())
    assert (unraisable["event"], unraisable["level"]) == ("process.unraisable", "error")
    assert unraisable["exception"].endswith("ValueError: it broke")
    assert (warning["logger"], warning["level"]) == ("py.warnings", "warning")
    assert "old" in warning["event"]


@pytest.mark.parametrize(
    ("env", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
    ids=str,
)
@pytest.mark.parametrize("on_terminal", [True, False])
def test_colors_are_for_terminals_and_for_who_wants_them(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], colored: bool, on_terminal: bool
) -> None:
    for name, value in ({"TERM": "xterm", "NO_COLOR": ""} | env).items():
        monkeypatch.setenv(name, value)
    reader, writer = os.openpty() if on_terminal else os.pipe()
    with os.fdopen(reader, "rb", 0) as shown, os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging("INFO", json=False)
        logging.getLogger("api").warning("said")
        text = shown.read(4096).decode()
    assert "said" in text
    assert ("\x1b[" in text) is (colored and on_terminal)


@pytest.mark.parametrize(
    "extra", [{}, {"run_id": UUID(int=7), "why": "ünï\n", "list": [1, None]}, {"event": "its own"}]
)
def test_a_record_is_the_same_line_as_structlog_would_make(extra: dict[str, Any]) -> None:
    configure_logging("INFO", json=True)
    (handler,) = logging.getLogger().handlers
    formatter = handler.formatter
    assert isinstance(formatter, structlog.stdlib.ProcessorFormatter)
    record = logging.getLogger("api").makeRecord("api", logging.INFO, "f", 1, "%s done", ("it",), None, extra=extra)
    with process_logs_with(worker_id="w-1", request_id="of the process"), logged_with(request_id="r-1"):
        ours, theirs = formatter.format(record), structlog.stdlib.ProcessorFormatter.format(formatter, record)
    assert re.sub(r'"timestamp": "[^"]+Z"', "", ours) == re.sub(r'"timestamp": "[^"]+Z"', "", theirs)
    assert list(json.loads(ours)) == list(json.loads(theirs))
