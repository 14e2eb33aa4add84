"""How long 512 calls of 2 s over 256 slots take in all, and the memory that they need: ours, and asyncio by hand.

The model's server speaks the real wire format from a process of its own. Each run has one stage. Without any cost of
the queue two calls follow one another in each slot, so it would take 4 s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.calls_by_hand import FILL_ONE_CALL
from benchmarks.drain import PYTHON, Servers, read
from benchmarks.figures import Contender, Values
from benchmarks.limit import MINIMAL_TABLES
from benchmarks.memory import peak_of
from benchmarks.queue_traffic import COPY_RUNS
from tests.support.deployment import managed_environment
from tests.support.processes import Program
from tests.support.runs import CATALOG, lost_hints
from tests.support.waiting import eventually
from vm_webapp.access.actor import Actor
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import NewRun

SLOTS = 256
CALL_SECONDS = 2.0


def by_hand(servers: Servers, runs: int) -> Values:
    """Return the seconds and the memory of the asyncio tasks over minimal tables: the limit."""
    read(servers, MINIMAL_TABLES)
    read(servers, FILL_ONE_CALL, runs)
    read(servers, "ANALYZE minimal.runs, minimal.stages")

    def command(model_url: str) -> list[str]:
        return [*PYTHON, "benchmarks.calls_by_hand", servers.database_url, model_url, str(SLOTS)]

    return _drained(servers, "minimal.runs", command, lambda model_url: {})


def ours(servers: Servers, runs: int) -> Values:
    """Return the seconds and the memory of one worker with 256 threads, in managed mode and all else as it comes."""
    fill_one_call(servers, runs)

    def environment(model_url: str) -> dict[str, str]:
        return managed_environment(
            servers.database_url,
            servers.redis_url,
            servers.folder,
            VM_WORKER_THREADS=str(SLOTS),
            KIMI_API_KEY="sk-test",
            KIMI_BASE_URL=model_url,
        )

    return _drained(servers, "runs", lambda model_url: [*PYTHON, "vm_webapp", "worker"], environment)


def fill_one_call(servers: Servers, runs: int) -> None:
    """Empty the tables, and queue so many runs of one stage as a request would have created them."""
    read(servers, "TRUNCATE runs CASCADE")
    workflow = CATALOG.get("content_calendar")
    workflow = replace(workflow, stages=workflow.stages[:1])
    with lost_hints():
        model = lifecycle.create_run(NewRun(workflow, "A calendar for a bakery"), actor=Actor("benchmark")).id
    read(servers, COPY_RUNS.replace("%(model)s", f"'{model}'").replace("%(count)s", str(runs - 1)))
    read(servers, "ANALYZE runs, stages")


def _drained(
    servers: Servers,
    runs: str,
    command: Callable[[str], list[str]],
    environment: Callable[[str], Mapping[str, str]],
) -> Values:
    folder = servers.folder / f"process-{time.monotonic_ns()}"
    with _model_server(servers) as model_url:
        program = Program(command(model_url), environment(model_url), folder)
        try:
            with peak_of(program.pid) as peak:
                eventually(lambda: _ended(servers, runs, program), "every run has ended", seconds=120, every=0.2)
        finally:
            if program.process.poll() is None:
                program.stop()
    # From the first claim, by the database's clock: the start of the process is another measure.
    ((seconds, completed),) = read(
        servers,
        f"SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8,"
        f" bool_and(status = 'completed') FROM {runs}",
    )
    assert completed, program.output()[-2000:]
    return {"seconds": float(seconds), "memory_mb": peak.mb}


def _ended(servers: Servers, runs: str, program: Program) -> bool:
    stopped = program.process.poll() is not None
    if not read(servers, f"SELECT 1 FROM {runs} WHERE finished_at IS NULL LIMIT 1"):
        return True
    assert not stopped, f"the process ended before the queue was drained:\n{program.output()[-2000:]}"
    return False


@contextmanager
def _model_server(servers: Servers) -> Iterator[str]:
    delay = ("--delay-min", str(CALL_SECONDS), "--delay-max", str(CALL_SECONDS))
    folder = servers.folder / f"model-{time.monotonic_ns()}"
    program = Program([*PYTHON, "tests.fakes.model_server", *delay], {}, folder)
    try:
        program.says("http://")
        yield program.stdout.read_text().strip()
    finally:
        program.kill()


CONTENDERS: dict[str, Contender] = {
    "asyncio by hand, minimal tables (limit)": by_hand,
    "VM Webapp, 256 threads": ours,
}
