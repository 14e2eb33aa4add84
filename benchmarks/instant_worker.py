"""A worker of the product in every respect but its model, which is the instant one.

VM_WORKER_THREADS=32 uv run python -m benchmarks.instant_worker

With BENCH_CALLS_FILE it writes there, at its end, when each call began and ended.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from actors import runtime
from actors.worker import run_worker
from benchmarks.instant_model import InstantProvider
from vm_webapp.cli.collector import pause_collector, resume_collector
from vm_webapp.cli.environment import read_environment
from vm_webapp.llm.base import Provider
from vm_webapp.parents import Parents


def run_with(provider: Provider) -> int:
    """Run the worker with this model until SIGTERM, as the command does; return the exit code."""
    pause_collector()
    settings = read_environment()
    setattr(runtime, "choose_provider", lambda _: provider)  # noqa: B010 - the one part that is replaced
    return run_worker(
        settings, poll_seconds=0.5, until_stdin_closes=False, parents=Parents(), on_started=resume_collector
    )


def main() -> int:
    """Run the worker with the instant model."""
    provider = InstantProvider()
    code = run_with(provider)
    if path := os.environ.get("BENCH_CALLS_FILE"):
        Path(path).write_text(json.dumps(provider.calls))
    return code


if __name__ == "__main__":
    sys.exit(main())
