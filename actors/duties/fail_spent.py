"""Fails runs that wait for a call although their own budget is spent."""

from __future__ import annotations

import logging

from vm_webapp.runs.lifecycle import SPENT_BATCH, fail_spent_runs

log = logging.getLogger(__name__)


class FailSpent:
    """Fails them. Every worker looks, and one of them fails each."""

    def run_once(self) -> bool:
        """Fail a batch; one statement that reads an index where there is nothing to fail.

        Returns:
            Whether more may be left.

        Raises:
            DatabaseUnavailable: not all of the batch failed.
        """
        failed = fail_spent_runs()
        if failed:
            log.info("runs.budget_exceeded", extra={"runs": failed})
        return failed == SPENT_BATCH
