"""What each command imports until it works: it is most of the time of a start, and memory of every process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment import address_of, managed_environment
from tests.support.processes import ROOT, clean_environment, program
from tests.support.runs import read
from tests.support.waiting import eventually

REPORT_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}  # Python's -X importtime: one line on stderr for each module
OURS = frozenset({"vm_webapp", "actors", "api"})
# Python itself, and the installation, import these.
INSTALLATION = frozenset({"_distutils_hack", "sitecustomize", "usercustomize"})
SERVICE = frozenset(
    {
        *("environs", "marshmallow", "dotenv"),
        *("structlog", "rich", "attr", "colorama", "better_exceptions"),  # structlog's, where installed
        *("peewee", "playhouse", "psycopg2", "uuid_utils"),
        *("dramatiq", "redis", "prometheus_client"),
        *("jinja2", "markupsafe", "yaml"),
        *("typing_extensions", "greenlet", "gevent", "opentelemetry", "lazy_importer"),  # others' optional ones
    }
)
API = SERVICE | {
    *("aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "frozenlist", "multidict", "propcache", "yarl", "idna"),
    *("pydantic", "pydantic_core", "annotated_types", "typing_inspection"),
    *("aiodns", "brotli", "backports"),
}
# What holds now, the standard library included, and some more: the versions of Python differ by a few.
MOST_OF_HELP, MOST_OF_A_WORKER, MOST_OF_AN_API = 120, 710, 1030
# What records traces, where a collector is configured.
TRACES = frozenset({"vm_webapp.tracing.otlp", "vm_webapp.tracing.collector"})
# Of rich, structlog finds nothing: it would import all of it, for tracebacks that it does not write here.
RICH = "rich.console"
MODEL_CLIENT = ("vm_webapp.llm.kimi", "vm_webapp.execution.stage_runner")


def imported(report: str) -> set[str]:
    """Return the modules in a report; others' attempts to import what is not installed are left out."""
    lines = [line for line in report.splitlines() if line.startswith("import time:") and "|" in line]
    names = {line.rsplit("|", 1)[1].strip() for line in lines} - {"imported package"}
    return {name for name in names if name.partition(".")[0] in sys.builtin_module_names or _is_installed(name)}


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def packages(modules: set[str]) -> set[str]:
    """Return the packages of others that these modules belong to."""
    tops = {name.partition(".")[0] for name in modules}
    return {
        name
        for name in tops - OURS - INSTALLATION
        if name not in sys.stdlib_module_names and not name.startswith("_sysconfig")
    }


@pytest.mark.parametrize("command", [(), ("worker",), ("serve",), ("migrate",), ("run",)], ids=" ".join)
def test_help_imports_no_package_and_few_modules(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vm_webapp", *command, "--help"],
        env=clean_environment() | REPORT_IMPORTS,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = imported(done.stderr)
    assert packages(modules) == set()
    assert 50 < len(modules) <= MOST_OF_HELP


def test_a_worker_imports_no_server_and_nothing_that_it_does_not_need(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    env = managed_environment(database, redis_url, tmp_path, **REPORT_IMPORTS)
    with program("worker", env=env, folder=tmp_path / "log") as worker:
        eventually(lambda: read("SELECT 1 FROM worker_heartbeats WHERE state = 'working'"), "the worker works")
        modules = imported(worker.stderr.read_text())
    assert packages(modules) - SERVICE == set()  # without a key it needs no HTTP client
    assert not modules & {RICH, *TRACES}
    assert "api" not in modules
    assert "vm_webapp.execution.stage_runner" in modules, "the report is whole"
    assert len(modules) <= MOST_OF_A_WORKER


def test_an_api_imports_no_model_client_and_nothing_that_it_does_not_need(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    env = managed_environment(database, redis_url, tmp_path, VM_API_TOKEN="t" * 32, **REPORT_IMPORTS)
    with program("serve", "--port", "0", env=env, folder=tmp_path / "log") as api:
        address_of(api)
        modules = imported(api.stderr.read_text())
    assert packages(modules) - API == set()
    assert not modules & {RICH, *MODEL_CLIENT, *TRACES}
    assert "api.app" in modules, "the report is whole"
    assert len(modules) <= MOST_OF_AN_API
