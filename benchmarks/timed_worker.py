"""A worker of the product in every respect but its model, which takes the seconds that the run's request names.

A request such as ``A plan 3.5 0.8 2`` names the seconds of the run's stages in their order.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from benchmarks.instant_model import InstantProvider
from benchmarks.instant_worker import run_with
from tests.support.runs import CATALOG
from vm_webapp.llm.base import Assignment, Completion

WORKFLOW = "plan_90d"


class TimedProvider(InstantProvider):
    """Returns its text after the seconds that the request names for the stage."""

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Return the text when it is time."""
        stages = CATALOG.get(WORKFLOW).stages
        position = [stage.key for stage in stages].index(assignment.stage_key)
        await asyncio.sleep(float(assignment.request.split()[position - len(stages)]))
        return await super().complete(assignment, on_text=on_text)


if __name__ == "__main__":
    sys.exit(run_with(TimedProvider()))
