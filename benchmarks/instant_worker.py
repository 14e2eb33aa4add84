"""A worker of the product in every respect but its model, which is the instant one.

VM_WORKER_THREADS=32 uv run python -m benchmarks.instant_worker
"""

from __future__ import annotations

import sys

from actors import runtime
from actors.worker import run_worker
from benchmarks.instant_model import InstantProvider
from vm_webapp.cli.environment import read_environment


def main() -> int:
    """Run the worker until SIGTERM."""
    settings = read_environment()
    runtime.choose_provider = lambda _: InstantProvider()
    return run_worker(settings, poll_seconds=0.5, until_stdin_closes=False)


if __name__ == "__main__":
    sys.exit(main())
