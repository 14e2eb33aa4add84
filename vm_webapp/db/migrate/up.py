"""Applies the migrations that the build has and the database lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from peewee import Expression

from vm_webapp.db.bundle import Bundle, MigrationFiles, own_bundle
from vm_webapp.db.migrate.archive import archive_applied, archived
from vm_webapp.db.migrate.live_workers import refuse_to_apply
from vm_webapp.db.migrate.session import (
    advisory_lock,
    locked_yoyo,
    named_failure,
    query,
    refuse_other_hashes,
    written_out,
)
from vm_webapp.db.migrate.status import SchemaStatus, compare, read_applied, read_status
from vm_webapp.errors import Conflict


def pending_files(url: str, bundle: Bundle | None = None) -> tuple[MigrationFiles, ...]:
    """Return the files of the migrations that ``apply_pending`` would apply, in order."""
    bundle = bundle or own_bundle()
    return tuple(bundle.migrations[id] for id in read_status(url, bundle).pending)


def apply_pending(
    url: str,
    *,
    bundle: Bundle | None = None,
    alive: Expression | None = None,
    break_leftover_lock: bool = False,
    on_done: Callable[[str], None] = lambda id: None,
) -> tuple[str, ...]:
    """Apply the pending migrations, and archive applied ones whose files are not archived yet.

    With nothing to do it takes no lock, so that a process can start while another one migrates.

    Args:
        url: the database.
        bundle: the build's migrations, by default this one's.
        alive: the condition on ``WorkerHeartbeat`` that a worker is alive; None applies even if live workers
            cannot run on the new schema.
        break_leftover_lock: remove a lock row that a killed yoyo left. Right only if nobody else can be running
            plain ``yoyo``: on a database that this program embeds.
        on_done: called with the id of each migration once it is applied.

    Returns:
        The ids applied, in order.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        Conflict: another process is migrating, yoyo's lock row is held, a table stayed in use, the schema is too new
            for this build, or live workers cannot run on the new one.
        MigrationFailed: a migration failed; those before it are applied.
    """
    bundle = bundle or own_bundle()
    status = read_status(url, bundle)
    if not status.pending and not _gaps(status, bundle):
        return ()
    with advisory_lock(url) as session:
        # Compared again under the lock: another process may have applied them meanwhile.
        status = compare(bundle, read_applied(partial(query, session)))
        if status.pending and status.too_new:
            raise Conflict(status.obstacle)
        if status.pending:
            pending = [bundle.migrations[id] for id in status.pending]
            if alive is not None:
                refuse_to_apply(session, pending, alive)
            with named_failure("the migration"), locked_yoyo(url, break_leftover_lock=break_leftover_lock) as yoyo:
                _apply(session, yoyo, bundle, pending, on_done)
        if _gaps(status, bundle):
            with named_failure("filling the archive"):
                archive_applied(session, bundle)
        return status.pending


def _gaps(status: SchemaStatus, bundle: Bundle) -> set[str]:
    return set(status.unarchived) & set(bundle.ids)


def _apply(
    session: Any, yoyo: Any, bundle: Bundle, pending: Iterable[MigrationFiles], on_done: Callable[[str], None]
) -> None:
    with written_out(bundle.migrations.values()) as migrations:
        wanted = {files.id: files for files in pending}
        found = list(yoyo.to_apply(migrations))
        refuse_other_hashes(found, wanted)
        # Not ``yoyo.apply_migrations``: that skips a migration that it cannot read, without an error.
        for migration in found:
            with named_failure(migration.id), archived(session, wanted[migration.id]):
                yoyo.apply_one(migration)
            on_done(migration.id)
