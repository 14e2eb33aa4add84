"""A loop by hand that listens for new runs, and carries each through its stages as soon as it was committed.

uv run python -m benchmarks.pickup_by_hand DATABASE_URL
"""

from __future__ import annotations

import select
import sys
from contextlib import closing

from benchmarks.instant_model import write
from benchmarks.limit import MINIMAL, carry_one, prepared


def main() -> None:
    """Listen until SIGTERM."""
    with closing(prepared(sys.argv[1], MINIMAL)) as session, session.cursor() as sql:
        sql.execute("LISTEN made")
        print("listening", flush=True)
        while True:
            while carry_one(sql, MINIMAL, write):
                pass
            # A notification may also have come with the response to a statement.
            session.poll()
            if not session.notifies:
                select.select([session], [], [])
            session.poll()
            session.notifies.clear()


if __name__ == "__main__":
    main()
