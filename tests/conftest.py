"""Embedded servers for a whole session, and a fresh migrated database for each test that needs one."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import redis

from tests.fakes.model_server import ModelServer
from tests.support.databases import Databases
from tests.support.folders import open_folder
from tests.support.ready_postgres import fill_workspace
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.local import LocalServers, find_redis_server, start_local_servers


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--full`` and ``--record``."""
    parser.addoption(
        "--full",
        action="store_true",
        help="run long tests: chaos at full size (an hour, not a minute), servers from packages",
    )
    parser.addoption("--record", action="store_true", help="record the expected responses in tests/recorded/ again")


BYTECODE = pytest.StashKey[Path]()
ENDED = pytest.StashKey[int]()
COLLECT_EVERY = 200  # tests
NEVER = 2**31 - 1


def pytest_configure(config: pytest.Config) -> None:
    """Handle SIGINT as in a terminal, and let child processes share compiled modules."""
    # A shell starts background jobs with SIGINT ignored, and child processes would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tests start hundreds of processes, and half of what a start takes is to compile what the one before has compiled.
    # Whoever sets this wants no files in the folders of the sources; they are in pytest's cache instead.
    if config.cache is not None and os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        config.stash[BYTECODE] = folder = config.cache.mkdir("bytecode")
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(folder)
        sys.dont_write_bytecode = False


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector pass over modules and tests, while they are made and while the tests run.

    All of them live to the end. It would look at them again and again, which was half of what it takes to collect them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        youngest, middle, _ = gc.get_threshold()
        gc.set_threshold(youngest, middle, NEVER)
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Collect all garbage now and then between two tests, and not in the middle of one.

    Schemas, models and modules that tests load come to 500,000 objects in each process. To look through them stops it,
    and with it the API that it tests, for up to two seconds.
    """
    item.config.stash[ENDED] = ended = item.config.stash.get(ENDED, 0) + 1
    if ended % COLLECT_EVERY == 0:
        gc.collect()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests and cases that are marked ``only_in_full``, before any process starts, unless it is given."""
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("only_in_full"):
                item.add_marker(pytest.mark.skip(reason="a long form: pytest --full"))


def pytest_sessionfinish() -> None:
    """Let pytest's last looks for unraisable exceptions, which are ignored here, pass over everything as well."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have recorded under ``shown``: what another tool has found, of which a pass says too little."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "shown":
                terminalreporter.write_line(str(text))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete what was compiled of other builds and packages that tests put into temporary folders."""
    if BYTECODE in config.stash:
        temporary = Path(tempfile.gettempdir()).resolve()
        for folder in (config.stash[BYTECODE] / temporary.relative_to("/")).glob("*"):
            if not config.rootpath.is_relative_to(temporary / folder.name):
                shutil.rmtree(folder, ignore_errors=True)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run the whole suite in one process more than there are cores; run a part of it in this process."""
    # One more than cores, because most tests wait for leases, time-outs and processes.
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    return (os.cpu_count() or 1) + 1 if whole and not config.getoption("--full") else 0


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether tests that have a long form should run it."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(autouse=True)
def kept_logging() -> Iterator[None]:
    """Undo what a command that runs in this process configures: it would silence the log of all tests after it."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> bool:
    """Whether expected responses are recorded again instead of being compared."""
    return bool(request.config.getoption("--record"))


@pytest.fixture(scope="session")
def servers() -> Iterator[LocalServers]:
    """A real PostgreSQL, whose own database is migrated, and a real Redis."""
    with open_folder() as root:
        fill_workspace(root)
        with start_local_servers(root, durable=False) as running:
            yield running


@pytest.fixture(scope="session")
def databases(servers: LocalServers) -> Iterator[Databases]:
    """The pool of databases for tests."""
    pool = Databases(servers)
    yield pool
    pool.close_kept()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """The URL of a database of this test's own."""
    name = databases.take()
    yield databases.url(name)
    databases.release(name)


@pytest.fixture
def database(database_url: str) -> Iterator[str]:
    """Like ``database_url``, with this process's pool open on it."""
    open_pool(database_url, max_connections=16, application_name="tests")
    yield database_url
    close_pool()


@pytest.fixture
def redis_url(servers: LocalServers) -> str:
    """The Redis of the session, empty."""
    if find_redis_server() is None:
        pytest.skip("there is no Redis server for this platform")
    assert servers.redis_url is not None, servers.notes
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    return servers.redis_url


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A fake Kimi that returns good completions unless a test sets another behaviour."""
    with ModelServer() as server:
        yield server
