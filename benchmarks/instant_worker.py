"""A worker of the product in every respect but its model, which is the instant one.

VM_WORKER_THREADS=32 uv run python -m benchmarks.instant_worker
"""

from __future__ import annotations

import sys

from actors import runtime
from actors.worker import run_worker
from benchmarks.instant_model import InstantProvider
from vm_webapp.cli.environment import read_environment
from vm_webapp.parents import Parents


def main() -> int:
    """Run the worker until SIGTERM."""
    settings = read_environment()
    setattr(runtime, "choose_provider", lambda _: InstantProvider())  # noqa: B010 - the one part that is replaced
    return run_worker(settings, poll_seconds=0.5, until_stdin_closes=False, parents=Parents())


if __name__ == "__main__":
    sys.exit(main())
