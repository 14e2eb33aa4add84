"""The live APIs that a change of the schema may stop: they keep no heartbeat, so they are only named."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.migrate.session import direct_session, query
from vm_webapp.db.migrate.status import read_applied
from vm_webapp.db.sessions import read_builds


def doubts_about_apis(url: str, pending: Collection[MigrationFiles], build: str) -> str:
    """Say which APIs of other builds are connected, if what is pending asks for a newer build than the schema does now.

    The name of an API's session tells its build, and not which migrations that build knows: nothing is refused.

    Args:
        url: the database.
        pending: the migrations to apply.
        build: this build, which can run on them.

    Returns:
        A line for the operator, empty when there is nothing to say.
    """
    if not pending:
        return ""
    needed = max(files.oldest_build for files in pending)
    with direct_session(url) as session:
        asked = [said.oldest_build or "" for said in read_applied(partial(query, session)).values()]
        if needed <= max(asked, default=""):
            return ""
        builds = read_builds("api", partial(query, session))
    others = ", ".join(each for each in builds if each != build)
    return f"APIs of {others} are connected: they work on only if they know {needed}" if others else ""
