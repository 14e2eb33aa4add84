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
from vm_webapp.parents import Parents


def main() -> int:
    """Run the worker until SIGTERM."""
    pause_collector()
    settings = read_environment()
    provider = InstantProvider()
    setattr(runtime, "choose_provider", lambda _: provider)  # noqa: B010 - the one part that is replaced
    code = run_worker(
        settings, poll_seconds=0.5, until_stdin_closes=False, parents=Parents(), on_started=resume_collector
    )
    if path := os.environ.get("BENCH_CALLS_FILE"):
        Path(path).write_text(json.dumps(provider.calls))
    return code


if __name__ == "__main__":
    sys.exit(main())
