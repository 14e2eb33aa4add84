"""What all queries share: each is one transaction, and raises ``NotFound`` where there is no such run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from uuid import UUID

from vm_webapp.db.compiled import compiled, param
from vm_webapp.db.models import Run
from vm_webapp.db.pool import row, transaction
from vm_webapp.errors import NotFound

P = ParamSpec("P")
T = TypeVar("T")

_EXISTS = compiled(Run.select(Run.id).where(Run.id == param("id")))


def read_only(query: Callable[P, T]) -> Callable[P, T]:
    """Run a query in a transaction of its own, or in the current one if there is one."""
    # READ COMMITTED, and not one snapshot: a query of several statements may see a run and its stages a moment apart.
    # It holds its connection for these statements only, so a slow client never keeps one.

    @wraps(query)
    def in_transaction(*args: P.args, **kwargs: P.kwargs) -> T:
        with transaction():
            return query(*args, **kwargs)

    return in_transaction


def require_run(run_id: UUID) -> None:
    """Check that a run exists; to be called where a query found nothing that belongs to it.

    Raises:
        NotFound: there is no such run.
    """
    if row(_EXISTS, id=run_id) is None:
        raise NotFound(f"there is no run {run_id}")
