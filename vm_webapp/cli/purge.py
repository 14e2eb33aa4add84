"""``purge``: delete finished runs that are old enough."""

from __future__ import annotations

from datetime import timedelta

from vm_webapp.access.actor import operator_at_terminal
from vm_webapp.cli.database import open_database
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.ops import retention
from vm_webapp.settings import Settings


def run_purge(settings: Settings, older_than: timedelta, *, dry_run: bool) -> int:
    """Delete the runs, or only print how many there are; return the exit code."""
    with open_database(settings):
        if dry_run:
            print(f"would delete {retention.count_purgeable(older_than)} runs")
        else:
            mirror = ArtifactMirror(settings.workspace_root)
            print(f"deleted {retention.purge_all(older_than, mirror, actor=operator_at_terminal())} runs")
    return 0
