"""Warns about live APIs that a schema change may break. They keep no heartbeat, so nothing can be refused for them."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.migrate.session import direct_session, query
from vm_webapp.db.migrate.status import read_applied
from vm_webapp.db.sessions import read_builds


def warning_about_apis(url: str, pending: Collection[MigrationFiles], build: str) -> str:
    """Name the connected APIs of other builds, if the pending migrations need a newer build than the schema does now.

    The name of an API's session contains its build, but not which migrations that build knows: this is only a warning.

    Args:
        url: the database.
        pending: the migrations to apply.
        build: this build, which can run on them.

    Returns:
        A line for the operator, empty if there is no such API.
    """
    if not pending:
        return ""
    needed = max(files.oldest_build for files in pending)
    with direct_session(url) as session:
        needed_now = [each.oldest_build or "" for each in read_applied(partial(query, session)).values()]
        # APIs that run on the present schema satisfy its demands; only a higher demand can break them.
        if needed <= max(needed_now, default=""):
            return ""
        builds = read_builds("api", partial(query, session))
    others = ", ".join(each for each in builds if each != build)
    return f"APIs of {others} are connected: they work on only if they know {needed}" if others else ""
