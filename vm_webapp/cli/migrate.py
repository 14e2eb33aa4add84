"""``migrate``: show, apply and roll back migrations of the configured database."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peewee import DatabaseError, Expression

from vm_webapp.access.actor import operator_at_terminal
from vm_webapp.access.audit import record_all
from vm_webapp.cli.output import as_called
from vm_webapp.db import migrate
from vm_webapp.db.pool import close_pool, open_pool, rows, transaction
from vm_webapp.db.sessions import name_session
from vm_webapp.errors import ConfigurationError, Conflict, VMError
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.local.by_mode import servers_of
from vm_webapp.settings import Settings
from vm_webapp.text import first_line, plural

WAIT_SECONDS = 900.0  # for another process that migrates: as long as one of its statements may take


@dataclass(frozen=True, slots=True)
class MigrateOptions:
    """The options of the command line.

    Attributes:
        action: ``status``, ``up``, ``down``, ``export`` or ``unlock``.
        dry_run: for ``up`` and ``down``: print the SQL and change nothing.
        to: for ``down``: the newest migration that stays.
        steps: for ``down``, instead of ``to``: how many to roll back.
        yes: for ``down``: do not ask.
        force: for ``up`` and ``down``: even if live workers cannot work with the resulting schema.
        folder: for ``export``: the folder to write to.
    """

    action: str
    dry_run: bool = False
    to: str | None = None
    steps: int | None = None
    yes: bool = False
    force: bool = False
    folder: str = ""

    @property
    def alive(self) -> Expression | None:
        """The condition on the heartbeats of workers that block a migration, None if none may block it."""
        return None if self.force else ALIVE


def run_migrate(settings: Settings, options: MigrateOptions) -> int:
    """Execute the action; return the exit code."""
    with servers_of(settings) as servers:
        url = servers.session_url
        if options.action == "status":
            _show_status(url)
        elif options.action == "unlock":
            print("removed a leftover lock" if migrate.unlock(url) else "there was no lock")
        elif options.action == "export":
            _export(url, options.folder)
        elif options.action == "down":
            _down(url, options, settings.build)
        else:
            _up(url, options, settings.build)
    return 0


def _up(url: str, options: MigrateOptions, build: str) -> None:
    pending = migrate.pending_files(url)
    # A warning only: the name of an API's session shows its build, but not which migrations that build knows.
    if warning := migrate.warning_about_apis(url, pending, build):
        print(warning, file=sys.stderr)
    if options.dry_run:
        _print_sql((f"{files.id}.sql", files.up) for files in pending)
        if not pending:
            print("nothing to apply")
        return
    postponed: list[str] = []

    def postpone(each: migrate.Postponed) -> None:
        postponed.append(each.id)
        print(f"postponed {each.id}: {each.reason}; run migrate up again when they have stopped", flush=True)

    with _recording(url, "schema.up", build) as note:
        applied = migrate.apply_pending(
            url,
            alive=options.alive,
            patience=migrate.Patience(WAIT_SECONDS, _say),
            on_done=lambda id: note(f"applied {id}", id),
            on_postponed=postpone,
        )
    if not applied and not postponed:
        others = ", ".join(files.id for files in pending)
        print(f"another process has applied {others}" if others else "nothing to apply")
    status = migrate.read_status(url)
    for id in status.edited:
        _warn_edited(id)
    if status.obstacle:
        raise Conflict(status.obstacle)


def _down(url: str, options: MigrateOptions, build: str) -> None:
    plan = migrate.plan_down(url, to=options.to, steps=options.steps)
    if not plan.steps:
        print("nothing to roll back")
        return
    _print_sql((f"{files.id}.rollback.sql", files.down) for files in plan.steps)
    if options.dry_run:
        return
    if not options.yes:
        _ask(len(plan.steps))
    with _recording(url, "schema.down", build) as note:
        migrate.roll_back(
            url,
            plan,
            alive=options.alive,
            say=_say,
            on_done=lambda id: note(f"rolled back {id}", id),
        )


@contextmanager
def _recording(url: str, action: str, build: str) -> Iterator[Callable[[str, str], None]]:
    """Yield what prints a line for a migration that is done; afterwards record all of them in the audit trail."""
    done: list[str] = []

    def note(line: str, id: str) -> None:
        done.append(id)
        print(line, flush=True)

    try:
        yield note
    finally:
        if done:
            _record(url, action, done, build)


def _record(url: str, action: str, ids: Sequence[str], build: str) -> None:
    open_pool(url, max_connections=1, application_name=name_session("command", build))
    try:
        with transaction():
            # Not before its migration, and not after that has been rolled back.
            if rows("SELECT to_regclass('audit_entries') AS found")[0]["found"] is not None:
                record_all(operator_at_terminal(), action, [(f"migration:{id}", {}) for id in ids])
    except (VMError, DatabaseError) as error:
        # The schema has changed all the same.
        _say(f"the audit trail has no entry of this: {first_line(error)}")
    finally:
        close_pool()


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask on: say --yes to roll this back")
    try:
        answer = input(f"Roll back {plural(count, 'migration')}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise Conflict("nothing was changed")


def _export(url: str, folder: str) -> None:
    if not folder:
        raise ConfigurationError("export needs the name of a new folder")
    written = migrate.export_applied(url, Path(folder))
    print(f"wrote {plural(len(written), 'migration')} to {folder}")
    for files in written:
        if files.rollback_obstacle:
            print(
                f"{files.id} cannot be rolled back: {files.rollback_obstacle}; plain yoyo would only unmark it",
                file=sys.stderr,
            )
    if written and not written[-1].rollback_obstacle:
        print(f"to roll back the newest: yoyo rollback --revision {written[-1].id} {folder}")


def _show_status(url: str) -> None:
    status = migrate.read_status(url)
    for state, ids in (("applied", status.applied), ("pending", status.pending), ("newer", status.unknown)):
        for id in ids:
            print(f"{state:8} {id}{'' if id not in status.unarchived else '  (not in the archive)'}")
    for id in status.edited:
        _warn_edited(id)
    if status.lock_holder is not None:
        held = f"yoyo's lock is held by process {status.lock_holder}: if no migration is running,"
        print(as_called(f"{held} the next python -m vm_webapp migrate removes it"), file=sys.stderr)
    if remark := status.obstacle or status.note:
        print(as_called(remark), file=sys.stderr)


def _say(line: str) -> None:
    print(as_called(line), file=sys.stderr, flush=True)


def _warn_edited(id: str) -> None:
    print(f"{id} has been edited since it was applied; the database has it as it was", file=sys.stderr)


def _print_sql(files: Iterable[tuple[str, str]]) -> None:
    for name, text in files:
        print(f"-- {name}\n{text.rstrip()}\n")
