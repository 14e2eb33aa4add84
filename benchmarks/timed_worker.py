"""A worker of the product in every respect but its model, which takes the seconds that the run's request names.

A request such as ``A plan 3.5 0.8 2`` names the seconds of the run's stages in their order.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from actors import runtime
from actors.worker import run_worker
from benchmarks.instant_model import InstantProvider
from tests.support.runs import CATALOG
from vm_webapp.cli.collector import pause_collector, resume_collector
from vm_webapp.cli.environment import read_environment
from vm_webapp.llm.base import Assignment, Completion
from vm_webapp.parents import Parents

WORKFLOW = "plan_90d"


class TimedProvider(InstantProvider):
    """Returns its text after the seconds that the request names for the stage."""

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Return the text when it is time."""
        stages = CATALOG.get(WORKFLOW).stages
        position = [stage.key for stage in stages].index(assignment.stage_key)
        await asyncio.sleep(float(assignment.request.split()[position - len(stages)]))
        return await super().complete(assignment, on_text=on_text)


def main() -> int:
    """Run the worker until SIGTERM."""
    pause_collector()
    settings = read_environment()
    provider = TimedProvider()
    setattr(runtime, "choose_provider", lambda _: provider)  # noqa: B010 - the one part that is replaced
    return run_worker(
        settings, poll_seconds=0.5, until_stdin_closes=False, parents=Parents(), on_started=resume_collector
    )


if __name__ == "__main__":
    sys.exit(main())
