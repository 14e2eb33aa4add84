"""Explains every statement that the product executes in a block, with the plan that its session uses after a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from vm_webapp.db.pool import database

STATEMENTS = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "EXECUTE", "(")
# PostgreSQL plans a prepared statement anew five times before it decides whether one plan will do for all values.
WARM_UP = 7
TIMED = 5


@dataclass(frozen=True, slots=True)
class Explained:
    """What one statement costs.

    Attributes:
        ms: the median time of its execution, its commit left out.
        pages: of 8 KB that each execution touches.
        read_first: how many of them PostgreSQL did not have in its own memory the first time.
        plan: the plan as text.
        tables: which tables it writes or, where it writes none, reads.
    """

    ms: float
    pages: int
    read_first: int
    plan: str
    tables: str


@contextmanager
def explaining() -> Iterator[list[Explained]]:
    """Explain each statement that this process executes in the block, in their order, before it is executed."""
    found: list[Explained] = []
    send: Callable[..., Any] = database.execute_sql

    def explained(sql: str, params: Any = None) -> Any:
        if sql.lstrip().startswith(STATEMENTS):
            found.append(_explain(database.connection(), sql, params))
        return send(sql, params)

    setattr(database, "execute_sql", explained)  # noqa: B010 - what every statement goes through
    try:
        yield found
    finally:
        del database.execute_sql


def _explain(session: Any, sql: str, params: Any) -> Explained:
    # Asked of the session: a transaction of the pool begins there with its first statement.
    is_idle = session.info.transaction_status == TRANSACTION_STATUS_IDLE
    begins, ends = ("BEGIN", "ROLLBACK") if is_idle else ("SAVEPOINT explained", "ROLLBACK TO explained")
    with session.cursor() as cursor:

        def once(form: str) -> Any:
            cursor.execute(begins)
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT {form}) {sql}", params)
            rows = cursor.fetchall()
            cursor.execute(ends)
            return rows

        plans = [once("JSON")[0][0][0] for _ in range(WARM_UP + TIMED)]
        text = "\n".join(line for (line,) in once("TEXT"))
    first, last = plans[0]["Plan"], plans[-1]["Plan"]
    return Explained(
        ms=round(median(plan["Execution Time"] for plan in plans[WARM_UP:]), 3),
        pages=last["Shared Hit Blocks"] + last["Shared Read Blocks"],
        read_first=first["Shared Read Blocks"],
        plan=text,
        tables=_tables(last),
    )


def _tables(plan: dict[str, Any]) -> str:
    nodes = list(_nodes(plan))
    written = [node["Relation Name"] for node in nodes if node["Node Type"] == "ModifyTable"]
    read = [node["Relation Name"] for node in nodes if "Relation Name" in node]
    return f"{'writes' if written else 'reads'} {', '.join(dict.fromkeys(written or read)) or 'no table'}"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
