"""``purge``: delete finished runs that are old enough."""

from __future__ import annotations

from datetime import timedelta

from vm_webapp.access.actor import operator_at_terminal
from vm_webapp.cli.database import open_database
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.ops import retention
from vm_webapp.settings import Settings
from vm_webapp.text import plural


def run_purge(settings: Settings, older_than: timedelta, *, dry_run: bool) -> int:
    """Delete the runs, or only print how many there are; return the exit code."""
    with open_database(settings):
        if dry_run:
            print(f"would delete {plural(retention.count_purgeable(older_than), 'run')}")
        else:
            mirror = ArtifactMirror(settings.workspace_root)
            deleted = retention.purge_all(older_than, mirror, actor=operator_at_terminal())
            print(f"deleted {plural(deleted, 'run')}")
    return 0
