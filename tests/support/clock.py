"""Steps of the database's clock."""

from __future__ import annotations

from contextlib import closing

import psycopg2

COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables
       USING (table_schema, table_name)
 WHERE table_type = 'BASE TABLE' AND table_schema = 'public' AND data_type = 'timestamp with time zone'
   AND table_name !~ 'yoyo|migration'
 ORDER BY 1, 2
"""


def step_clock(database_url: str, seconds: float) -> None:
    """Step the database's clock, seen from its rows: forward, or back where ``seconds`` is negative.

    The clock of a machine cannot be stepped for one test, so every stored time moves the other way instead.
    """
    with closing(psycopg2.connect(database_url)) as session, session, session.cursor() as cursor:
        cursor.execute(COLUMNS)
        columns: dict[str, list[str]] = {}
        for table, column in cursor.fetchall():
            columns.setdefault(table, []).append(column)
        # Without triggers, which forbid to change an event. Locked first, so that no row keeps a time from before.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(f"LOCK TABLE {', '.join(columns)} IN SHARE ROW EXCLUSIVE MODE")
        for table, names in columns.items():
            moved = ", ".join(f"{name} = {name} - %(seconds)s * interval '1 second'" for name in names)
            cursor.execute(f"UPDATE {table} SET {moved}", {"seconds": seconds})
