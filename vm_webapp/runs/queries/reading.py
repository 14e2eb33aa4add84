"""What all queries share: each is one transaction, and raises ``NotFound`` where there is no such run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from uuid import UUID

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Run
from vm_webapp.db.pool import autocommit, row
from vm_webapp.db.prepared import prepared
from vm_webapp.errors import NotFound

P = ParamSpec("P")
T = TypeVar("T")

_EXISTS = prepared(Run.select(Run.id).where(Run.id == param("id")))


def read_only(query: Callable[P, T]) -> Callable[P, T]:
    """Run a query on a connection of the pool, or in the current transaction if there is one."""
    # Without a transaction, as READ COMMITTED gives each statement a snapshot of its own in any case: a query of
    # several statements may see a run and its stages a moment apart. It holds its connection for these statements only,
    # so a slow client never keeps one.

    @wraps(query)
    def connected(*args: P.args, **kwargs: P.kwargs) -> T:
        with autocommit():
            return query(*args, **kwargs)

    return connected


def no_run(run_id: UUID) -> NotFound:
    """Return the error for a run that does not exist."""
    return NotFound(f"there is no run {run_id}")


def require_run(run_id: UUID) -> None:
    """Check that a run exists; to be called where a query found nothing that belongs to it.

    Raises:
        NotFound: there is no such run.
    """
    if row(_EXISTS, id=run_id) is None:
        raise no_run(run_id)
