"""Applies the migrations that the build has and the database lacks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from peewee import Expression

from vm_webapp.db.bundle import Bundle, MigrationFiles, own_bundle
from vm_webapp.db.migrate.archive import archive_applied, archived
from vm_webapp.db.migrate.attempts import carry_out
from vm_webapp.db.migrate.failures import named_failure
from vm_webapp.db.migrate.live_workers import Postponed, refuse_or_postpone
from vm_webapp.db.migrate.locks import Patience, advisory_lock, lock_row
from vm_webapp.db.migrate.privileges import named_grants
from vm_webapp.db.migrate.session import query
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
    patience: Patience | None = None,
    on_done: Callable[[str], None] = lambda id: None,
    on_postponed: Callable[[Postponed], None] = lambda postponed: None,
) -> tuple[str, ...]:
    """Apply the pending migrations, and archive applied ones whose files are not archived yet.

    A deferrable migration is left for a later call while live workers cannot run on it; those after it are applied.

    With nothing to do it takes no lock, so that a process can start while another one migrates.

    Args:
        url: the database.
        bundle: the build's migrations, by default this one's.
        alive: the condition on ``WorkerHeartbeat`` that a worker is alive; None applies even if live workers
            cannot run on the new schema.
        patience: how long to wait for another process that migrates, by default not at all.
        on_done: called with the id of each migration once it is applied.
        on_postponed: called with each migration that is left for later.

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
    patience = patience or Patience()
    with (
        advisory_lock(url, patience) as session,
        named_grants(session),
        named_failure("the migration"),
        lock_row(session, bundle, patience),
    ):
        # Compared again under both locks: another process, or plain yoyo, may have applied them meanwhile.
        status = compare(bundle, read_applied(partial(query, session)))
        postponed = _refuse_or_postpone(session, status, bundle, alive)
        later = {each.id for each in postponed}
        now = tuple(id for id in status.pending if id not in later)
        if now:
            _apply(url, session, bundle, status.pending, now, patience, on_done)
        for each in postponed:
            on_postponed(each)
        if _gaps(status, bundle):
            with named_failure("filling the archive"):
                archive_applied(session, bundle)
        return now


def _refuse_or_postpone(
    session: Any, status: SchemaStatus, bundle: Bundle, alive: Expression | None
) -> tuple[Postponed, ...]:
    if status.pending and status.too_new:
        raise Conflict(status.obstacle)
    if alive is None:
        return ()
    return refuse_or_postpone(session, [bundle.migrations[id] for id in status.pending], alive)


def _gaps(status: SchemaStatus, bundle: Bundle) -> set[str]:
    return set(status.unarchived) & set(bundle.ids)


def _apply(
    url: str,
    session: Any,
    bundle: Bundle,
    pending: Collection[str],
    now: Collection[str],
    patience: Patience,
    on_done: Callable[[str], None],
) -> None:
    from vm_webapp.db.migrate.yoyo_runner import refuse_other_hashes, written_out, yoyo_runner

    runner = yoyo_runner(url, session)
    with written_out(bundle.migrations.values()) as migrations:
        found = list(runner.to_apply(migrations))
        refuse_other_hashes(found, pending)
        # Not ``yoyo.apply_migrations``: that skips a migration that it cannot read, without an error.
        for migration in (each for each in found if each.id in now):
            with named_failure(migration.id), archived(session, bundle.migrations[migration.id]):
                carry_out(session, runner, migration, "apply", what=migration.id, say=patience.say)
            on_done(migration.id)
