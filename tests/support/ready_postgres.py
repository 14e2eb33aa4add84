"""A data folder of PostgreSQL with a migrated database, made once and copied: half the work of making another."""

from __future__ import annotations

import atexit
import subprocess
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from tests.support.folders import open_folder
from vm_webapp.db import migrate
from vm_webapp.local.postgres import EmbeddedPostgres


def copy_ready(place: Path) -> None:
    """Copy the data folder, whose server does not run, to a place that does not exist yet."""
    place.parent.mkdir(parents=True, exist_ok=True)
    # With its owner, who is not the user of the tests if that is root.
    subprocess.run(["cp", "-a", _made(), place], check=True)


def fill_workspace(root: Path) -> None:
    """Give a workspace, unless it has been used, the database that the first start would make and migrate."""
    data = root / "servers" / "postgres"
    if not data.exists():
        copy_ready(data)


@cache
def _made() -> Path:
    kept = ExitStack()
    atexit.register(kept.close)
    data = kept.enter_context(open_folder("vm-ready-")) / "postgres"
    server = EmbeddedPostgres(data, durable=False)
    server.ensure_running()
    try:
        migrate.apply_pending(server.url)
    finally:
        server.stop()
    return data
