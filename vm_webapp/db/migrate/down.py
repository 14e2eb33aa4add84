"""Rolls migrations back, with the files from which they were applied, whichever build applied them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peewee import Expression

from vm_webapp.db.bundle import Bundle, MigrationFiles, own_bundle
from vm_webapp.db.migrate.archive import read_archive
from vm_webapp.db.migrate.attempts import carry_out
from vm_webapp.db.migrate.failures import named_failure
from vm_webapp.db.migrate.live_workers import refuse_to_roll_back
from vm_webapp.db.migrate.locks import Patience, advisory_lock, lock_row, log_notice
from vm_webapp.db.migrate.privileges import named_grants
from vm_webapp.db.migrate.session import direct_session, query
from vm_webapp.db.migrate.status import read_applied, refuse_empty
from vm_webapp.errors import Conflict, InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class DownPlan:
    """What a rollback will do.

    Attributes:
        steps: the migrations to roll back, newest first.
        stays: the ids of the applied migrations that stay, oldest first.
    """

    steps: tuple[MigrationFiles, ...]
    stays: tuple[str, ...]


def plan_down(url: str, *, to: str | None = None, steps: int | None = None, bundle: Bundle | None = None) -> DownPlan:
    """Decide what to roll back, changing nothing.

    Args:
        url: the database.
        to: the newest migration that stays; it need not be applied if it is deferrable and was postponed.
        steps: how many to roll back, if ``to`` is None.
        bundle: the build's migrations, by default this one's.

    Raises:
        NotFound: ``to`` is neither applied nor was it postponed.
        Conflict: a step is irreversible, or its files are neither in the archive nor in the bundle.
        InvalidInput: there are fewer migrations than ``steps``.
    """
    bundle = bundle or own_bundle()
    with direct_session(url) as session:
        applied = _applied_files(session, bundle)
    count = _count_after(applied, to, bundle) if to is not None else steps or 0
    if count > len(applied):
        raise InvalidInput(f"there are only {len(applied)} applied migrations")
    ids = list(applied)
    stays, chosen = ids[: len(ids) - count], ids[len(ids) - count :]
    going = _refuse_missing({id: applied[id] for id in reversed(chosen)})
    for files in going:
        if files.rollback_obstacle:
            raise Conflict(f"{files.id} cannot be rolled back: {files.rollback_obstacle}")
    return DownPlan(going, tuple(stays))


def roll_back(
    url: str,
    plan: DownPlan,
    *,
    alive: Expression | None,
    say: Callable[[str], None] = log_notice,
    on_done: Callable[[str], None] = lambda id: None,
) -> None:
    """Execute a plan.

    Args:
        url: the database.
        plan: what ``plan_down`` returned.
        alive: the condition on ``WorkerHeartbeat`` that a worker is alive; None rolls back even if live workers
            need the schema.
        say: called with a line for the operator when it waits, tries again, or removes a lock that was left behind.
        on_done: called with the id of each migration once it is rolled back.

    Raises:
        Conflict: live workers need the schema, another process is migrating, or the schema has changed since the plan.
        MigrationFailed: a rollback failed; that migration is still applied, newer ones are not.
    """
    patience = Patience(say=say)
    with (
        advisory_lock(url, patience) as session,
        named_grants(session),
        named_failure("the rollback"),
        lock_row(session, own_bundle(), patience),
    ):
        # The operator confirmed the plan without the locks; another process may have migrated meanwhile.
        if set(read_applied(partial(query, session))) != {*plan.stays, *(files.id for files in plan.steps)}:
            raise Conflict("the schema has changed since the plan was made: run the command again")
        if alive is not None:
            refuse_to_roll_back(session, plan.steps, alive)
        _roll_back(url, session, plan, say, on_done)


def export_applied(url: str, folder: Path, bundle: Bundle | None = None) -> tuple[MigrationFiles, ...]:
    """Write the files of every applied migration into an empty folder, for plain ``yoyo rollback``.

    Returns:
        The migrations written, oldest first.

    Raises:
        InvalidInput: the folder is not empty, or cannot be written.
        Conflict: the files of a migration are neither in the archive nor in the bundle.
    """
    with direct_session(url) as session:
        applied = _refuse_missing(_applied_files(session, bundle or own_bundle()))
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InvalidInput(f"{folder} is not empty: name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        for files in applied:
            files.write_to(folder)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be written: {error.strerror}") from error
    return applied


def _applied_files(session: Any, bundle: Bundle) -> dict[str, MigrationFiles | None]:
    """Return the applied migrations with their files, oldest first."""
    refuse_empty(bundle)
    # The archive wins over the build's own files: those may have been edited since the migration was applied.
    known = {**bundle.migrations, **read_archive(session)}
    return {id: known.get(id) for id in read_applied(partial(query, session))}


def _count_after(applied: dict[str, MigrationFiles | None], to: str, bundle: Bundle) -> int:
    postponed = {files.id for files in bundle.migrations.values() if files.deferrable}
    if to not in {*applied, *postponed}:
        raise NotFound(f"{to} is not among the applied migrations: python -m vm_webapp migrate status lists them")
    return sum(id > to for id in applied)


def _refuse_missing(applied: dict[str, MigrationFiles | None]) -> tuple[MigrationFiles, ...]:
    if missing := ", ".join(id for id, files in applied.items() if files is None):
        raise Conflict(
            f"the files of {missing} are neither in the archive nor in this build: use the one that has them"
        )
    return tuple(files for files in applied.values() if files is not None)


def _roll_back(
    url: str, session: Any, plan: DownPlan, say: Callable[[str], None], on_done: Callable[[str], None]
) -> None:
    from vm_webapp.db.migrate.yoyo_runner import refuse_other_hashes, written_out, yoyo_runner

    runner = yoyo_runner(url, session)
    # yoyo needs the others only to resolve ``depends``, so empty stand-ins do: for those that stay, and for those that
    # were postponed.
    chosen = {files.id for files in plan.steps}
    others = {*plan.stays, *(id for files in plan.steps for id in files.depends)} - chosen
    stand_ins = (MigrationFiles(id, "SELECT 1;", "") for id in others)
    with written_out((*stand_ins, *plan.steps)) as migrations:
        found = [migration for migration in runner.to_rollback(migrations) if migration.id in chosen]
        refuse_other_hashes(found, chosen)
        for migration in found:
            what = f"rolling back {migration.id}"
            with named_failure(what):
                carry_out(session, runner, migration, "rollback", what=what, say=say)
            on_done(migration.id)
