"""``migrate``: the schema of the database that the settings name."""

from __future__ import annotations

from contextlib import ExitStack

from vm_webapp.db import migrate
from vm_webapp.local import start_local_servers
from vm_webapp.settings import Settings


def run_migrate(settings: Settings, action: str) -> int:
    """Show, apply or unlock; return the exit code."""
    with ExitStack() as stack:
        embedded = settings.mode == "local"
        if embedded:
            url = stack.enter_context(start_local_servers(settings.workspace_root)).database_url
        else:
            assert settings.db_url is not None
            url = settings.db_url
        if action == "status":
            _show_status(url)
        elif action == "unlock":
            print("removed a leftover lock" if migrate.unlock(url) else "there was no lock")
        else:
            applied = migrate.apply_pending(url, break_leftover_lock=embedded)
            print("\n".join(f"applied {id}" for id in applied) or "nothing to apply")
    return 0


def _show_status(url: str) -> None:
    status = migrate.read_status(url)
    for state, ids in (("applied", status.applied), ("pending", status.pending), ("unknown", status.unknown)):
        for id in ids:
            print(f"{state:8} {id}")
