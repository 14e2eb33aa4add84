"""What the hot statements cost with a short and with a long history, and what a run leaves behind, as saved figures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import PLANS, UnusableResults

AGAIN = "explain anew: uv run python -m benchmarks explain"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a statement costs; see ``Explained``."""

    ms: float
    pages: int
    read_first: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What a run of three stages needs, from its creation to its end.

    Attributes:
        disk_bytes: of each table with its indexes, by name.
        wal_bytes: of the write-ahead log, renewals of its leases left out.
        renewal_wal_bytes: of the write-ahead log, for each renewal of a lease.
        commits: where eight stages are claimed at a time.
        events: rows of the timeline.
    """

    disk_bytes: dict[str, int]
    wal_bytes: float
    renewal_wal_bytes: float
    commits: float
    events: float

    def table(self) -> str:
        """Return a Markdown table."""
        parts = ", ".join(f"`{table}` {size:,}" for table, size in self.disk_bytes.items())
        return "\n".join(
            (
                "| A run of three stages needs | |",
                "| --- | --- |",
                f"| bytes on the disk, with indexes ({parts}) | {sum(self.disk_bytes.values()):,} |",
                f"| bytes of write-ahead log | {self.wal_bytes:,.0f} |",
                f"| bytes of it for each second of a call, whose lease is renewed | {self.renewal_wal_bytes:,.0f} |",
                f"| commits | {self.commits:.1f} |",
                f"| events | {self.events:.0f} |",
            )
        )


@dataclass(frozen=True, slots=True)
class Plans:
    """What ``explain`` measured.

    Attributes:
        conditions: under which it was measured.
        statements: by name, what it costs with each number of finished runs.
        growth: what a run needs, measured with the most runs.
    """

    conditions: dict[str, Any]
    statements: dict[str, dict[int, Cost]]
    growth: Growth

    @property
    def sizes(self) -> list[int]:
        """The numbers of finished runs, in ascending order."""
        return sorted({size for costs in self.statements.values() for size in costs})

    def save(self, path: Path) -> None:
        """Write the file anew."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def table(self) -> str:
        """Return a Markdown table of the statements."""
        heads = ["Statement"]
        for size in self.sizes:
            heads += [f"{size:,} runs: ms", "pages", "read the first time"]
        lines = [heads, ["---"] * len(heads)]
        for name, costs in self.statements.items():
            cells = [name]
            for size in self.sizes:
                cost = costs.get(size)
                cells += [f"{cost.ms:.2f}", f"{cost.pages:,}", f"{cost.read_first:,}"] if cost else ["", "", ""]
            lines.append(cells)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def ms(self, call: str) -> float:
        """Return the milliseconds of all statements of a call, with the most runs."""
        most = self.sizes[-1]
        return sum(
            costs[most].ms
            for name, costs in self.statements.items()
            if most in costs and (name == call or name.startswith(f"{call}: "))
        )


def load_plans(path: Path = PLANS) -> Plans:
    """Read a file that ``save`` wrote.

    Raises:
        UnusableResults: there is no such file, or it is another one.
    """
    try:
        found = json.loads(path.read_text())
        statements = {
            name: {int(size): Cost(**cost) for size, cost in costs.items()}
            for name, costs in found["statements"].items()
        }
        return Plans(found["conditions"], statements, Growth(**found["growth"]))
    except OSError as error:
        raise UnusableResults(f"{path.name} cannot be read ({error.strerror}): {AGAIN}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableResults(f"{path.name} is not a file that explain saved: {AGAIN}") from error
