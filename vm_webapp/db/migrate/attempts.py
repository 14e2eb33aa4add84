"""Carries out a migration in a few attempts, because a query of seconds or a deadlock should not fail a deploy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2

from vm_webapp.db.migrate.failures import NOTHING, TEMPORARY, Stopped, failure
from vm_webapp.db.migrate.other_sessions import blocking

if TYPE_CHECKING:
    from vm_webapp.db.migrate.yoyo_runner import Direction, Runner

# Between two attempts, each of which waits for a lock for a second: statements of others get through in between.
PAUSES = (0.5, 1.0, 2.0, 4.0)
LOOK_SECONDS = 0.1
LONG_WAIT_SECONDS = 2.0
RECENT_SECONDS = 1.0


def carry_out(
    session: Any, runner: Runner, migration: Any, direction: Direction, *, what: str, say: Callable[[str], None]
) -> None:
    """Apply a migration or roll it back, again if another session was in its way.

    Args:
        session: the session that has the locks; another thread uses it meanwhile.
        runner: yoyo.
        migration: yoyo's migration.
        direction: which way.
        what: how to call it in a message.
        say: called with a line for the operator when it waits or tries again.

    Raises:
        BadMigration: yoyo cannot read it.
        VMError: it failed.
    """
    watch = _Watch(session, runner, lambda line: say(f"{what} waits for {line}"))
    for pause in (*PAUSES, None):
        watch.in_the_way = ""
        try:
            with watch.looking():
                runner.run(migration, direction)
            return
        except Stopped as stopped:
            error, temporary = stopped.error, isinstance(stopped.error, TEMPORARY)
            if pause is None or not temporary or stopped.left:
                left = stopped.left or (NOTHING if temporary else "")
                in_the_way = watch.in_the_way if temporary or watch.waited_to_the_end else ""
                raise failure(what, error, left=left, in_the_way=in_the_way) from error
            who = f": {watch.in_the_way}" if watch.in_the_way else ""
            say(f"{what} was stopped by another session and is tried again in {pause:g} s{who}")
            time.sleep(pause)


class _Watch:
    """Looks, while a migration runs, which session it waits for: once it has given up, nothing shows that any more."""

    def __init__(self, session: Any, runner: Runner, say: Callable[[str], None]) -> None:
        self.in_the_way = ""
        self._session = session
        self._runner = runner
        self._say = say
        self._said = ""
        self._seen_at = 0.0

    @property
    def waited_to_the_end(self) -> bool:
        """Whether the migration was still waiting a moment ago."""
        return time.monotonic() - self._seen_at < RECENT_SECONDS

    @contextmanager
    def looking(self) -> Iterator[None]:
        done = threading.Event()
        thread = threading.Thread(target=self._look_until, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _look_until(self, done: threading.Event) -> None:
        waiting_since = time.monotonic()
        while not done.wait(LOOK_SECONDS):
            pid = self._runner.pid
            try:
                seen = blocking(self._session, pid) if pid else ""
            except psycopg2.Error:
                return  # the migration tells more about a database that is gone
            if not seen:
                waiting_since = time.monotonic()
                continue
            self.in_the_way, self._seen_at = seen, time.monotonic()
            if time.monotonic() - waiting_since > LONG_WAIT_SECONDS and seen != self._said:
                self._say(seen)
                self._said = seen
