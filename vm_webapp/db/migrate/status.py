"""Compares a database's migrations with a build's: what is missing, what is newer, and whether the build can work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from vm_webapp.db.bundle import NONE_BUNDLED, Bundle, own_bundle
from vm_webapp.db.migrate.failures import MigrationFailed
from vm_webapp.db.migrate.locks import lock_holder
from vm_webapp.db.migrate.session import direct_session, query
from vm_webapp.db.pool import Row


@dataclass(frozen=True, slots=True)
class Applied:
    """What the database records about an applied migration.

    Attributes:
        sha256: digest of the files it was applied from, None if they are not in the archive.
        oldest_build: newest migration of the oldest build that runs on it, None if it is not in the archive.
    """

    sha256: str | None
    oldest_build: str | None


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The difference between a database's migrations and a build's. All ids are in the order in which they apply.

    Attributes:
        applied: ids that both have.
        pending: ids that only the build has.
        unknown: ids that only the database has, applied by a newer build.
        needed: the pending ids without which the build cannot work.
        too_new: the unknown ids on which the build cannot work, or of which the archive does not say that it can.
        edited: applied ids whose files have changed since.
        unarchived: applied ids whose files are not in the archive.
        lock_holder: the process in yoyo's lock row, running or left behind.
    """

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    unknown: tuple[str, ...]
    needed: tuple[str, ...] = ()
    too_new: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    unarchived: tuple[str, ...] = ()
    lock_holder: int | None = None

    @property
    def obstacle(self) -> str:
        """Why the build cannot work on this schema and what to do about it; empty if it can."""
        if self.too_new:
            return (
                f"the database has {', '.join(self.too_new)}, too new for this build:"
                f" deploy a newer one, or {self._way_back()}"
            )
        if self.needed:
            return f"the database lacks {', '.join(self.needed)}: run python -m vm_webapp migrate"
        return ""

    @property
    def note(self) -> str:
        """A difference that does not keep the build from working; empty if there is none."""
        if self.pending:
            return f"{', '.join(self.pending)} can still be applied: run python -m vm_webapp migrate"
        return f"the database also has {', '.join(self.unknown)}, on which this build runs" if self.unknown else ""

    def _way_back(self) -> str:
        stays = [id for id in (*self.applied, *self.unknown) if id < min(self.too_new)]
        if not stays:
            return "roll it back"
        down = f"python -m vm_webapp migrate down --to {max(stays)}"
        own = [id for id in self.applied if id not in stays]
        return f"{down} (which also takes back {', '.join(own)}), then migrate up" if own else down


def read_status(url: str, bundle: Bundle | None = None) -> SchemaStatus:
    """Compare a database with a build, by default this one, changing nothing.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        MigrationFailed: the build has no migrations.
    """
    with direct_session(url) as session:
        return compare(bundle or own_bundle(), read_applied(partial(query, session)), lock_holder(session))


_WHICH_TABLES = (
    "SELECT to_regclass('_yoyo_migration') IS NOT NULL AS migrated,"
    " to_regclass('_migration_archive') IS NOT NULL AS archived"
)
_ARCHIVED = (
    "SELECT migration_id, sha256, oldest_build FROM _yoyo_migration LEFT JOIN _migration_archive USING (migration_id)"
    ' ORDER BY migration_id COLLATE "C"'
)
_NOT_ARCHIVED = (
    'SELECT migration_id, NULL AS sha256, NULL AS oldest_build FROM _yoyo_migration ORDER BY migration_id COLLATE "C"'
)
# What ``read_applied`` asks where both tables are there.
WHERE_ARCHIVED = (_WHICH_TABLES, _ARCHIVED)


def read_applied(ask: Callable[[str], list[Row]]) -> dict[str, Applied]:
    """Return the applied migrations of a database by id, oldest first.

    Args:
        ask: runs a statement and returns its rows.
    """
    # A new database has neither table, and one that only plain yoyo has migrated has no archive.
    there = ask(_WHICH_TABLES)[0]
    if not there["migrated"]:
        return {}
    found = ask(_ARCHIVED if there["archived"] else _NOT_ARCHIVED)
    return {each["migration_id"]: Applied(each["sha256"], each["oldest_build"]) for each in found}


def compare(bundle: Bundle, found: Mapping[str, Applied], holder: int | None = None) -> SchemaStatus:
    """Compare a build with the applied migrations of a database.

    Raises:
        MigrationFailed: the build has no migrations.
    """
    refuse_empty(bundle)
    unknown = tuple(id for id in found if id not in bundle.migrations)
    pending = tuple(id for id in bundle.ids if id not in found)
    return SchemaStatus(
        applied=tuple(id for id in bundle.ids if id in found),
        pending=pending,
        unknown=unknown,
        needed=tuple(id for id in pending if not bundle.migrations[id].deferrable),
        # Not "a later id": a migration from another branch may sort between two that the build has.
        too_new=tuple(id for id in unknown if found[id].oldest_build not in bundle.migrations),
        edited=tuple(
            id for id in bundle.ids if id in found and found[id].sha256 not in (None, bundle.migrations[id].sha256)
        ),
        unarchived=tuple(id for id, said in found.items() if said.sha256 is None),
        lock_holder=holder,
    )


def refuse_empty(bundle: Bundle) -> None:
    """Raise MigrationFailed for a bundle without migrations: the installation is damaged."""
    if not bundle.ids:
        raise MigrationFailed(NONE_BUNDLED)
